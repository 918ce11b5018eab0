"""One library at one job in a process of its own: `python library.py NAME JOB MODEL`, JOB as JSON.

It sets up, makes one update that does not count, and says "ready"; then every line "go" on its standard input is
answered by a line of JSON, the seconds (`wall`, and `cpu` of this process) of one update and how many answers it
trained on. What stands above such a line is the library's own talk.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from job import RANK, RATE, Job, digits, sevens
from peak import own_peak
from transformers import AutoModelForCausalLM, AutoTokenizer

Update = Callable[[], int]
"""Makes one update, of all agents; returns how many answers it sampled and trained on."""


def marft(job: Job, model: Path, algorithm: str = "magrpo", *, update_only: bool = False) -> Update:
    from accelerate import Accelerator

    from marft.episode import learnable
    from marft.recipe import parse_recipe
    from marft.train.folder import RunFolder
    from marft.train.loop import Trainer
    from marft.train.rewarding import score_all
    from marft.train.workers import Workers

    recipe = parse_recipe(job.recipe(model, algorithm))
    made = Trainer(recipe, RunFolder(Path(mkdtemp(prefix="marft-bench-"))), Workers(Accelerator(cpu=True)))
    for name, learner in made.learners.items():
        made.engine.publish(name, learner.version)

    def update() -> int:
        before = made.progress.tokens
        made.step()
        return (made.progress.tokens - before) // job.tokens

    if not update_only:
        return update
    episodes = learnable(made.source.take(0, {}).played)
    score_all(episodes, made.rewards)

    def learn() -> int:
        lesson = made.learning.learn(episodes, 0, {})
        return int(sum(report["trained"] for report in lesson.reports.values())) // job.tokens

    return learn


def comlrl(job: Job, model: Path, *, update_only: bool = False) -> Update:
    """MAGRPO with the whole update in one optimizer step of each agent, no evaluation, no logging.

    Each agent is a model of its own, as its trainer takes them, with the same adapter on it as marft's agents have.
    """
    from comlrl.trainers.reinforce import MAGRPOConfig, MAGRPOTrainer

    trained = 0

    class Counting(MAGRPOTrainer):
        def _compute_loss_with_gradients(self, agent: Any, completions: dict[str, Any], returns: list[float]) -> Any:
            nonlocal trained
            trained += len(returns)
            return super()._compute_loss_with_gradients(agent, completions, returns)

    class Keeping(Counting):
        """Leaves what was sampled in the buffers."""

        def _drain_ready_buffers(self, ready_agents: list[int]) -> None:
            return None

    def rendered(prompt: str) -> str:
        return f"<|user|>{prompt}<|end|><|assistant|>"

    def first(item: dict[str, Any], external_prompts: str | None = None) -> str:
        return external_prompts or rendered(item["prompt"])

    def further(prompt: str, response_history_per_agent: list[list[str]], **_: Any) -> list[str]:
        """The dialogue so far and the next prompt, as marft's seats have them."""
        said = ("".join(f"{answer}<|end|>{rendered(prompt)}" for answer in own) for own in response_history_per_agent)
        return [rendered(prompt) + answers for answers in said]

    def paid(*answers: list[str]) -> list[float]:
        return [sevens(*joint) for joint in zip(*answers, strict=True)]

    trainer = (Keeping if update_only else Counting)(
        agents=[adapted(model) for _ in range(job.agents)],
        tokenizer=AutoTokenizer.from_pretrained(model),
        train_dataset=[{"prompt": digits(seed)} for seed in range(job.prompts)],
        reward_func=paid,
        formatters=[first] * job.agents,
        external_transition=further if job.turns > 1 else None,
        num_agents=job.agents,
        args=MAGRPOConfig(
            num_train_epochs=1,
            agent_learning_rate=RATE,
            num_agents=job.agents,
            agent_devices="cpu",
            num_generations=job.samples,
            max_new_tokens=job.tokens,
            temperature=1.0,
            top_p=1.0,
            top_k=0,
            num_turns=job.turns,
            early_termination_threshold=None,
            external_prompt_passthrough=True,
            eval_interval=0,
            rollout_buffer_size=10**9,  # all of the update's nodes, drained at its end
            train_batch_size=10**9,
            advantage_normalization=False,
        ),
    )
    trainer.verbose = False

    def update() -> int:
        nonlocal trained
        trained = 0
        trainer.train()
        return trained

    if not update_only:
        return update
    trainer.train()

    def learn() -> int:
        nonlocal trained
        trained = 0
        for agent, samples in enumerate(trainer.rollout_buffers):
            trainer._update_from_samples(agent, list(samples))
        return trained

    return learn


def trl(job: Job, model: Path) -> Update:
    """GRPO of the one agent, generation in the process, one optimizer step on the whole batch; a training of one step
    each time, so that its own setting up, some hundredths of a second, is in the figure."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    def paid(completions: list[str], **_: Any) -> list[float]:
        return [sevens(answer) for answer in completions]

    prompts = [f"<|user|>{digits(seed)}<|end|><|assistant|>" for seed in range(job.prompts)]
    trainer = GRPOTrainer(
        adapted(model),
        reward_funcs=paid,
        train_dataset=Dataset.from_dict({"prompt": prompts}),
        processing_class=AutoTokenizer.from_pretrained(model),
        args=GRPOConfig(
            output_dir=mkdtemp(prefix="trl-bench-"),
            per_device_train_batch_size=job.prompts * job.samples,
            num_generations=job.samples,
            max_completion_length=job.tokens,
            temperature=1.0,
            top_k=0,
            beta=0.0,
            loss_type="grpo",
            learning_rate=RATE,
            max_steps=1,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
        ),
    )

    def update() -> int:
        trainer.train()
        return job.prompts * job.samples

    return update


def adapted(model: Path) -> Any:
    """The job's model with a fresh adapter, as PEFT makes them."""
    from peft import LoraConfig, get_peft_model

    settings = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM")
    return get_peft_model(AutoModelForCausalLM.from_pretrained(model), settings)


LIBRARIES: dict[str, Callable[[Job, Path], Update]] = {
    "marft": marft,
    "marft grpo": partial(marft, algorithm="grpo"),
    "marft reinforce": partial(marft, algorithm="reinforce"),
    "marft update": partial(marft, update_only=True),
    "comlrl": comlrl,
    "comlrl update": partial(comlrl, update_only=True),
    "trl": trl,
}


def main(name: str, job: Job, model: Path) -> None:
    update = LIBRARIES[name](job, model)
    update()
    print("ready", flush=True)
    for _ in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        answers = update()
        figures = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        print(json.dumps(figures | {"answers": answers, "peak": own_peak()}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Job(**json.loads(sys.argv[2])), Path(sys.argv[3]))
