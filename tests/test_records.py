"""Token records: what a few episodes' tokens were trained by, as it reaches the disk."""

import numpy as np
import pytest
import torch
from trainer_fixtures import make_recipe

from marft.errors import RecipeError
from marft.records import TokenRecord, TokenRecords, recorded
from marft.store import read_episodes, read_tokens, write_tokens
from marft.train.loop import train
from marft.train.rows import Row


def row(label, places=(0, 0, 1), foreign=False):
    n = len(places)
    return Row(
        agent="alice",
        ids=np.arange(n + 2),
        targets=np.arange(n) + 2,
        engine=np.zeros(n),
        advantage=np.array([0.5, 0.5, -1.0])[:n],
        turn=np.array(places),
        token=np.arange(n),
        place=np.array(places),
        copies=np.ones(n),
        foreign=foreign,
        label=label,
    )


def test_labelled_rows_are_recorded_turn_by_turn_and_once():
    records = TokenRecords()
    rows = [row(None), row(("e1", "alice")), row(("e1", "bob"), foreign=True)]
    records.see(rows, torch.arange(9.0) / 10)
    records.see(rows[1:2], torch.full((3,), 9.0))  # a second pass over the same rows
    first, second = records.take()
    assert (first.episode, first.seat, first.turn, second.turn) == ("e1", "alice", 0, 1)
    assert first.logprobs.tolist() == pytest.approx([0.3, 0.4])
    assert second.logprobs.tolist() == pytest.approx([0.5])
    assert (first.advantage.tolist(), second.advantage.tolist()) == ([0.5, 0.5], [-1.0])
    assert records.take() == []


@pytest.mark.parametrize(
    ("count", "total", "wanted", "found"),
    [(64, 64, 8, range(0, 64, 8)), (3, 3, 8, range(3)), (32, 64, 8, range(0, 32, 8)), (5, 5, 0, range(0)),
     (9, 9, 4, range(0, 9, 3))],
)  # fmt: skip
def test_recorded_episodes_are_spread_evenly(count, total, wanted, found):
    assert recorded(count, total, wanted) == found


def test_records_come_back_from_disk(tmp_path):
    written = [TokenRecord("e1", "alice", 0, np.array([0.5, 0.25]), np.array([-1.5, -0.1])),
               TokenRecord("e2", "bob", 3, np.array([]), np.array([]))]  # fmt: skip
    write_tokens(written, tmp_path / "tokens.parquet")
    found = read_tokens(tmp_path / "tokens.parquet")
    assert [(one.episode, one.seat, one.turn) for one in found] == [("e1", "alice", 0), ("e2", "bob", 3)]
    assert found[0].advantage.tolist() == [0.5, 0.25]
    assert found[0].logprobs.tolist() == pytest.approx([-1.5, -0.1])
    assert found[1].logprobs.tolist() == []


def test_a_run_keeps_what_its_turns_were_trained_by(tmp_path):
    """rloo by hand: the return of the seat minus the mean return of the group's other episodes."""
    run = train(make_recipe("train.updates=1", "train.token_episodes=2", "game.rounds=1"), tmp_path / "run")
    episodes = {one.id: one for one in read_episodes(run)}
    records = read_tokens(run / "tokens" / "update-000000.parquet")
    kept = {one.episode for one in records}
    assert len(kept) == 2
    assert len(records) == sum(len(episodes[one].turns) for one in kept)
    for record in records:
        episode = episodes[record.episode]
        turn = list(episode.turns_of(record.seat))[record.turn]
        assert record.logprobs == pytest.approx(turn.logprobs, abs=1e-4)  # what the engine said of the same tokens
        paid = {
            id(one): sum(map(sum, [term[record.seat] for term in one.terms.values()]))
            for one in episodes.values()
            if one.group == episode.group
        }
        own = paid.pop(id(episode))
        assert record.advantage == pytest.approx(own - sum(paid.values()) / len(paid), abs=1e-5)


@pytest.mark.parametrize("change", [("train.token_episodes=0",), ("train.learn=false",)])
def test_nothing_is_kept_where_nothing_is_wanted_or_learned(tmp_path, change):
    run = train(make_recipe("train.updates=1", *change), tmp_path / "run")
    assert not (run / "tokens").exists()


def test_groups_that_are_learned_from_as_they_come_are_recorded_too(tmp_path):
    recipe = make_recipe("train.updates=1", "train.token_episodes=2", "rollout.pipeline=true")
    run = train(recipe, tmp_path / "run")
    known = {one.id for one in read_episodes(run)}
    records = read_tokens(run / "tokens" / "update-000000.parquet")
    assert records
    assert {one.episode for one in records} <= known


def test_a_negative_number_of_episodes_is_refused():
    with pytest.raises(RecipeError, match="token_episodes"):
        make_recipe("train.token_episodes=-1")
