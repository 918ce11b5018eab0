"""The walls around code: nothing outside is read, written, reached or left behind, by root and by ordinary users."""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from dialogues import dialogue, paid

from marft.errors import RewardError
from marft.rewards import load_reward, sandbox
from marft.rewards.sandbox import Limits, SandboxError, run, way
from marft.rewards.sandbox.judge import by_output, by_tests, code_of
from marft.train.rewarding import score_all

try:
    way()
    NONE = None
except SandboxError as missing:
    NONE = str(missing)

walled = pytest.mark.skipif(NONE is not None, reason=f"no sandbox can be built here: {NONE}")


def ran(code, stdin="", how=None, **limits):
    return run({"main.py": code}, stdin, Limits(**({"seconds": 20} | limits)), how=how)


def ways():
    """Every way that works here, not only the one that is taken."""
    found = []
    for how in ("namespaces", "bwrap"):
        try:
            if ran("print(1)", how=how).out == "1\n":
                found.append(how)
        except SandboxError:
            continue
    return found


@pytest.fixture(scope="module", params=("namespaces", "bwrap"))
def how(request):
    if request.param not in ways():
        pytest.skip(f"{request.param} does not work here")
    return request.param


def test_a_program_gets_its_input_and_its_outputs_are_told_apart(how):
    code = "import sys\nprint(input()[::-1])\nprint('no', file=sys.stderr)\nsys.exit(7)"
    found = ran(code, "abc\n", how)
    assert (found.ended, found.code, found.out, found.err) == ("done", 7, "cba\n", "no\n")


def test_nothing_of_this_machine_is_there_but_what_python_needs(how, tmp_path, monkeypatch):
    monkeypatch.setenv("MY_SECRET_KEY", "4711")
    secret = tmp_path / "secret.txt"
    secret.write_text("4711")
    places = [
        secret,
        "/etc/shadow",
        "/etc/passwd",
        Path.home(),
        Path(__file__),
        Path(sandbox.__file__),
        "/proc",
        "/sys",
    ]
    places += ["/var", "/run", "/dev/sda", "/dev/mem", Path.cwd() / "pyproject.toml"]
    code = f"""
import os
def there(path):
    try:
        return bool(os.listdir(path)) if os.path.isdir(path) else bool(open(path, "rb").read(1))
    except OSError:
        return False
seen = [path for path in {[str(place) for place in places]} if there(path)]
print(seen, "4711" in str(os.environ), os.listdir("/tmp"))
"""
    home = os.path.realpath(sys.base_prefix).startswith(f"{Path.home()}/")  # then the way to Python's folder is there
    out = ran(code, how=how).out.strip()
    assert out.replace(f"'{Path.home()}'", "" if home else "home") == "[] False []"


def test_nothing_can_be_written_but_in_its_own_tmp(how):
    code = f"""
import os
for path in ["/x", "/in/x", "/usr/x", "/etc/x", "/dev/x", {sys.base_prefix + "/x"!r}]:
    try:
        open(path, "w")
        print("wrote", path)
    except OSError:
        pass
open("/tmp/mine.txt", "w").write("mine")
print(open("/tmp/mine.txt").read(), os.path.exists("/tmp/y"))
"""
    assert ran(code, how=how).out == "mine False\n"
    assert not Path("/tmp/mine.txt").exists() or Path("/tmp/mine.txt").read_text() != "mine"


def test_there_is_no_network_not_even_this_machines(how):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        port = server.getsockname()[1]
        connect = f"socket.create_connection(('127.0.0.1', {port}), 2)"
        code = f"import socket\ntry:\n  {connect}\n  print('in')\nexcept OSError: print('out')"
        assert ran(code, how=how).out == "out\n"
        with pytest.raises(TimeoutError):
            server.accept()


def test_processes_are_limited_and_all_gone_at_the_end():
    if NONE is not None or (os.getuid() == 0 and way() == "bwrap"):
        pytest.skip("no sandbox here limits the processes of root")
    code = "import os, time\nn = 0\ntry:\n  while os.fork(): n += 1\n  time.sleep(300)\nexcept OSError: print(n)"
    found = ran(code, processes=8)
    assert int(found.out) < 8
    assert not strays()


def strays():
    """Processes that stand in a sandbox and are not this one's children any more, or still are."""
    return [one for one in psutil.process_iter(["cmdline"]) if "/in/main.py" in " ".join(one.info["cmdline"] or ())]


