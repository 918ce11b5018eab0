"""The commands of docs/stages.md, one after the other, and that they do what stands there."""

import json
import re
import shlex
import sys
from pathlib import Path

import pytest

from marft.cli import main
from marft.eval.arena import evaluate

pytest.importorskip("trl")
pytest.importorskip("datasets")
ROOT = Path(__file__).parent.parent


@pytest.mark.learning
def test_the_documented_stages_turn_defectors_into_a_team(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MARFT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    text = (ROOT / "docs" / "stages.md").read_text(encoding="utf-8")
    commands = re.search(r"```bash\n(.*?)```", text, re.S)[1].replace("\\\n", " ").splitlines()
    assert [line.split()[1] for line in commands] == ["train", "sft", "dpo", "train"]
    for line in commands:
        monkeypatch.setattr(sys, "argv", shlex.split(line))
        with pytest.raises(SystemExit) as stop:
            main()
        assert not stop.value.code, line

    def cooperation(run):
        lines = (tmp_path / "runs" / run / "metrics.jsonl").read_text().splitlines()
        return [json.loads(line)["game/cooperation"] for line in lines]

    assert cooperation("play")[0] > cooperation("play")[-1]
    assert cooperation("play")[-1] < 0.5
    assert cooperation("next")[0] > 0.9
    results = evaluate({"warm": Path("runs/warm")}, Path("runs/eval"), against="none", episodes=16)
    assert results["pairs"][0]["metrics"]["cooperation"]["mean"] > 0.85
