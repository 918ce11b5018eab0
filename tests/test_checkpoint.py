"""Checkpoints: what is restored is what was saved, to the bit; what is damaged says so."""

import json
import pickle
import random

import numpy as np
import pytest
import torch
from trainer_fixtures import Rig, equal, snapshot

from marft.errors import MarftError, RunFolderError
from marft.train.checkpoint import Progress, latest_checkpoint, load_checkpoint, prune_checkpoints, save_checkpoint

PROGRESS = Progress(update=2, episodes=12, tokens=345, credit={"mean": 0.1 + 0.2})


def advance(rig, updates) -> None:
    for number in updates:
        rows = rig.rows(rig.play(number))
        for name, learner in rig.learners.items():
            rig.updater.update(learner, rows[name])


def moments(rig, name) -> dict:
    state = rig.learners[name].optimizer.state_dict()["state"]
    return {f"{number}/{key}": value.clone() for number, own in state.items() for key, value in own.items()}


@pytest.fixture
def saved(tmp_path):
    rig = Rig("agents.bob={adapter: {rank: 3, alpha: 3, targets: all-linear}}")
    advance(rig, range(2))
    random.seed(11), np.random.seed(12), torch.manual_seed(13)
    random.gauss(0, 1), np.random.randn()  # both keep a second number for later: it belongs to the state
    return rig, save_checkpoint(tmp_path / "checkpoints", rig.bank, rig.learners, PROGRESS)


def fresh(**options):
    return Rig("agents.bob={adapter: {rank: 3, alpha: 3, targets: all-linear}}", **options)


def test_a_restored_run_is_the_saved_one_to_the_bit(saved):
    rig, folder = saved
    expected = (random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn(), torch.rand(3))
    other = fresh(shaken=0.7)
    progress = load_checkpoint(folder, other.bank, other.learners)
    assert progress == PROGRESS
    found = (random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn(), torch.rand(3))
    assert found[:4] == expected[:4]
    assert torch.equal(found[4], expected[4])
    for name in ("alice", "bob"):
        assert equal(snapshot(other.bank, name), snapshot(rig.bank, name))
        assert moments(rig, name)
        assert equal(moments(other, name), moments(rig, name))
        assert other.learners[name].version == rig.learners[name].version == 2
    advance(rig, range(2, 4))
    advance(other, range(2, 4))
    for name in ("alice", "bob"):
        assert equal(snapshot(other.bank, name), snapshot(rig.bank, name))
        assert equal(moments(other, name), moments(rig, name))


def test_the_adapters_of_a_checkpoint_are_peft_folders_and_nothing_is_a_pickle(saved):
    _, folder = saved
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    adapters = {
        f"adapters/{name}/adapter_{part}" for name in ("alice", "bob") for part in ("config.json", "model.safetensors")
    }
    own = {"state.json", "random.safetensors", "optimizers/alice.safetensors", "optimizers/bob.safetensors"}
    assert files - {f"adapters/{name}/README.md" for name in ("alice", "bob")} == adapters | own
    for name in files:
        with pytest.raises((pickle.UnpicklingError, ValueError, EOFError, IndexError, KeyError)):
            pickle.loads((folder / name).read_bytes())


def test_only_the_newest_are_kept_and_what_is_half_written_is_removed(saved, tmp_path):
    rig, first = saved
    root = first.parent
    for update in (4, 6, 10):
        save_checkpoint(root, rig.bank, rig.learners, Progress(update=update))
    (root / ".update-000012.tmp-99" / "adapters").mkdir(parents=True)
    (root / "update-000011" / "adapters").mkdir(parents=True)  # not whole: no state
    assert latest_checkpoint(root).name == "update-000010"
    (root / "update-000011").rename(tmp_path / "aside")
    prune_checkpoints(root, 2)
    assert sorted(path.name for path in root.iterdir()) == ["update-000006", "update-000010"]
    assert latest_checkpoint(tmp_path / "nothing") is None


def test_the_newest_is_the_one_of_the_latest_update_however_many_digits_it_has(tmp_path):
    for update in (999_999, 1_000_000, 12):
        folder = tmp_path / f"update-{update:06d}"
        folder.mkdir()
        (folder / "state.json").touch()
    assert latest_checkpoint(tmp_path).name == "update-1000000"
    prune_checkpoints(tmp_path, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["update-1000000", "update-999999"]


def test_the_same_state_is_written_as_the_same_bytes(saved, tmp_path):
    _, folder = saved
    other = fresh()
    progress = load_checkpoint(folder, other.bank, other.learners)
    again = save_checkpoint(tmp_path / "again", other.bank, other.learners, progress)
    for path in folder.rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (again / path.relative_to(folder)).read_bytes(), path


def cut(path):
    path.write_bytes(path.read_bytes()[:-20])


def lose(key):
    def damage(path):
        state = json.loads(path.read_text())
        del state[key]
        path.write_text(json.dumps(state))

    return damage


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("state.json", cut),
        ("state.json", lambda path: path.write_text("{}")),
        ("state.json", lambda path: path.write_text("null")),
        ("state.json", lose("versions")),
        ("state.json", lose("random")),
        ("random.safetensors", cut),
        ("random.safetensors", lambda path: path.unlink()),
        ("optimizers/alice.safetensors", cut),
        ("optimizers/alice.safetensors", lambda path: path.unlink()),
    ],
)
def test_a_damaged_checkpoint_says_which_and_what_to_do(saved, file, damage):
    _, folder = saved
    damage(folder / file)
    rig = fresh()
    with pytest.raises(RunFolderError, match=r"checkpoint .*update-000002 cannot be read.*remove it") as caught:
        load_checkpoint(folder, rig.bank, rig.learners)
    assert "\n" not in str(caught.value)


def test_a_damaged_adapter_in_a_checkpoint_is_named(saved):
    _, folder = saved
    cut(folder / "adapters" / "bob" / "adapter_model.safetensors")
    rig = fresh()
    with pytest.raises(MarftError, match=r"bob.*update-000002.*cannot be read"):
        load_checkpoint(folder, rig.bank, rig.learners)