@pytest.mark.parametrize(
    "code",
    [
        "while True: pass",
        "import time\ntime.sleep(600)",
        "import os, time\nos.setsid()\nos.fork(); os.fork()\ntime.sleep(600)",
        "import signal, time\nfor n in (1, 2, 13, 14, 15): signal.signal(n, signal.SIG_IGN)\ntime.sleep(600)",
        "import os\nos.close(1); os.close(2)\nwhile True: pass",
        "10 ** 10 ** 10",
    ],
)
def test_at_the_deadline_everything_ends(how, code):
    began = time.monotonic()
    found = ran(code, seconds=1, how=how)
    assert found.ended == "timeout"
    assert 1 <= time.monotonic() - began < 3
    assert not strays()


def test_memory_files_and_output_have_limits(how):
    assert "MemoryError" in ran("bytearray(10 ** 9)", memory=200, how=how).err
    assert "File too large" in ran("open('/tmp/x', 'wb').write(b'x' * 3 * 2**20)", file=2, how=how).err
    many = "for n in range(9): open(f'/tmp/{n}', 'wb').write(b'x' * 2**20)"
    assert "No space left" in ran(many, disk=4, how=how).err
    flood = ran("while True: print('x' * 10**6)", output=64, how=how)
    assert flood.ended == "output"
    assert len(flood.out) == 64 * 1024


def test_an_ordinary_user_has_the_same_walls():
    """Root hands a child down to a user, who then builds the sandbox with nothing but user namespaces."""
    python = next((path for path in ("/usr/bin/python3", sys.executable) if readable(path)), None)
    if os.getuid() != 0 or python is None or shutil.which("setpriv") is None:
        pytest.skip("takes root, setpriv, and a Python that every user may run")
    code = """
import os
def written(path):
    try:
        return bool(open(path, "w"))
    except OSError:
        return False
print(os.getuid(), os.path.exists("/etc/passwd"), *filter(written, ["/x", "/in/x", "/in/main.py", "/tmp/x"]))
"""
    program = f"import sandbox\nran = sandbox.run({{'main.py': {code!r}}})\nprint(ran.out, ran.err)"
    folder = Path(sandbox.__file__).parent.parent
    demoted = ["setpriv", "--reuid", "4711", "--regid", "4711", "--clear-groups"]
    environment = {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "PATH": "/usr/bin:/bin"}
    look = subprocess.run(
        [*demoted, python, "-c", "import sandbox"], env=environment, cwd="/", capture_output=True, timeout=60
    )
    if look.returncode:
        pytest.skip("the project's folder is closed to other users")
    found = subprocess.run(
        [*demoted, python, "-c", program], env=environment, cwd="/", capture_output=True, text=True, timeout=60
    )
    if "there is none here" in found.stderr:
        pytest.skip("ordinary users may not make user namespaces here")
    assert found.stdout.split() in (["1000", "False", "/tmp/x"], ["4711", "False", "/tmp/x"]), found.stderr


def readable(path):
    """Whether every user may run it: no folder on its way is closed."""
    real = Path(os.path.realpath(path))
    return real.exists() and all(parent.stat().st_mode & 0o001 for parent in [real, *real.parents])


def test_without_a_sandbox_code_is_refused_unless_told_otherwise(monkeypatch):
    monkeypatch.setattr(sandbox, "_best", lambda: (None, "bwrap: not installed; namespaces: forbidden"))
    episode = dialogue(("a", "def f(x): return x"), columns={"tests": ["assert f(1) == 1"]})
    refused = "there is none here; install bubblewrap.*unsandboxed: true.*namespaces: forbidden"
    with pytest.raises(RewardError, match=f"reward code raised SandboxError: .*{refused}"):
        score_all([episode], {"code": (load_reward("unit_tests"), 1.0)})
    assert paid(load_reward("unit_tests", {"unsandboxed": True}), episode) == {"a": [1.0]}


def test_unsandboxed_code_has_limits_and_an_end():
    assert ran("import os\nprint(len(os.environ), os.getcwd() != '/')", how="none").out == "4 True\n"
    assert ran("while True: pass", seconds=1, how="none").ended == "timeout"
    assert not strays()


# --- tests and code


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("a = 1", "a = 1"),
        ("So:\n```python\na = 1\n```\ndone", "a = 1"),
        ("```python\na = 1\n```\nbetter:\n```py\na = 2\nb = 3\n```", "a = 2\nb = 3"),
        ("```python\na = 1\n```\n```json\n{}\n```", "a = 1"),
        ("```python\na = 1\n```\n```python\na = 2", "a = 1"),
        ("  ```\n  a = 1\n  ```", "  a = 1"),
    ],
)
def test_code_is_the_last_closed_block(text, code):
    assert code_of(text) == code


