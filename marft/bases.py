"""Which base a policy is on, and what a recipe is to each of its bases.

Agents of one run may be on different bases: `models` names those beside the recipe's `model`. Every base has its own
tokenizer, adapters, engine and updates; what agents of different bases have in common is the game, its texts and the
turn table. Here are the rules alone; nothing is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from marft.config import Launch, Model, Policy, Recipe, Seat
from marft.credit.couplings import needs_of
from marft.errors import RecipeError
from marft.lookup import nearest

DEFAULT = "model"
"""The base of whoever names none. Bases are called by their key in the recipe: this one, or models.NAME."""


class Home(NamedTuple):
    """The base that a policy is on, and the policy's name there."""

    base: str
    name: str


def home_of(recipe: Recipe, policy: str) -> Home:
    """Where a policy of the team is at home: an agent, "past:alice@20", "anchor:alice", "frozen:…".

    A frozen policy of another base ends with "@NAME", which it does without at home.
    """
    kind, colon, rest = policy.partition(":")
    if kind == "frozen" and colon:
        folder, _, name = rest.rpartition("@")
        return Home(_key(name), f"frozen:{folder}") if name in recipe.models else Home(DEFAULT, policy)
    agent = rest.partition("@")[0] if colon else policy
    return Home(_key(recipe.agents[agent].model), policy)


def models_of(recipe: Recipe) -> dict[str, Model]:
    """Every base's settings."""
    return {DEFAULT: recipe.model} | {_key(name): model for name, model in recipe.models.items()}


def renamed(recipe: Recipe, names: Mapping[str, str]) -> Recipe:
    """The recipe with its bases, by their keys, under other names: folders instead of where they came from, say."""
    models = {name: one.model_copy(update={"name": names[_key(name)]}) for name, one in recipe.models.items()}
    model = recipe.model.model_copy(update={"name": names[DEFAULT]})
    return recipe.model_copy(update={"model": model, "models": models})


def views_of(recipe: Recipe) -> dict[str, Recipe]:
    """The recipe as each of its bases sees it: its model, its agents, the seats they may fill, its servers."""
    if not recipe.models:
        return {DEFAULT: recipe}
    views = {}
    for number, name in enumerate((None, *recipe.models)):
        own = {
            agent: one.model_copy(update={"model": None}) for agent, one in recipe.agents.items() if one.model == name
        }
        launch = recipe.engine.launch and _share(recipe.engine.launch, number)
        changes = {
            "model": recipe.models[name] if name is not None else recipe.model,
            "models": {},
            "agents": own,
            "team": _seats(recipe, name),
            "engine": recipe.engine.model_copy(update={"launch": launch}),
        }
        views[_key(name)] = recipe.model_copy(update=changes)
    return views


def with_bases(recipe: Recipe) -> Recipe:
    """Equal settings are one base, and `model` is always one that is used: so one base needs no `models` at all."""
    asked = [(f"agents.{name}.model", agent.model) for name, agent in recipe.agents.items()]
    frozen = [(f"{key}.model", policy.model) for key, policy in recipe.policies.items() if policy.frozen is not None]
    for key, name in asked + frozen:
        if name is not None and name not in recipe.models:
            known = nearest(name, recipe.models) or f"; add models.{name}: {{name: …}}"
            raise RecipeError(f"{key}: no model {name!r}{known}")
    settings = {None: recipe.model, **recipe.models}
    same = {name: next(other for other, one in settings.items() if one == settings[name]) for name in settings}
    used = list(dict.fromkeys(same[name] for _, name in asked + frozen))
    first = None if None in used else used[0]

    def now(name: str | None) -> str | None:
        return None if same[name] == first else same[name]

    def moved(policy: Policy) -> Policy:
        return policy.model_copy(update={"model": now(policy.model)}) if policy.frozen is not None else policy

    changes = {
        "model": settings[first],
        "models": {name: settings[name] for name in used if name not in (None, first)},
        "agents": {name: one.model_copy(update={"model": now(one.model)}) for name, one in recipe.agents.items()},
        "team": {
            seat: moved(one).model_copy(update={"pool": tuple(map(moved, one.pool))})
            for seat, one in recipe.team.items()
        },
    }
    return recipe.model_copy(update=changes)


def check_bases(recipe: Recipe) -> None:
    """What cannot cross from one base to another, since token ids and hidden states mean something else there."""
    if not recipe.models:
        return
    homes = {name: home_of(recipe, name).base for name in recipe.agents}
    apart = ", ".join(f"{name} on {base}" for name, base in homes.items())
    needs, anchor = needs_of(recipe.algorithm), recipe.algorithm.kl.anchor
    if "critic" in needs:
        raise RecipeError(
            f"algorithm: it asks for a critic, which reads what all agents were shown, and the run has several bases "
            f"({', '.join(models_of(recipe))}); use an algorithm without one, or a single model"
        )
    if len(set(homes.values())) > 1:
        if "shared_rollouts" in needs:
            raise RecipeError(
                f"algorithm: its agents learn from each other's rows, token by token, and are on different bases "
                f"({apart}); use another algorithm, or give them the same agents.NAME.model"
            )
        if anchor.startswith("agent:"):
            raise RecipeError(
                f"algorithm.kl.anchor: {anchor.removeprefix('agent:')} cannot be the anchor of agents on other bases "
                f"({apart}); set it base, snapshot or adapter, or give them the same agents.NAME.model"
            )
    for key, policy in recipe.policies.items():
        if policy.frozen is not None and policy.frozen.rpartition("@")[2] in recipe.models:
            raise RecipeError(
                f"{key}.frozen: {policy.frozen} ends like the name of a base of models; rename the folder"
            )
    _check_servers(recipe)


def _check_servers(recipe: Recipe) -> None:
    engine, count = recipe.engine, 1 + len(recipe.models)
    for key in ("urls", "urls_file"):
        if getattr(engine, key):
            raise RecipeError(
                f"engine.{key}: given servers serve one base, and the recipe has {count}; set engine.launch"
            )
    if engine.launch is not None and engine.launch.gpus and len(engine.launch.gpus) != count * engine.launch.replicas:
        raise RecipeError(
            f"engine.launch.gpus names {len(engine.launch.gpus)} sets of devices; {count} bases with replicas "
            f"{engine.launch.replicas} each take {count * engine.launch.replicas}, base after base"
        )


def _key(name: str | None) -> str:
    return DEFAULT if name is None else f"models.{name}"


def _share(launch: Launch, number: int) -> Launch:
    """The servers of base `number`: each base has `replicas` of them, on ports and devices of their own."""
    start = number * launch.replicas
    port = launch.port + start if launch.port else 0
    return launch.model_copy(update={"port": port, "gpus": launch.gpus[start : start + launch.replicas]})


def _seats(recipe: Recipe, name: str | None) -> dict[str, Seat]:
    """The seats that policies of a base may fill, with these policies alone."""
    seats = {}
    for seat, chosen in recipe.team.items():
        own = [policy for policy in chosen.choices if policy.by_model and _base_name(recipe, policy) == name]
        if chosen.pool and own:
            seats[seat] = chosen.model_copy(update={"pool": tuple(map(_at_home, own))})
        elif own:
            seats[seat] = _at_home(chosen)
    return seats


def _base_name(recipe: Recipe, policy: Policy) -> str | None:
    agent = policy.agent or policy.past
    return recipe.agents[agent].model if agent is not None else policy.model


def _at_home(policy: Policy) -> Policy:
    return policy.model_copy(update={"model": None})
