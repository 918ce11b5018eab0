"""DeepSpeed's ZeRO on two processes of the CPU: the same run, with less in each process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from launches import CONFIGS, DEADLINE, alone, gap, launch, texts, trained

from marft.train.folder import read_metrics

pytest.importorskip("deepspeed")
pytestmark = pytest.mark.distributed


# As in test_distributed: sums in another order, of float32, enlarged by AdamW's first steps. Seen: 2e-7.
@pytest.mark.parametrize("config", ["cpu2_zero2", "cpu2_zero3"])
@pytest.mark.parametrize(
    "overrides",
    [(), ("train.token_budget=64", "rollout.groups=3"), ("rollout.groups=1",)],
    ids=["even", "unequal numbers of micro-batches", "a process without rows"],
)
def test_two_processes_with_zero_end_with_the_adapters_of_one(tmp_path, config, overrides):
    one = alone("train.updates=5", *overrides)
    two = trained(tmp_path, "two", 2, "train.updates=5", *overrides, config=config)
    assert gap(one, two) < 1e-5
    assert texts(one) == texts(two)


@pytest.mark.parametrize(
    ("config", "overrides"),
    [
        ("cpu2_zero2", ("algorithm=marft_token",)),
        ("cpu2_zero3", ("algorithm=marft_token",)),
        ("cpu2_zero3", ("algorithm={preset: rloo, kl: {coef: 0.1, where: reward}}", "rollout.groups=1")),
        ("cpu2_zero3", ("algorithm={preset: epo, update: sequential}", "rollout.groups=1")),
    ],
    ids=["critic, stage 2", "critic, stage 3", "kl in the reward", "entropy and order"],
)
def test_whatever_asks_the_base_asks_it_in_step(tmp_path, config, overrides):
    settings = ("critic.minibatches=1", "train.token_budget=64", *overrides)
    one, two = alone(*settings), trained(tmp_path, "two", 2, *settings, config=config)
    assert gap(one, two) < 1e-5


def reports(tmp_path, script: str, config: str) -> list[dict]:
    """What two processes of a script say."""
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(CONFIGS / f"{config}.yaml")]
    command += [str(Path(__file__).parent / script), str(tmp_path)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]


def test_each_process_holds_half_of_the_base(tmp_path):
    for report in reports(tmp_path, "zero_base.py", "cpu2_zero3"):
        base = report["bytes"]
        assert report["before"] >= base
        assert report["before"] - report["sharded"] == pytest.approx(base / 2, rel=0.05)
        assert report["whole"] - report["sharded"] == pytest.approx(base, rel=0.05)
        assert report["resident"] == pytest.approx(base / 2, rel=0.01)  # after a backward pass nothing is left over
        assert report["most"] < 0.8 * base  # layer by layer
        assert report["gap"] < 1e-6


@pytest.mark.parametrize("config", ["cpu2_zero2", "cpu2_zero3"])
def test_each_process_holds_half_of_an_optimizer_that_steps_as_the_whole(tmp_path, config):
    """Two moments of 34 weights, 17 in each process; torch's AdamW and clipping beside it, in float64."""
    for report in reports(tmp_path, "zero_pieces.py", config):
        assert (report["held"], report["reduced"]) == (2 * 17, 17)
        assert max(report["weights"], report["moments"], report["norms"]) < 1e-12


def test_a_run_reports_the_share_of_the_base_in_a_process(tmp_path):
    two = trained(tmp_path, "two", 2, "train.updates=1", config="cpu2_zero3")
    assert read_metrics(two / "metrics.jsonl")[0]["base/resident"] == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("rollout.pipeline=true", "rollout.pipeline"),
        ("rollout.max_staleness=1", "rollout.max_staleness is 1 with engine.kind hf"),
        ("adapter.targets=[q_proj, lm_head]", "adapter.targets names the output layer"),
    ],
)
def test_what_cannot_be_in_step_is_refused(tmp_path, override, words):
    done = launch(tmp_path, "two", 2, "algorithm=rloo", override, config="cpu2_zero3")
    assert done.returncode != 0
    assert "ZeRO stage 3" in done.stderr
    assert words in done.stderr
    assert not (tmp_path / "two").exists()
