"""The model without a hub: the same from the same seed, cached, and speaking the game's format after its warm-up."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from marft.errors import ModelError

BASE = Path(__file__).parents[1] / "recipes" / "prisoners_dilemma" / "base.yaml"
SMALL = ["model.tiny.warmup_steps=3", "model.tiny.warmup_episodes=16", "game.rounds=3"]
BUILD = """
import sys, torch
torch.set_num_threads(1)
from marft.recipe import load_recipe
from marft.tiny import build_tiny
for override in sys.argv[2:]:
    print(build_tiny(load_recipe(sys.argv[1], override.split())))
"""


def start(cache, *overrides):
    """A fresh process that builds one tiny model per overrides into `cache`."""
    command = [sys.executable, "-c", BUILD, str(BASE), *map(" ".join, overrides)]
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command, env=os.environ | {"MARFT_CACHE": str(cache)}, stdout=quiet, stderr=quiet)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_same_seed_builds_the_same_bytes_in_any_process_and_another_seed_others(tmp_path):
    processes = [
        start(tmp_path / "one", SMALL),
        start(tmp_path / "two", [*SMALL, "model.tiny.seed=1"], SMALL),  # something else went before
    ]
    assert [process.wait(timeout=300) for process in processes] == [0, 0]
    (one,) = (tmp_path / "one").iterdir()
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= contents(one).keys()
    assert contents(one) == contents(tmp_path / "two" / one.name)
    (other,) = (folder for folder in (tmp_path / "two").iterdir() if folder.name != one.name)
    assert contents(other)["model.safetensors"] != contents(one)["model.safetensors"]


def test_a_second_call_takes_the_cached_folder(model_folder, make_recipe, monkeypatch):
    from marft import tiny

    def never(*arguments):
        raise AssertionError("built again")

    monkeypatch.setattr(tiny, "scripted_play", never)
    before = {path: path.stat().st_mtime_ns for path in model_folder.iterdir()}
    assert tiny.build_tiny(make_recipe(seed=5, name="another")) == model_folder
    assert {path: path.stat().st_mtime_ns for path in model_folder.iterdir()} == before
    for changes in (
        {"model": {"tiny": {"seed": 1}}},
        {"game": {"rounds": 4}},
        {"model": {"tiny": {"warmup_steps": 61}}},
    ):
        assert tiny.tiny_folder(make_recipe(**changes)) != model_folder


def test_another_set_of_players_is_another_model(make_recipe, monkeypatch):
    """They are what it learned from: a folder from before a player was added must not be taken."""
    from marft import tiny
    from marft.games import GAMES

    before = tiny.tiny_folder(make_recipe())
    kind = GAMES["prisoners_dilemma"]
    monkeypatch.setattr(kind, "players", kind.players | {"new": lambda view, rng: "<A>"})
    assert tiny.tiny_folder(make_recipe()) != before


def test_a_player_of_ones_own_speaks_in_the_warm_up_and_its_file_tells_models_apart(make_recipe, tmp_path):
    from marft import tiny
    from marft.games import make_game

    file = tmp_path / "mine.py"
    file.write_text("def mine(view, rng):\n    return '<B>'\n")
    recipe = make_recipe(model={"tiny": {"players": {f"{file}:mine": 1}}})
    scripts = tiny.scripted_play(make_game(recipe.game.name, recipe.game.options), recipe.model.tiny)
    assert {said for script in scripts for _, said in script} == {"<B>"}
    before = tiny.tiny_folder(recipe)
    assert tiny.tiny_folder(recipe) == before
    file.write_text("def mine(view, rng):\n    return '<A>'\n")
    assert tiny.tiny_folder(recipe) != before


def test_a_changed_task_file_makes_another_model(make_recipe, tmp_path):
    from marft import tiny

    file = tmp_path / "tasks.jsonl"
    file.write_text("".join(f'{{"question": "{n} + 1?", "answer": "{n + 1}"}}\n' for n in range(20)))
    seats = {"p1": "alice", "p2": "alice", "p3": "bob"}
    recipe = make_recipe(game={"name": "debate", "task": {"path": str(file)}}, team=seats)
    before = tiny.tiny_folder(recipe)
    assert tiny.tiny_folder(recipe) == before
    file.write_text(file.read_text().replace("7 + 1", "8 + 0"))
    assert tiny.tiny_folder(recipe) != before


def test_building_leaves_the_global_random_state_alone(cache, make_recipe):
    import torch

    from marft.tiny import build_tiny

    torch.manual_seed(3)
    expected = torch.rand(3).tolist()
    torch.manual_seed(3)
    build_tiny(make_recipe(model={"tiny": {"warmup_steps": 2, "warmup_episodes": 8, "seed": 9}}))
    assert torch.rand(3).tolist() == expected


def test_an_episode_longer_than_the_context_is_named(cache, make_recipe):
    from marft.tiny import build_tiny

    with pytest.raises(ModelError, match=r"model\.tiny\.context: 64 is less than an episode's \d+ tokens"):
        build_tiny(make_recipe(game={"rounds": 30}, model={"tiny": {"context": 64, "warmup_episodes": 8}}))


def test_moves_are_one_token_and_any_text_reads_back(chat):
    for move in ("<A>", "<B>"):
        assert len(chat.plain(move)) == 1
    text = "Ünïcode 日本 🙂 123 <x> \n\t end"
    assert chat.tokenizer.decode(chat.plain(text)) == text


def test_a_message_in_doubled_brackets_is_three_tokens(cache, make_recipe):
    from marft.games import make_game
    from marft.tiny import scripted_play, train_tokenizer

    settings = make_recipe(model={"tiny": {"vocabulary": 700, "warmup_episodes": 64}}).model.tiny
    tokenizer = train_tokenizer(scripted_play(make_game("trust_and_split"), settings), settings)
    for text in ("<<message_start>>I hold rock.<<message_end>>", "<<proposal_start>>5<<proposal_end>>"):
        assert len(tokenizer.encode(text)) == 3
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_warm_up_rows_are_what_a_rollout_would_ask_and_learn_only_what_the_seat_said(chat, make_recipe):
    from marft.games import make_game
    from marft.tiny import encode, scripted_play

    recipe = make_recipe()
    for script in scripted_play(make_game(recipe.game.name, recipe.game.options), recipe.model.tiny)[:20]:
        ids, said = encode(chat, script)
        messages = [
            {"role": role, "content": text}
            for heard, answer in script
            for role, text in (*heard, ("assistant", answer))
        ]
        assert chat.tokenizer.apply_chat_template(messages)["input_ids"] == ids
        learned = [token for token, own in zip(ids, said, strict=True) if own]
        assert chat.tokenizer.decode(learned) == "".join(f"{answer}<|end|>" for _, answer in script)


def test_the_players_of_the_warm_up_are_drawn_by_their_weights(make_recipe):
    from marft.games import make_game
    from marft.tiny import scripted_play

    def sides_that_always_say_b(players):
        recipe = make_recipe(model={"tiny": {"players": players, "warmup_episodes": 1000}})
        scripts = scripted_play(make_game(recipe.game.name, recipe.game.options), recipe.model.tiny)
        assert len(scripts) == 2000
        return sum(all(said == "<B>" for _, said in script) for script in scripts)

    assert sides_that_always_say_b({"AllD": 1}) == 2000
    # binomial with n = 2000, p = 3/4: mean 1500, standard deviation 19.4
    assert abs(sides_that_always_say_b({"AllC": 1, "AllD": 3}) - 1500) < 4 * 19.4
    # nobody named: AllD one of seven, and of the others only `random` says B thrice, in one of eight plays
    rate = (1 + 1 / 8) / 7
    assert abs(sides_that_always_say_b({}) - 2000 * rate) < 4 * (2000 * rate * (1 - rate)) ** 0.5


def test_after_the_recipes_warm_up_play_is_valid_and_diverse(cache):
    import torch

    from marft.bank import AdapterBank
    from marft.engines.hf import HFEngine
    from marft.model import load_base
    from marft.recipe import load_recipe
    from marft.rollout import plan_update
    from marft.team import make_rollout

    torch.set_num_threads(1)
    recipe = load_recipe(BASE, ["model.device=cpu", "rollout.groups=4", "rollout.group_size=16"])
    base = load_base(recipe)
    bank = AdapterBank(base.model)
    for name in recipe.agents:
        bank.add(name, recipe.adapter_of(name), recipe.seed)
    rollout = make_rollout(recipe, base.chat, bank, HFEngine(bank, base.chat.stop_ids))
    turns = [turn for episode in asyncio.run(rollout.play(plan_update(recipe, 0))) for turn in episode.turns]
    assert len(turns) == 64 * 2 * recipe.game.options["rounds"]
    assert sum(not turn.invalid for turn in turns) >= 0.95 * len(turns)
    assert 0.2 < sum(turn.action == "C" for turn in turns) / len(turns) < 0.8
