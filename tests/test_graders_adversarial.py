"""Two hundred texts and programs that want to fool graders, hang them or get out: right verdict or a counted end."""

import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from adversarial_code import CODE, HANGS
from adversarial_texts import BOMBS, CASES
from dialogues import dialogue, paid
from test_sandbox import strays, walled

from marft.rewards import load_reward
from marft.rewards.grading import Ungraded
from marft.rewards.sandbox import Limits, way
from marft.rewards.sandbox.judge import by_tests
from marft.rewards.workers import Workers

GRACE = 1.0 + 2.0
"""Seconds after a deadline: the one that is promised, and what a busy machine may add."""
SECRET = "sk-adversarial-4711"


def test_there_are_two_hundred_cases_and_no_two_of_a_name():
    names = [case[0] for case in (*CASES, *BOMBS, *CODE, *HANGS)]
    assert len(names) == len(set(names)) >= 200


@pytest.mark.parametrize("grader", ["exact_match", "numeric_match", "math_verify"])
def test_texts_get_what_they_are_worth(grader):
    pytest.importorskip("math_verify")
    cases = [case for case in CASES if case[4] == grader]
    episodes = [dialogue(("a", text), answer=true, number=number) for number, (_, text, true, *_) in enumerate(cases)]
    options = {"deadline": 60.0} if grader == "math_verify" else {}
    found = [sum(one["a"]) for one in paid(load_reward(grader, options), *episodes)]
    assert dict(zip([case[0] for case in cases], found, strict=True)) == {case[0]: case[3] for case in cases}


def test_bombs_are_graded_or_stopped_at_the_deadline_and_said_to_be(tmp_path, monkeypatch):
    pytest.importorskip("math_verify")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MY_SECRET_KEY", SECRET)
    episodes = [dialogue(("a", text), answer=true, number=number) for number, (_, text, true, *_) in enumerate(BOMBS)]
    stopped = 0
    for case, one in zip(BOMBS, load_reward("math_verify", {"deadline": 3.0})(episodes), strict=True):
        if isinstance(one, Ungraded):
            assert one.cause.startswith(("a: timeout: not done in 3 s", "a: memory", "a: crash")), case[0]
            stopped += 1
        else:
            assert sum(one["a"]) == case[3], case[0]
    assert 2 <= stopped < len(BOMBS)
    assert list(tmp_path.iterdir()) == []


def test_one_bomb_costs_its_deadline():
    pytest.importorskip("math_verify")
    workers = Workers("marft.rewards.math_verify:grader", {"digits": 6}, deadline=2.0, count=1)
    workers.run([["12", None, "12"]])
    began = time.monotonic()
    (verdict,) = workers.run([["10^{10^{10}}", None, "12"]])
    assert verdict.cause == "timeout: not done in 2 s"
    assert time.monotonic() - began < 2 + GRACE
    pids = [worker.process.pid for worker in workers._workers]
    workers.close()
    assert not [pid for pid in pids if psutil.pid_exists(pid)]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A secret in a file and in the environment, a folder to write to, and a port that listens."""
    folder = tmp_path_factory.mktemp("outside")
    folder.chmod(0o777)
    file = folder / "secret.txt"
    file.write_text(SECRET)
    os.environ["MY_SECRET_KEY"] = SECRET
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield {"SECRET": SECRET, "FILE": str(file), "OUTSIDE": str(folder), "PORT": str(server.getsockname()[1])}
    del os.environ["MY_SECRET_KEY"]


def filled(text, world):
    for name, value in world.items():
        text = text.replace(name, value)
    return text


@walled
def test_code_passes_where_it_is_right_and_nowhere_else(world):
    def judged(case):
        _, code, test, _ = case
        return by_tests(filled(code, world), [filled(test, world)], Limits(seconds=15.0, memory=256), how=way())

    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(judged, CODE))
    verdicts = {case[0]: one.passed[0] for case, one in zip(CODE, found, strict=True)}
    assert verdicts == {case[0]: case[3] for case in CODE}
    assert os.listdir(world["OUTSIDE"]) == ["secret.txt"]
    assert Path(os.__file__).read_text().endswith("\n")
    assert socket.gethostname() != "gotcha"
    assert not strays()


@walled
def test_code_that_never_ends_is_ended_and_counted():
    def judged(case):
        began = time.monotonic()
        found = by_tests(case[1], ["assert 1 == 1", "f(3)"], Limits(seconds=2.0), how=way())
        return found.passed[1], found.cause, time.monotonic() - began

    with ThreadPoolExecutor(2) as threads:
        found = dict(zip([case[0] for case in HANGS], threads.map(judged, HANGS), strict=True))
    assert {name: verdict[:2] for name, verdict in found.items()} == dict.fromkeys(found, (False, "timeout"))
    assert max(seconds for *_, seconds in found.values()) < 2 + GRACE
    assert not strays()
