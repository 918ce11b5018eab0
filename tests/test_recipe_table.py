"""The script that runs all recipes: its rows, what it takes as done, and tables that say what is missing."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

RECIPES = Path(__file__).parents[1] / "recipes"
SCRIPT = """
import json, pathlib, sys
out, seeds = pathlib.Path(sys.argv[sys.argv.index("--out") + 1]), int(sys.argv[sys.argv.index("--seeds") + 1])
(out / "calls").open("a").write("x")
(out / "table.json").write_text(json.dumps({"before": [0.25] * seeds, "after": [0.5, 0.75, 1.0][:seeds]}))
"""
ROW = (
    '[[row]]\nscript = "run.py"\nmetric = "right"\nat_least = 0.7\ngame = "pipeline"\nalgorithm = "SFT"\nsource = "S"\n'
)


@pytest.fixture
def table(monkeypatch):
    monkeypatch.syspath_prepend(str(RECIPES))
    spec = importlib.util.spec_from_file_location("recipe_table", RECIPES / "table.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "recipe_table", module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def call(table, tmp_path, monkeypatch):
    """call(arguments) -> (exit status, what the README says then), for recipe folders made up for the test."""
    import typer

    monkeypatch.setattr(table, "HERE", tmp_path)
    (tmp_path / "README.md").write_text(f"# Recipes\n\n{table.BEGIN}\nold\n{table.END}\nmore\n")
    app = typer.Typer()
    app.command()(table.main)

    def run(*arguments):
        done = CliRunner().invoke(app, ["--out", str(tmp_path / "out"), "--write", *arguments])
        return done.exit_code, (tmp_path / "README.md").read_text()

    return run


def folder(root, name, rows=ROW, script=SCRIPT):
    place = root / name
    place.mkdir()
    (place / "README.md").write_text(name)
    if rows is not None:
        (place / "expected.toml").write_text(rows)
    (place / "run.py").write_text(script)
    return place


def line_of(text, name):
    (line,) = [line for line in text.splitlines() if line.startswith(f"| [{name}]")]
    return [cell.strip() for cell in line.strip("|").split(" | ")]


def test_a_row_names_a_file_that_is_there_and_a_metric_that_the_game_has(table):
    pytest.importorskip("pyspiel")
    from marft.games import make_game
    from marft.recipe import load_recipe

    rows = [(name, one) for name, place in table.folders_of(RECIPES).items() for one in table.expected_of(place)]
    assert len(rows) > 20
    for name, one in rows:
        assert (RECIPES / name / (one.recipe or one.script)).is_file()
        if one.recipe is not None:
            recipe = load_recipe(RECIPES / name / one.recipe)
            metric, _, player = one.metric.partition("@")
            game = make_game(recipe.game.name, recipe.game.options)
            assert metric in {*game.metrics([]), "nash_conv", "return"} or "/" in metric, f"{name}: {metric}"
            assert not player or player in game.players, f"{name}: {player}"


def test_medians_stand_beside_their_bars(call, tmp_path):
    folder(tmp_path, "good")
    status, text = call("--seeds", "3")
    assert status == 0
    cells = line_of(text, "good")
    assert cells[1:6] == ["pipeline", "SFT", "right", "≥ 0.7", "0.25 → 0.75 (0.50 to 1.00)"]
    assert "Not complete" not in text
    assert "old" not in text
    assert text.endswith("more\n")


def test_a_missed_bar_is_told_and_fails(call, tmp_path):
    folder(tmp_path, "short")
    status, text = call("--seeds", "1")  # of the one seed the median is 0.5
    assert status == 1
    assert line_of(text, "short")[5] == "0.25 → 0.50, **missed**"


def test_what_was_not_run_is_said(call, tmp_path):
    folder(tmp_path, "one")
    folder(tmp_path, "other")
    folder(tmp_path, "bare", rows=None)
    _, text = call("--only", "one")
    assert line_of(text, "other")[5] == "not run"
    assert "**Not complete: 1 of 2 rows are done.**" in text
    assert "Without an expected.toml, and so not in the table: bare." in text
    _, text = call("--only", "other")
    assert line_of(text, "one")[5].startswith("0.25 → 0.75")  # from the call before
    assert "Not complete" not in text
    _, text = call("--no-run", "--seeds", "5")
    assert line_of(text, "one")[5].endswith("3 of 5 seeds")
    assert "**Not complete: 0 of 2 rows are done.**" in text


def test_a_recipe_that_fails_does_not_cost_the_others_their_turn(call, tmp_path):
    folder(tmp_path, "a_broken", script="raise SystemExit(3)")
    folder(tmp_path, "b_good")
    status, text = call()
    assert status == 1
    assert line_of(text, "a_broken")[5].startswith("failed: CalledProcessError")
    assert line_of(text, "b_good")[5].startswith("0.25 → 0.75")


def test_what_is_not_installed_is_named(call, tmp_path):
    folder(tmp_path, "far", rows=ROW + 'needs = ["no_such_module"]\n')
    status, text = call()
    assert status == 0
    assert line_of(text, "far")[5] == "needs no_such_module, not installed"
    assert not (tmp_path / "out" / "far" / "run" / "calls").exists()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (ROW + 'recipe = "x.yaml"\n', "either recipe or script"),
        (ROW + "at_most = 1.0\n", "either at_least or at_most"),
        (ROW + "bar = 1.0\n", "bar"),
        (ROW.replace('game = "pipeline"\n', ""), "says its game"),
        ("rows = 3\n", "row"),
        ("[[row]", "expected.toml"),
    ],
)
def test_a_row_that_is_none_is_told_with_its_file(table, tmp_path, rows, message):
    place = folder(tmp_path, "wrong", rows=rows)
    with pytest.raises(ValueError, match=message) as raised:
        table.expected_of(place)
    assert str(place / "expected.toml") in str(raised.value)


def test_an_unknown_folder_and_a_readme_without_marks_are_errors(call, table, tmp_path):
    folder(tmp_path, "good")
    status, _ = call("--only", "goood")
    assert status == 2
    with pytest.raises(ValueError, match="once each"):
        table.with_table("# Recipes\n", "x")


def test_a_recipe_is_trained_from_its_base_and_not_trained_twice(call, tmp_path, cache, monkeypatch):
    """Also the numbers: what the evaluation of each run says of the metric."""
    tiny = "{warmup_steps: 30, warmup_episodes: 64, warmup_batch: 8, hidden: 32, heads: 2, kv_heads: 2}"
    place = folder(
        tmp_path, "bandit", rows='[[row]]\nrecipe = "small.yaml"\nmetric = "return"\nat_least = -9\nepisodes = 4\n'
    )
    (place / "small.yaml").write_text(
        f"name: small\nmodel: {{name: tiny, device: cpu, tiny: {tiny}}}\ngame: {{name: bandit, seats: 1}}\n"
        "agents: {solo: {}}\nalgorithm: rloo\nrollout: {groups: 2, group_size: 2}\nsampling: {max_new_tokens: 2}\n"
        "train: {updates: 2, save_every: 1}\ntrackers: []\n"
    )
    _, text = call("--seeds", "1")
    out = tmp_path / "out" / "bandit" / "small"
    cells = line_of(text, "bandit")
    assert cells[1:3] == ["bandit", "rloo"]

    def measured(run):
        (pair,) = json.loads((run / "eval" / "none-4" / "results.json").read_text())["pairs"]
        return pair["metrics"]["return"]["mean"]

    before, after = measured(out / "base" / "seed-0"), measured(out / "runs" / "seed-0")
    assert cells[5] == f"{before:.2f} → {after:.2f}"
    written = {path: path.stat().st_mtime_ns for path in out.rglob("metrics.jsonl")}
    assert len(written) == 2
    assert call("--seeds", "1")[1] == text
    assert {path: path.stat().st_mtime_ns for path in out.rglob("metrics.jsonl")} == written
