"""Direct preference optimisation on recorded completions with TRL's DPOTrainer (Rafailov et al., 2305.18290)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from peft import PeftModel

from marft.scoring import Scorer
from marft.stages.bench import Bench
from marft.stages.pairs import Pair
from marft.stages.settings import Settings

if TYPE_CHECKING:
    from trl import DPOTrainer

PLACEHOLDER = {"prompt": "a", "chosen": "b", "rejected": "c"}
"""TRL's DPOTrainer tokenises the data set it is made with, whatever that holds; it gets this one, and then the ids."""


def examples(pairs: Sequence[Pair]) -> list[dict[str, list[int]]]:
    """Pairs as TRL's collator for preferences takes them."""
    return [
        {"prompt_ids": list(pair.prompt), "chosen_ids": list(pair.chosen), "rejected_ids": list(pair.rejected)}
        for pair in pairs
    ]


def make_trainer(bench: Bench, agent: str, model: PeftModel, pairs: Sequence[Pair], settings: Settings) -> DPOTrainer:
    """TRL's trainer for one agent's pairs.

    TRL keeps a copy of the adapter that training starts from as `ref`, and without it takes the base for reference; a
    fresh adapter is the base, and needs no copy.
    """
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    kinds = {"loss_type": ["sigmoid"]}
    if settings.sft_weight:
        kinds = {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, settings.sft_weight]}
    arguments = DPOConfig(**bench.arguments(agent, settings), **kinds, beta=settings.beta)
    data = Dataset.from_list([PLACEHOLDER])
    trainer = DPOTrainer(model, args=arguments, train_dataset=data, processing_class=bench.tokenizer)
    trainer.train_dataset = Dataset.from_list(examples(pairs))
    if reference_of(bench, agent, settings) is None:
        model.delete_adapter("ref")
    return trainer


def reference_of(bench: Bench, agent: str, settings: Settings) -> str | None:
    """The reference policy: None is the bare base."""
    fresh = bench.recipe.agents[agent].start_from is None
    return None if fresh or settings.reference == "base" else agent


def log_ratios(scorer: Scorer, policy: str | None, pairs: Sequence[Pair]) -> np.ndarray:
    """(P,) log-prob of the chosen completion less that of the rejected one, at temperature 1."""
    prompts = [pair.prompt for pair in pairs]
    chosen = scorer.score(policy, prompts, [pair.chosen for pair in pairs])
    rejected = scorer.score(policy, prompts, [pair.rejected for pair in pairs])
    return np.array([one.sum() - other.sum() for one, other in zip(chosen, rejected, strict=True)])


def measure(ratio_P: np.ndarray, reference_P: np.ndarray, beta: float) -> dict[str, float]:
    """loss: DPO's. margin: mean log-ratio of chosen to rejected, less the reference's. preferred: share above 0."""
    margin_P = ratio_P - reference_P
    loss = np.logaddexp(0.0, -beta * margin_P).mean()
    preferred = (ratio_P > 0).mean()
    return {"loss": float(loss), "margin": float(margin_P.mean()), "preferred": float(preferred)}


def counts(pairs: Sequence[Pair]) -> dict[str, Any]:
    """What there is to train."""
    tokens = sum(len(pair.chosen) + len(pair.rejected) for pair in pairs)
    gap = sum(pair.gap for pair in pairs) / len(pairs) if pairs else 0.0
    return {"pairs": len(pairs), "prompts": len({pair.prompt for pair in pairs}), "tokens": tokens, "gap": gap}
