"""A trained team as a policy that can be asked: whose adapters answer, at which checkpoint, and who cannot be asked."""

import atexit
import functools
import os
import shutil
import tempfile
from unittest import mock

import pytest
import torch
import yaml
from peft import PeftModel
from trainer_fixtures import shake
from transformers import AutoModelForCausalLM

from marft.bank import AdapterBank
from marft.cli import main
from marft.errors import RecipeError
from marft.eval.exploitability import measure_text
from marft.eval.text_policy import exploitability_by_update, exploitability_of
from marft.games import make_game
from marft.model import base_source, load_base
from marft.recipe import dump_recipe, parse_recipe

DATA = {
    "name": "kuhn",
    "game": "kuhn_poker",
    "agents": {"player": {}},
    "team": {"alice": "player", "bob": "player"},
    "adapter": {"rank": 4, "alpha": 16, "targets": ["q_proj", "v_proj", "o_proj", "down_proj"]},
    "algorithm": "rae",
}
TINY = {"hidden": 32, "heads": 2, "kv_heads": 2, "intermediate": 48, "warmup_episodes": 128, "warmup_steps": 80}


@functools.cache
def base_folder() -> str:
    """A tiny model that gives most of its probability to readable answers."""
    folder = tempfile.mkdtemp(prefix="marft-tests-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    tiny = TINY | {"warmup_batch": 16, "warmup_learning_rate": 0.01}
    with mock.patch.dict(os.environ, MARFT_CACHE=folder):
        return base_source(parse_recipe({**DATA, "model": {"name": "tiny", "tiny": tiny}}))


def recipe(**changes):
    return parse_recipe({**DATA, "model": {"name": base_folder(), "device": "cpu"}, **changes})


@pytest.fixture(scope="module")
def adapters(tmp_path_factory):
    """Two adapters that differ from the base and from each other."""
    root = tmp_path_factory.mktemp("adapters")
    bank = AdapterBank(load_base(recipe(), "cpu").model)
    for seed, name in enumerate(("first", "second")):
        bank.add(name, recipe().adapter, seed)
        shake(bank, name, 0.02 + 0.03 * seed)
        bank.save(name, root / name)
    return root


@pytest.fixture(scope="module")
def by_hand():
    """NashConv of two seats' PEFT folders (None: the bare base), by transformers and PEFT alone and in float64: the
    text is encoded piece by piece with the base's template, and the tokens' probabilities are multiplied."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base_folder())

    def model(folder):
        bare = AutoModelForCausalLM.from_pretrained(base_folder(), dtype=torch.float64)
        return bare if folder is None else PeftModel.from_pretrained(bare, folder).eval()

    def ids(text):
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    def answer(text):
        return [*ids(text), tokenizer.eos_token_id]

    def prompt(state):
        said = [text for _, text in state.turns]
        heard = [messages for messages, _ in state.turns] + [state.messages]
        found = []
        for number, messages in enumerate(heard):
            for message in messages:
                found += [*ids("<|user|>"), *ids(message.text), *ids("<|end|>")]
            found += ids("<|assistant|>")
            if number < len(said):
                found += answer(said[number])
        return found

    @torch.no_grad()
    def nash_conv(alice, bob):
        models = {"alice": model(alice), "bob": model(bob)}

        def ask(state):
            chances = {}
            for text in state.answers:
                before, after = prompt(state), answer(text)
                logp = torch.log_softmax(models[state.seat](torch.tensor([before + after])).logits[0].double(), -1)
                places = range(len(before) - 1, len(before) + len(after) - 1)
                chances[text] = float(torch.exp(sum(logp[p, t] for p, t in zip(places, after, strict=True))))
            left = (1 - sum(chances.values())) / len(chances)
            return {text: chance + left for text, chance in chances.items()}

        return measure_text(make_game("kuhn_poker"), ask).nash_conv

    return nash_conv


def run_folder(path, settings, **folders):
    """A run folder with one checkpoint a keyword, update_5=ADAPTER of its one agent."""
    path.mkdir()
    (path / "recipe.yaml").write_text(dump_recipe(settings))
    for name, folder in folders.items():
        place = path / "checkpoints" / f"update-{int(name.removeprefix('update_')):06d}"
        shutil.copytree(folder, place / "adapters" / "player")
        (place / "state.json").write_text("{}")
    return path


def test_it_is_the_policy_that_peft_alone_computes(adapters, by_hand, tmp_path):
    expected = by_hand(adapters / "first", adapters / "first")
    run = run_folder(tmp_path / "run", recipe(), update_5=adapters / "first")
    assert exploitability_of(run).nash_conv == pytest.approx(expected, abs=1e-4)
    assert abs(expected - by_hand(None, None)) > 0.01  # so that the bare base would not pass


def test_each_checkpoint_is_measured_with_its_own_adapters(adapters, by_hand, tmp_path):
    run = run_folder(tmp_path / "run", recipe(), update_10=adapters / "second", update_5=adapters / "first")
    found = {update: one.nash_conv for update, one in exploitability_by_update(run).items()}
    assert list(found) == [5, 10]
    expected = {update: by_hand(adapters / name, adapters / name) for update, name in ((5, "first"), (10, "second"))}
    assert found == pytest.approx(expected, abs=1e-4)
    assert abs(expected[5] - expected[10]) > 0.01
    assert exploitability_of(run).nash_conv == pytest.approx(expected[10], abs=1e-4)


def test_a_frozen_seat_is_measured_as_it_is_frozen(adapters, by_hand, tmp_path):
    """Not as the bare base, whose adapter is switched off."""
    frozen = {"alice": "player", "bob": {"frozen": str(adapters / "second")}}
    run = run_folder(tmp_path / "run", recipe(team=frozen), update_5=adapters / "first")
    expected = by_hand(adapters / "first", adapters / "second")
    assert exploitability_of(run).nash_conv == pytest.approx(expected, abs=1e-4)
    assert abs(expected - by_hand(adapters / "first", None)) > 0.01
    bare = run_folder(tmp_path / "bare", recipe(team=frozen | {"bob": {"frozen": "base"}}), update_5=adapters / "first")
    assert exploitability_of(bare).nash_conv == pytest.approx(by_hand(adapters / "first", None), abs=1e-4)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"team": {"alice": "player", "bob": {"scripted": "cfr"}}}, ["team.bob", "scripted:cfr", "no probabilities"]),
        ({"game": {"name": "kuhn_poker", "invalid": "forfeit"}}, ["game.invalid", "forfeit"]),
        ({"game": "prisoners_dilemma"}, ["prisoners_dilemma", "OpenSpiel"]),
        (
            {
                "game": {"name": "openspiel", "game": "kuhn_poker(players=3)"},
                "team": {"p1": "player", "p2": "player", "p3": "player"},
            },
            ["kuhn_poker(players=3)", "3 seats"],
        ),
    ],
)
def test_what_cannot_be_asked_is_refused(adapters, tmp_path, changes, words):
    run = run_folder(tmp_path / "run", recipe(**changes), update_5=adapters / "first")
    for measure in (exploitability_of, exploitability_by_update):
        with pytest.raises(RecipeError) as caught:
            measure(run)
        assert all(word in str(caught.value) for word in words), str(caught.value)


def test_the_command_prints_a_row_a_checkpoint(adapters, by_hand, tmp_path, monkeypatch, capfd):
    run_folder(tmp_path / "run", recipe(), update_5=adapters / "first", update_10=adapters / "second")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["marft", "exploit", "run", "--checkpoints"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert not stop.value.code
    rows = [line.split() for line in capfd.readouterr().out.splitlines() if "run" in line and "0." in line]
    found = {int(row[3]): float(row[5]) for row in rows}
    assert found == pytest.approx(
        {5: by_hand(*[adapters / "first"] * 2), 10: by_hand(*[adapters / "second"] * 2)}, abs=1e-3
    )
    (tmp_path / "other.yaml").write_text(yaml.safe_dump({}))
    monkeypatch.setattr("sys.argv", ["marft", "exploit", "run", "--checkpoints", "--recipe", "other.yaml"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    assert "--checkpoints" in capfd.readouterr().err
