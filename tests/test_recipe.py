"""From YAML to a checked recipe: inheritance, overrides, and words for whatever cannot be used."""

from pathlib import Path

import pytest
import yaml

from marft.errors import RecipeError
from marft.recipe import dump_recipe, load_recipe, parse_recipe, read_yaml

BASE = {
    "name": "base",
    "game": {"name": "prisoners_dilemma", "rounds": 4},
    "agents": {"alice": {}, "bob": {}},
    "algorithm": "rloo",
}
RECIPES = sorted(p for p in Path(__file__).parents[1].glob("recipes/*/*.yaml") if p.parent.name != "accelerate")


def write(folder, **files):
    for name, data in files.items():
        text = data if isinstance(data, str) else yaml.safe_dump(data)
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return folder / f"{next(iter(files))}.yaml"


def complaint(data=None, **changes):
    with pytest.raises(RecipeError) as error:
        parse_recipe(data if data is not None else BASE | changes)
    return str(error.value)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_recipe_of_the_house_is_valid_and_comes_back_from_its_dump(path):
    recipe = load_recipe(path)
    assert parse_recipe(yaml.safe_load(dump_recipe(recipe))) == recipe


# --- inheritance


def test_a_recipe_inherits_and_overrides_key_by_key(tmp_path):
    (tmp_path / "sub").mkdir()
    write(tmp_path, base=BASE | {"train": {"updates": 7, "epochs": 2}, "rewards": ["payoff"]})
    write(tmp_path / "sub", middle="base: ../base.yaml\ntrain: {updates: 8}\nseed: 3\n")
    top = write(tmp_path, top="base: sub/middle.yaml\nname: top\ntrain: {save_every: 2}\ngame: {rounds: 9}\n")
    recipe = load_recipe(top)
    assert (recipe.name, recipe.seed) == ("top", 3)
    assert (recipe.train.updates, recipe.train.epochs, recipe.train.save_every) == (8, 2, 2)
    assert (recipe.game.name, recipe.game.options) == ("prisoners_dilemma", {"rounds": 9})


def test_a_list_is_replaced_and_not_merged(tmp_path):
    write(tmp_path, base=BASE | {"rewards": ["payoff", "invalid_answer"]})
    top = write(tmp_path, top={"base": "base.yaml", "rewards": [{"use": "payoff", "weight": 2}]})
    assert [(reward.use, reward.weight) for reward in load_recipe(top).rewards] == [("payoff", 2.0)]


def test_another_game_or_preset_does_not_keep_the_old_ones_options(tmp_path):
    base = BASE | {"algorithm": {"preset": "ad_align", "alignment": {"beta": 3.0}}}
    base["game"] = {"name": "prisoners_dilemma", "payoffs": {"T": 5.5}, "rounds": 4}
    write(tmp_path, base=base)
    top = write(tmp_path, top={"base": "base.yaml", "game": {"name": "chicken"}, "algorithm": {"preset": "rloo"}})
    recipe = load_recipe(top)
    assert recipe.game.options == {}
    assert recipe.algorithm == load_recipe(write(tmp_path, plain=BASE)).algorithm
    top = write(tmp_path, same={"base": "base.yaml", "algorithm": {"preset": "ad_align", "kl": {"coef": 0.5}}})
    assert load_recipe(top).algorithm.alignment.beta == 3.0


def test_a_seat_changes_hands_and_a_section_is_removed_with_null(tmp_path):
    write(tmp_path, base=BASE | {"team": {"alice": {"agent": "alice"}, "bob": {"agent": "bob"}}})
    top = write(tmp_path, top="base: base.yaml\nteam: {bob: {scripted: TFT}}\nagents: {bob: null}\n")
    recipe = load_recipe(top)
    assert {seat: str(policy) for seat, policy in recipe.team.items()} == {"alice": "alice", "bob": "scripted:TFT"}
    assert list(recipe.agents) == ["alice"]


