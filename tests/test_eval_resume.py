"""An evaluation can be killed at any moment, gone on with, and scored again from what is on disk."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from trainer_fixtures import Rig

import marft.eval.arena as arena
import marft.eval.cast as cast
import marft.eval.folder as folders
from marft.errors import RunFolderError
from marft.eval.arena import evaluate, rescore
from marft.eval.folder import shards_of
from marft.eval.matches import Schedule
from marft.files import write_text
from marft.recipe import dump_recipe
from marft.store import read_episodes

SETTINGS = {"against": "AllD,TFT", "episodes": 6, "seeds": 2, "seed": 3, "resamples": 20}
DEADLINE = 120


@pytest.fixture(scope="module")
def team(tmp_path_factory):
    folder, rig = tmp_path_factory.mktemp("run"), Rig("name=one", shaken=0.3)
    write_text(folder / "recipe.yaml", dump_recipe(rig.recipe))
    for agent in rig.learners:
        rig.bank.save(agent, folder / "adapters" / agent)
    return {"one": folder}


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(folders, "SHARD", 10)


@pytest.fixture(scope="module")
def whole(team, tmp_path_factory):
    """What an uninterrupted evaluation writes."""
    out = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folders, "SHARD", 10)
        evaluate(team, out, **SETTINGS)
    return out


def stamps(out):
    return {path.name: path.stat().st_mtime_ns for path in (out / "episodes").glob("*.parquet")}


class Killed(BaseException):
    """As sudden as a kill can be in one process."""


@pytest.mark.parametrize("after", [0, 1, 4])
def test_what_was_finished_is_not_played_again_and_the_results_are_the_same_bytes(
    team, whole, tmp_path, monkeypatch, after
):
    add, made = folders.EvalFolder.add, []

    def dying(self, shard, played):
        if len(made) == after:
            (self.path / "episodes").mkdir(exist_ok=True)
            (self.path / "episodes" / f".{shard.path(self.path).name}.tmp-1").write_bytes(b"half a file")
            raise Killed
        made.append(shard.number)
        add(self, shard, played)

    monkeypatch.setattr(folders.EvalFolder, "add", dying)
    with pytest.raises(Killed):
        evaluate(team, tmp_path, **SETTINGS)
    monkeypatch.setattr(folders.EvalFolder, "add", add)
    before = stamps(tmp_path)
    assert len(before) == after
    if after:
        with pytest.raises(RunFolderError, match="holds an evaluation; pass --resume"):
            evaluate(team, tmp_path, **SETTINGS)
    evaluate(team, tmp_path, resume=True, **SETTINGS)
    assert before.items() <= stamps(tmp_path).items()
    assert (tmp_path / "results.json").read_bytes() == (whole / "results.json").read_bytes()
    assert not list((tmp_path / "episodes").glob(".*"))


def test_a_killed_command_goes_on(tmp_path):
    """kill -9 of a process; slow scripted players, so that no model is built."""
    write_text(
        tmp_path / "suite.yaml",
        "games: [{game: tic_tac_toe, against: [mcts(200)]}, {game: kuhn_poker, against: [random]}]\n"
        "teams: {a: 'script:random', b: 'script:first'}\nepisodes: 8\nresamples: 20\n",
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    code = "import marft.eval.folder as f; f.SHARD = 4; import marft.cli; marft.cli.main()"

    def started(*flags):
        command = [sys.executable, "-c", code, "eval", "suite.yaml", *flags]
        return subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)

    killed = started("--out", "killed")
    end = time.monotonic() + DEADLINE
    while not list((tmp_path / "killed").glob("episodes/update-*.parquet")) and time.monotonic() < end:
        time.sleep(0.01)
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate(timeout=DEADLINE)
    before = stamps(tmp_path / "killed")
    assert before
    assert not (tmp_path / "killed" / "results.json").exists()
    for out, flags in (("killed", ["--resume"]), ("whole", [])):
        done = started("--out", out, *flags)
        _, said = done.communicate(timeout=DEADLINE)
        assert done.returncode == 0, said
    assert before.items() <= stamps(tmp_path / "killed").items()
    names = [tmp_path / out / "results.json" for out in ("killed", "whole")]
    assert names[0].read_bytes() == names[1].read_bytes()


def test_a_finished_evaluation_is_scored_again_without_its_teams(team, whole, tmp_path, monkeypatch):
    out = tmp_path / "copy"
    shutil.copytree(whole, out)
    (out / "results.json").unlink()
    monkeypatch.setattr(cast, "load_base", lambda *_: pytest.fail("a model was loaded"))
    monkeypatch.setattr(arena, "load_teams", lambda *_: pytest.fail("a team was looked for"))
    rescore(out)
    assert (out / "results.json").read_bytes() == (whole / "results.json").read_bytes()
    finer = rescore(out, resamples=50)
    stored = json.loads((whole / "results.json").read_text())
    assert finer["settings"]["resamples"] == 50
    for one, other in zip(finer["pairs"], stored["pairs"], strict=True):
        assert one["metrics"]["return"]["mean"] == other["metrics"]["return"]["mean"]


def test_other_settings_are_refused_by_name(team, whole, tmp_path):
    out = tmp_path / "copy"
    shutil.copytree(whole, out)
    with pytest.raises(RunFolderError, match=r"other settings: settings\.seed is 3 there and 4 here"):
        evaluate(team, out, resume=True, **SETTINGS | {"seed": 4})
    with pytest.raises(RunFolderError, match=r"pairs\.1\.opponent is 'AllD' there and 'TFT' here"):
        evaluate(team, out, resume=True, **SETTINGS | {"against": "TFT"})
    changed = tmp_path / "changed"
    shutil.copytree(team["one"], changed)
    weights = changed / "adapters" / "bob" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(RunFolderError, match=r"teams\.one\.(source|adapters)"):
        evaluate({"one": changed}, out, resume=True, **SETTINGS)
    evaluate(team, out, overwrite=True, **SETTINGS | {"seed": 4, "episodes": 2})
    assert json.loads((out / "results.json").read_text())["settings"]["seed"] == 4


def test_a_teams_own_folder_and_older_evaluations_are_left_alone(team, tmp_path):
    with pytest.raises(RunFolderError, match="a team's own folder"):
        evaluate(team, team["one"], overwrite=True, **SETTINGS)
    (tmp_path / "episodes").mkdir()
    (tmp_path / "episodes" / "update-000000.parquet").write_bytes(b"of an earlier version")
    for flags in ({}, {"resume": True}):
        with pytest.raises(RunFolderError, match="an earlier version's cannot be resumed"):
            evaluate(team, tmp_path, **flags, **SETTINGS)
    assert [path.name for path in (tmp_path / "episodes").iterdir()] == ["update-000000.parquet"]


def test_an_evaluation_that_died_before_it_played_may_be_begun_again(team, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(cast, "load_base", lambda *_: (_ for _ in ()).throw(RunFolderError("no base")))
    with pytest.raises(RunFolderError, match="no base"):
        evaluate(team, tmp_path, **SETTINGS | {"seed": 9})
    monkeypatch.undo()
    monkeypatch.setattr(folders, "SHARD", 10)
    evaluate(team, tmp_path, **SETTINGS)
    assert (tmp_path / "results.json").read_bytes() == (whole / "results.json").read_bytes()


def test_an_unfinished_evaluation_is_not_scored(whole, tmp_path):
    out = tmp_path / "copy"
    shutil.copytree(whole, out)
    next((out / "episodes").glob("update-*")).unlink()
    with pytest.raises(RunFolderError, match="not been played to the end"):
        rescore(out)
    with pytest.raises(RunFolderError, match="holds no evaluation"):
        rescore(tmp_path)


def test_shards_hold_every_episode_once_and_one_game_each(whole):
    schedule = Schedule.from_dict(json.loads((whole / "plan.json").read_text())["schedule"])
    shards = shards_of(schedule)
    held = [(group, n) for shard in shards for group, start, stop in shard.parts for n in range(start, stop)]
    assert held == [(group, n) for group, match in enumerate(schedule.matches) for n in range(match.episodes)]
    assert max(shard.episodes for shard in shards) == 10
    played = [(one.group, one.index) for one in read_episodes(whole) if one.status == "done"]
    assert sorted(played) == held


def test_sampling_seeds_repeat_the_same_instances_with_other_randomness(whole):
    rows = [one for one in read_episodes(whole) if one.group == 0]
    assert len(rows) == 12
    first, second = rows[:6], rows[6:]
    assert [one.seed for one in first] == [one.seed for one in second]
    assert [one.turns for one in first] != [one.turns for one in second]


def test_a_limit_plays_the_first_instances_and_says_so(team, whole, tmp_path):
    results = evaluate(team, tmp_path, **SETTINGS, limit=2)
    assert results["settings"]["limit"] == 2
    assert {pair["instances"] for pair in results["pairs"]} == {2}
    few, all_ = ({one.seed for one in read_episodes(out)} for out in (tmp_path, whole))
    assert few < all_
    assert len(few) == 2


def test_the_resolved_config_is_a_suite_that_plays_the_same(team, whole, tmp_path):
    results = evaluate({}, tmp_path, suite=str(whole / "config.yaml"))
    assert results == json.loads((whole / "results.json").read_text())
