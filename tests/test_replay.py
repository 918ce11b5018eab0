"""Training on the episodes of an earlier run: the same recipe gives the same run, without an engine."""

import pytest
import yaml
from trainer_fixtures import folder_bytes, make_recipe, recipe_data

from marft.engines.hf import HFEngine
from marft.errors import EngineError, RunFolderError
from marft.rollout import Rollout
from marft.store import read_episodes
from marft.train.folder import read_metrics
from marft.train.loop import train


def lines(out, without=("seconds/",)):
    return [
        {key: value for key, value in line.items() if not key.startswith(without)}
        for line in read_metrics(out / "metrics.jsonl")
    ]


@pytest.fixture
def silent(monkeypatch):
    """From here on nothing can play: `silent()`."""

    def refuse(*_, **__):
        raise AssertionError("an engine was made, or asked")

    def switch():
        monkeypatch.setattr(HFEngine, "__init__", refuse)
        monkeypatch.setattr(Rollout, "play", refuse)

    return switch


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("algorithm=mappo", "model.dtype=float64"),
        ("algorithm=magrpo", "rollout.plan={kind: tree, samples: 2}", "rollout.group_size=1"),
        ("team.bob={pool: [{agent: bob}, {past: alice}, {scripted: TFT}]}", "past={every: 1, keep: 2}"),
    ],
    ids=["rloo", "critic", "tree", "pool"],
)
def test_the_same_recipe_ends_with_the_same_bytes(overrides, silent, tmp_path):
    recipe = make_recipe(*overrides)
    train(recipe, tmp_path / "first")
    silent()
    train(recipe, tmp_path / "again", replay=tmp_path / "first")
    assert lines(tmp_path / "first") == lines(tmp_path / "again")
    for folder in ("adapters", "checkpoints/update-000003"):
        assert folder_bytes(tmp_path / "first" / folder) == folder_bytes(tmp_path / "again" / folder)
    assert list(read_episodes(tmp_path / "first")) == list(read_episodes(tmp_path / "again"))


def test_an_asynchronous_run_is_repeated_though_it_could_not_be_played_again(silent, tmp_path):
    recipe = make_recipe("rollout={max_staleness: 2, groups: 3}", "train.updates=6")
    train(recipe, tmp_path / "first")
    silent()
    train(recipe, tmp_path / "again", replay=tmp_path / "first")
    gauges = ("seconds/", "async/", "episodes/dropped")
    assert lines(tmp_path / "first", gauges) == lines(tmp_path / "again", gauges)
    assert folder_bytes(tmp_path / "first" / "adapters") == folder_bytes(tmp_path / "again" / "adapters")


def test_another_algorithm_learns_something_else_from_the_same_play(tmp_path):
    train(make_recipe(), tmp_path / "first")
    train(make_recipe("algorithm=mars", "train.gap_limit=1.0"), tmp_path / "other", replay=tmp_path / "first")
    played, other = (list(read_episodes(tmp_path / name)) for name in ("first", "other"))
    assert [episode.turns for episode in played] == [episode.turns for episode in other]
    adapters = [folder_bytes(tmp_path / name / "adapters" / "bob") for name in ("first", "other")]
    assert adapters[0]["adapter_model.safetensors"] != adapters[1]["adapter_model.safetensors"]
    with pytest.raises(EngineError, match=r"train\.gap_limit"):  # it drifts from the policy that played
        train(make_recipe("algorithm=mars", "train.gap_limit=1.0e-6"), tmp_path / "tight", replay=tmp_path / "first")


def test_other_rewards_are_worked_out_anew(tmp_path):
    train(make_recipe(), tmp_path / "first")
    train(make_recipe("rewards=[{use: payoff, weight: 2.0}]"), tmp_path / "twice", replay=tmp_path / "first")
    for one, two in zip(lines(tmp_path / "first"), lines(tmp_path / "twice"), strict=True):
        assert two["reward/payoff"] == pytest.approx(2 * one["reward/payoff"])


def test_a_replay_may_be_resumed(tmp_path):
    train(make_recipe("train.updates=4"), tmp_path / "first")
    train(make_recipe("train.updates=2"), tmp_path / "again", replay=tmp_path / "first")
    train(make_recipe("train.updates=4"), tmp_path / "again", replay=tmp_path / "first", resume=True)
    assert lines(tmp_path / "first") == lines(tmp_path / "again")


def test_what_cannot_be_replayed_is_said_before_anything_starts(tmp_path):
    train(make_recipe(), tmp_path / "first")
    for overrides, message in (
        (("train.updates=7",), r"holds the episodes of 3 updates; set train\.updates=3"),
        (("game.name=stag_hunt",), "played prisoners_dilemma, and the recipe stag_hunt"),
        (("agents={carol: {}, bob: {}}",), r"an agent alice, whom the recipe lacks"),
    ):
        with pytest.raises(RunFolderError, match=message):
            train(make_recipe(*overrides), tmp_path / "other", replay=tmp_path / "first")
        assert not (tmp_path / "other").exists()
    with pytest.raises(RunFolderError, match=r"holds no recipe\.yaml"):
        train(make_recipe(), tmp_path / "other", replay=tmp_path)


def test_the_command_line_replays(tmp_path):
    from typer.testing import CliRunner

    from marft.cli import app

    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe_data("train.updates=1")))
    for flags in (["--out", "first"], ["--out", "again", "--replay", "first"]):
        flags = [str(tmp_path / flag) if not flag.startswith("--") else flag for flag in flags]
        done = CliRunner().invoke(app, ["train", str(path), *flags])
        assert done.exit_code == 0, done.output
    assert lines(tmp_path / "first") == lines(tmp_path / "again")