def test_a_cycle_or_a_missing_or_broken_file_is_named(tmp_path):
    a = write(tmp_path, a={"base": "b.yaml"}, b={"base": "c.yaml"}, c={"base": "a.yaml"})
    with pytest.raises(RecipeError, match=r"a\.yaml inherits from itself through a\.yaml -> b\.yaml -> c\.yaml"):
        read_yaml(a)
    for text, words in {
        "base: none.yaml": r"none\.yaml is not a file",
        "- 1": r"must be a mapping of keys, not list",
        "": r"must be a mapping of keys, not NoneType",
        "a: [": r"not readable as YAML",
        "a: !!python/object:os.system {}": r"not readable as YAML",
    }.items():
        with pytest.raises(RecipeError, match=words):
            read_yaml(write(tmp_path, d=text))
    (tmp_path / "d.yaml").write_bytes(b"name: \xff\xfe")
    with pytest.raises(RecipeError, match="not readable as YAML"):
        read_yaml(tmp_path / "d.yaml")


# --- overrides


@pytest.mark.parametrize(
    ("override", "read", "value"),
    [
        ("train.updates=5", lambda r: r.train.updates, 5),
        ("optimizer.learning_rate=3e-3", lambda r: r.optimizer.learning_rate, 0.003),
        ("optimizer.learning_rate=1E-4", lambda r: r.optimizer.learning_rate, 1e-4),
        ("optimizer.betas=[0.5, .75]", lambda r: r.optimizer.betas, (0.5, 0.75)),
        ("name=3e-3x", lambda r: r.name, "3e-3x"),
        ("name='3e-3'", lambda r: r.name, "3e-3"),
        ("name=a=b", lambda r: r.name, "a=b"),
        ("name=nan", lambda r: r.name, "nan"),
        ("engine.reuse_cache=false", lambda r: r.engine.reuse_cache, False),
        ("game=stag_hunt", lambda r: (r.game.name, r.game.options), ("stag_hunt", {})),
        ("game.rounds=8", lambda r: r.game.options["rounds"], 8),
        ("game.continue_probability=9e-1", lambda r: r.game.options["continue_probability"], 0.9),
        ("game.payoffs.T=5.5", lambda r: r.game.options["payoffs"], {"T": 5.5}),
        ("model.tiny.layers=1", lambda r: (r.model.name, r.model.tiny.layers), ("tiny", 1)),
        ("agents.alice.adapter.rank=2", lambda r: (r.adapter_of("alice").rank, r.adapter_of("bob").rank), (2, 8)),
        ("agents.bob.optimizer.learning_rate=1", lambda r: r.optimizer_of("bob").learning_rate, 1.0),
        ("algorithm.return.gamma=0.5", lambda r: r.algorithm.return_.gamma, 0.5),
        ("algorithm.baseline=mean", lambda r: r.algorithm.baseline.kind, "mean"),
        ("algorithm.preset=ad_align", lambda r: r.algorithm.alignment.kind, "ad_align"),
        ("trackers=[]", lambda r: r.trackers, ()),
        ("model.revision=null", lambda r: r.model.revision, None),
        ("rewards=[{use: payoff, weight: 1e-1}]", lambda r: r.rewards[0].weight, 0.1),
    ],
)
def test_an_override_sets_one_key(tmp_path, override, read, value):
    found = read(load_recipe(write(tmp_path, base=BASE | {"model": "tiny"}), [override]))
    assert found == value
    assert type(found) is type(value)


