"""Update orders: who steps when, on which rows, weighed by what; every gradient against plain PEFT."""

from collections import namedtuple

import numpy as np
import pytest
import torch
from plain_peft import EXACT, Plain, column, mean_by, of_rows, paid
from trainer_fixtures import Recorder, Rig, distance, equal, one_by_one, snapshot

from marft.credit import assess
from marft.credit.order import plan
from marft.errors import EngineError
from marft.seeds import derive
from marft.train.rows import build_rows, with_advantages
from marft.train.table import turn_table

Call = namedtuple("Call", "name rows report")


def watched(rig):
    """A Learning, the calls of its updater, and each agent's recorded steps."""
    learning, calls, recorders = rig.learning(), [], {}
    update = learning.updater.update
    one_by_one(learning)

    def note(learner, rows, **given):
        calls.append(Call(learner.name, rows, None))
        report = update(learner, rows, **given)
        calls[-1] = Call(learner.name, rows, report)
        return report

    learning.updater.update = note
    for name, learner in rig.learners.items():
        recorders[name] = Recorder(rig.bank.named_parameters(name), learner.optimizer)
        learner.optimizer = recorders[name]
    return learning, calls, recorders


def credited(rig, episodes):
    """Each agent's rows with the advantages that credit gives them."""
    advantage_U = assess(rig.recipe.algorithm, turn_table(episodes), {}).advantage_U
    return {name: with_advantages(rows, advantage_U) for name, rows in build_rows(episodes).items()}


def moments(learner):
    state = learner.optimizer.state_dict()["state"]
    return {(number, key): value.clone() for number, one in state.items() for key, value in one.items()}


def mean_by_episode(value_N, rows, episodes):
    """The plain mean over an episode's tokens, by loops; None where there are none."""
    found, start = {number: [] for number in range(episodes)}, 0
    for row in rows:
        found[row.episode] += value_N[start : start + len(row.targets)].tolist()
        start += len(row.targets)
    return [sum(values) / len(values) if values else None for values in found.values()]


# One agent per update.


def test_round_robin_trains_one_agent_and_leaves_the_other_alone_to_the_bit():
    rig = Rig("algorithm={preset: rloo, update: round_robin}", "train.minibatches=2", "optimizer.weight_decay=0.1")
    learning, state = rig.learning(), {}
    base = {name: value.clone() for name, value in rig.bank.peft.named_parameters() if "lora_" not in name}
    for number, (turn, other) in enumerate([("alice", "bob"), ("bob", "alice"), ("alice", "bob")]):
        before = {name: (snapshot(rig.bank, name), moments(rig.learners[name])) for name in rig.learners}
        versions = {name: learner.version for name, learner in rig.learners.items()}
        lesson = learning.learn(paid(rig.play(number), number), number, state)
        state = lesson.state
        assert set(lesson.reports) == {turn}
        assert not equal(snapshot(rig.bank, turn), before[turn][0])
        assert equal(snapshot(rig.bank, other), before[other][0])
        assert equal(moments(rig.learners[other]), before[other][1])
        assert rig.learners[turn].version == versions[turn] + 1
        assert rig.learners[other].version == versions[other]
    after = {name: value for name, value in rig.bank.peft.named_parameters() if "lora_" not in name}
    assert equal(after, base)


