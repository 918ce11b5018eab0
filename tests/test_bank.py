"""Many adapters on one base: kept apart, written as plain PEFT folders, refused where they do not fit."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from peft import AutoPeftModelForCausalLM, PeftModel
from safetensors.torch import load_file, save_file
from trainer_fixtures import Rig, base_folder, equal, folder_bytes, shake, snapshot
from transformers import AutoModelForCausalLM

from marft.bank import AdapterBank
from marft.config import Adapter
from marft.errors import ModelError

IDS = torch.arange(3, 33).reshape(2, 15)
SMALL = Adapter(rank=2, alpha=4, targets=("q_proj",))
LARGE = Adapter(rank=5, alpha=7.5, targets=("v_proj", "down_proj"))
ALL = Adapter(rank=1, alpha=1)
ENDS = Adapter(rank=2, alpha=2, targets=("embed_tokens", "lm_head", "o_proj"))


def base_model(**options):
    return AutoModelForCausalLM.from_pretrained(base_folder(), **options).requires_grad_(False).eval()


def make_bank(**adapters) -> AdapterBank:
    bank = AdapterBank(base_model())
    for name, settings in adapters.items():
        bank.add(name, settings, seed=0)
        shake(bank, name, 0.1)
    return bank


@torch.no_grad()
def logits(bank, name):
    with bank.use(name):
        return bank.head(bank.hidden(IDS, use_cache=False))


def test_adapters_of_different_shape_live_on_one_base_and_load_as_plain_peft(tmp_path):
    bank = make_bank(alice=SMALL, bob=LARGE, carol=ALL, dave=ENDS)
    for name in ("bob", "alice", "carol", "dave", "bob"):
        bank.save(name, tmp_path / name)
        plain = PeftModel.from_pretrained(base_model(), tmp_path / name)
        assert float((plain(IDS).logits - logits(bank, name)).abs().max()) < 1e-5
    assert float((logits(bank, "alice") - logits(bank, "bob")).abs().max()) > 1e-2
    assert {path.name for path in (tmp_path / "bob").iterdir()} >= {"adapter_config.json", "adapter_model.safetensors"}
    assert not list(tmp_path.rglob("*.bin"))


def test_a_saved_adapter_gives_the_trained_log_probs_anywhere(tmp_path):
    rig = Rig()
    for update in range(3):
        rig.updater.update(rig.learners["bob"], rig.rows(rig.play(update))["bob"])
    rows = rig.rows(rig.play(3))["bob"]
    rig.bank.save("bob", tmp_path / "bob")
    plain = PeftModel.from_pretrained(base_model(), tmp_path / "bob")
    for row in rows:
        scores = torch.log_softmax(plain(torch.tensor(row.ids)[None]).logits[0, row.targets - 1], -1)
        found = scores[torch.arange(len(row.targets)), row.ids[row.targets]]
        assert float((found - torch.tensor(row.engine)).abs().max()) < 1e-5


def test_a_copy_has_the_shape_and_weights_of_its_source_and_goes_its_own_way():
    bank = make_bank(alice=LARGE, bob=SMALL)
    state = torch.get_rng_state()
    bank.copy("alice", "past")
    assert torch.equal(torch.get_rng_state(), state)
    assert equal(snapshot(bank, "past"), snapshot(bank, "alice"))
    shake(bank, "alice", 1.0)
    assert not equal(snapshot(bank, "past"), snapshot(bank, "alice"))
    bank.overwrite("past", "alice")
    assert equal(snapshot(bank, "past"), snapshot(bank, "alice"))


@pytest.mark.parametrize("change", ["add", "remove"])
def test_adapters_speak_after_the_bank_changed_while_the_base_spoke(change):
    bank = make_bank(alice=SMALL, bob=LARGE)
    expected = {name: logits(bank, name) for name in ("alice", None)}
    logits(bank, None)
    if change == "add":
        bank.copy("alice", "carol")
        assert torch.equal(logits(bank, "carol"), expected["alice"])
    else:
        bank.remove("bob")
    for name in ("alice", None, "alice"):
        assert torch.equal(logits(bank, name), expected[name])
    logits(bank, None)
    bank.add("dave", SMALL, 1)
    assert torch.equal(logits(bank, "alice"), expected["alice"])
    assert torch.equal(logits(bank, "dave"), expected[None])  # a fresh adapter is the base


def test_every_saved_adapter_names_its_base(tmp_path):
    bank = make_bank(alice=SMALL, bob=LARGE)
    for name in ("alice", "bob"):
        bank.save(name, tmp_path / name)
        stored = json.loads((tmp_path / name / "adapter_config.json").read_text())
        assert stored["base_model_name_or_path"] == base_folder()
        assert stored["inference_mode"] is True
        model = AutoPeftModelForCausalLM.from_pretrained(tmp_path / name)
        assert float((model(IDS).logits - logits(bank, name)).abs().max()) < 1e-5


def test_without_an_adapter_it_is_the_base_bit_for_bit():
    bank = make_bank(alice=SMALL, bob=ALL)
    expected = base_model()(IDS).logits
    assert torch.equal(logits(bank, None), expected)
    logits(bank, "bob")
    assert torch.equal(logits(bank, None), expected)
    assert not torch.equal(logits(bank, "bob"), expected)
    assert torch.equal(logits(AdapterBank(base_model()), None), expected)


def test_a_new_adapter_is_the_base_and_depends_on_its_name_and_seed_alone():
    expected = base_model()(IDS).logits
    weights = {}
    for order in (("alice", "bob"), ("bob", "alice")):
        bank = AdapterBank(base_model())
        for name in order:
            torch.randn(3)  # the state of torch's own generator must not matter
            bank.add(name, SMALL, seed=5)
            assert torch.equal(logits(bank, name), expected)
        weights[order] = {name: snapshot(bank, name) for name in order}
    first, second = weights.values()
    assert equal(first["alice"], second["alice"])
    assert not equal(first["alice"], first["bob"])
    bank = AdapterBank(base_model())
    bank.add("alice", SMALL, seed=6)
    assert not equal(snapshot(bank, "alice"), first["alice"])


def test_awkward_names_stay_apart(tmp_path):
    names = ["a", "lora_A", "x.y", "x_y", "x/y", "default", "frozen:runs/x.y", "weight"]
    bank = make_bank(**dict.fromkeys(names, SMALL))
    seen = {id(parameter) for name in names for parameter in bank.parameters(name)}
    assert len(seen) == sum(len(bank.parameters(name)) for name in names) == len(names) * len(bank.parameters("a"))
    for number, name in enumerate(names):
        bank.save(name, tmp_path / str(number))
        plain = PeftModel.from_pretrained(base_model(), tmp_path / str(number))
        assert float((plain(IDS).logits - logits(bank, name)).abs().max()) < 1e-5, name
    with pytest.raises(ModelError, match="'a' is there already"):
        bank.add("a", SMALL, seed=0)
    with pytest.raises(ModelError, match="none is called 'b'; there are a, lora_A"), bank.use("b"):
        pass


def test_eight_agents_share_one_base():
    bank = AdapterBank(base_model())
    base = {parameter.data_ptr() for parameter in bank.base.parameters()}
    before = sum(parameter.numel() for parameter in bank.base.parameters())
    for number in range(8):
        bank.add(f"agent{number}", LARGE, seed=0)
    config = bank.config
    heads = config.num_key_value_heads * config.head_dim
    shapes = [(config.hidden_size, heads), (config.intermediate_size, config.hidden_size)]  # v_proj, down_proj
    each = config.num_hidden_layers * sum(LARGE.rank * (wide + high) for wide, high in shapes)
    assert [sum(p.numel() for p in bank.parameters(f"agent{n}")) for n in range(8)] == [each] * 8
    assert sum(parameter.numel() for parameter in bank.peft.parameters()) == before + 8 * each
    assert base <= {parameter.data_ptr() for parameter in bank.peft.parameters()}


def test_switching_adapters_never_loses_a_parameter():
    bank = make_bank(alice=SMALL, bob=ALL)
    before = {name: [id(parameter) for parameter in bank.parameters(name)] for name in ("alice", "bob")}
    for name in ("alice", "bob", None, "alice"):
        with bank.use(name):
            assert {n: [id(p) for p in bank.parameters(n)] for n in before} == before
            trainable = {id(p) for p in bank.peft.parameters() if p.requires_grad}
            assert trainable == (set(before[name]) if name else set())


def test_what_was_saved_is_restored_bit_for_bit_and_written_the_same_again(tmp_path):
    bank = make_bank(alice=ALL, bob=LARGE)
    weights = snapshot(bank, "alice")
    bank.save("alice", tmp_path / "one")
    shake(bank, "alice", 1.0)
    bank.restore("alice", tmp_path / "one")
    assert equal(snapshot(bank, "alice"), weights)
    other = make_bank(bob=SMALL)
    other.load("alice", tmp_path / "one")
    assert equal(snapshot(other, "alice"), weights)
    other.save("alice", tmp_path / "two")
    assert folder_bytes(tmp_path / "one") == folder_bytes(tmp_path / "two")
    targets = json.loads((tmp_path / "one" / "adapter_config.json").read_text())["target_modules"]
    assert targets == sorted(targets)  # in the order of a set they would differ from run to run


def test_an_adapter_that_does_not_fit_names_the_key_to_change(tmp_path):
    bank = make_bank(alice=SMALL, bob=LARGE, carol=SMALL.model_copy(update={"rank": 3}))
    for name in ("alice", "bob"):
        bank.save(name, tmp_path / name)
    before = snapshot(bank, "carol")
    with pytest.raises(ModelError, match=r"\(2, 32\).*\(3, 32\).*agents\.carol\.adapter\.rank"):
        bank.restore("carol", tmp_path / "alice")
    with pytest.raises(ModelError, match=r"only in .*agents\.carol\.adapter\.targets"):
        bank.restore("carol", tmp_path / "bob")
    assert equal(snapshot(bank, "carol"), before)


def test_a_folder_that_is_no_adapter_is_refused(tmp_path):
    bank = make_bank(alice=SMALL)
    with pytest.raises(ModelError, match="holds no adapter_config.json"):
        bank.load("bob", tmp_path)
    bank.save("alice", tmp_path / "cut")
    weights = tmp_path / "cut" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ModelError, match=r"adapter of bob: .*adapter_model\.safetensors cannot be read"):
        bank.load("bob", tmp_path / "cut")
    weights.unlink()
    with pytest.raises(ModelError, match=r"adapter of carol: .*adapter_model\.safetensors cannot be read"):
        bank.load("carol", tmp_path / "cut")
    with pytest.raises(ModelError, match=r"agents\.dave\.adapter: .*no_such"):
        bank.add("dave", Adapter(targets=("no_such",)), seed=0)


def test_an_adapter_of_another_base_is_refused(tmp_path):
    bank = make_bank(alice=SMALL)
    bank.save("alice", tmp_path / "alice")
    path = tmp_path / "alice" / "adapter_model.safetensors"
    save_file({key: torch.zeros(2, 64) for key in load_file(path)}, path)
    with pytest.raises(ModelError, match="adapter of bob"):
        bank.load("bob", tmp_path / "alice")


def test_threads_take_turns_and_each_hears_its_own_adapter():
    bank = Rig(shaken=0.3).bank
    ids = torch.arange(1, 17)[None]

    def hear(name):
        with bank.use(name), torch.no_grad():
            return bank.hidden(ids, use_cache=False)

    alone = {name: hear(name) for name in ("alice", "bob", None)}
    assert not torch.allclose(alone["alice"], alone["bob"], atol=1e-3)

    def many(name):
        return [hear(name) for _ in range(30)]

    with ThreadPoolExecutor(3) as pool:
        for name, heard in zip(alone, pool.map(many, alone), strict=True):
            assert all(torch.equal(one, alone[name]) for one in heard)
