"""Supervised fine-tuning on recorded turns with TRL's SFTTrainer: ids as they were sampled, the loss on them alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from peft import PeftModel

from marft.scoring import PLAIN, Scorer
from marft.stages.bench import Bench
from marft.stages.settings import Settings
from marft.train.rows import Row

if TYPE_CHECKING:
    from trl import SFTTrainer

IGNORED = -100
"""The label of a token that the loss passes over."""


def examples(rows: Sequence[Row]) -> list[dict[str, list[int]]]:
    """Rows as TRL takes them when nothing is left to tokenise: ids, and labels that are the ids where trained."""
    found = []
    for row in rows:
        labels = np.full(len(row.ids), IGNORED)
        labels[row.targets] = row.ids[row.targets]
        found.append({"input_ids": row.ids.tolist(), "labels": labels.tolist()})
    return found


def make_trainer(bench: Bench, agent: str, model: PeftModel, rows: Sequence[Row], settings: Settings) -> SFTTrainer:
    """TRL's trainer for one agent's rows; its loss is the mean over a step's trained tokens."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    arguments = SFTConfig(**bench.arguments(agent, settings), dataset_kwargs={"skip_prepare_dataset": True})
    data = Dataset.from_list(examples(rows))
    return SFTTrainer(model, arguments, train_dataset=data, processing_class=bench.tokenizer)


def measure(scorer: Scorer, agent: str, rows: Sequence[Row]) -> dict[str, float]:
    """loss: mean negative log-prob of a trained token at temperature 1."""
    logp_N = np.concatenate([one.logp_N.double().cpu().numpy() for one in scorer.measure(agent, rows, PLAIN)])
    return {"loss": float(-logp_N.mean())}


def counts(rows: Sequence[Row]) -> dict[str, Any]:
    """What there is to train."""
    turns = sum(len(np.unique(row.turn)) for row in rows)
    return {"rows": len(rows), "turns": turns, "tokens": sum(len(row.targets) for row in rows)}
