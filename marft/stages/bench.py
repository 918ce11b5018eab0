"""The workbench of the offline stages: one base, and one adapter at a time on it, marft's bank and TRL taking turns.

The bank makes or loads the adapter that training starts from, and measures with it; TRL trains the same weights as a
plain PEFT model; the bank loads what came of it, measures again, and writes it as `marft train` writes adapters.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from rich.progress import Progress, TaskID
from transformers import PrinterCallback, Trainer, TrainerCallback

from marft.bank import AdapterBank
from marft.config import Recipe
from marft.errors import ModelError, RecipeError
from marft.model import load_base
from marft.scoring import Scorer
from marft.seeds import derive
from marft.stages.settings import Settings


def need_trl() -> None:
    """Import TRL, or say how to get it. It shall report nothing to anybody."""
    import huggingface_hub.constants

    huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY = True  # TRL's trainers would tell the hub that they started
    try:
        import datasets
        import trl  # noqa: F401
    except ImportError as error:
        raise RecipeError(f"marft sft and dpo train with TRL: pip install 'marft[offline]' ({error})") from None
    datasets.disable_progress_bars()


class Bench:
    """A recipe's base and its tokenizer, and a folder for what lies between two steps."""

    def __init__(self, recipe: Recipe, scratch: Path) -> None:
        self.recipe, self.scratch = recipe, scratch
        check_launch(recipe)
        base = load_base(recipe)
        self.model, self.tokenizer = base.model, base.tokenizer
        if self.tokenizer.eos_token is None:
            raise ModelError("model.name: its tokenizer has no eos_token, which TRL asks for; name one in its folder")
        self.cpu = next(self.model.parameters()).device.type == "cpu"

    @contextmanager
    def bank(self, agent: str, trained: bool) -> Iterator[AdapterBank]:
        """A bank with the agent's adapter alone: the one that training starts from, or that it has made."""
        bank = AdapterBank(self.model)
        start = self.recipe.agents[agent].start_from
        if trained:
            bank.load(agent, self.scratch / agent / "trained")
        elif start is not None:
            bank.load(agent, start)
        else:
            bank.add(agent, self.recipe.adapter_of(agent), self.recipe.seed)
        try:
            yield bank
        finally:
            self.model = bank.peft.unload()

    def scorer(self, bank: AdapterBank) -> Scorer:
        return Scorer(bank, self.recipe.train.token_budget)

    def train(self, agent: str, make_trainer: Callable[[PeftModel], Trainer], progress: Progress | None) -> list[dict]:
        """Train the adapter in scratch/agent/start into scratch/agent/trained; what TRL reported, step by step."""
        with warnings.catch_warnings():
            # transformers renames the setting; TRL, which sets it by default, still goes by its older name
            warnings.filterwarnings("ignore", message=".*gradient_checkpointing.*", category=FutureWarning)
            model = PeftModel.from_pretrained(self.model, self.scratch / agent / "start", is_trainable=True)
            trainer = make_trainer(model)
        trainer.remove_callback(PrinterCallback)
        if progress is not None:
            trainer.add_callback(_Bar(progress, progress.add_task(agent, total=None)))
        trainer.train()
        model.save_pretrained(str(self.scratch / agent / "trained"), selected_adapters=["default"])
        self.model = model.unload()
        self.model.eval()
        return [line for line in trainer.state.log_history if "loss" in line]

    def arguments(self, agent: str, settings: Settings) -> dict[str, Any]:
        """What TRL's two configurations share: AdamW and clipping as the recipe gives them to the agent."""
        optimizer = self.recipe.optimizer_of(agent)
        micro = settings.micro_batch or settings.batch_size
        return {
            "output_dir": str(self.scratch / agent / "trl"),
            "per_device_train_batch_size": micro,
            "gradient_accumulation_steps": settings.batch_size // micro,
            "num_train_epochs": settings.epochs,
            "learning_rate": settings.learning_rate,
            "lr_scheduler_type": optimizer.schedule,
            "warmup_steps": optimizer.warmup_updates,
            "adam_beta1": optimizer.betas[0],
            "adam_beta2": optimizer.betas[1],
            "adam_epsilon": optimizer.eps,
            "weight_decay": optimizer.weight_decay,
            "max_grad_norm": optimizer.max_grad_norm,
            "seed": derive(settings.seed, "stage", agent) % 2**31,
            "bf16": False,  # the base keeps the recipe's dtype, and adapters theirs
            "gradient_checkpointing": settings.checkpointing,
            "max_length": None,  # what was recorded is trained whole
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
            "use_cpu": self.cpu,
            "dataloader_pin_memory": not self.cpu,
        }


def check_launch(recipe: Recipe) -> None:
    """One process, one device, no adapter on the head: what TRL's trainers are used for here."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise RecipeError("marft sft and dpo run in one process; start them without accelerate launch")
    if recipe.models:
        raise RecipeError("models: marft sft and dpo train on one base; take one base's agents at a time")
    if recipe.model.device != "cpu" and torch.cuda.device_count() > 1:
        raise RecipeError(
            f"marft sft and dpo use one GPU and see {torch.cuda.device_count()}; set CUDA_VISIBLE_DEVICES=0"
        )


def check_adapter(bank: AdapterBank, agent: str) -> None:
    """TRL multiplies by the head's own weights, so an adapter there would be passed over."""
    if any("lora_" in name and ".lm_head." in name for name in bank.named_parameters(agent)):
        raise ModelError(f"agents.{agent}.adapter.targets: TRL trains no adapter on lm_head; take it out")


class _Bar(TrainerCallback):
    """Optimizer steps on a bar."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self.progress, self.task = progress, task

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.progress.update(self.task, total=state.max_steps)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.progress.update(self.task, completed=state.global_step)
