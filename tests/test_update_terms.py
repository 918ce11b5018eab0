"""Terms of an update that single steps do not show: others' rows, clipping bias, copies; and what it reports."""

import dataclasses

import numpy as np
import pytest
import torch
from plain_peft import EXACT, Plain, clone, column, mean_by, noisy, norm, of_rows, of_turns, paid, rows_given
from trainer_fixtures import Recorder, Rig, distance

from marft.credit import PRESETS, assess
from marft.errors import EngineError
from marft.train.rows import build_rows, with_advantages
from marft.train.table import turn_table


def steps_of(rig, rows, algorithm=None, name="alice", **given):
    """One update's mini-batches [(rows, number, report)], its recorded steps and its report."""
    learner, made, inner = rig.learners[name], [], rig.updater._step
    learner.optimizer = recorder = Recorder(rig.bank.named_parameters(name), learner.optimizer)

    def note(job, part, *rest):
        report = inner(job, part, *rest)
        made.append((part, job.minibatch, report))
        return report

    rig.updater._step = note
    report = rig.updater.update(learner, rows, algorithm=algorithm, **given)
    return made, recorder, report


# Rows that another agent sampled.


HACPO = (*EXACT, "algorithm=hacpo", "train={minibatches: 2, epochs: 2, gap_limit: 1e9}", "optimizer.learning_rate=0.03")


def shared(rig, name="alice"):
    """Rows of all agents, as `name` learns from them, with arbitrary advantages."""
    rows = [row for own in build_rows(rig.play()).values() for row in own]
    rows = [dataclasses.replace(row, foreign=row.agent != name) for row in rows]
    return noisy(rows, 0.0)


def test_others_rows_are_damped_capped_and_dropped_by_a_bound_that_moves(tmp_path):
    rig = Rig(*HACPO, shaken=0.15)
    rows, plain = shared(rig), Plain(rig, "alice", tmp_path / "a")
    apart = mean_by(plain.logp(rows).detach() - column(rows, "engine"), of_rows(rows)).exp()
    low, high = sorted({float(s) for s, row in zip(apart, of_rows(rows), strict=True) if rows[row].foreign})[1:3]
    # a bound between the smallest ratios that passes the second of them from the first mini-batch to the last
    start, end = low * 0.999, (low + high) / 2
    ratio = {"delta": 1 - start, "delta_step": (end - start) / 3}
    algorithm = rig.recipe.algorithm
    algorithm = algorithm.model_copy(update={"ratio": algorithm.ratio.model_copy(update=ratio)})
    made, recorder, _ = steps_of(rig, rows, algorithm)
    assert [number for _, number, _ in made] == [0, 1, 2, 3]
    kinds = []
    for (part, number, report), weights, gradient in zip(made, recorder.weights, recorder.seen, strict=True):
        row_N, advantage_N = of_rows(part), column(part, "advantage")
        foreign_N = torch.tensor([row.foreign for row in part])[row_N]
        own_N = plain.logp_of(recorder.weights[0], part)
        old_N = torch.where(foreign_N, column(part, "engine"), own_N)
        plain.set(weights)
        s_N = mean_by(plain.logp(part) - old_N, row_N).exp()
        clipped_N = torch.minimum(s_N * advantage_N, s_N.clamp(1 - 3e-4, 1 + 4e-4) * advantage_N)
        kept_N = s_N >= start + number * ratio["delta_step"]
        damped_N = torch.where(s_N < 1, s_N * s_N.detach(), torch.ones_like(s_N)) * kept_N
        gain_N = torch.where(foreign_N, damped_N * advantage_N, clipped_N)
        loss = -(gain_N / torch.bincount(row_N)[row_N]).sum() / len(part)
        assert distance(gradient, plain.gradient(loss)) < 1e-9
        assert report["approximate_kl"] == pytest.approx(
            float(((own_N - plain.logp_of(weights, part)) * ~foreign_N / torch.bincount(row_N)[row_N]).sum())
            / sum(not row.foreign for row in part),
            abs=1e-9,
        )
        kinds += [(bool(s < 1), bool(kept)) for s, kept in zip(s_N[foreign_N], kept_N[foreign_N], strict=True)]
    assert set(kinds) == {(True, True), (True, False), (False, True)}


