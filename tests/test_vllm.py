"""The vLLM engine on two real servers: same numbers as the trainer, every fault of a server answered for."""

import asyncio
import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from server_fixtures import Proxy, ServedRig, completions_only, start_fleet

from marft.engines.base import Request
from marft.errors import EngineError
from marft.rollout import plan_update
from marft.serve.command import find_python

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    """Two servers for all tests of this file."""
    fleet = start_fleet(tmp_path_factory.mktemp("servers"), 2)
    yield fleet
    fleet.stop()


@pytest.fixture
def make_rig(fleet, tmp_path):
    def make(urls=None, **changes):
        return ServedRig(fleet, urls or fleet.urls, tmp_path, **changes)

    return make


def whole(episodes, recipe) -> None:
    """Every planned episode is there exactly once, and none failed."""
    planned = [plan.name(0) for plan in plan_update(recipe, 0)]
    assert sorted(episode.id for episode in episodes) == sorted(planned)
    assert all(episode.status == "done" and len(episode.turns) == 6 for episode in episodes)


def test_servers_sample_from_the_policy_that_is_trained(make_rig):
    """Log-probs within 1e-4 of the trainer's in float32, hence the same credit and loss on the same tokens."""
    with make_rig(sampling={"temperature": 0.8}) as rig:
        rig.publish()
        episodes = rig.play()
        whole(episodes, rig.recipe)
        rows = rig.rows(episodes)
        for name, own in rows.items():
            ours = rig.updater.logprobs(rig.learners[name], own)
            for row, logp_N in zip(own, ours, strict=True):
                np.testing.assert_allclose(row.engine, logp_N.double().numpy(), atol=1e-4)
        served = {name: rig.gradient(name, own) for name, own in rows.items()}
        for name, own in rows.items():
            for row, logp_N in zip(own, rig.updater.logprobs(rig.learners[name], own), strict=True):
                row.engine = logp_N.double().numpy()
            gradient, report = rig.gradient(name, own)
            assert served[name][1]["loss"] == pytest.approx(report["loss"], abs=1e-4)
            for key, value in gradient.items():
                np.testing.assert_allclose(served[name][0][key].numpy(), value.numpy(), atol=1e-4)


def test_the_same_request_gives_the_same_tokens_and_frozen_and_past_policies_speak(make_rig, tmp_path):
    with make_rig() as rig:
        rig.publish()
        rig.bank.copy("alice", "past:alice@0")
        rig.engine.prepare(["alice", "frozen:base", "past:alice@0"])
        prompt = rig.engine.feed.probe[-1]
        policies = ("alice", "bob", "frozen:base", "past:alice@0")
        requests = [Request(policy, 7, prompt, rig.recipe.sampling) for policy in policies]
        one, two = (asyncio.run(rig.engine.generate(requests)) for _ in range(2))
        assert [c.token_ids for c in one] == [c.token_ids for c in two]
        assert one[0].token_ids == one[3].token_ids
        assert [c.version for c in one] == [0, 0, 0, 0]
        replica = next(iter(rig.engine.replicas.values()))
        rig.engine.prepare(["alice"])
        assert not any("fixed" in name for name in rig.engine.admin.adapters(replica))


def test_a_publish_changes_that_agent_on_every_server_and_no_other(make_rig):
    with make_rig() as rig:
        rig.publish()
        before = {name: rig.scores(name) for name in ("alice", "bob")}
        rig.move("alice")
        rig.engine.publish("alice", rig.learners["alice"].version)
        for replica in rig.engine.replicas.values():
            found, at = rig.served(replica, "alice")
            np.testing.assert_allclose(found, rig.scores("alice")[at], atol=1e-4)
            assert np.abs(found - before["alice"][at]).max() > 0.01
            found, at = rig.served(replica, "bob")
            np.testing.assert_allclose(found, before["bob"][at], atol=1e-4)
        for _ in range(3):
            rig.move("alice")
            rig.engine.publish("alice", rig.learners["alice"].version)
        held = {name for name in rig.engine.admin.adapters(replica) if name.startswith("alice@")}
        assert {name.partition("~")[0] for name in held} == {"alice@4"}
        assert sorted(path.name for path in rig.engine.folder.iterdir()) == ["alice@4", "bob@0"]
    assert not list(rig.engine.folder.iterdir())