def test_overrides_apply_in_order_and_open_up_bare_names(tmp_path):
    path = write(tmp_path, base=BASE | {"team": {"alice": "alice", "bob": "alice"}, "model": "tiny", "game": "chicken"})
    orders = ["algorithm.baseline.key=[instance]", "game.rounds=3", "game.rounds=5", "team.bob.agent=bob", "engine=hf"]
    recipe = load_recipe(path, [*orders, "engine.max_batch=9"])
    assert recipe.algorithm.baseline.kind == "loo"
    assert recipe.algorithm.baseline.key == ("instance",)
    assert (recipe.game.name, recipe.game.options) == ("chicken", {"rounds": 5})
    assert str(recipe.team["bob"]) == "bob"
    assert (recipe.engine.kind, recipe.engine.max_batch) == ("hf", 9)
    assert recipe.model.name == "tiny"


def test_an_override_changes_who_fills_a_seat_and_removes_a_section(tmp_path):
    path = write(tmp_path, base=BASE | {"team": {"alice": "alice", "bob": "bob"}})
    recipe = load_recipe(path, ["team.bob.scripted=TFT", "agents.bob=null"])
    assert (str(recipe.team["bob"]), list(recipe.agents)) == ("scripted:TFT", ["alice"])


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.updates", r"'train\.updates' must read key\.sub=value"),
        ("=5", r"'=5' must read key\.sub=value"),
        ("train..updates=5", r"has an empty part"),
        ("train.updates=[", r"the value is not YAML"),
        ("seed.deeper=5", r"seed is 0, not a section"),
        ("trian.updates=5", r"trian: unknown key; did you mean 'train'\?"),
        ("base=other.yaml", r"base: unknown key"),
    ],
)
def test_an_override_that_cannot_be_applied_says_why(tmp_path, override, words):
    with pytest.raises(RecipeError, match=words):
        load_recipe(write(tmp_path, base=BASE | {"seed": 0}), [override])


# --- words for what is wrong


@pytest.mark.parametrize(
    ("changes", "key", "near"),
    [
        ({"trian": {}}, "trian", "train"),
        ({"bsae": "x.yaml"}, "bsae", "base"),
        ({"train": {"update": 5}}, "train.update", "updates"),
        ({"model": {"tiny": {"layer": 1}}}, "model.tiny.layer", "layers"),
        ({"agents": {"alice": {"adaptor": {}}, "bob": {}}}, "agents.alice.adaptor", "adapter"),
        ({"agents": {"alice": {"adapter": {"ranc": 4}}, "bob": {}}}, "agents.alice.adapter.ranc", "rank"),
        ({"team": {"alice": {"agnet": "alice"}, "bob": "bob"}}, "team.alice.agnet", "agent"),
        ({"rewards": [{"use": "payoff", "wieght": 2}]}, "rewards.0.wieght", "weight"),
        ({"algorithm": {"baseline": {"kindd": "loo"}}}, "algorithm.baseline.kindd", "kind"),
        ({"algorithm": {"basline": "loo"}}, "algorithm.basline", "baseline"),
        ({"algorithm": {"presett": "rloo"}}, "algorithm.presett", "preset"),
        ({"algorithm": {"preset": "rloo", "return": {"gama": 1}}}, "algorithm.return.gama", "gamma"),
        ({"game": {"name": "prisoners_dilemma", "round": 3}}, "game.round", "rounds"),
    ],
)
def test_an_unknown_key_is_named_in_full_with_the_nearest(changes, key, near):
    words = complaint(**changes)
    assert words.endswith(f"{key}: unknown key; did you mean {near!r}?")
    assert "\n" not in words