def test_only_an_agents_own_rows_are_held_to_its_engine():
    rig = Rig("algorithm=hacpo", "train={minibatches: 2, gap_limit: 0.05}")
    rows = shared(rig)
    apart = [dataclasses.replace(row, engine=row.engine - 0.2 * row.foreign) for row in rows]
    report = rig.updater.update(rig.learners["alice"], apart)
    assert report["gap"] < 1e-4
    assert report["gap_max"] < 1e-4
    apart = [dataclasses.replace(row, engine=row.engine - 0.2 * (not row.foreign)) for row in rows]
    again = Rig("algorithm=hacpo", "train={minibatches: 2, gap_limit: 0.05}")
    with pytest.raises(EngineError, match=r"alice differ from the trainer's by 0\.2"):
        again.updater.update(again.learners["alice"], apart)


def test_every_agent_learns_from_all_rows_by_capability():
    """Against loops over decisions, as the paper writes them; each agent's memory grows by one."""
    rig = Rig("algorithm=hacpo", "train.minibatches=2", "rollout={groups: 2, group_size: 3}")
    learning = rig.learning()
    given = rows_given(learning)
    episodes = paid(rig.play(), 2, low=0.1, high=1.0)
    past = {"alice": [0.5, 2.0], "bob": [1.0, 0.25, 4.0, 1.0, 1.0]}
    lesson = learning.learn(episodes, 0, {"capability": past})
    returns = {
        (number, seat): sum(episode.terms["noise"][seat])
        for number, episode in enumerate(episodes)
        for seat in episode.seats
    }
    recent = {}
    for name in past:
        mine = [value for (_, seat), value in returns.items() if seat == name]
        recent[name] = [*past[name], sum(mine) / len(mine)][-5:]
        assert lesson.state["capability"][name] == pytest.approx(recent[name])
    power = {name: sum(values) / len(values) for name, values in recent.items()}
    own = build_rows(episodes)
    for learner, rows in given.items():
        assert [row.ids.tolist() for row in rows] == [row.ids.tolist() for name in own for row in own[name]]
        assert [row.foreign for row in rows] == [row.agent != learner for row in rows]
        for row in rows:
            group = episodes[row.episode].group
            members = [  # a decision per turn
                (turn.seat, returns[number, turn.seat])
                for number, episode in enumerate(episodes)
                if episode.group == group
                for turn in episode.turns
            ]
            mean = sum(power[row.agent] / power[seat] * value for seat, value in members) / len(members)
            plain = sum(value for _, value in members) / len(members)
            spread = (sum((value - plain) ** 2 for _, value in members) / (len(members) - 1)) ** 0.5
            weight = power[row.agent] / power[learner]
            expected = weight * (returns[row.episode, row.agent] - mean) / (spread + 1e-6)
            assert row.advantage == pytest.approx([expected] * len(row.targets), rel=1e-9)


def test_a_turn_that_branches_share_is_learned_once_with_the_mean_of_their_advantages():
    plan = "rollout={groups: 1, group_size: 2, plan: {kind: tree, samples: 2}}"
    rig = Rig("algorithm=hacpo", "train.minibatches=2", plan, "game={name: prisoners_dilemma, rounds: 2}")
    learning, episodes = rig.learning(), paid(rig.play(), low=0.1)
    given = rows_given(learning)
    lesson = learning.learn(episodes, 0, {})
    turns = [turn for episode in episodes for turn in episode.turns]
    for learner, rows in given.items():
        table = lesson.table | {"learner_U": np.full(len(lesson.table["reward_U"]), learner)}
        advantage_U = assess(rig.recipe.algorithm, table, {}).advantage_U
        sizes = []
        for row in rows:
            for number, found in zip(row.turn.tolist(), row.advantage.tolist(), strict=True):
                turn = turns[number]
                same = [u for u, other in enumerate(turns) if other.completion_ids == turn.completion_ids
                        and (other.seat, other.step) == (turn.seat, turn.step)
                        and all(other.marks[key] == turn.marks[key] for key in ("parent", "sample"))]  # fmt: skip
                assert found == pytest.approx(sum(advantage_U[u] for u in same) / len(same), rel=1e-9)
                sizes.append(len(same))
        assert max(sizes) == 2


# ST-PPO's normaliser.


