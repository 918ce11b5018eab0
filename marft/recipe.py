"""Reading a recipe: YAML with `base:` inheritance and dotted overrides, checked against the tables of the house.

`load_recipe` is the one way in. Every complaint is a RecipeError that names the key, the value seen and the nearest
valid name. Nothing here imports torch.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from pydantic import ValidationError

from marft.bases import check_bases, models_of, with_bases
from marft.blocks import OffPolicy
from marft.config import Recipe, Remote
from marft.credit.columns import RESERVED
from marft.credit.couplings import Facts, check_couplings
from marft.credit.locality import not_local
from marft.credit.presets import algorithm
from marft.curriculum import check_curriculum
from marft.errors import RecipeError
from marft.games import make_game
from marft.lookup import explain, load_object, nearest
from marft.rewards import load_reward, services_of, unit_of


class _Yaml(yaml.SafeLoader):
    """YAML whose numbers are those people write: in YAML 1.1, which PyYAML reads, 3e-3 is a text."""


class _YamlOut(yaml.SafeDumper):
    """The same, so that a text that looks like a number is quoted."""


for _yaml in (_Yaml, _YamlOut):
    _yaml.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
    )


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read the recipe at `path`, apply `key.sub=value` overrides (values are YAML), and check it all."""
    data = read_yaml(Path(path))
    for override in overrides:
        apply_override(data, override)
    return parse_recipe(data)


def parse_recipe(data: Mapping[str, Any]) -> Recipe:
    """Check plain data as a recipe."""
    data = dict(data)
    if "algorithm" in data:
        data["algorithm"] = algorithm(data["algorithm"]).model_dump(by_alias=True)
    try:
        recipe = Recipe.model_validate(data)
    except ValidationError as error:
        raise RecipeError(explain(error, Recipe, also=("base",))) from None
    recipe = with_gap_limit(with_correction(with_bases(with_default_team(recipe))))
    check_names(recipe)
    check_bases(recipe)
    if recipe.engine.kind == "vllm":
        check_served(recipe)
    check_couplings(recipe.algorithm, facts_of(recipe))
    if recipe.rollout.pipeline:
        check_pipeline(recipe)
    check_curriculum(recipe)
    return recipe


def with_correction(recipe: Recipe) -> Recipe:
    """What older versions played is corrected for: where the recipe names no correction, importance ratios, cut off."""
    if not recipe.rollout.max_staleness or recipe.algorithm.off_policy.kind != "none":
        return recipe
    algorithm = recipe.algorithm.model_copy(update={"off_policy": OffPolicy(kind="truncate")})
    return recipe.model_copy(update={"algorithm": algorithm})


GAP_LIMITS = {"float64": 0.05, "float32": 0.05, "bfloat16": 0.1, "float16": 0.05}
"""By the base's type, where the recipe names none; of several bases, the largest."""


def with_gap_limit(recipe: Recipe) -> Recipe:
    """Engine and trainer round differently, and the more so the fewer digits the base's type has."""
    if recipe.train.gap_limit is not None:
        return recipe
    limit = max(GAP_LIMITS[model.dtype] for model in models_of(recipe).values())
    train = recipe.train.model_copy(update={"gap_limit": limit})
    return recipe.model_copy(update={"train": train})


def check_served(recipe: Recipe) -> None:
    """What vLLM cannot serve must not be trained for it."""
    adapters = {f"agents.{name}.adapter": agent.adapter for name, agent in recipe.agents.items()}
    for key, adapter in {"adapter": recipe.adapter, **adapters}.items():
        if adapter is not None and adapter.dora:
            raise RecipeError(f"{key}.dora: vLLM serves no DoRA adapters; set {key}.dora false or engine.kind hf")
    for name, agent in recipe.agents.items():
        config = Path(agent.start_from or "") / "adapter_config.json"
        if agent.start_from is not None and config.is_file() and json.loads(config.read_text()).get("use_dora"):
            raise RecipeError(
                f"agents.{name}.start_from: {agent.start_from} is a DoRA adapter, which vLLM does not serve; "
                "set engine.kind hf"
            )
    for key, model in models_of(recipe).items():
        if model.quantization is not None:
            raise RecipeError(
                f"{key}.quantization: {model.quantization} is for engine.kind hf; the servers' base would not be "
                "the trainer's. Set it null or engine.kind hf"
            )


def check_pipeline(recipe: Recipe) -> None:
    """Gradients of single groups add up to the update's only where nothing but its own group enters a group's."""
    train, found = recipe.train, not_local(recipe.algorithm)
    for number, reward in enumerate(recipe.rewards):
        if unit_of(load_reward(reward.use, reward.options, f"rewards[{number}]")) == "all":
            found = found or f"rewards[{number}] ({reward.use}) looks at all episodes of an update"
    if recipe.rollout.max_staleness:
        found = f"rollout.max_staleness is {recipe.rollout.max_staleness}: play goes on between the updates already"
    elif not train.learn:
        found = "train.learn is false, and this is a way to learn while others still play"
    elif train.epochs * train.minibatches > 1:
        found = f"train.epochs is {train.epochs} and train.minibatches {train.minibatches}: an update is several steps"
    if found:
        raise RecipeError(f"rollout.pipeline: {found}; change that, or set rollout.pipeline false")