def test_an_unknown_key_like_no_other_lists_the_known_ones():
    assert "sampling.xyz: unknown key; known: max_new_tokens, temperature, top_k, top_p" in complaint(
        sampling={"xyz": 1}
    )
    assert "game.payoffs.zz: unknown key; known: P, R, S, T" in complaint(
        game={"name": "prisoners_dilemma", "payoffs": {"zz": 1}}
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train": {"updates": "many"}}, ["train.updates", "'many'", "integer"]),
        ({"train": {"updates": 0}}, ["train.updates", "0", "greater than or equal to 1"]),
        ({"train": 5}, ["train", "5", "dictionary"]),
        ({"sampling": {"temperature": 0}}, ["sampling.temperature", "greater than 0"]),
        ({"model": {"dtype": "float23"}}, ["model.dtype", "'float23'", "did you mean 'float32'", "bfloat16"]),
        ({"engine": "vlm"}, ["engine.kind", "'vlm'", "hf"]),
        ({"adapter": {"targets": 3}}, ["adapter.targets:", "3"]),
        ({"algorithm": {"alignment": {"kind": "ad-align"}}}, ["algorithm.alignment.kind", "'ad_align'"]),
        ({"algorithm": {"baseline": {"key": ["seet"]}}}, ["algorithm.baseline.key.0", "'seet'", "'seat'"]),
        ({"algorithm": "rlo"}, ["algorithm", "'rlo'", "did you mean 'rloo'"]),
        ({"algorithm": None}, ["algorithm", "None", "preset"]),
        ({"game": {"name": "prisoners_dilemma", "rounds": 0}}, ["game.rounds", "got 0"]),
        ({"game": {"name": "prisoners_dilema"}}, ["'prisoners_dilema'", "did you mean 'prisoners_dilemma'"]),
        ({"game": {"rounds": 3}}, ["game.name: required, but missing"]),
        ({"agents": {}}, ["agents", "at least 1"]),
        ({"agents": {"a b": {}, "bob": {}}}, ["agents.a b", "letters, digits"]),
        ({"agents": {"alice": {}, "bob": {}, "carol": {}}}, ["agents.carol", "fills no seat", "name it in team"]),
        ({"model": {"tiny": {"hidden": 50}}}, ["model.tiny", "50", "multiple of 2 * heads = 8"]),
        ({"model": {"tiny": {"players": {"AlD": 2}}}}, ["model.tiny.players.AlD", "did you mean 'AllD'"]),
        ({"model": {"tiny": {"players": {"none.py:mine": 2}}}}, ["model.tiny.players.none.py:mine", "no file none.py"]),
        ({"model": {"tiny": {"players": {"AllD": 2, "TFT": -1}}}}, ["model.tiny", "0 or more", "'TFT': -1"]),
        ({"model": {"tiny": {"players": {"AllD": 0}}}}, ["model.tiny", "not all 0"]),
        ({"team": {"alice": {"agent": "alice", "frozen": "base"}, "bob": "bob"}}, ["team.alice", "exactly one of"]),
        ({"team": {"alice": "alice", "bob": "bbo"}}, ["team.bob", "'bbo'", "did you mean 'bob'"]),
        ({"team": {"alice": "alice", "bob": "bob", "bobb": "bob"}}, ["team.bobb", "did you mean 'bob'"]),
        ({"agents": {"bob": {}, "x": {}}, "team": {"alice": "bob", "bob": "bob"}}, ["agents.x", "fills no seat"]),
        ({"game": {"name": "prisoners_dilemma"}, "team": {"bob": "alice", "alice": "bob", "c": "bob"}}, ["team.c"]),
        ({"team": {"alice": "alice", "bob": "alice"}}, ["agents.bob", "fills no seat"]),
        ({"algorithm": "magrpo"}, ["return.kind tree", "rollout.plan.kind"]),
        ({"rewards": [{"use": "payoff", "name": "value"}]}, ["rewards[0].name", "value"]),
        ({"algorithm": {"preset": "grpo", "kl": {"anchor": "agent:bo"}}}, ["kl.anchor", "bo", "bob"]),
        ({"algorithm": {"kl": {"anchor": "adapter", "coef": 0.1}}}, ["kl.anchor adapter", "start_from"]),
        ({"algorithm": {"kl": {"anchor": "bass"}}}, ["anchor", "bass"]),
        (
            {"team": {"alice": "alice", "bob": {"scripted": "TTF"}}},
            ["team.bob.scripted", "'TTF'", "did you mean 'TFT'"],
        ),
        ({"team": {"alice": "alice", "bob": {"scripted": "no.py:f"}}}, ["team.bob.scripted", "no file no.py"]),
        ({"rewards": ["payof"]}, ["rewards[0].use", "'payof'", "did you mean 'payoff'"]),
        (
            {"rewards": ["payoff", {"use": "payoff", "options": {"scales": 2}}]},
            ["rewards[1].options.scales", "'scale'"],
        ),
    ],
)
def test_what_cannot_be_used_is_named_with_its_key_and_value(changes, words):
    found = complaint(**changes)
    assert all(word in found for word in words), found


