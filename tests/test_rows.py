"""Episodes to rows: what is fed, which positions are trained, and what the turn table says."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from trainer_fixtures import Rig, distance, make_row, random_advantages

from marft.batches import collate, micro_batches
from marft.credit import advantages
from marft.episode import Episode, Turn
from marft.train.rows import build_rows
from marft.train.table import turn_table


def hand_made(*turns: Turn, rewards=(), **fields) -> Episode:
    """An episode of seats a and b whose reward term is `rewards`, one {seat: value} per step."""
    term = {seat: [step.get(seat, 0.0) for step in rewards] for seat in ("a", "b")}
    fields = {"id": "e", "game": "g", "seed": 0, "seats": ("a", "b"), "team": {"a": "x", "b": "y"}} | fields
    return Episode(turns=list(turns), rewards=list(rewards), terms={"payoff": term}, **fields)


def said(seat, step, prompt, completion, *, agent=None, fresh=False, order=0, **fields) -> Turn:
    agent = {"a": "x", "b": "y"}[seat] if agent is None else agent
    logprobs = [-0.5 - 0.25 * number for number in range(len(completion))]
    return Turn(
        seat, step, order, agent, "", agent=agent, prompt_ids=prompt, completion_ids=completion, fresh=fresh,
        logprobs=logprobs, **fields,
    )  # fmt: skip


def one_row_per_turn(episodes, advantage_U):
    """The plain way: every turn is a row of its own, with its whole context in front."""
    rows, number = {}, 0
    for episode in episodes:
        place = {id(turn): number + offset for offset, turn in enumerate(episode.turns)}
        number += len(episode.turns)
        for seat in episode.seats:
            for turn, context in episode.contexts(seat):
                if turn.agent is not None:
                    turn_N = np.full(len(turn.completion_ids), place[id(turn)])
                    targets = len(context) + np.arange(len(turn_N))
                    ids, engine = np.array(context + turn.completion_ids), np.array(turn.logprobs)
                    row = make_row(turn.agent, ids, targets, engine, advantage_U[turn_N], turn_N)
                    rows.setdefault(turn.agent, []).append(row)
    return rows


@pytest.mark.parametrize("algorithm", ["rloo", "ad_align"])
def test_a_ten_round_game_is_fed_once_and_not_once_per_turn(algorithm, monkeypatch):
    rig = Rig("game.rounds=10", f"algorithm={algorithm}", "train.token_budget=1024")
    fed = []  # (with gradient, tokens, tokens with padding); the tokenizer's padding is id 0 and never occurs in text
    hidden = rig.bank.hidden

    def spy(input_ids, **inputs):
        fed.append((torch.is_grad_enabled(), int((input_ids != 0).sum()), input_ids.numel()))
        return hidden(input_ids, **inputs)

    episodes = rig.play()
    transcripts = sum(
        len(context) + len(turn.completion_ids)
        for episode in episodes
        for seat in episode.seats
        for turn, context in list(episode.contexts(seat))[-1:]
    )
    monkeypatch.setattr(rig.bank, "hidden", spy)
    reports = [rig.updater.update(rig.learners[name], rows) for name, rows in rig.rows(episodes).items()]
    trained, placed = (sum(call[column] for call in fed if call[0]) for column in (1, 2))
    reference = sum(call[1] for call in fed if not call[0])
    per_turn = sum(len(row) for rows in one_row_per_turn(episodes, np.zeros(1000)).values() for row in rows)
    beginnings = {
        (row.agent, tuple(row.ids[: place + 1]))
        for own in rig.rows(episodes).values()
        for row in own
        for place in range(len(row) - 1)
    }
    assert transcripts == sum(report["tokens"] for report in reports)
    assert len(beginnings) <= trained == placed < transcripts  # what plays have in common is fed once
    assert reference <= transcripts
    assert per_turn > 4 * transcripts


@pytest.mark.parametrize("aggregate", ["token_mean", "turn_mean"])
def test_merged_rows_give_the_loss_and_gradient_of_one_row_per_turn(aggregate):
    rig = Rig("model.dtype=float64", "algorithm=ad_align", f"algorithm.aggregate={aggregate}", "algorithm.entropy=0.01")
    episodes = rig.play()
    advantage_U = random_advantages(episodes)
    merged, apart = build_rows(episodes, advantage_U), one_row_per_turn(episodes, advantage_U)
    assert len({len(row) for rows in merged.values() for row in rows}) > 2, "the rows should be ragged"
    for name in ("alice", "bob"):
        assert len(apart[name]) == 3 * len(merged[name])
        ours, report = rig.gradient(name, merged[name])
        plain, expected = rig.gradient(name, apart[name])
        assert report["loss"] == pytest.approx(expected["loss"], abs=1e-9)
        assert distance(ours, plain) < 1e-9


def test_each_agent_gets_the_rows_of_the_seats_it_fills_and_no_other():
    rig = Rig("agents={alice: {}}", "team={alice: alice, bob: {scripted: TFT}}")
    episodes = rig.play()
    assert {name: len(rows) for name, rows in rig.rows(episodes).items()} == {"alice": len(episodes)}
    rig = Rig("agents={both: {}}", "team={alice: both, bob: both}")
    assert {name: len(rows) for name, rows in rig.rows(rig.play()).items()} == {"both": 2 * len(episodes)}
    rig = Rig("agents={alice: {}}", "team={alice: alice, bob: {frozen: base}}")
    assert {name: len(rows) for name, rows in rig.rows(rig.play()).items()} == {"alice": len(episodes)}


def test_rows_of_games_of_different_length_carry_their_own_tokens():
    rig = Rig("game.rounds=8", "game.continue_probability=0.6", "rollout.groups=6", "rollout.group_size=1")
    episodes = rig.play()
    rows = rig.rows(episodes)
    assert len({len(list(episode.turns_of("alice"))) for episode in episodes}) > 1
    for seat in ("alice", "bob"):
        for episode, row in zip(episodes, rows[seat], strict=True):
            turns = list(episode.turns_of(seat))
            assert row.ids[row.targets].tolist() == [token for turn in turns for token in turn.completion_ids]
            assert row.engine.tolist() == [logp for turn in turns for logp in turn.logprobs]
            *_, (last, context) = episode.contexts(seat)
            assert row.ids.tolist() == context + last.completion_ids


def test_a_context_that_starts_afresh_starts_a_new_row():
    turns = [
        said("a", 0, [5, 6], [7, 1], fresh=True),
        said("a", 1, [8], [9, 1]),
        said("a", 2, [5, 6, 8, 8], [4, 1], fresh=True),
    ]
    first, second = build_rows([hand_made(*turns)], np.array([1.0, 2.0, 3.0]))["x"]
    assert first.ids.tolist() == [5, 6, 7, 1, 8, 9, 1]
    assert (first.targets.tolist(), first.advantage.tolist()) == ([2, 3, 5, 6], [1, 1, 2, 2])
    assert second.ids.tolist() == [5, 6, 8, 8, 4, 1]
    assert (second.targets.tolist(), second.turn.tolist()) == ([4, 5], [2, 2])


def test_the_turn_table_says_who_spoke_when_and_what_it_brought():
    turns = [
        said("a", 0, [5], [6, 1], fresh=True, version=4),
        said("b", 0, [5], [7], fresh=True, order=1, version=2, finish_reason="length", invalid=True),
        Turn("a", 0, 2, "frozen:base", "hm"),
        said("b", 1, [5], [7, 7, 1], version=2),
    ]
    rewards = [{"a": 1.0, "b": -2.0}, {"b": 0.5}]
    table = turn_table([hand_made(rewards=[]), hand_made(*turns, rewards=rewards, group=3)])
    assert {name: column.tolist() for name, column in table.items()} == {
        "episode_U": [1, 1, 1, 1],
        "group_U": [3, 3, 3, 3],
        "game_U": ["g"] * 4,
        "seat_U": ["a", "b", "a", "b"],
        "agent_U": ["x", "y", "frozen:base", "y"],
        "step_U": [0, 0, 0, 1],
        "order_U": [0, 1, 2, 0],
        "role_U": ["a", "b", "a", "b"],
        "reward_U": [0.0, -2.0, 1.0, 0.5],  # a decision's reward stands on its last turn
        "payoff_U": [0.0, -2.0, 1.0, 0.5],
        "nll_U": [0.625, 0.5, 0.0, 0.75],
        "version_U": [4, 2, -1, 2],
        "tokens_U": [2, 1, 0, 3],
        "invalid_U": [False, True, False, False],
        "truncated_U": [False, True, False, False],
        "acted_U": [True] * 4,
    }


def test_all_reward_terms_of_a_step_add_up():
    episode = hand_made(said("a", 0, [5], [1], fresh=True), rewards=[{"a": 1.0}])
    episode.terms["bonus"] = {"a": [0.25]}
    assert turn_table([episode])["reward_U"].tolist() == [1.25]


def test_a_seat_paid_where_it_does_not_act_counts_in_its_return_but_is_not_trained():
    turns = [
        said("a", 0, [5], [6, 1], fresh=True),
        said("b", 1, [5], [7, 1], fresh=True),
    ]
    other = hand_made(said("a", 0, [5], [6, 1], fresh=True), said("b", 1, [5], [7, 1], fresh=True), rewards=[{}, {}])
    episodes = [hand_made(*turns, rewards=[{"a": 0.0}, {"a": 8.0, "b": 1.0}]), other]
    table = turn_table(episodes)
    assert table["acted_U"].tolist() == [True] * 4 + [False]
    assert [table[f"{name}_U"][-1] for name in ("episode", "seat", "agent", "step", "reward")] == [0, "a", "x", 1, 8.0]
    advantage_U = advantages({"preset": "reinforce", "return": {"gamma": 0.5}}, table)
    assert advantage_U.tolist() == [4.0, 1.0, 0.0, 0.0, 0.0]  # 0 + γ·8, discounted by the game's clock
    rows = build_rows(episodes, advantage_U)
    assert [row.advantage.tolist() for row in rows["x"]] == [[4.0, 4.0], [0.0, 0.0]]
    assert [row.advantage.tolist() for row in rows["y"]] == [[1.0, 1.0], [0.0, 0.0]]


def lengths_to_rows(lengths):
    none = np.zeros(0)
    return [make_row("x", np.arange(1, length + 1), none.astype(int), none, none, none) for length in lengths]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 40), max_size=30), st.integers(1, 120))
def test_micro_batches_hold_every_row_once_and_keep_to_the_budget(lengths, budget):
    batches = micro_batches(lengths_to_rows(lengths), budget)
    assert sorted(number for batch in batches for number in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[number] for number in batch) <= budget


def test_the_position_before_a_token_predicts_it():
    one = build_rows([hand_made(said("a", 0, [5, 6], [7, 1], fresh=True))], np.ones(1))["x"]
    two = build_rows([hand_made(said("a", 0, [2, 3, 4, 5], [8], fresh=True))], np.ones(1))["x"]
    ids_RL, predictor_N = collate(one + two)
    assert ids_RL.tolist() == [[5, 6, 7, 1, 0], [2, 3, 4, 5, 8]]
    assert predictor_N.tolist() == [1, 2, 5 + 3]
    assert ids_RL.flatten()[predictor_N + 1].tolist() == [7, 1, 8]
