"""Small bases get by with one thread, unless somebody says otherwise or a large one is beside them."""

import pytest
import torch

from marft import threads

SMALL = torch.nn.Linear(10, 10)
LARGE = torch.nn.Linear(3000, 3000, device="meta")


@pytest.fixture
def used(monkeypatch):
    """used(*models): threads after all of them were loaded, on a machine that offers three."""
    before = torch.get_num_threads()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(threads, "_all", 3)
    monkeypatch.setattr(threads, "_largest", 0)
    torch.set_num_threads(3)

    def load(*models):
        for model in models:
            threads.fit_threads(model)
        return torch.get_num_threads()

    yield load
    torch.set_num_threads(before)


def test_a_small_base_takes_one_thread_and_a_large_one_all(used):
    assert used(SMALL) == 1
    assert used(LARGE) == 3


def test_a_small_base_beside_a_large_one_slows_nobody_down(used):
    assert used(LARGE, SMALL) == 3


def test_the_user_s_own_number_stays(used, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert used(SMALL) == 3
