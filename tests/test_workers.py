"""Worker processes: what hangs is killed and judged so, all others get their answers, and nothing is left running."""

import json
import os
import subprocess
import sys
import textwrap
import time

import psutil
import pytest

from marft.rewards.workers import Verdict, Workers

JOBS = """
import ctypes, os, sys, time
def echo(prefix=""):
    def grade(item):
        kind, value = item
        if kind == "sleep": time.sleep(value)
        if kind == "power": return value ** value ** value
        if kind == "raise": raise ValueError(value)
        if kind == "exit": os._exit(value)
        if kind == "segfault": ctypes.string_at(0)
        if kind == "memory": return len(bytearray(value * 2**20))
        if kind == "long": return "x" * value
        if kind == "print": print("{}" * value)
        if kind == "env": return os.environ.get(value)
        if kind == "fork" and os.fork() == 0: time.sleep(600)
        if kind == "fork": time.sleep(600)
        if kind == "object": return object()
        return f"{prefix}{value}"
    return grade
def broken():
    raise RuntimeError("no parser")
"""


@pytest.fixture(scope="module")
def jobs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("jobs")
    (folder / "jobs_of_a_test.py").write_text(JOBS)
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(folder)
    yield "jobs_of_a_test:echo"
    os.environ.pop("PYTHONPATH") if before is None else os.environ.update(PYTHONPATH=before)


@pytest.fixture
def workers(jobs):
    made = Workers(jobs, {"prefix": "<"}, deadline=3, memory=1024, count=2)
    yield made
    made.close()
    assert not made._workers


def test_items_are_answered_in_their_order(workers):
    items = [["say", number] for number in range(500)]
    assert workers.run(items) == [Verdict(f"<{number}") for number in range(500)]
    pids = [worker.process.pid for worker in workers._workers]
    assert workers.run([["say", "ü\ud800\n"]]) == [Verdict("<ü\ud800\n")]
    assert workers.run([]) == []
    assert [worker.process.pid for worker in workers._workers] == pids  # kept warm


def test_every_way_of_failing_has_a_cause_of_its_own_and_costs_nobody_else(workers):
    bad = [["sleep", 600], ["raise", "z"], ["exit", 3], ["segfault", 0], ["memory", 4096], ["power", 10], ["object", 0]]
    bad += [["long", 2**23], ["print", 10**6], ["fork", 0]]
    items = [one for number, item in enumerate(bad) for one in (["say", number], item)] + [["say", "last"]]
    children = set(psutil.Process().children(recursive=True))
    found = workers.run(items)
    assert [verdict.value for verdict in found[::2]] == [f"<{number}" for number in range(len(bad))] + ["<last"]
    causes = [verdict.cause for verdict in found[1::2]]
    expected = ["timeout: not done in 3 s", "error: ValueError: z", "crash: the process ended by exit status 3"]
    expected += [
        "crash: the process ended by signal SIGSEGV",
        "memory: more than it may have",
        "timeout: not done in 3 s",
    ]
    expected += ["error: the answer is no JSON value: Object of type object is not JSON serializable"]
    expected += ["output: an answer of more than 4194304 bytes", None, "timeout: not done in 3 s"]
    assert causes == expected
    workers.close()
    left = set(psutil.Process().children(recursive=True)) - children
    assert not [one for one in left if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


def test_a_hanging_item_costs_its_deadline_and_little_more(jobs):
    workers = Workers(jobs, deadline=2, count=1)
    workers.run([["say", 1]])
    began = time.monotonic()
    (verdict,) = workers.run([["power", 10]])
    assert verdict.cause == "timeout: not done in 2 s"
    assert 2 <= time.monotonic() - began < 3
    workers.close()


def test_a_worker_that_died_between_two_calls_is_replaced(workers):
    workers.run([["say", 1]])
    for worker in workers._workers:
        worker.process.kill()
        worker.process.wait()
    assert workers.run([["say", 2]]) == [Verdict("<2")]


def test_graders_see_no_keys_but_a_users_own_code_does(jobs, monkeypatch):
    monkeypatch.setenv("MY_SECRET_KEY", "4711")
    for own, seen in ((False, None), (True, "4711")):
        workers = Workers(jobs, own=own, count=1)
        assert workers.run([["env", "MY_SECRET_KEY"]])[0].value == seen
        workers.close()


def test_a_job_that_cannot_start_is_told_with_its_cause(jobs):
    with pytest.raises(RuntimeError, match="a worker could not start: error: RuntimeError: no parser"):
        Workers("jobs_of_a_test:broken").run([1])


def test_workers_end_with_the_process_that_made_them(jobs, tmp_path):
    """Killed without a chance to tidy up, in the middle of an item that never ends."""
    code = f"""
    import json, sys, threading, time
    from marft.rewards.workers import Workers
    workers = Workers({jobs!r}, count=2, deadline=600)
    workers.run([["say", 1]] * 64)
    print(json.dumps([worker.process.pid for worker in workers._workers]), flush=True)
    workers.run([["power", 10]] * 2)
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True)
    pids = json.loads(process.stdout.readline())
    time.sleep(1)
    process.kill()
    process.wait()
    process.stdout.close()
    until = time.monotonic() + 20
    while any(_runs(pid) for pid in pids) and time.monotonic() < until:
        time.sleep(0.1)
    assert pids
    assert not any(_runs(pid) for pid in pids)


def _runs(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
