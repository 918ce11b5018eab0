"""What differs between two evaluations: true differences are found, noise is not; folders that do not fit say so."""

import asyncio
import json

import numpy as np
import pytest
from scipy import stats
from typer.testing import CliRunner

from marft.cli import app
from marft.config import Sampling
from marft.engines.scripted import ScriptedEngine
from marft.errors import RecipeError, RunFolderError
from marft.eval.compare import _holm, compare, load_played
from marft.files import write_text
from marft.games import make_game
from marft.rollout import Plan, Rollout
from marft.store import write_parquet

GAME = make_game("prisoners_dilemma", {"rounds": 4})
INSTANCES = 24


def folder_of(path, teams, opponents=("TFT", "AllD"), seed=0, chance=0):
    """An evaluation of scripted players in the teams' seats, as `marft eval` leaves it. chance: of the players' own
    randomness."""
    engine = ScriptedEngine({f"scripted:{name}": player for name, player in GAME.players.items()})
    rollout = Rollout(lambda: type(GAME)(GAME.options), None, engine, engine, Sampling(), (), chance)
    plans, pairs = [], []
    for team, player in teams.items():
        for opponent in opponents:
            for number, seat in enumerate(GAME.seats):
                seated = dict.fromkeys(GAME.seats, f"scripted:{opponent}") | {seat: f"scripted:{player}"}
                first = number * INSTANCES
                plans += [Plan(len(pairs), first + n, 1000 * seed + n, seated) for n in range(INSTANCES)]
            pairs.append(
                {
                    "team": team,
                    "opponent": opponent,
                    "game": GAME.name,
                    "options": {"rounds": 4},
                    "group": len(pairs),
                    "instances": INSTANCES,
                    "ways": 2,
                    "episodes": 2 * INSTANCES,
                    "seats": list(GAME.seats),
                    "metrics": {},
                }
            )
    write_parquet(asyncio.run(rollout.play(plans)), path / "episodes" / "update-000000.parquet")
    results = {"schema": 2, "teams": {name: {"kind": "run"} for name in teams}, "pairs": pairs}
    write_text(path / "results.json", json.dumps(results))
    return str(path)


def found(ours, theirs, **options):
    rows = compare([load_played(one) for one in ours], [load_played(one) for one in theirs], resamples=200, **options)
    return {(row.opponent, row.metric): row for row in rows}


def test_a_true_difference_is_clear_and_what_is_the_same_is_not(tmp_path):
    ours, theirs = (folder_of(tmp_path / name, {name: name}) for name in ("random", "AllD"))
    rows = found([ours], [theirs])
    cooperation = rows["TFT", "cooperation"]
    assert cooperation.clear
    assert cooperation.theirs == 0.0
    assert cooperation.low < cooperation.difference < cooperation.high
    assert cooperation.low > 0.3
    same = found([ours], [ours])
    assert not any(row.clear or row.difference for row in same.values())


def test_players_who_differ_in_luck_alone_are_not_told_apart(tmp_path):
    ours, theirs = (folder_of(tmp_path / str(n), {"team": "random"}, chance=n) for n in (1, 2))
    rows = found([ours], [theirs])
    assert not any(row.clear for row in rows.values())
    row = rows["TFT", "return"]
    assert row.low < 0 < row.high
    assert row.needed > INSTANCES


def test_the_interval_of_a_mean_is_that_of_paired_students(tmp_path):
    ours, theirs = (folder_of(tmp_path / name, {name: name}) for name in ("random", "AllC"))
    row = found([ours], [theirs], metrics=["return"])["TFT", "return"]
    played = [load_played(text).pairings for text in (ours, theirs)]
    sides = [next(tables for met, tables in one.items() if met.opponent == "TFT") for one in played]
    apart = [
        np.mean([episode.returns()[seat] for (seat,), one in sides[0] for episode in one[instance]])
        - np.mean([episode.returns()[seat] for (seat,), one in sides[1] for episode in one[instance]])
        for instance in sides[0][0][1]
    ]
    low, high = stats.t.interval(0.95, len(apart) - 1, np.mean(apart), stats.sem(apart))
    assert row.difference == pytest.approx(np.mean(apart))
    assert (row.low, row.high) == (pytest.approx(low, abs=0.25), pytest.approx(high, abs=0.25))


def test_several_training_seeds_make_an_interval_wider(tmp_path):
    steady = [folder_of(tmp_path / f"s{n}", {"t": "random"}, chance=n) for n in range(3)]
    wild = [folder_of(tmp_path / f"w{n}", {"t": name}) for n, name in enumerate(("AllC", "random", "AllD"))]
    base = folder_of(tmp_path / "base", {"t": "AllD"})
    narrow = found(steady, [base])["TFT", "cooperation"]
    wide = found(wild, [base])["TFT", "cooperation"]
    assert wide.high - wide.low > 3 * (narrow.high - narrow.low)


def test_holm_asks_most_of_the_least_likely():
    assert _holm([0.04, 0.01, 0.2]) == [False, True, False]
    assert _holm([0.016, 0.024, 0.049]) == [True, True, True]  # 0.05 / 3, / 2, / 1
    assert _holm([0.02, 0.03]) == [True, True]
    assert _holm([0.03, 0.03]) == [False, False]


def test_folders_that_do_not_fit_say_why(tmp_path):
    one = folder_of(tmp_path / "one", {"a": "AllC", "b": "AllD"})
    other = folder_of(tmp_path / "other", {"a": "AllC"}, seed=1)
    with pytest.raises(RunFolderError, match="say which"):
        load_played(one)
    with pytest.raises(RunFolderError, match="no team 'c'"):
        load_played(f"{one}:c")
    with pytest.raises(RunFolderError, match=r"no results of marft eval"):
        load_played(str(tmp_path / "nowhere"))
    with pytest.raises(RunFolderError, match="share 0 instances"):
        found([f"{one}:a"], [other])
    with pytest.raises(RecipeError, match="did you mean 'cooperation'"):
        found([f"{one}:a"], [f"{one}:b"], metrics=["cooperatoin"])


def test_the_command_prints_what_differs(tmp_path):
    one = folder_of(tmp_path / "one", {"a": "AllC", "b": "AllD"})
    arguments = ["compare", f"{one}:a", f"{one}:b", "--metric", "cooperation", "--resamples", "100"]
    done = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    assert "cooperation" in done.output
    assert "yes" in done.output