@pytest.mark.parametrize("level", ["turn", "token"])
def test_the_gradient_is_divided_by_the_norm_of_the_clipping_bias_where_that_passes_1(level, tmp_path):
    block = PRESETS["st_ppo"].settings
    algorithm = block.model_copy(update={"ratio": block.ratio.model_copy(update={"kind": level})})
    found = []
    for budget in (16384, 64):
        train = f"train={{minibatches: 2, epochs: 2, gap_limit: 1e9, token_budget: {budget}}}"
        rig = Rig(*EXACT, train, "optimizer.learning_rate=0.05")
        rows = noisy(build_rows(rig.play())["alice"], 0.0, size=3.0)
        for row in rows:  # one advantage a turn, as credit gives it
            row.advantage = mean_by(torch.from_numpy(row.advantage), torch.from_numpy(row.turn)).numpy()
        plain = Plain(rig, "alice", tmp_path / f"a{budget}")
        made, recorder, report = steps_of(rig, rows, algorithm)
        found.append((recorder, report))
    for gradient, other in zip(recorder.seen, found[0][0].seen, strict=True):
        assert distance(gradient, other) < 1e-7  # AdamW makes much of a rounding
    sizes = []
    for (part, _, _), weights, gradient in zip(made, recorder.weights, recorder.seen, strict=True):
        start_N = plain.logp_of(recorder.weights[0], part)
        plain.set(weights)
        logp_N, advantage_N = plain.logp(part), column(part, "advantage")
        log_N = logp_N - start_N
        ratio_N = (mean_by(log_N, of_turns(part)) if level == "turn" else log_N).exp()
        lost_N = ((ratio_N > 1.2) & (advantage_N > 0)) | ((ratio_N < 0.8) & (advantage_N < 0))
        bias = plain.gradient((lost_N * ratio_N.detach() * advantage_N * logp_N).mean(), keep=True)
        sizes.append(norm(bias))
        gain_N = torch.minimum(ratio_N * advantage_N, ratio_N.clamp(0.8, 1.2) * advantage_N)
        whole = plain.gradient(-gain_N.mean())
        assert distance(gradient, {name: value / max(1.0, sizes[-1]) for name, value in whole.items()}) < 1e-9
    assert sizes[0] == 0
    assert max(sizes) > 1
    assert report["clip_bias"] == pytest.approx(sum(sizes) / len(sizes), rel=1e-6)
    assert report["clip_bias"] == pytest.approx(found[0][1]["clip_bias"], rel=1e-6)


# Copies.


AGGREGATES = ("token_mean", "row_mean", "turn_mean", "row_sum", "sum_over")


@pytest.mark.parametrize("aggregate", AGGREGATES)
@pytest.mark.parametrize("ratio", ["none", "sequence"])
def test_a_row_that_counts_several_times_is_that_many_rows(aggregate, ratio):
    algorithm = f"algorithm={{preset: rloo, ratio: {ratio}, kl: {{coef: 0.1}}, entropy: 0.05}}"
    rig = Rig(*EXACT, algorithm, f"algorithm.aggregate={aggregate}", "game={name: prisoners_dilemma, rounds: 2}")
    rows = noisy(build_rows(rig.play())["alice"])
    counts = [2, 0, 1, 3, 0, 1]
    weighed = [dataclasses.replace(row, copies=row.copies * count) for row, count in zip(rows, counts, strict=True)]
    copied = [clone(row, 1000 * number) for row, count in zip(rows, counts, strict=True) for number in range(count)]
    kept = [row for row in weighed if row.copies.any()]
    (gradient, report), (expected, other) = rig.gradient("alice", kept), rig.gradient("alice", copied)
    assert distance(gradient, expected) < 1e-9
    for key in ("loss", "kl", "entropy", "gap", "off_policy_weight", "grad_norm"):
        assert report[key] == pytest.approx(other[key], rel=1e-9), key
    assert report["trained"] == sum(len(row.targets) for row in kept)
    # what counts no times adds nothing, even where it was not left out
    assert distance(rig.gradient("alice", weighed)[0], expected) < 1e-9