def test_what_is_missing_is_named_all_at_once():
    lines = complaint({"seed": 1}).splitlines()
    assert lines == [f"{key}: required, but missing" for key in ("name", "game", "agents", "algorithm")]


# --- the team


def test_agents_take_the_seats_in_order_and_one_alone_takes_all():
    def seats(*agents):
        recipe = parse_recipe(BASE | {"agents": {name: {} for name in agents}})
        return {seat: str(policy) for seat, policy in recipe.team.items()}

    assert seats("zoe", "adam") == {"alice": "zoe", "bob": "adam"}
    assert seats("zoe") == {"alice": "zoe", "bob": "zoe"}


def test_a_users_own_player_and_reward_are_found_by_file(tmp_path):
    path = tmp_path / "own.py"
    path.write_text("def player(view, rng):\n    return '<A>'\ndef reward(episode, scale=1):\n    return {}\n")
    team = {"alice": "alice", "bob": {"scripted": f"{path}:player"}}
    rewards = [{"use": f"{path}:reward", "options": {"scale": 2}}]
    recipe = parse_recipe(BASE | {"agents": {"alice": {}}, "team": team, "rewards": rewards})
    assert str(recipe.team["bob"]) == f"scripted:{path}:player"
    assert "did you mean 'player'" in complaint(team=team | {"bob": {"scripted": f"{path}:playr"}})


# --- the dump


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"name": "3e-3", "agents": {"1e5": {}, "yes": {}}},
        {"name": "zoë 日", "game": {"name": "chicken", "action_names": ["ja: {", "'no'"], "continue_probability": 0.5}},
        {"adapter": {"targets": ["q_proj"]}, "agents": {"a": {"adapter": {"targets": "all-linear"}}, "b": {}}},
        {"algorithm": {"preset": "ad_align", "alignment": {"clip": 1.5}, "return": {"gamma": 0.1}}, "trackers": []},
        {"optimizer": {"learning_rate": 1e-7, "betas": [0.1, 0.2]}, "model": {"tiny": {"seed": 2**40}}},
        {"team": {"alice": {"scripted": "TFT"}, "bob": "bob"}, "agents": {"bob": {"start_from": "runs/x"}}},
    ],
)
def test_a_dump_reads_back_to_the_same_recipe(tmp_path, changes):
    recipe = parse_recipe(BASE | changes)
    (tmp_path / "dump.yaml").write_text(dump_recipe(recipe), encoding="utf-8")
    assert load_recipe(tmp_path / "dump.yaml") == recipe
    assert parse_recipe(yaml.safe_load(dump_recipe(recipe))) == recipe


def test_seats_nobody_was_named_for_are_filled_by_name_then_in_order(make_recipe):
    def seats(**changes):
        return {seat: str(policy) for seat, policy in make_recipe(**changes).team.items()}

    assert seats(team={"alice": "alice"}) == {"alice": "alice", "bob": "bob"}
    assert seats(agents={"bob": None}, team={"bob": {"scripted": "TFT"}}) == {"bob": "scripted:TFT", "alice": "alice"}
    assert seats(agents={"alice": None, "bob": None, "x": {}, "y": {}}) == {"alice": "x", "bob": "y"}
    assert seats(agents={"bob": None}) == {"alice": "alice", "bob": "alice"}