def test_a_version_stays_as_long_as_somebody_speaks_with_it(make_rig):
    with make_rig() as rig:
        rig.publish()
        long = rig.recipe.sampling.model_copy(update={"max_new_tokens": 300})
        asks = [Request("alice", seed, rig.engine.feed.probe[-1], long) for seed in range(8)]

        async def play():
            asked = asyncio.create_task(rig.engine.generate(asks))
            await asyncio.sleep(0.05)
            rig.move("alice")
            await asyncio.to_thread(rig.engine.publish, "alice", 1)
            held = {path.name for path in rig.engine.folder.iterdir()}
            return held if not asked.done() else None, await asked

        held, made = asyncio.run(play())
        assert [completion.version for completion in made] == [0] * 8
        assert held is None or held == {"alice@0", "alice@1", "bob@0"}
        rig.move("alice")
        rig.engine.publish("alice", 2)
        assert sorted(path.name for path in rig.engine.folder.iterdir()) == ["alice@2", "bob@0"]


def older(rig, folder):
    """Stale: what is written is the version before."""
    shutil.copytree(rig.engine.feed.current["alice"].folder, folder)


def swapped(rig, folder):
    rig.bank.save("bob", folder)


def untrained(rig, folder):
    """As good as missing: the base under an adapter's name."""
    rig.bank.save("alice", folder)
    path = folder / "adapter_model.safetensors"
    save_file({name: np.zeros_like(value) for name, value in load_file(path).items()}, path, {"format": "pt"})


def corrupted(rig, folder):
    """One projection of one layer is lost."""
    rig.bank.save("alice", folder)
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    name = sorted(name for name in tensors if "lora_B" in name)[0]
    save_file(tensors | {name: np.zeros_like(tensors[name])}, path, {"format": "pt"})


def mis_scaled(rig, folder):
    """alpha was read wrongly."""
    rig.bank.save("alice", folder)
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"lora_alpha": config["lora_alpha"] * 1.5}))


# size: how far the agent moved since the version before; 1e-4 is far below any limit on the gap.
@pytest.mark.parametrize(
    ("mistake", "size", "told"),
    [
        (older, 0.05, "alice version 0"),
        (older, 1e-4, "alice version 0"),
        (swapped, 0.05, "bob version 0"),
        (untrained, 0.05, "frozen:base"),
        (corrupted, 0.05, "gap"),
        (mis_scaled, 0.05, "gap"),
    ],
)
def test_the_canary_catches_every_wrong_adapter(make_rig, mistake, size, told):
    with make_rig() as rig:
        rig.publish()
        rig.move("alice", size)
        rig.engine._save = lambda name, folder: mistake(rig, folder)
        with pytest.raises(EngineError, match=rf"canary: http\S+ does not speak as alice version 1.*{told}"):
            rig.engine.publish("alice", 1)
        assert rig.engine.feed.current["alice"].version == 0
        for replica in rig.engine.replicas.values():  # rolled back everywhere
            assert not any(name.startswith("alice@1") for name in rig.engine.admin.adapters(replica))


def test_an_adapter_that_cannot_be_loaded_is_refused_by_name_and_rolled_back(make_rig):
    with make_rig() as rig:
        rig.publish()
        rig.engine._save = lambda name, folder: (
            folder.mkdir(parents=True),
            (folder / "adapter_config.json").write_text("{"),
        )
        with pytest.raises(EngineError):
            rig.engine.publish("alice", 1)
        assert rig.engine.feed.current["alice"].version == 0