def facts_of(recipe: Recipe) -> Facts:
    """What credit's checks and warnings ask about a recipe."""
    plan = recipe.rollout.plan
    return Facts(
        seats=len(recipe.team),
        branches=plan.branches,
        cross=plan.branches and plan.pairing == "cross",
        advance=plan.goes_on,
        group_size=recipe.rollout.group_size,
        minibatches=recipe.train.minibatches,
        epochs=recipe.train.epochs,
        row_tokens=recipe.sampling.max_new_tokens,
        staleness=recipe.rollout.max_staleness,
    )


def dump_recipe(recipe: Recipe) -> str:
    """The resolved recipe as YAML; `parse_recipe` reads it back to the same recipe."""
    return to_yaml(recipe.model_dump(mode="json", by_alias=True))


def to_yaml(data: Mapping[str, Any]) -> str:
    """Plain data as `read_yaml` reads it back."""
    return yaml.dump(data, Dumper=_YamlOut, sort_keys=False, width=100, allow_unicode=True)


def read_yaml(path: Path, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The file's mapping merged over that of its `base:` (a path relative to the file), recursively."""
    path = path.resolve()
    if path in seen:
        raise RecipeError(f"base: {path} inherits from itself through {' -> '.join(p.name for p in seen)}")
    if not path.is_file():
        raise RecipeError(f"recipe {path} is not a file")
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), _Yaml)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"recipe {path} is not readable as YAML: {error}") from None
    if not isinstance(data, dict):
        raise RecipeError(f"recipe {path} must be a mapping of keys, not {type(data).__name__}")
    base = data.pop("base", None)
    if base is None:
        return data
    return merge(read_yaml(path.parent / str(base), (*seen, path)), data)


def merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Mappings merge key by key, anything else is replaced; null removes a section (`agents: {bob: null}`).

    A game or preset of another name starts afresh, and so does a seat's policy.
    """
    result = dict(under)
    for key, value in over.items():
        below = result.get(key)
        if isinstance(value, Mapping) and isinstance(below, Mapping) and not _renamed(below, value):
            result[key] = merge(below, value)
        elif value is None and isinstance(below, Mapping):
            del result[key]
        else:
            result[key] = value
    return result


def _renamed(below: Mapping[str, Any], value: Mapping[str, Any]) -> bool:
    """A section that picks another thing by name or kind must not keep the old one's options."""
    if value.keys() <= _SEATED and below.keys() <= _SEATED:
        return bool(value)
    return any(key in value and value[key] != below.get(key, value[key]) for key in ("name", "kind", "use", "preset"))


def apply_override(data: dict[str, Any], override: str) -> None:
    """Set one dotted key in place: `train.updates=5`, `team.bob={scripted: TFT}`."""
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise RecipeError(f"override {override!r} must read key.sub=value")
    try:
        value = yaml.load(text, _Yaml)
    except yaml.YAMLError as error:
        raise RecipeError(f"override {override!r}: the value is not YAML: {error}") from None
    *parents, last = names = key.strip().split(".")
    if not all(names):
        raise RecipeError(f"override {override!r}: the key {key.strip()!r} has an empty part")
    node: Any = data
    for name in parents:
        below = node.get(name)
        if below is None:
            below = node[name] = {}
        elif isinstance(below, str):  # a bare name stands for {name: ...}, {preset: ...} or {kind: ...}
            short = "agent" if node is data.get("team") else _SHORT.get(name, "kind")
            short = "name" if node is data.get("models") else short
            below = node[name] = {short: below}
        if not isinstance(below, dict):
            raise RecipeError(f"override {override!r}: {name} is {below!r}, not a section")
        node = below
    if last in _SEAT and node.keys() <= _SEATED:
        node.clear()  # a seat has one policy: the new one takes the old one's place
    if value is None and isinstance(node.get(last), dict):
        del node[last]
    else:
        node[last] = value


_SHORT = {"game": "name", "model": "name", "algorithm": "preset"}
_SEAT = {"agent", "scripted", "frozen", "past", "remote", "pool"}
_SEATED = _SEAT | {"role", "weight", "model"}


def with_default_team(recipe: Recipe) -> Recipe:
    """Seats nobody was named for go to the agent of that name, else to the agents without a seat, in order.

    One agent alone takes them all.
    """
    seats = make_game(recipe.game.name, recipe.game.options).seats
    empty = [seat for seat in seats if seat not in recipe.team]
    if not empty:
        return recipe
    agents = list(recipe.agents)
    seated = {policy.agent for policy in recipe.policies.values()}
    free = [agent for agent in agents if agent not in seated and agent not in empty]
    team = {seat: policy.model_dump() for seat, policy in recipe.team.items()}
    for seat in empty:
        own = seat if seat in agents and seat not in seated else None
        agent = agents[0] if len(agents) == 1 else own or (free.pop(0) if free else None)
        if agent is None:
            raise RecipeError(f"team.{seat}: nobody fills this seat; the seats are {', '.join(seats)}")
        team[seat] = {"agent": agent}
    return Recipe.model_validate(recipe.model_dump(by_alias=True) | {"team": team})


