"""Pairings, intervals, and results that can be traced to episodes on disk."""

import json

import numpy as np
import pytest
from scipy.stats import bootstrap
from trainer_fixtures import Rig, recipe_data

from marft.errors import RecipeError, RunFolderError
from marft.eval.arena import evaluate
from marft.eval.evaluation import load_evaluation
from marft.eval.matches import schedule_of
from marft.eval.stats import interval, resampled
from marft.eval.teams import load_teams
from marft.files import write_text
from marft.recipe import dump_recipe, parse_recipe
from marft.store import read_episodes

EPISODES = 6


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two run folders with differing adapters, as training leaves them."""
    root = tmp_path_factory.mktemp("runs")
    for number, name in enumerate(("one", "two")):
        rig = Rig(f"name={name}", f"seed={number}", shaken=0.3)
        write_text(root / name / "recipe.yaml", dump_recipe(rig.recipe))
        for agent in rig.learners:
            rig.bank.save(agent, root / name / "adapters" / agent)
    return {name: root / name for name in ("one", "two")}


@pytest.fixture(scope="module")
def played(runs, tmp_path_factory):
    out = tmp_path_factory.mktemp("eval")
    results = evaluate(runs, out, against="AllD,TFT", episodes=EPISODES, seed=3, resamples=40)
    return results, out


def test_every_team_meets_itself_every_player_and_every_other_team_from_every_seat(runs):
    sources = {name: str(path) for name, path in runs.items()}
    evaluation = load_evaluation("own", {"teams": sources, "against": "AllD"})
    schedule = schedule_of(evaluation, load_teams(evaluation))
    found = {(p.team, p.opponent): list(schedule.matches[p.group].tables) for p in schedule.pairs}
    seats = {(p.team, p.opponent): p.seats for p in schedule.pairs}
    assert found[("one", "self")] == [{"alice": "one/alice", "bob": "one/bob"}]
    assert found[("one", "AllD")] == [
        {"alice": "one/alice", "bob": "scripted:AllD"},
        {"alice": "scripted:AllD", "bob": "one/bob"},
    ]
    assert found[("one", "two")] == [
        {"alice": "one/alice", "bob": "two/bob"},
        {"alice": "two/alice", "bob": "one/bob"},
    ]
    assert found[("two", "one")] == found[("one", "two")]  # both sit in each of these, so they are played once
    assert seats[("one", "two")] == (("alice",), ("bob",))
    assert seats[("two", "one")] == (("bob",), ("alice",))
    assert len(found) == 2 * (1 + 1 + 1)


def test_all_pairings_are_played_on_the_same_instances(played):
    _, out = played
    seeds = {}
    for episode in read_episodes(out):
        seeds.setdefault(tuple(sorted(episode.team.items())), []).append(episode.seed)
    assert len(seeds) == 2 + 2 * 2 * 2 + 2
    assert {tuple(sorted(found)) for found in seeds.values()} == {tuple(sorted(next(iter(seeds.values()))))}
    assert len(set(next(iter(seeds.values())))) == EPISODES


def test_every_number_can_be_computed_from_the_episodes_on_disk(played):
    results, out = played
    stored = json.loads((out / "results.json").read_text())
    assert stored == json.loads(json.dumps(results))
    episodes = list(read_episodes(out))
    for pairing in stored["pairs"]:
        if pairing["kind"] != "scripted":
            continue
        own, cooperated = [], []
        for seat in ("alice", "bob"):
            other = "bob" if seat == "alice" else "alice"
            team = {seat: f"{pairing['team']}/{seat}", other: f"scripted:{pairing['opponent']}"}
            for episode in episodes:
                if episode.team == team:
                    own.append(sum(step[seat] for step in episode.rewards))
                    cooperated += [turn.action == "C" for turn in episode.turns if turn.seat == seat]
        assert len(own) == pairing["episodes"] == 2 * EPISODES
        assert pairing["metrics"]["return"]["mean"] == pytest.approx(np.mean(own), abs=1e-12)
        assert pairing["metrics"]["cooperation"]["mean"] == pytest.approx(np.mean(cooperated), abs=1e-12)


def test_a_team_is_measured_where_it_plays_itself_and_brings_its_own_company(runs, tmp_path):
    """One team trained alice alone, against a player from a file; the other has a frozen partner."""
    (tmp_path / "mine.py").write_text("def stubborn(view, rng):\n    return view.say[1]\n")
    seats = {
        "lone": ["agents={alice: {}}", f"team={{alice: alice, bob: {{scripted: '{tmp_path / 'mine.py'}:stubborn'}}}}"],
        "led": ["agents={alice: {}}", f"team={{alice: alice, bob: {{frozen: {runs['one'] / 'adapters' / 'bob'}}}}}"],
    }
    for name, overrides in seats.items():
        rig = Rig(*overrides)
        write_text(tmp_path / name / "recipe.yaml", dump_recipe(rig.recipe))
        rig.bank.save("alice", tmp_path / name / "adapters" / "alice")
    folders = {"one": runs["one"]} | {name: tmp_path / name for name in seats}
    results = evaluate(folders, tmp_path / "out", against="AllC", episodes=2, seed=0, resamples=20)
    found = {(pairing["team"], pairing["opponent"]): pairing for pairing in results["pairs"]}
    assert len(found) == 3 * (1 + 1 + 2)
    for opponent in ("self", "AllC", "one"):
        assert found[("lone", opponent)]["seats"] == ["alice"]
        assert sorted(found[("led", opponent)]["seats"]) == ["alice", "bob"]
    assert found[("one", "lone")]["seats"] == ["alice", "bob"]
    assert "opponent_return" in found[("lone", "self")]["metrics"]
    turns = [turn for episode in read_episodes(tmp_path / "out") for turn in episode.turns]
    assert {turn.action for turn in turns if turn.policy.endswith("stubborn")} == {"D"}
    assert {turn.agent for turn in turns} == {None}  # nobody learns here


def test_the_same_seed_gives_the_same_results(runs, played, tmp_path):
    again = evaluate(runs, tmp_path, against="AllD,TFT", episodes=EPISODES, seed=3, resamples=40)
    assert again == played[0]


def test_intervals_hold_the_mean(played):
    for pairing in played[0]["pairs"]:
        for value in pairing["metrics"].values():
            if value["mean"] is not None:
                assert value["low"] - 1e-12 <= value["mean"] <= value["high"] + 1e-12


def test_the_interval_is_scipys_percentile_bootstrap_and_shrinks_with_the_sample():
    rng = np.random.default_rng(0)
    widths = []
    for size in (50, 800):
        data = rng.normal(size=size)
        found = interval(lambda drawn, data=data: {"mean": float(data[drawn].mean())}, size, 4000, seed=1)["mean"]
        reference = bootstrap((data,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(2))
        width = reference.confidence_interval.high - reference.confidence_interval.low
        assert found["mean"] == pytest.approx(data.mean())
        assert found["low"] == pytest.approx(reference.confidence_interval.low, abs=0.06 * width)
        assert found["high"] == pytest.approx(reference.confidence_interval.high, abs=0.06 * width)
        widths.append(found["high"] - found["low"])
    assert widths[1] == pytest.approx(widths[0] / 4, rel=0.3)  # a standard error falls with the root of the size


def directly(statistic, instances, resamples, seed):
    """Every draw computed by the statistic itself."""
    rng = np.random.default_rng(seed)
    return [statistic(rng.integers(instances, size=instances).tolist()) for _ in range(resamples)]


def test_resamples_of_pooled_rates_and_of_anything_else_are_those_of_the_statistic():
    """Weights of 0, rates that are never seen, all alike, or no pooled mean at all."""
    rng = np.random.default_rng(4)
    hits, seen = rng.integers(0, 3, 20), rng.integers(0, 4, 20)
    hits = np.minimum(hits, seen)
    data = rng.normal(size=20)

    def rate(hits, seen):
        return float(hits.sum() / seen.sum()) if seen.sum() else float("nan")

    def pooled(drawn):
        drawn = list(drawn)
        return {
            "rate": rate(hits[drawn], seen[drawn]),
            "mean": float(data[drawn].mean()),
            "never": float("nan"),
            "same": 1.0,
            "rare": rate(hits[drawn] * 0 + 1.0, (np.array(drawn) == 3) * 1.0) if 3 in drawn else float("nan"),
        }

    def curved(drawn):
        return pooled(drawn) | {"median": float(np.median(data[list(drawn)])), "most": float(data[list(drawn)].max())}

    asked = []

    def counted(drawn):
        asked.append(len(drawn))
        return {key: value for key, value in pooled(drawn).items() if key != "rare"}

    for statistic in (pooled, curved, counted):
        _, found = resampled(statistic, 20, 60, seed=9)
        expected = directly(statistic, 20, 60, seed=9)
        for one, other in zip(found, expected, strict=True):
            assert one == pytest.approx(other, abs=1e-12, nan_ok=True)
    assert sum(size == 20 for size in asked[: len(asked) - 60]) == 1 + 3  # the rest were single instances and pairs


def test_what_was_never_seen_is_none_and_not_a_number():
    found = interval(lambda drawn: {"never": float("nan"), "once": 1.0 if 0 in drawn else float("nan")}, 4, 50, seed=0)
    assert found["never"] == {"mean": None, "low": None, "high": None}
    assert found["once"] == {"mean": 1.0, "low": 1.0, "high": 1.0}


def test_wrong_requests_say_what_to_change(runs, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RunFolderError, match=r"file/out cannot be written.*--out"):
        evaluate(runs, tmp_path / "file" / "out")
    with pytest.raises(RecipeError, match="has no player 'AlD'; did you mean 'AllD'"):
        evaluate(runs, tmp_path, against="AlD")
    with pytest.raises(RunFolderError, match=r"no run folder: it holds no recipe\.yaml"):
        evaluate({"x": tmp_path}, tmp_path)
    write_text(tmp_path / "empty" / "recipe.yaml", dump_recipe(parse_recipe(recipe_data())))
    with pytest.raises(RunFolderError, match="no adapter of alice"):
        evaluate({"empty": tmp_path / "empty"}, tmp_path)
