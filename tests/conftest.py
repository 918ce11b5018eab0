"""What the tests share: one tiny model built once per session into a cache of its own, and adapters that differ.

Heavy imports stand inside the fixtures, so that tests of rules and pure maths start at once.
"""

import os
import signal
import threading

import hypothesis
import pytest

hypothesis.settings.register_profile("marft", deadline=None, database=None, derandomize=True)
hypothesis.settings.load_profile("marft")
os.environ["HF_HUB_OFFLINE"] = "1"
if threading.current_thread() is threading.main_thread():  # a shell's background jobs ignore Ctrl-C, and so do children
    signal.signal(signal.SIGINT, signal.default_int_handler)

TINY = {"warmup_steps": 60, "warmup_episodes": 128, "warmup_batch": 32}
RECIPE = {
    "name": "test",
    "model": {"name": "tiny", "device": "cpu", "tiny": TINY},
    "game": {"name": "prisoners_dilemma", "rounds": 3},
    "agents": {"alice": {}, "bob": {}},
    "adapter": {"rank": 4, "alpha": 8, "targets": ["q_proj", "v_proj", "o_proj", "down_proj"]},
    "sampling": {"max_new_tokens": 3},
    "rollout": {"groups": 2, "group_size": 4},
    "algorithm": "rloo",
    "trackers": [],
}


@pytest.fixture(scope="session")
def make_recipe():
    """make_recipe(**changes): a small recipe; changes are merged into it key by key."""
    from marft.recipe import merge, parse_recipe

    return lambda **changes: parse_recipe(merge(RECIPE, changes))


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """The session's MARFT_CACHE."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MARFT_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def model_folder(cache, make_recipe):
    """The folder of the session's tiny model."""
    import torch

    from marft.tiny import build_tiny

    torch.set_num_threads(1)  # other work on the machine makes several threads far slower than one
    return build_tiny(make_recipe())


@pytest.fixture(scope="session")
def chat(model_folder):
    from marft.chat import Chat
    from marft.model import load_tokenizer

    return Chat(load_tokenizer(str(model_folder)))


@pytest.fixture(scope="session")
def adapters(model_folder, make_recipe, tmp_path_factory):
    """Folders of two PEFT adapters, alice's and bob's, whose weights are random in A and in B."""
    import torch

    from marft.bank import AdapterBank
    from marft.model import load_base

    recipe, root = make_recipe(), tmp_path_factory.mktemp("adapters")
    bank = AdapterBank(load_base(recipe).model)
    for number, name in enumerate(recipe.agents):
        bank.add(name, recipe.adapter_of(name), recipe.seed)
        generator = torch.Generator().manual_seed(number)
        for full, parameter in bank.named_parameters(name).items():
            if "lora_B" in full:
                parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
        bank.save(name, root / name)
    return {name: root / name for name in recipe.agents}


@pytest.fixture(scope="session")
def make_bank(model_folder, adapters, make_recipe):
    """A new AdapterBank with both adapters, free to be changed."""
    from marft.bank import AdapterBank
    from marft.model import load_base

    def make():
        bank = AdapterBank(load_base(make_recipe()).model)
        for name, folder in adapters.items():
            bank.load(name, folder)
        return bank

    return make


@pytest.fixture(scope="session")
def bank(make_bank):
    """The session's AdapterBank: leave its weights alone."""
    return make_bank()
