"""The command line: help that comes at once, and for every bad input one clear message and nothing left behind."""

import fcntl
import subprocess
import sys
import time

import pytest
import yaml
from trainer_fixtures import base_folder, recipe_data

from marft.cli import main
from marft.config import Recipe


@pytest.fixture
def run(tmp_path, monkeypatch, capfd):
    """run(*arguments) -> (exit code, what was said on stderr), in a working directory of its own."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["marft", *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        return stop.value.code or 0, capfd.readouterr().err

    return call


@pytest.fixture
def recipe(tmp_path):
    """recipe(*overrides) -> path of a small recipe's file."""

    def write(*overrides: str) -> str:
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(recipe_data("train.updates=1", *overrides)))
        return str(path)

    return write


def refused(outcome: tuple[int, str], code: int, *parts: str) -> None:
    """One message with these parts, that exit code, no traceback."""
    assert outcome[0] == code, outcome
    assert "Traceback" not in outcome[1]
    assert outcome[1].count("error: ") == 1
    for part in parts:
        assert part in outcome[1]


@pytest.mark.parametrize(
    ("override", "code", "parts"),
    [
        ("train.updats=3", 2, ["train.updats: unknown key", "did you mean 'updates'"]),
        ("agents.alice.adapter.ranc=3", 2, ["agents.alice.adapter.ranc: unknown key", "'rank'"]),
        ("train.updates=many", 2, ["train.updates", "'many'"]),
        ("rollout.groups=0", 2, ["rollout.groups", "0"]),
        ("algorithm=ad_aling", 2, ["ad_aling", "ad_align"]),
        ("game.name=prisoner_dilemma", 2, ["prisoner_dilemma", "prisoners_dilemma"]),
        ("game.rounds=ten", 2, ["rounds", "'ten'"]),
        ("team.alice={scripted: TTF}", 2, ["team.alice.scripted", "TTF", "TFT"]),
        ("rewards=[pay_off]", 2, ["rewards[0].use", "pay_off", "payoff"]),
        ("updates", 2, ["updates", "key.sub=value"]),
        ("model.name=./nowhere", 3, ["model.name", "./nowhere"]),
        ("agents.alice.start_from=nowhere", 3, ["alice", "nowhere", "no PEFT adapter"]),
        ("trackers=[tensorbord]", 2, ["trackers", "tensorbord", "tensorboard"]),
        ("sampling.max_new_tokens=3000", 7, ["sampling.max_new_tokens 3000", "context of 2048"]),
    ],
)
def test_a_bad_value_is_named_and_no_folder_is_left(run, recipe, tmp_path, override, code, parts):
    refused(run("train", recipe(), override, "--out", "runs/x"), code, *parts)
    if code != 7:  # that one is found when the first prompt is there
        assert not (tmp_path / "runs" / "x").exists()


def test_a_model_folder_without_a_model_is_refused(run, recipe, tmp_path):
    (tmp_path / "folder").mkdir()
    refused(run("train", recipe(), "model.name=folder"), 3, "folder", "config.json")


def test_a_recipe_that_is_not_there_or_not_yaml_is_refused(run, tmp_path):
    refused(run("train", "no.yaml"), 2, "no.yaml", "is not a file")
    (tmp_path / "bad.yaml").write_text("a: [1")
    refused(run("train", "bad.yaml"), 2, "bad.yaml", "YAML")


def test_a_run_folder_that_cannot_be_written_is_refused(run, recipe, tmp_path):
    (tmp_path / "file").write_text("")
    refused(run("train", recipe(), "--out", "file/run"), 4, "file/run", "cannot be written", "--out")


def test_a_run_folder_in_use_is_refused_and_untouched(run, recipe, tmp_path):
    (tmp_path / "run").mkdir()
    with open(tmp_path / "run" / ".lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused(run("train", recipe(), "--out", "run"), 4, "in use")
    assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]


def test_a_run_is_not_trained_over_and_not_resumed_with_another_recipe(run, recipe, tmp_path):
    assert run("train", recipe(), "--out", "run")[0] == 0
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    refused(run("train", recipe(), "--out", "run"), 4, "holds a run", "--resume", "--overwrite")
    refused(run("train", recipe(), "adapter.rank=3", "--out", "run", "--resume"), 4, "adapter.rank is 3", "but 2")
    refused(run("train", recipe(), "seed=5", "--out", "run", "--resume"), 4, "seed is 5", "but 0")
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before
    assert run("train", recipe(), "train.updates=2", "--out", "run", "--resume")[0] == 0
    assert run("train", recipe(), "seed=5", "--out", "run", "--overwrite")[0] == 0


