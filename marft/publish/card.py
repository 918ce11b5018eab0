"""The model card: what was trained, on what, how well it does, and how to load it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from huggingface_hub import ModelCard, ModelCardData
from jinja2 import Environment, PackageLoader, StrictUndefined

from marft.config import Recipe
from marft.eval.results import Measure, Results
from marft.report.names import name_of
from marft.report.runs import Run, algorithm_summary
from marft.serve.command import RANKS

MOST = 6
"""Columns of the table."""


def card_of(
    recipe: Recipe,
    team: Mapping[str, Any],
    run: Run,
    results: Results | None,
    *,
    curves: bool,
    merged: bool,
    licence: str | None,
) -> str:
    """README.md: the hub's metadata and the text."""
    base = team["bases"]["model"]
    on_hub = [one["name"] for one in team["bases"].values() if not one["included"]]
    data = ModelCardData(
        base_model=on_hub or None,
        library_name="peft",
        license=licence,
        model_name=team["name"],
        pipeline_tag="text-generation",
        tags=["marft", "lora", "multi-agent", "reinforcement-learning", f"game:{team['game']['name']}"],
    )
    largest = max(recipe.adapter_of(agent).rank for agent in recipe.agents)
    environment = Environment(
        loader=PackageLoader("marft.publish", ""), undefined=StrictUndefined, keep_trailing_newline=True
    )
    text = environment.get_template("card.md.j2").render(
        team=team,
        agents=list(team["agents"]),
        facts=_facts(recipe, team, run),
        results=_table(results, run) if results is not None else None,
        base=f"FOLDER/{base['name']}" if base["included"] else base["name"],
        folder="FOLDER",
        rank=next((rank for rank in RANKS if rank >= largest), None),  # vLLM serves no other ones
        merged=merged,
        curves=curves,
        tiny=base["included"] and recipe.model.name == "base",
        licence=licence,
    )
    card = ModelCard(f"---\n{data.to_yaml()}\n---\n\n{text}")
    return str(card)


def _facts(recipe: Recipe, team: Mapping[str, Any], run: Run) -> list[tuple[str, str]]:
    bases = ", ".join(one["name"] + (" (in this folder)" if one["included"] else "") for one in team["bases"].values())
    options = ", ".join(f"{key} {value}" for key, value in team["game"]["options"].items())
    last = run.lines[-1] if run.lines else {}
    tokens = f", {last['trained_tokens']:,} trained tokens" if "trained_tokens" in last else ""
    return [
        ("base", bases),
        ("game", team["game"]["name"] + (f" ({_cell(options)})" if options else "")),
        ("algorithm", _cell(algorithm_summary(run.recipe))),
        ("trained for", f"{team['updates']:,} updates{tokens}"),
        ("adapters", "; ".join(f"{agent}: rank {recipe.adapter_of(agent).rank}" for agent in recipe.agents)),
        ("seed", str(recipe.seed)),
    ]


def _table(results: Results, run: Run) -> dict[str, Any]:
    """The rows of the run's own team, or of the first one where none has its name."""
    teams = results.played()
    team = run.name if run.name in teams else teams[0]
    pairs = [pairing for pairing in results.pairs if pairing.team == team]
    metrics = list(dict.fromkeys(key for pairing in pairs for key in pairing.metrics))
    metrics = sorted(metrics, key=lambda key: key not in ("return", "opponent_return"))[:MOST]
    rows = [
        {"opponent": _cell(pairing.opponent), "cells": [_measure(pairing.measure(key)) for key in metrics]}
        for pairing in pairs
    ]
    settings = results.settings
    return {
        "metrics": [_cell(name_of(key)) for key in metrics],
        "rows": rows,
        "instances": max((pairing.instances for pairing in pairs), default=0),
        "level": round(100 * settings.get("interval", 0.95)),
    }


def _measure(found: Measure) -> str:
    if not found.known:
        return "–"
    return f"{found.mean:.3g}" + (f" ({found.low:.3g} to {found.high:.3g})" if found.bounded else "")


def _cell(text: str) -> str:
    """In one cell of a table."""
    return " ".join(str(text).split()).replace("|", "\\|")
