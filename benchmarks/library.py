"""One library at one job in a process of its own: `python library.py NAME JOB MODEL THREADS`, JOB as JSON.

It sets up, makes one update that does not count, and says "ready"; then every line "go" on its standard input is
answered by a line of JSON, the seconds (`wall`, and `cpu` of this process) of one update and how many answers it
trained on. What stands above such a line is the library's own talk.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import torch
from job import RANK, RATE, SEATS, Answers, Job, digits, sevens
from peak import own_peak
from transformers import AutoModelForCausalLM, AutoTokenizer

Update = Callable[[], int]
"""Makes one update, of all agents; returns how many answers it sampled and trained on."""


def marft(job: Job, model: Path, algorithm: str = "magrpo") -> Update:
    from accelerate import Accelerator

    from marft.recipe import parse_recipe
    from marft.train.folder import RunFolder
    from marft.train.loop import Trainer
    from marft.train.workers import Workers

    recipe = parse_recipe(job.recipe(model, algorithm))
    made = Trainer(recipe, RunFolder(Path(mkdtemp(prefix="marft-bench-"))), Workers(Accelerator(cpu=True)))
    for name, learner in made.learners.items():
        made.engine.publish(name, learner.version)

    def update() -> int:
        before = made.progress.tokens
        made.step()
        return (made.progress.tokens - before) // job.tokens

    return update


def marft_alone(job: Job, model: Path) -> Update:
    return marft(job, model, "grpo")


def comlrl(job: Job, model: Path) -> Update:
    """MAGRPO with the whole update in one optimizer step of each agent, no evaluation, no logging.

    Each agent is a model of its own, as its trainer takes them, with the same adapter on it as marft's agents have.
    """
    from comlrl.trainers.reinforce import MAGRPOConfig, MAGRPOTrainer

    tokenizer = AutoTokenizer.from_pretrained(model)
    trained = 0

    class Counting(MAGRPOTrainer):
        def _compute_loss_with_gradients(self, agent: Any, completions: dict[str, Any], returns: list[float]) -> Any:
            nonlocal trained
            trained += len(returns)
            return super()._compute_loss_with_gradients(agent, completions, returns)

    def on(prompt: str, **_: Any) -> list[str]:
        return [prompt] * job.agents

    def transition(
        prompt: str, agent_completions: Any, prompt_history_per_agent: Any, response_history_per_agent: Any, **_: Any
    ) -> list[str]:
        """The dialogue so far and the next prompt, as marft's seats have it."""
        number = len(response_history_per_agent[0])
        dialogues = []
        for answers in response_history_per_agent:
            said = "".join(f"{answer}<|end|>{rendered(prompt)}" for answer in answers)
            dialogues.append(rendered(prompt) + said)
        assert number < job.turns
        return dialogues

    def rendered(prompt: str) -> str:
        return f"<|user|>{prompt}<|end|><|assistant|>"

    def first(item: dict[str, Any], external_prompts: str | None = None) -> str:
        return external_prompts if external_prompts is not None else rendered(item["prompt"])

    def paid(*answers: list[str], batch_items: Any = None) -> list[float]:
        return [sevens(*one) for one in zip(*answers, strict=True)]

    trainer = Counting(
        agents=[adapted(model) for _ in range(job.agents)],
        tokenizer=tokenizer,
        train_dataset=[{"prompt": digits(seed)} for seed in range(job.prompts)],
        reward_func=paid,
        formatters=[first] * job.agents,
        external_transition=transition if job.turns > 1 else None,
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

    return update


def adapted(model: Path) -> Any:
    """The job's model with a fresh adapter, as PEFT makes them."""
    from peft import LoraConfig, get_peft_model

    settings = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM")
    return get_peft_model(AutoModelForCausalLM.from_pretrained(model), settings)


LIBRARIES: dict[str, Callable[[Job, Path], Update]] = {"marft": marft, "marft alone": marft_alone, "comlrl": comlrl}


def main(name: str, job: Job, model: Path, threads: int) -> None:
    torch.set_num_threads(threads)
    update = LIBRARIES[name](job, model)
    update()
    print("ready", flush=True)
    for _ in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        answers = update()
        figures = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        print(json.dumps(figures | {"answers": answers, "peak": own_peak()}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Job(**json.loads(sys.argv[2])), Path(sys.argv[3]), int(sys.argv[4]))
