"""Seats that rotate over the updates (CORY, 2410.06101): who sits where, and that agents keep what they learned."""

from collections import Counter

import pytest
from safetensors.torch import load_file
from test_stages import plain_logp
from trainer_fixtures import folder_bytes, make_recipe

from marft.rollout import draw_team
from marft.store import read_episodes
from marft.train.loop import train

STRAIGHT, SWAPPED = {"alice": "alice", "bob": "bob"}, {"alice": "bob", "bob": "alice"}
RUN = (
    "train={updates: 6, save_every: 1, keep_last: 6, minibatches: 2}",
    "rollout={groups: 2, group_size: 3, swap_every: 2}",
)


def test_seats_rotate_after_every_so_many_updates():
    recipe = make_recipe("rollout.swap_every=3")
    teams = [draw_team(recipe, update, 0, {}) for update in range(12)]
    assert teams == ([STRAIGHT] * 3 + [SWAPPED] * 3) * 2
    assert all(draw_team(recipe, 4, group, {}) == SWAPPED for group in range(4))
    assert draw_team(make_recipe(), 4, 1, {}) == STRAIGHT


def test_swapping_over_groups_and_over_updates_add_up():
    recipe = make_recipe("rollout={groups: 4, swap_every: 1, swap_seats: true}")
    teams = [[draw_team(recipe, update, group, {}) for group in range(4)] for update in range(2)]
    assert teams == [[STRAIGHT, SWAPPED] * 2, [SWAPPED, STRAIGHT] * 2]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Six updates, the seats swapped in the third and fourth."""
    return train(make_recipe(*RUN), tmp_path_factory.mktemp("whole") / "run")


def test_each_agent_speaks_in_the_other_seat_with_the_adapter_it_had(whole):
    """What was sampled in a swapped seat is scored by transformers and PEFT alone, with the checkpoint before it."""
    for update in (1, 2, 3, 4):
        episodes = list(read_episodes(whole, update))
        expected = SWAPPED if update in (2, 3) else STRAIGHT
        assert all(episode.team == expected for episode in episodes)
        for agent in ("alice", "bob"):
            seat = next(seat for seat, who in expected.items() if who == agent)
            found, texts = [], []
            for episode in episodes:
                for turn, context in episode.contexts(seat):
                    assert (turn.agent, turn.version) == (agent, update)
                    texts.append((context, turn.completion_ids))
                    found += turn.logprobs
            folder = whole / "checkpoints" / f"update-{update:06d}" / "adapters" / agent
            logp = [value for part in plain_logp(folder, texts) for value in part]
            assert logp == pytest.approx(found, abs=1e-5)


def test_optimizer_states_stay_with_their_agents(whole):
    """Adam counts its steps without a break, and its second moments only decay and grow, also where seats change."""
    decay = 0.999**2  # of two steps, at most
    for agent in ("alice", "bob"):
        before = None
        for update in range(1, 7):
            state = load_file(whole / "checkpoints" / f"update-{update:06d}" / "optimizers" / f"{agent}.safetensors")
            steps = Counter(float(value) for key, value in state.items() if key.startswith("step:"))
            assert set(steps) == {2.0 * update}
            moments = {key: value for key, value in state.items() if key.startswith("exp_avg_sq:")}
            assert moments
            if before is not None:
                assert all((moments[key] >= decay * before[key] * (1 - 1e-5)).all() for key in moments)
            before = moments


@pytest.mark.parametrize("cut", [2, 3])
def test_a_run_cut_at_a_swap_or_between_two_ends_as_one_that_was_not(whole, tmp_path, cut):
    class Cut(Exception):
        pass

    def stop(self):
        if self.progress.update == cut:
            raise Cut
        return step(self)

    from marft.train.loop import Trainer

    step = Trainer.step
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Trainer, "step", stop)
        with pytest.raises(Cut):
            train(make_recipe(*RUN), tmp_path / "run")
    train(make_recipe(*RUN), tmp_path / "run", resume=True)
    for place in ("adapters", "checkpoints/update-000006/optimizers"):
        assert folder_bytes(tmp_path / "run" / place) == folder_bytes(whole / place)
    assert list(read_episodes(tmp_path / "run")) == list(read_episodes(whole))