@pytest.mark.parametrize("wanted", [2, 8])
def test_calls_of_a_sub_agent_are_resized_in_the_trainer(wanted, tmp_path):
    rig = Rig(*EXACT, f"algorithm={{preset: m_grpo, resize: {{rows: {wanted}}}}}", "team.bob={agent: bob, role: sub}")
    learning, plain, episodes = rig.learning(), Plain(rig, "bob", tmp_path / "b"), paid(rig.play())
    given = rows_given(learning)
    learner = rig.learners["bob"]
    learner.optimizer = recorder = Recorder(rig.bank.named_parameters("bob"))
    report = learning.learn(episodes, 0, {}).reports["bob"]
    assert all((row.copies == 1).all() for row in given["alice"])
    for number in range(len(episodes)):  # three calls an episode, all of them in one row
        counts = {turn: count for row in given["bob"] if row.episode == number
                  for turn, count in zip(row.turn.tolist(), row.copies.tolist(), strict=True)}  # fmt: skip
        assert sorted(counts.values()) == {2: [1, 1], 8: [2, 3, 3]}[wanted]
    rows = given["bob"]
    assert report["trained"] == sum(len(row.targets) for row in rows)
    copies_N, advantage_N = column(rows, "copies"), column(rows, "advantage")
    loss = -(copies_N * advantage_N * plain.logp(rows)).sum() / copies_N.sum()
    assert float(advantage_N.abs().max()) > 0
    assert distance(recorder.seen[0], plain.gradient(loss)) < 1e-9


def test_groups_without_spread_are_not_trained(tmp_path):
    rig = Rig(*EXACT, "algorithm=at_grpo")
    learning, plain, episodes = rig.learning(), Plain(rig, "alice", tmp_path / "a"), paid(rig.play())
    for episode in episodes:
        for values in episode.terms["noise"].values():
            values[1] = 0.5
    learner = rig.learners["alice"]
    learner.optimizer = recorder = Recorder(rig.bank.named_parameters("alice"))
    report = learning.learn(episodes, 0, {}).reports["alice"]
    rows = build_rows(episodes)["alice"]
    advantage_U = assess(rig.recipe.algorithm, turn_table(episodes)).advantage_U
    rows = [row.only(row.place != 1) for row in with_advantages(rows, advantage_U)]
    assert report["trained"] == sum(len(row.targets) for row in rows)
    loss = -(column(rows, "advantage") * plain.logp(rows)).mean()
    assert distance(recorder.seen[0], plain.gradient(loss)) < 1e-9


# Reports.


@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_reports_are_means_whatever_the_loss_is_divided_by(aggregate, tmp_path):
    algorithm = f"algorithm={{preset: grpo, entropy: 0.01, off_policy: truncate, aggregate: {aggregate}}}"
    rig = Rig(*EXACT, algorithm, "train={epochs: 2, gap_limit: 1e9}", "optimizer.learning_rate=0.05")
    rows = noisy(build_rows(rig.play())["alice"], 0.3)
    rows = [row.only(row.place <= number % 3) for number, row in enumerate(rows)]  # of different length
    plain = Plain(rig, "alice", tmp_path / "a")
    made, recorder, report = steps_of(rig, rows)
    id_N = {"row_mean": of_rows(rows), "turn_mean": of_turns(rows)}.get(aggregate, torch.zeros(len(of_rows(rows))))
    share_N = torch.stack([1 / (id_N == one).sum().double() for one in id_N]) / len(id_N.unique())
    assert float(share_N.sum()) == pytest.approx(1)
    start_N, engine_N = plain.logp_of(recorder.weights[0], rows), column(rows, "engine")
    plain.set(recorder.weights[1])
    logp_N, advantage_N = plain.logp(rows).detach(), column(rows, "advantage")
    ratio_N = (logp_N - start_N).exp()
    lost_N = ((ratio_N > 1.2) & (advantage_N > 0)) | ((ratio_N < 0.8) & (advantage_N < 0))
    second = made[1][2]
    expected = {
        "gap": share_N @ (logp_N - engine_N).abs(),
        "approximate_kl": share_N @ (start_N - logp_N),
        "clip_fraction": share_N @ lost_N.double(),
        "entropy": share_N @ plain.entropy(rows).detach(),
        "off_policy_weight": share_N @ (start_N - engine_N).exp().clamp(max=2.0),
    }
    for key, value in expected.items():
        assert second[key] == pytest.approx(float(value), rel=1e-6), key
    assert 0 < second["clip_fraction"] < 1
    assert report["clip_fraction"] == pytest.approx(second["clip_fraction"] / 2)
    assert report["gap"] == pytest.approx(float(share_N @ (start_N - engine_N).abs()), rel=1e-6)  # the first step's


@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_the_same_gap_stops_the_run_under_every_aggregation(aggregate):
    rig = Rig(f"algorithm={{preset: rloo, aggregate: {aggregate}}}")
    rows = build_rows(rig.play())["alice"]
    for row in rows:
        row.engine = row.engine - 0.2
    with pytest.raises(EngineError, match=r"by 0\.2 on average \(at most 0\.2\)"):
        rig.updater.update(rig.learners["alice"], rows)
