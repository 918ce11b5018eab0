"""One offline stage: every chosen agent's adapter trained in turn, and the folder that is left, whole or not at all.

adapters/NAME   plain PEFT folders, for agents.NAME.start_from
recipe.yaml     the resolved recipe
stage.json      what was trained, on what, how, and what came of it
"""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import Progress

from marft.config import Recipe
from marft.errors import RecipeError, RunFolderError
from marft.files import replace_folder, write_text
from marft.recipe import dump_recipe
from marft.stages import dpo, sft
from marft.stages.bench import Bench, check_adapter, need_trl
from marft.stages.pairs import Pair
from marft.stages.settings import Settings
from marft.train.folder import facts
from marft.train.rows import Row

SCHEMA = 1


def run_stage(
    recipe: Recipe,
    data: Mapping[str, Sequence[Row] | Sequence[Pair]],
    out: Path,
    settings: Settings,
    described: Mapping[str, Any],
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train each agent of `data` and write the folder `out`; returns what stage.json holds.

    described: what stage.json shall say of where the data came from.
    """
    check_out(out, overwrite)
    check_data(data, recipe, settings)
    need_trl()
    with tempfile.TemporaryDirectory(prefix="marft-stage-") as scratch, replace_folder(out) as temporary:
        bench = Bench(recipe, Path(scratch))
        check_ids(data, bench.model.config.vocab_size)
        agents = {agent: _teach(bench, agent, own, settings, temporary, progress) for agent, own in data.items()}
        stage = {"schema": SCHEMA, "stage": settings.kind, "recipe": recipe.name, "settings": settings.as_dict()}
        stage |= {**described, "agents": agents, **facts(recipe)}
        stage["versions"]["trl"] = importlib.metadata.version("trl")
        write_text(temporary / "recipe.yaml", dump_recipe(recipe))
        write_text(temporary / "stage.json", json.dumps(stage, indent=2) + "\n")
    return stage


def _teach(
    bench: Bench, agent: str, own: Sequence, settings: Settings, out: Path, progress: Progress | None
) -> dict[str, Any]:
    """One agent: its counts and metrics. The adapter is written to `out`/adapters/agent."""
    lesson = sft if settings.kind == "sft" else dpo
    reference_P = np.zeros(0)
    with bench.bank(agent, trained=False) as bank:
        check_adapter(bank, agent)
        bank.save(agent, bench.scratch / agent / "start")
        scorer = bench.scorer(bank)
        if lesson is sft:
            before = sft.measure(scorer, agent, own)
        else:
            reference_P = dpo.log_ratios(scorer, dpo.reference_of(bench, agent, settings), own)
            before = dpo.measure(dpo.log_ratios(scorer, agent, own), reference_P, settings.beta)
    began = time.perf_counter()
    steps = bench.train(agent, lambda model: lesson.make_trainer(bench, agent, model, own, settings), progress)
    seconds = time.perf_counter() - began
    with bench.bank(agent, trained=True) as bank:
        scorer = bench.scorer(bank)
        if lesson is sft:
            after = sft.measure(scorer, agent, own)
        else:
            after = dpo.measure(dpo.log_ratios(scorer, agent, own), reference_P, settings.beta)
        bank.save(agent, out / "adapters" / agent)
    shutil.rmtree(bench.scratch / agent)
    losses = [line["loss"] for line in steps]
    return {**lesson.counts(own), "steps": len(losses), "seconds": seconds, "before": before, "after": after}


def check_out(out: Path, overwrite: bool) -> None:
    """An earlier stage may be written over where that is asked for; nothing else is."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not (out / "stage.json").is_file():
        raise RunFolderError(f"--out {out} exists and is no stage folder; choose another")
    if not overwrite:
        raise RunFolderError(f"--out {out} holds a stage; pass --overwrite or choose another")


def check_data(data: Mapping[str, Sequence], recipe: Recipe, settings: Settings) -> None:
    """Every agent that is to learn must exist and have something to learn from."""
    for agent, own in data.items():
        if not own:
            hint = (
                "loosen the filters" if settings.kind == "sft" else "loosen --margin, or give more episodes of a group"
            )
            raise RecipeError(
                f"{settings.kind}: nothing to train {agent} on in these episodes; {hint}, or add --by-seat if others "
                "spoke on its seat"
            )


def check_ids(data: Mapping[str, Sequence[Row] | Sequence[Pair]], vocabulary: int) -> None:
    """Ids that the base does not have come from another tokenizer."""
    for agent, own in data.items():
        for one in own:
            ids = one.ids if isinstance(one, Row) else np.array([*one.prompt, *one.chosen, *one.rejected])
            if ids.max() >= vocabulary:
                raise RecipeError(
                    f"--episodes: token id {ids.max()} of {agent} is beyond the vocabulary of {vocabulary}; they were "
                    "played on another model, set model as it was"
                )
