"""The log for Inspect, read by Inspect itself."""

import pytest
from typer.testing import CliRunner

from marft.cli import app
from marft.eval.results import read_results
from marft.store import read_episodes


def test_inspect_reads_the_log_and_finds_the_same_numbers(tmp_path):
    log = pytest.importorskip("inspect_ai.log", exc_type=ImportError)
    arguments = ["eval", "own", "--team", "t=script:TFT", "--against", "AllD", "--set", "game=prisoners_dilemma"]
    arguments += ["--episodes", "2", "--out", str(tmp_path / "e"), "--inspect", str(tmp_path / "log.json")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    read = log.read_eval_log(str(tmp_path / "log.json"))
    assert read.status == "success"
    assert read.eval.task == "marft/own"
    results = read_results(tmp_path / "e" / "results.json")
    assert len(read.samples) == sum(one.episodes for one in results.pairs) == 2 + 4
    scores = {one.name: {key: metric.value for key, metric in one.metrics.items()} for one in read.results.scores}
    assert scores["t against AllD at prisoners_dilemma"]["return"] == 9  # once exploited, then 1 a round
    assert {one.scores["return"].value for one in read.samples} == {9, 30}
    (first, *_) = read_episodes(tmp_path / "e")
    seat = read.samples[0].metadata["seat"]
    said = [message.text for message in read.samples[0].messages if message.role == "assistant"]
    assert said == [turn.text for turn in first.turns_of(seat)]
