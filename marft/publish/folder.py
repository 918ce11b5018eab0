"""A run to a folder that can be given away.

README.md      the model card                       recipe.yaml    the resolved recipe
team.json      who sits where, and with what        curves.svg     the main metrics while training
AGENT/         one plain PEFT folder per agent      base/          the base model, where nobody else has it
merged/AGENT/  base and adapter in one, on demand

Nothing else is in it: no episodes, no optimizer states, no path of the machine it was made on. Weights are safetensors.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from marft import __version__
from marft.bases import models_of, renamed, views_of
from marft.config import Model, Recipe
from marft.errors import RecipeError, RunFolderError
from marft.eval.results import read_results
from marft.files import file_hash, replace_folder
from marft.games import make_game
from marft.model import base_source, load_tokenizer
from marft.recipe import dump_recipe
from marft.report.runs import read_run
from marft.train.checkpoint import newest_adapters
from marft.train.folder import run_recipe

SCHEMA = 1
"""Version of team.json."""
ADAPTER = ("adapter_config.json", "adapter_model.safetensors")


def publish(
    run: Path,
    out: Path,
    *,
    results: Path | None = None,
    with_base: bool | None = None,
    merged: bool = False,
    licence: str | None = None,
) -> Path:
    """Write the run's newest adapters, and what belongs to them, to the folder `out`, whole or not at all.

    results: results.json of `marft eval`, for the card's table. with_base: whether to put the base model in; by default
    only the tiny one, which no hub has. merged: also each agent as one model. licence: of the adapters, for the card.
    """
    from marft.publish.card import card_of
    from marft.publish.curves import curves

    recipe = run_recipe(run)
    adapters = newest_adapters(run)
    for agent in recipe.agents:
        if not all((adapters / agent / name).is_file() for name in ADAPTER):
            raise RunFolderError(f"publish: {adapters / agent} holds no adapter of {agent}; has the run saved one?")
    if out.exists() and not (out / "team.json").is_file() and any(out.iterdir()):
        raise RunFolderError(f"publish: {out} is not empty and no published team; choose another --to")
    names = {key: _public(key, model, with_base) for key, model in models_of(recipe).items()}
    sources = {key: base_source(view) for key, view in views_of(recipe).items()}
    facts = read_run(run.name, run)
    with replace_folder(out) as folder:
        for key, (name, inside) in names.items():
            if inside:
                _copy_base(sources[key], models_of(recipe)[key], folder / name)
        of_agent = {agent: key for key, view in views_of(recipe).items() for agent in view.agents}
        for agent in recipe.agents:
            _copy_adapter(adapters / agent, folder / agent, names[of_agent[agent]][0])
            if merged:
                _merge(recipe, of_agent[agent], adapters / agent, folder / "merged" / agent)
        # a path of this machine is nobody's business
        shown = renamed(recipe, {key: name for key, (name, _) in names.items()})
        (folder / "recipe.yaml").write_text(dump_recipe(shown), encoding="utf-8")
        drawn = curves(facts)
        if drawn:
            (folder / "curves.svg").write_text(drawn, encoding="utf-8")
        team = team_of(shown, sources, names, of_agent, folder, updates=len(facts.lines))
        (folder / "team.json").write_text(json.dumps(team, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        found = read_results(results) if results is not None else None
        card = card_of(shown, team, facts, found, curves=bool(drawn), merged=merged, licence=licence)
        (folder / "README.md").write_text(card, encoding="utf-8")
    return out


def team_of(
    recipe: Recipe,
    sources: Mapping[str, str],
    names: Mapping[str, tuple[str, bool]],
    of_agent: Mapping[str, str],
    folder: Path,
    *,
    updates: int,
) -> dict[str, Any]:
    """What team.json says: enough to sit the team at its game again, and to tell that it is the same."""
    game = make_game(recipe.game.name, recipe.game.options)
    game.reset(recipe.seed)
    prompts = {seat: [list(message) for message in game.observe(seat)] for seat in game.acting()}
    models = models_of(recipe)
    return {
        "schema": SCHEMA,
        "marft": __version__,
        "name": recipe.name,
        "updates": updates,
        "game": {"name": recipe.game.name, "options": recipe.game.options},
        "bases": {
            key: {
                "name": name,
                "revision": models[key].revision,
                "dtype": models[key].dtype,
                "included": inside,
                "chat_template": template_hash(load_tokenizer(sources[key], models[key].revision)),
            }
            for key, (name, inside) in names.items()
        },
        "agents": {
            agent: {"folder": agent, "base": of_agent[agent], "sha256": file_hash(folder / agent / ADAPTER[1])}
            for agent in recipe.agents
        },
        "team": {seat: str(one.own) for seat, one in recipe.team.items()},
        "sampling": recipe.sampling.model_dump(),
        "first_messages": prompts,
    }


def template_hash(tokenizer: Any) -> str:
    """SHA-256 of a tokenizer's chat template: another template is another prompt."""
    return hashlib.sha256((tokenizer.chat_template or "").encode()).hexdigest()


def _public(key: str, model: Model, with_base: bool | None) -> tuple[str, bool]:
    """What a base is called in the published folder, and whether it lies in it."""
    local = model.name == "tiny" or Path(model.name).is_dir()
    inside = model.name == "tiny" if with_base is None else with_base
    if model.name == "tiny" and not inside:
        raise RecipeError(
            "publish: the tiny model is on no hub, and adapters are of no use without it; keep --with-base"
        )
    if inside:
        return ("base" if key == "model" else f"base-{key.removeprefix('models.')}"), True
    return (Path(model.name).name if local else model.name), False


def _copy_base(source: str, settings: Model, target: Path) -> None:
    if Path(source).is_dir():
        shutil.copytree(source, target, ignore=lambda _, files: [one for one in files if not _model_file(one)])
        return
    from transformers import AutoModelForCausalLM

    AutoModelForCausalLM.from_pretrained(source, revision=settings.revision).save_pretrained(target)
    load_tokenizer(source, settings.revision).save_pretrained(target)


def _model_file(name: str) -> bool:
    return name.endswith((".safetensors", ".json", ".jinja", ".model", ".txt"))


def _copy_adapter(source: Path, target: Path, base: str) -> None:
    target.mkdir()
    shutil.copyfile(source / ADAPTER[1], target / ADAPTER[1])
    config = json.loads((source / ADAPTER[0]).read_text(encoding="utf-8")) | {"base_model_name_or_path": base}
    (target / ADAPTER[0]).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _merge(recipe: Recipe, key: str, adapter: Path, target: Path) -> None:
    from peft import PeftModel

    from marft.model import load_base

    base = load_base(views_of(recipe)[key], "cpu")
    PeftModel.from_pretrained(base.model, str(adapter)).merge_and_unload(safe_merge=True).save_pretrained(target)
    base.tokenizer.save_pretrained(target)