# One agent after another.


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_later_agents_advantages_are_weighed_by_what_the_earlier_one_changed(epochs, tmp_path):
    update = "update: {kind: sequential, low: 0.97, high: 1.04}"
    algorithm = f"algorithm={{preset: rloo, ratio: {{kind: token}}, {update}}}"
    rig = Rig(*EXACT, algorithm, f"train={{epochs: {epochs}, updates: 20, gap_limit: 1e9}}")
    learning, calls, recorders = watched(rig)
    plain = {name: Plain(rig, name, tmp_path / name) for name in rig.learners}
    settings, seed, clamped = rig.recipe.algorithm.update, derive(rig.recipe.seed, "order") % 2**32, []
    orders = [tuple(stage.agents[0] for stage in plan(settings, list(rig.learners), 3, n, seed)) for n in range(20)]
    for made, (first, second) in enumerate([("bob", "alice"), ("alice", "bob")]):
        number = orders.index((first, second))
        del calls[:]
        for recorder in recorders.values():
            recorder.seen, recorder.weights = [], []
        episodes = paid(rig.play(number), number)
        rows = credited(rig, episodes)
        learning.learn(episodes, number, {})
        assert [call.name for call in calls] == [first, second]
        old_N = plain[first].logp_of(recorders[first].weights[0], rows[first])
        new_N = plain[first].logp_of(snapshot(rig.bank, first), rows[first])
        means = mean_by_episode(new_N - old_N, rows[first], len(episodes))
        factor_E = np.clip(np.exp(means), 0.97, 1.04)
        clamped += [factor in (0.97, 1.04) for factor in factor_E]
        for name, weigh in ((first, np.ones(len(episodes))), (second, factor_E)):
            plain[name].set(recorders[name].weights[0])
            advantage_N = column(rows[name], "advantage") * torch.tensor(
                np.concatenate([np.full(len(row.targets), weigh[row.episode]) for row in rows[name]])
            )
            loss = -(advantage_N * plain[name].logp(rows[name])).mean()  # the first step's ratio is 1
            assert distance(recorders[name].seen[0], plain[name].gradient(loss)) < 1e-9
        assert {name: learner.version for name, learner in rig.learners.items()} == dict.fromkeys(rows, made + 1)
    assert any(clamped)
    assert not all(clamped)


# Turns from the last to the first.


def test_turns_train_from_last_to_first_each_weighed_by_the_later_ones(tmp_path):
    preset = "algorithm={preset: seeupo, kl: {coef: 0.0}, update: {low: 0.98, high: 1.03}}"
    rig = Rig(*EXACT, preset, "train={updates: 4, epochs: 2}", "optimizer={learning_rate: 0.02, schedule: linear}")
    learning, calls, recorders = watched(rig)
    plain = {name: Plain(rig, name, tmp_path / name) for name in rig.learners}
    episodes = paid(rig.play(), 1)
    whole = credited(rig, episodes)
    reports = learning.learn(episodes, 1, {}).reports
    assert [call.name for call in calls] == ["alice", "bob"] * 3
    factor_E, factors = np.ones(len(episodes)), []
    for stage, turn in enumerate((2, 1, 0)):
        ratios, owners = [], []
        for name, recorder in recorders.items():
            call = calls[2 * stage + (name == "bob")]
            assert all((row.place == turn).all() and row.targets[-1] == len(row) - 1 for row in call.rows)
            wanted = [row.only(row.place == turn) for row in whole[name]]
            assert [row.turn.tolist() for row in call.rows] == [row.turn.tolist() for row in wanted]
            weigh_N = np.concatenate([np.full(len(row.targets), factor_E[row.episode]) for row in wanted])
            advantage_N, row_N = column(wanted, "advantage") * torch.tensor(weigh_N), of_rows(wanted)
            share_N = 1 / (len(wanted) * torch.bincount(row_N)[row_N].double())
            start_N = plain[name].logp_of(recorder.weights[2 * stage], wanted)
            for step in (2 * stage, 2 * stage + 1):
                plain[name].set(recorder.weights[step])
                ratio_N = mean_by(plain[name].logp(wanted) - start_N, row_N).exp()
                gain_N = torch.minimum(ratio_N * advantage_N, ratio_N.clamp(0.8, 1.2) * advantage_N)
                loss = -(share_N * gain_N).sum()
                assert distance(recorder.seen[step], plain[name].gradient(loss)) < 1e-9
            end = recorder.weights[2 * stage + 2] if turn else snapshot(rig.bank, name)
            ratios.append(plain[name].logp_of(end, wanted) - start_N)
            owners += wanted
        means = mean_by_episode(torch.cat(ratios), owners, len(episodes))
        factor_E = np.clip(factor_E * np.clip(np.exp(means), 0.98, 1.03), 0.98, 1.03)
        factors.append(factor_E)
    assert 0.98 in factors[0] or 1.03 in factors[0]
    assert (factors[0] != 1).all()
    assert (factors[1] != factors[0]).any()
    for name, recorder in recorders.items():
        assert recorder.rates == pytest.approx([0.015] * 6)  # update 1 of 4, in every stage
        assert rig.learners[name].version == 1
        assert reports[name]["learning_rate"] == pytest.approx(0.015)
        assert reports[name]["steps"] == 6
        assert reports[name]["trained"] == 2 * sum(len(row.targets) for row in whole[name])  # two passes