def check_names(recipe: Recipe) -> None:
    """Everything the recipe names must exist: game, options, seats, agents, players, rewards."""
    game = make_game(recipe.game.name, recipe.game.options)
    for seat in recipe.team:
        if seat not in game.seats:
            raise RecipeError(f"team.{seat}: {recipe.game.name} has no such seat{nearest(seat, game.seats)}")
    for seat in game.seats:
        if seat not in recipe.team:
            raise RecipeError(f"team.{seat}: nobody fills this seat of {recipe.game.name}")
    for section in ("agents", "remotes", "models"):
        for name in getattr(recipe, section):
            if not name.replace("_", "").replace("-", "").isalnum():
                raise RecipeError(f"{section}.{name}: names may hold letters, digits, - and _ only")
    for name, remote in recipe.remotes.items():
        _check_remote(name, remote)
    for key, model in models_of(recipe).items():
        for name in model.tiny.players:
            load_player(game, name, f"{key}.tiny.players.{name}")
    seated = set()
    for key, policy in recipe.policies.items():
        for name in (policy.agent, policy.past):
            if name is not None and name not in recipe.agents:
                raise RecipeError(f"{key}: no agent {name!r}{nearest(name, recipe.agents)}")
        if policy.remote is not None and policy.remote not in recipe.remotes:
            known = nearest(policy.remote, recipe.remotes) or f"; add remotes.{policy.remote}: {{url: …, model: …}}"
            raise RecipeError(f"{key}.remote: no remote {policy.remote!r}{known}")
        if policy.agent is not None:
            seated.add(policy.agent)
        if policy.scripted is not None:
            load_player(game, policy.scripted, f"{key}.scripted")
    for name in recipe.agents:
        if name not in seated:
            raise RecipeError(f"agents.{name}: fills no seat; name it in team or remove it")
    names = set()
    for number, reward in enumerate(recipe.rewards):
        function = load_reward(reward.use, reward.options, f"rewards[{number}]", process=reward.process)
        remote = reward.options.get("remote") if "ask" in services_of(function) else None
        if remote is not None and remote not in recipe.remotes:
            known = nearest(remote, recipe.remotes) or f"; add remotes.{remote}: {{url: …, model: …}}"
            raise RecipeError(f"rewards[{number}].options.remote: no remote {remote!r}{known}")
        if reward.name in RESERVED or (reward.name is not None and reward.name in names):
            raise RecipeError(f"rewards[{number}].name: {reward.name!r} is taken already; choose another")
        names.add(reward.name)
    anchor = recipe.algorithm.kl.anchor
    if anchor.startswith("agent:") and anchor.removeprefix("agent:") not in recipe.agents:
        other = anchor.removeprefix("agent:")
        raise RecipeError(f"algorithm.kl.anchor: no agent {other!r}{nearest(other, recipe.agents)}")
    if anchor == "adapter" and recipe.algorithm.kl.coef:
        for name, agent in recipe.agents.items():
            if agent.start_from is None:
                raise RecipeError(
                    f"algorithm.kl.anchor adapter: set agents.{name}.start_from, which it would stay near to"
                )


def _check_remote(name: str, remote: Remote) -> None:
    """What a field's own bounds cannot say without showing its value, which may hold a key by mistake."""
    where = f"remotes.{name}"
    if remote.key_env is not None and not re.fullmatch(r"[A-Z_][A-Z0-9_]{0,63}", remote.key_env):
        raise RecipeError(
            f"{where}.key_env: must be the name of an environment variable (capitals, digits, _), never a key itself"
        )
    try:
        url = urlsplit(remote.url)
        plain = url.scheme in ("http", "https") and bool(url.hostname) and (url.port or 1) > 0
    except ValueError:
        plain = False
    if not plain:
        raise RecipeError(f"{where}.url: must read https://host/v1")
    if url.username or url.password or url.query or url.fragment:
        raise RecipeError(f"{where}.url: may hold no user, password, query or fragment; a key belongs into key_env")


def load_player(game: Any, name: str, where: str) -> Any:
    """A scripted player of the game by name, or the user's own by path.py:function.

    NAME(3, 0.5) is the player that the game's maker, or the user's function, of that name makes from these numbers.
    """
    if name in game.players:
        return game.players[name]
    made = re.fullmatch(r"(.+)\(([-+0-9., eE]*)\)", name)
    if made is not None:
        maker, numbers = made.groups()
        if ":" not in maker and maker not in game.makers:
            raise RecipeError(f"{where}: {game.name} makes no player {maker!r}{nearest(maker, game.makers)}")
        try:
            values = [yaml.load(number, _Yaml) for number in numbers.split(",") if number.strip()]
            return (load_object(maker, where) if ":" in maker else game.makers[maker])(*values)
        except (TypeError, ValueError) as error:
            raise RecipeError(f"{where}: {name}: {error}") from None
    if ":" in name:
        return load_object(name, where)
    raise RecipeError(f"{where}: {game.name} has no player {name!r}{nearest(name, game.players)}")