FAULTS = {
    "status 500": (500, {}),
    "too many requests": (429, {}),
    "closed connection": ("close", {}),
    "hanging": ("hang", {"request_deadline": 1.0}),
    "no JSON": (b"<html>bad gateway</html>", {}),
    "empty": (b"", {}),
    "truncated JSON": (b'{"choices": [{"token_ids": [1, 2', {}),
    "no tokens": (
        b'{"choices": [{"token_ids": [], "logprobs": {"token_logprobs": []}, "finish_reason": "stop"}],'
        b' "usage": {"prompt_tokens": 5}}',
        {},
    ),
}


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_replica_that_answers_wrongly_costs_no_episode(make_rig, fleet, fault):
    what, engine = FAULTS[fault]
    with Proxy(fleet.urls[0]) as proxy, make_rig([proxy.url, fleet.urls[1]], engine=engine) as rig:
        wait_for(lambda: all(replica.up for replica in rig.engine.replicas.values()))
        rig.publish()
        proxy.fault = completions_only(what, first=6)
        whole(rig.rollouts(), rig.recipe)
        assert rig.engine.retries >= 1


def test_alone_it_is_asked_again_and_in_the_end_the_run_says_what_it_heard(make_rig, fleet):
    with Proxy(fleet.urls[0]) as proxy, make_rig([proxy.url], engine={"retries": 2}) as rig:
        rig.publish()
        rig.engine.settings = rig.engine.settings.model_copy(update={"recover_deadline": 3.0})
        proxy.fault = completions_only(500, first=2)
        whole(rig.rollouts(), rig.recipe)
        proxy.fault = completions_only(b"{}")
        told = r"failed 3 times \(engine.retries 2\).*no completion|no replica was well for 3 s .*a probe of"
        with pytest.raises(EngineError, match=told):
            rig.rollouts(1)


def test_a_replica_that_lost_its_adapters_is_fed_again(make_rig):
    with make_rig(engine={"health_every": 60}) as rig:
        rig.publish()
        for replica in rig.engine.replicas.values():
            for served in rig.engine.feed.current.values():
                if served.folder is not None:
                    rig.engine.admin.unload(replica, served.name)
        whole(rig.rollouts(), rig.recipe)
        assert rig.engine.retries >= 1


def test_replicas_come_and_go_with_the_file_that_lists_them(make_rig, fleet, tmp_path):
    listed = tmp_path / "urls"
    listed.write_text(f"# one\n{fleet.urls[0]}/\n")
    engine = {"urls": [], "urls_file": str(listed)}
    with make_rig(engine=engine) as rig:
        rig.publish()
        whole(rig.rollouts(), rig.recipe)
        listed.write_text("\n".join(fleet.urls))
        wait_for(lambda: sum(replica.up for replica in rig.engine.replicas.values()) == 2)
        whole(rig.rollouts(), rig.recipe)
        assert all(replica.served for replica in rig.engine.replicas.values())
        listed.write_text(fleet.urls[1])
        wait_for(lambda: list(rig.engine.replicas) == [fleet.urls[1]])
        whole(rig.rollouts(), rig.recipe)


def wait_for(what, seconds=60):
    import time

    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_wrong_key_and_no_server_at_all_are_told_apart(make_rig, fleet, monkeypatch):
    rig = make_rig()
    rig.engine.admin._client.headers["Authorization"] = "Bearer wrong"
    with pytest.raises(EngineError, match="refused the API key"), rig:
        pass
    rig = make_rig(["http://127.0.0.1:9"], engine={"recover_deadline": 1.0})
    with pytest.raises(EngineError, match="1 replicas were to be well within 1 s"):
        rig.engine.start()
    rig.engine.close()


def test_the_interpreter_is_the_one_that_has_vllm():
    from marft.config import Launch

    assert find_python(Launch())