@walled
def test_tests_call_the_code_from_another_sandbox():
    code = """
def double(x): return x * 2
def first(xs, *, default=None): return xs[0] if xs else default
def grow(xs): xs.append(len(xs))
def fail(): raise KeyError("k")
def kinds(): return (1, 2.5, "x", None, True, {1: [2]}, {3}, b"b", 1j, float("inf"))
def thing(): return object()
"""
    tests = {
        "assert double(2) == 4 and double('ab') == 'abab'": True,
        "assert double(2) == 5": False,
        "assert first([], default=3) == 3 and first(xs=[7]) == 7": True,
        "a = [1]\ngrow(a)\ngrow(a)\nassert a == [1, 1, 2]": True,
        "try:\n  fail()\n  raise AssertionError\nexcept KeyError: pass": True,
        "assert kinds() == (1, 2.5, 'x', None, True, {1: [2]}, {3}, b'b', 1j, float('inf'))": True,
        "thing()": False,
        "import math\nassert math.isclose(double(.1), .2)": True,
        "gone()": False,
        "this is no Python": False,
        "assert double(3) == 6": True,
    }
    judged = by_tests(code, list(tests), Limits(seconds=20), how=way())
    assert judged.passed == tuple(tests.values())
    assert judged.cause is None


@walled
def test_a_test_that_hangs_costs_those_behind_it():
    judged = by_tests("def f(x):\n  while x: pass", ["f(0)", "f(1)", "f(0)"], Limits(seconds=2), how=way())
    assert judged.passed == (True, False, False)
    assert judged.cause == "timeout"


@walled
def test_programs_that_read_and_print():
    tests = [{"input": "3", "output": "4\n"}, {"input": "5\n", "output": "6"}, {"input": "x", "output": ""}]
    judged = by_output("print(int(input()) + 1)", tests, Limits(seconds=20), how=way())
    assert judged.passed == (True, True, False)


@walled
def test_unit_tests_pay_all_or_the_part_that_passed():
    columns = {"tests": ["assert f(1) == 2", "assert f(2) == 4", "assert f(3) == 7"]}
    texts = ("```python\ndef f(x): return 2 * x\n```", "def f(x): return [0, 2, 4, 7][x]")
    for partial, expected in ((False, [0, 1]), (True, [2 / 3, 1])):
        episodes = [dialogue(("a", text), columns=columns, number=number) for number, text in enumerate(texts)]
        found = paid(load_reward("unit_tests", {"partial": partial}), *episodes)
        assert [one["a"][0] for one in found] == pytest.approx(expected)


@walled
def test_the_code_of_several_seats_is_one_program():
    episode = dialogue(("aux", "def half(x): return x / 2"), ("main", "def f(x): return half(x) + 1"))
    episode.facts["columns"] = {"tests": "assert f(4) == 3"}
    assert paid(load_reward("unit_tests", {"join": True}), episode) == {"aux": [1, 0], "main": [0, 1]}
    assert paid(load_reward("unit_tests"), episode) == {"aux": [0, 0], "main": [0, 0]}


@walled
def test_code_that_hangs_is_wrong_and_counted():
    episodes = [dialogue(("a", "def f():\n  while 1: pass"), columns={"tests": ["f()"]}, number=7)]
    score_all(episodes, {"code": (load_reward("unit_tests", {"deadline": 1}), 1.0)})
    assert episodes[0].terms["code"] == {"a": [0.0]}
    assert episodes[0].failures == {"code": "a: timeout"}


def test_tests_of_no_known_form_are_an_error():
    with pytest.raises(RewardError, match="the column checks must hold programs or a list of {input, output}, not 3"):
        score_all(
            [dialogue(("a", "x"), columns={"checks": 3})],
            {"code": (load_reward("unit_tests", {"tests": "checks", "unsandboxed": True}), 1.0)},
        )


@pytest.mark.parametrize("said", [b"init 41\nok", b"okinit 41\n", b'ok{\n    "child-pid": 41\n}\n'])
def test_a_program_has_started_in_whichever_order_its_two_processes_say_so(said, tmp_path):
    """On a busy machine the inner one may speak first."""
    there, here = os.pipe()
    os.write(here, said)
    os.close(here)
    cell = sandbox.Cell(None, there, tmp_path)
    cell.started(1.0)
    os.close(there)
    assert cell._init == 41


@pytest.mark.parametrize("said", [b"", b"init 41\n", b"init 41\nthis does not look ok"])
def test_a_program_has_not_started_before_it_says_so(said, tmp_path):
    there, here = os.pipe()
    os.write(here, said)
    os.close(here)
    with pytest.raises(SandboxError, match="sandbox: "):
        sandbox.Cell(None, there, tmp_path).started(1.0)
    os.close(there)
