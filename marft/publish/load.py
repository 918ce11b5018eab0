"""A published folder back to a team, checked against what it says of itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from marft.bases import models_of, renamed
from marft.config import Recipe
from marft.errors import ModelError, RunFolderError
from marft.files import file_hash
from marft.model import load_tokenizer
from marft.publish.folder import ADAPTER, SCHEMA, template_hash
from marft.recipe import parse_recipe, read_yaml


def is_published(folder: Path) -> bool:
    """Whether this is a folder of `marft publish`."""
    return (folder / "team.json").is_file()


def read_team(folder: Path) -> dict[str, Any]:
    """team.json, of a version that is known here."""
    try:
        team = json.loads((folder / "team.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunFolderError(f"{folder} is no published team: team.json: {error}") from None
    if not isinstance(team, dict) or team.get("schema") != SCHEMA:
        raise RunFolderError(f"{folder}: team.json is not of schema {SCHEMA}, which this version reads")
    return team


def published_recipe(folder: Path) -> Recipe:
    """The team's recipe, its bases found in the folder where they lie there. ModelError where anything was changed."""
    team, recipe = read_team(folder), parse_recipe(read_yaml(folder / "recipe.yaml"))
    inside = {key for key, base in team["bases"].items() if base["included"]}
    names = {key: model.name for key, model in models_of(recipe).items()}
    recipe = renamed(recipe, {key: str(folder / name) if key in inside else name for key, name in names.items()})
    for agent, facts in team["agents"].items():
        if file_hash(folder / facts["folder"] / ADAPTER[1]) != facts["sha256"]:
            raise ModelError(
                f"{folder}: the adapter of {agent} is not the one that team.json tells of (sha256 differs)"
            )
    for key, model in models_of(recipe).items():
        if template_hash(load_tokenizer(model.name, model.revision)) != team["bases"][key]["chat_template"]:
            raise ModelError(
                f"{folder}: the chat template of {model.name} is not the one that the team was trained with; its "
                "prompts would be others. Name the base's revision in recipe.yaml"
            )
    return recipe