def test_a_game_that_raises_is_named_with_its_cause(run, recipe, tmp_path):
    (tmp_path / "bad.py").write_text(
        "from marft.games.matrix import PrisonersDilemma\n"
        "class Bad(PrisonersDilemma):\n"
        "    def act(self, texts):\n"
        "        raise KeyError('the dice')\n"
    )
    outcome = run("train", recipe(), "game={name: 'bad.py:Bad', rounds: 2}", "--out", "run")
    refused(outcome, 5, "failed 3 times", "KeyError: 'the dice'", "bad.py:4")
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


@pytest.mark.parametrize(
    ("body", "part"),
    [
        ("{'alice': float('nan')}", "rewards must be finite numbers"),
        ("{'alice': [1.0]}", "1 values for 3 steps"),
        ("{'carol': 1.0}", "a seat 'carol'"),
        ("1 / 0", "ZeroDivisionError"),
        ("{'alice': 'much'}", "much"),
    ],
)
def test_a_bad_reward_is_named(run, recipe, tmp_path, body, part):
    (tmp_path / "bad.py").write_text(f"def bad(episode):\n    return {body}\n")
    refused(run("train", recipe(), "rewards=['bad.py:bad']", "--out", "run"), 6, "bad.py:bad", part)


def test_an_evaluation_that_cannot_be_made_is_refused_before_it_plays(run, recipe, tmp_path):
    assert run("train", recipe(), "--out", "run")[0] == 0
    (tmp_path / "file").touch()
    refused(
        run("eval", "own", "--team", "run", "--against", "AllD,TTF", "--out", "e"), 2, "--against", "'TTF'", "'TFT'"
    )
    refused(run("eval", "own", "--team", "run", "--out", "file/e"), 4, "file/e", "cannot be written", "--out")
    refused(
        run("eval", "own", "--team", "run", "--team", "b=run/adapters", "--out", "e"), 4, "run/adapters", "recipe.yaml"
    )
    assert not (tmp_path / "e").exists()
    (tmp_path / "run" / "recipe.yaml").write_text("- a\n- list\n")
    refused(run("eval", "own", "--team", "run", "--out", "e"), 2, "run/recipe.yaml", "mapping")


def test_a_damaged_checkpoint_is_named_on_resume(run, recipe, tmp_path):
    assert run("train", recipe(), "--out", "run")[0] == 0
    (state,) = (tmp_path / "run" / "checkpoints").glob("*/state.json")
    state.write_text(state.read_text()[:-9])
    refused(run("train", recipe(), "--out", "run", "--resume"), 4, "update-000001 cannot be read", "remove it")


def test_evaluation_report_and_show_refuse_what_is_no_run(run, tmp_path):
    (tmp_path / "empty").mkdir()
    refused(run("eval", "own", "--team", "empty"), 4, "empty", "recipe.yaml")
    refused(run("report", "empty"), 4, "empty")
    refused(run("show", "empty"), 4, "empty")
    refused(run("eval", "own", "--team", "a=empty", "--team", "a=empty"), 2, "same name")


def test_debug_shows_the_traceback(tmp_path):
    command = [sys.executable, "-m", "marft", "train", "no.yaml", "--debug"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert "Traceback" in done.stderr
    assert "RecipeError" in done.stderr


def test_help_comes_at_once_and_without_torch(tmp_path):
    code = "import sys; sys.argv = ['marft', 'train', '--help']\nimport marft.cli\n"
    code += "try: marft.cli.main()\nexcept SystemExit: pass\nprint('torch' in sys.modules)"
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.endswith("False\n")
    assert "--resume" in done.stdout
    assert time.monotonic() - began < 20  # far above what it takes; a torch import alone takes seconds


def test_the_resolved_recipe_of_a_dry_run_is_a_recipe(run, recipe, monkeypatch, capfd):
    monkeypatch.setattr(sys, "argv", ["marft", "train", recipe(), "--dry-run", "train.updates=7"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert not stop.value.code
    shown = capfd.readouterr().out.split("what this recipe costs")[0]
    assert Recipe.model_validate(yaml.safe_load(shown)).train.updates == 7
    assert base_folder() in shown