def shorter(episodes, seat="bob"):
    """As if the game had ended before the seat's last turn."""
    for episode in episodes:
        last = max(turn.step for turn in episode.turns if turn.seat == seat)
        episode.turns = [turn for turn in episode.turns if turn.seat != seat or turn.step < last]
    return episodes


def test_an_agent_without_a_last_turn_is_still_checked_against_its_engine_and_counts_one_version():
    rig = Rig("algorithm=seeupo")
    learning, calls, _ = watched(rig)
    lesson = learning.learn(shorter(paid(rig.play())), 0, {})
    assert [len(call.rows) for call in calls if call.name == "bob"] == [0, 6, 6]
    assert {name: learner.version for name, learner in rig.learners.items()} == {"alice": 1, "bob": 1}
    assert 0 < lesson.reports["bob"]["gap"] < 1e-4
    rig = Rig("algorithm=seeupo")
    episodes = shorter(paid(rig.play()))
    for turn in (turn for episode in episodes for turn in episode.turns_of("bob")):
        turn.logprobs = [value - 0.2 for value in turn.logprobs]
    with pytest.raises(EngineError, match=r"bob differ from the trainer's by 0\.2"):
        rig.learning().learn(episodes, 0, {})


def test_later_stages_are_not_held_to_the_engines_log_probs():
    """By then the adapter is not the one that played."""
    rig = Rig("algorithm={preset: seeupo, update: {low: 0.5, high: 2.0}}", "optimizer.learning_rate=0.3")
    learning, calls, _ = watched(rig)
    learning.learn(paid(rig.play()), 0, {})
    gaps = [call.report["gap"] for call in calls if call.name == "alice"]
    assert gaps[0] < 1e-4
    assert gaps[-1] > rig.recipe.train.gap_limit


# A stop of the passes.


@pytest.mark.parametrize("ratio", ["token", "none"])
def test_a_kl_stop_ends_the_passes_after_the_step_that_measured_too_much(ratio, tmp_path):
    data = (*EXACT, "train={epochs: 4, minibatches: 2, gap_limit: 1e9}", "optimizer.learning_rate=0.03")
    algorithm = "algorithm={{preset: rloo, ratio: {}, update: {{kl_stop: {}}}}}"

    def run(limit):
        rig = Rig(*data, algorithm.format(ratio, limit))
        learner, steps = rig.learners["alice"], []
        learner.optimizer = recorder = Recorder(rig.bank.named_parameters("alice"), learner.optimizer)
        inner = rig.updater._step

        def note(job, rows, *rest):
            steps.append((rows, inner(job, rows, *rest)))
            return steps[-1][1]

        rig.updater._step = note
        report = rig.updater.update(learner, credited(rig, paid(rig.play()))["alice"])
        return rig, recorder, steps, report

    rig, recorder, steps, report = run(1e9)
    plain = Plain(rig, "alice", tmp_path / "a")
    measured = []
    for (rows, made), weights in zip(steps, recorder.weights, strict=True):
        old_N, now_N = plain.logp_of(recorder.weights[0], rows), plain.logp_of(weights, rows)
        measured.append(float((old_N - now_N).mean()))
        assert made["approximate_kl"] == pytest.approx(measured[-1], rel=1e-6, abs=1e-12)
    assert report["steps"] == 8
    assert max(measured) > 0
    limits = sorted(value for value in measured if value > 0)
    for limit in (limits[0] / 2, limits[len(limits) // 2], limits[-1]):
        limit *= 1 + 1e-9  # not the measured one itself, which rounding may pass
        over = [number for number, value in enumerate(measured) if value > limit]
        made = over[0] + 1 if over else 8
        _, stopped, _, report = run(repr(limit))
        assert report["steps"] == made == len(stopped.weights)
        assert all(equal(one, other) for one, other in zip(stopped.seen, recorder.seen, strict=False))
    assert measured[0] == 0  # so that the first step is made whatever the limit
