"""The run folder: what is in it, who may use it, and what a run that broke off anywhere leaves for the next one."""

import json
import math
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file
from trainer_fixtures import folder_bytes, make_recipe

from marft.errors import ModelError, RecipeError, RunFolderError
from marft.games import make_game
from marft.recipe import dump_recipe
from marft.store import read_episodes
from marft.train import loop
from marft.train.folder import RunFolder, read_metrics
from marft.train.loop import train
from marft.train.update import Updater

UPDATES = 4


def small(*overrides):
    return make_recipe(f"train.updates={UPDATES}", *overrides)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An undisturbed run."""
    return train(small(), tmp_path_factory.mktemp("whole") / "run")


def numbers(folder) -> list[dict]:
    lines = read_metrics(folder / "metrics.jsonl")
    return [{key: value for key, value in line.items() if not key.startswith("seconds/")} for line in lines]


def tensors(folder) -> dict:
    return {str(path.relative_to(folder)): load_file(path) for path in sorted(folder.rglob("*.safetensors"))}


def same(one, other) -> bool:
    """Everything but the clock: metrics, episodes, adapters, checkpoints."""
    assert numbers(one) == numbers(other)
    assert list(read_episodes(one)) == list(read_episodes(other))
    ours, theirs = tensors(one), tensors(other)
    assert ours.keys() == theirs.keys()
    return all(torch.equal(ours[path][name], theirs[path][name]) for path in ours for name in ours[path])


def test_a_run_folder_holds_these_files_and_no_other(whole):
    files = {str(path.relative_to(whole)) for path in whole.rglob("*") if path.is_file() and path.name != "README.md"}
    parts = [f"{agent}/adapter_{part}" for agent in ("alice", "bob") for part in ("config.json", "model.safetensors")]
    states = ["state.json", "random.safetensors", "optimizers/alice.safetensors", "optimizers/bob.safetensors"]
    expected = {".lock", "recipe.yaml", "run.json", "metrics.jsonl"} | {f"adapters/{part}" for part in parts}
    parquet = [f"update-{update:06d}.parquet" for update in range(UPDATES)]
    expected |= {f"{kind}/{name}" for kind in ("episodes", "tokens") for name in parquet}
    for update in (2, 4):
        checkpoint = f"checkpoints/update-{update:06d}"
        expected |= {f"{checkpoint}/{state}" for state in states} | {f"{checkpoint}/adapters/{part}" for part in parts}
    assert files == expected
    newest = tensors(whole / "checkpoints" / f"update-{UPDATES:06d}" / "adapters")
    assert all(torch.equal(newest[path][name], value) for path, own in tensors(whole / "adapters").items()
               for name, value in own.items())  # fmt: skip


def test_every_number_of_a_line_follows_from_its_updates_episodes(whole):
    game = type(make_game("prisoners_dilemma"))
    for line in numbers(whole):
        episodes = list(read_episodes(whole, line["update"]))
        assert len(episodes) == 6
        for key, value in game.metrics(episodes).items():
            assert line[f"game/{key}"] == (None if math.isnan(value) else pytest.approx(value, abs=1e-12))
        paid = [sum(sum(step.values()) for step in episode.rewards) for episode in episodes]
        assert line["reward/payoff"] == pytest.approx(sum(paid) / 6)
        for agent in ("alice", "bob"):
            turns = [turn for episode in episodes for turn in episode.turns if turn.agent == agent]
            assert {turn.version for turn in turns} == {line["update"]}
            assert line[f"agent/{agent}/trained"] == sum(len(turn.completion_ids) for turn in turns)
        assert line["episodes"] == 6 * (line["update"] + 1)


PLACES = ["write_parquet", "save_checkpoint", "prune_checkpoints", "_record", "_save", "append_metrics", "_finish"]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_run_that_breaks_off_anywhere_is_resumed_as_if_it_had_not(place, after, whole, tmp_path, monkeypatch):
    """The call of `place` during the second update raises, before or after it did its work."""
    owner = {"append_metrics": RunFolder, "_finish": Updater, "_record": loop.Trainer, "_save": loop.Trainer}
    owner = owner.get(place, loop)
    original, calls = getattr(owner, place), []
    fatal = {"save_checkpoint": 1, "prune_checkpoints": 1, "_save": 1, "_finish": 4}.get(place, 2)

    def break_off(*arguments, **named):
        calls.append(place)
        if len(calls) == fatal and not after:
            raise KeyboardInterrupt
        result = original(*arguments, **named)
        if len(calls) == fatal:
            raise KeyboardInterrupt
        return result

    monkeypatch.setattr(owner, place, break_off)
    with pytest.raises(KeyboardInterrupt):
        train(small(), tmp_path / "run")
    monkeypatch.undo()
    train(small(), tmp_path / "run", resume=True)
    assert same(tmp_path / "run", whole)


def test_what_a_kill_left_behind_is_removed(tmp_path):
    folder = RunFolder(tmp_path)
    lines = "".join(json.dumps({"update": update}) + "\n" for update in range(4)) + '{"update": 4, "ga'
    folder.metrics.write_text(lines)
    (tmp_path / "episodes").mkdir()
    for name in (
        "update-000002.parquet",
        "update-000003-1.parquet",
        "update-000001-0.parquet",
        "update-1000000.parquet",
    ):
        (tmp_path / "episodes" / name).touch()
    (tmp_path / "episodes" / ".update-000003.parquet.tmp-77").touch()
    (tmp_path / ".metrics.jsonl.tmp-77").touch()
    (tmp_path / "adapters" / ".alice.old-77" / "deep").mkdir(parents=True)
    half = tmp_path / "checkpoints" / ".update-000004.tmp-77" / "adapters" / ".alice.tmp-77"
    half.mkdir(parents=True)
    (half / ".adapter_model.safetensors.tmp-77").touch()
    folder.keep_until(3)
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert left == ["episodes/update-000001-0.parquet", "episodes/update-000002.parquet", "metrics.jsonl"]
    assert [line["update"] for line in read_metrics(folder.metrics)] == [0, 1, 2]
    assert not list((tmp_path / "adapters").iterdir())
    assert not list((tmp_path / "checkpoints").iterdir())


def test_tensorboard_shows_the_numbers_of_the_metrics_file_across_a_resume(tmp_path):
    from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer

    train(small("train.updates=1", "train.save_every=1", "trackers=[tensorboard]"), tmp_path)
    train(small("train.updates=3", "train.save_every=1", "trackers=[tensorboard]"), tmp_path, resume=True)
    events = EventMultiplexer().AddRunsFromDirectory(str(tmp_path)).Reload()
    for key in ("game/cooperation", "agent/bob/loss", "episodes"):
        seen = {event.step: event.value for name in events.Runs() for event in events.Scalars(name, key)}
        assert seen == pytest.approx({line["update"]: line[key] for line in numbers(tmp_path)})
        assert sorted(seen) == [0, 1, 2]


def test_a_longer_run_goes_on_where_the_shorter_one_ended(whole, tmp_path):
    train(small("train.updates=2"), tmp_path / "run")
    before = folder_bytes(tmp_path / "run" / "episodes")
    train(small("train.save_every=1", "train.keep_last=1"), tmp_path / "run", resume=True)
    assert numbers(tmp_path / "run") == numbers(whole)
    assert before.items() <= folder_bytes(tmp_path / "run" / "episodes").items()
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == [f"update-{UPDATES:06d}"]


def test_only_keys_that_change_nothing_may_change_on_resume(tmp_path):
    train(small("train.updates=1"), tmp_path)
    before = folder_bytes(tmp_path)
    for override, key in {
        "adapter.rank=3": "adapter.rank is 3 in the recipe but 2",
        "seed=1": "seed is 1 .* but 0",
        "agents.alice={optimizer: {learning_rate: 0.5}}": r"agents\.alice\.optimizer",
        "game.rounds=4": r"game\.rounds",
    }.items():
        with pytest.raises(RunFolderError, match=key):
            train(small(override), tmp_path, resume=True)
    assert folder_bytes(tmp_path) == before


def test_a_folder_with_a_run_is_not_overwritten_by_accident(whole, tmp_path):
    train(small("train.updates=1"), tmp_path)
    before = folder_bytes(tmp_path)
    with pytest.raises(RunFolderError, match="pass --resume, --overwrite or another --out"):
        train(small(), tmp_path)
    with pytest.raises(RunFolderError, match="give one of them"):
        train(small(), tmp_path, resume=True, overwrite=True)
    with pytest.raises(ModelError):  # it cannot start, so what is there must stay
        train(small("model.name=/nowhere/at/all"), tmp_path, overwrite=True)
    assert folder_bytes(tmp_path) == before
    (tmp_path / "recipe.yaml").unlink()
    with pytest.raises(RunFolderError, match="holds a run"):
        train(small(), tmp_path)
    with pytest.raises(RunFolderError, match=r"holds no recipe\.yaml"):
        train(small(), tmp_path, resume=True)
    train(small(), tmp_path, overwrite=True)
    assert same(tmp_path, whole)


def test_a_run_that_could_not_start_leaves_nothing(tmp_path):
    wrong = {
        "model.name=/nowhere/at/all": ModelError,
        "adapter.targets=[no_such]": ModelError,
        "trackers=[tensorbord]": RecipeError,
        "trackers=[aim]": RecipeError,  # known to accelerate, but not installed
        "model.device=cuda:0": ModelError,
        "agents.alice={start_from: /nowhere}": ModelError,
    }
    if torch.cuda.is_available():
        del wrong["model.device=cuda:0"]
    for override, error in wrong.items():
        with pytest.raises(error):
            train(small(override), tmp_path / "run")
        assert not (tmp_path / "run").exists(), override


HOLD = """
import pathlib, sys
from marft.recipe import parse_recipe, read_yaml
from marft.train.folder import RunFolder
path = pathlib.Path(sys.argv[1])
folder = RunFolder(path)
folder.open(parse_recipe(read_yaml(path / "recipe.yaml")), resume=False, overwrite=False)
print("held", flush=True)
sys.stdin.read()
"""


def test_two_processes_never_share_a_folder_and_a_killed_one_frees_it(tmp_path):
    (tmp_path / "recipe.yaml").write_text(dump_recipe(small("train.updates=1")))
    holder = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(RunFolderError, match="is in use by another process"):
            train(small("train.updates=1"), tmp_path)
    finally:
        holder.kill()
        holder.communicate(timeout=60)
    train(small("train.updates=1"), tmp_path)
    assert len(numbers(tmp_path)) == 1
