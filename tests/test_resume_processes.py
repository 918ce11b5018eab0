"""A run goes on in another number of processes, or under another accelerate file, as if nothing had happened."""

import pytest
from launches import alone, gap, launch, texts, trained

pytest.importorskip("deepspeed")
pytestmark = pytest.mark.distributed


# Float32 sums in another order, which AdamW's first steps enlarge, as in test_distributed.
@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, "cpu2"),
        ("cpu2", None),
        ("cpu2_zero2", "cpu2_zero3"),
    ],
)
def test_a_run_goes_on_in_another_number_of_processes(tmp_path, before, after):
    whole = alone("train.updates=6")
    for config, updates, flags in ((before, 3, ()), (after, 6, ("--resume",))):
        options = {"flags": flags} | ({"config": config} if config else {})
        trained(tmp_path, "run", 2 if config else None, f"train.updates={updates}", **options)
    assert gap(whole, tmp_path / "run") < 1e-5
    assert texts(whole) == texts(tmp_path / "run")


@pytest.mark.parametrize(("before", "after"), [("cpu2_zero3", None)])
def test_a_critic_goes_on_too(tmp_path, before, after):
    settings = ("algorithm=marft_token", "critic.minibatches=1")
    whole = alone("train.updates=4", *settings)
    for config, updates, flags in ((before, 2, ()), (after, 4, ("--resume",))):
        options = {"flags": flags} | ({"config": config} if config else {})
        trained(tmp_path, "run", 2 if config else None, f"train.updates={updates}", *settings, **options)
    assert gap(whole, tmp_path / "run") < 1e-5


def test_without_the_optimizers_states_a_resumed_run_would_end_elsewhere(tmp_path):
    """The bound above can fail: a run whose moments were lost ends further away than that."""
    whole = alone("train.updates=6")
    run = trained(tmp_path, "run", 2, "train.updates=3", config="cpu2_zero2")
    for path in (run / "checkpoints" / "update-000003" / "optimizers").iterdir():
        path.write_bytes((8).to_bytes(8, "little") + b"{}      ")  # a safetensors file without tensors
    assert launch(tmp_path, "run", None, "train.updates=6", flags=("--resume",)).returncode == 0
    assert gap(whole, run) > 1e-4
