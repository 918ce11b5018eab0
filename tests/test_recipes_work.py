"""Recipes of teams that write, program and argue: each loads, plays one small update, and pays whom its README says."""

import json
import random
from pathlib import Path
from typing import NamedTuple

import pytest
from dialogues import dialogue, paid

from marft.errors import RewardError
from marft.games import make_game
from marft.recipe import load_recipe
from marft.rewards import sandbox
from marft.store import read_episodes
from marft.train.loop import train
from marft.train.rewarding import terms_of

ROOT = Path(__file__).parents[1]
SMALL = (
    *("trackers=[]", "train.updates=1", "rollout.groups=2", "sampling.max_new_tokens=4"),
    *("model.tiny.warmup_episodes=8", "model.tiny.warmup_steps=1", "model.tiny.layers=1", "model.tiny.hidden=16"),
)


class Row(NamedTuple):
    """What a recipe's README says of it."""

    recipe: str
    roles: dict[str, str]
    team: dict[str, str]
    terms: dict[str, float]
    """Reward term -> the most that a seat is paid by it."""
    episodes: int


WRITERS = {"writer1": "writer1", "writer2": "writer2"}
CODERS = {"aux": "aux", "main": "main"}
SIDES = {"alice": "debater", "bob": "debater", "judge": "frozen:base"}
ROWS = [
    Row(
        "magrpo_writing/magrpo",
        dict.fromkeys(WRITERS, "writer"),
        WRITERS,
        {"structure": 0.5, "ratio": 1.0, "vocabulary": 0.5, "style": 1.0},
        8,
    ),
    Row("magrpo_code/magrpo", CODERS, CODERS, {"format": 1.0, "syntax": 0.5, "tests": 1.0, "cooperation": 1.5}, 8),
    Row(
        "debate_judged/self_play",
        {"alice": "debater", "bob": "debater", "judge": "judge"},
        SIDES,
        {"payoff": 1.0, "invalid_answer#1": 0.0},
        16,
    ),
]


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch, tmp_path):
    """Task files are named from the folder that the READMEs' commands are run in."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("MARFT_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.recipe)
def test_it_plays_an_update_with_the_roles_and_terms_of_its_readme(row, tmp_path):
    recipe = load_recipe(ROOT / "recipes" / f"{row.recipe}.yaml", SMALL)
    folder = train(recipe, tmp_path / "run")
    played = list(read_episodes(folder))
    assert len(played) == row.episodes
    for episode in played:
        assert episode.facts["roles"] == row.roles
        assert episode.team == row.team
        assert {turn.seat for turn in episode.turns} == set(row.roles)
        assert set(episode.terms) == set(row.terms)
        for term, most in row.terms.items():
            assert all(sum(steps) <= most for steps in episode.terms[term].values())
    line = json.loads((folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert {f"reward/{term}" for term in row.terms} <= set(line)


@pytest.mark.parametrize(
    ("recipe", "best"),
    [
        (
            "magrpo_writing/magrpo",
            {"writer1": "the cat ran off.", "writer2": "however the cat ran and it was very dark."},
        ),
        ("magrpo_code/magrpo", {"aux": "def aux(x): return x*{f}", "main": "def main(x): return aux(x){s}"}),
    ],
)
def test_the_best_that_can_be_written_is_worth_the_most(recipe, best):
    """Of the writers all but what further kinds of connectives would bring; of the programmers all."""
    loaded = load_recipe(ROOT / "recipes" / f"{recipe}.yaml")
    game = make_game(loaded.game.name, loaded.game.options)
    game.reset(0)
    question = game.facts()["question"]
    texts = {seat: text.format(f=question[2:3], s=question[3:]) for seat, text in best.items()}
    episode = dialogue(*texts.items(), columns=game.facts()["columns"])
    total = {name: paid(term.function, episode) for name, term in terms_of(loaded).items()}
    row = next(row for row in ROWS if row.recipe == recipe)
    for name, most in row.terms.items():
        short = 0.24 if name == "style" else 0.0
        assert total[name] == pytest.approx(dict.fromkeys(row.team, most - short))


def test_without_a_sandbox_the_programmers_run_stops_and_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(sandbox, "_best", lambda: (None, "bwrap: not installed"))
    recipe = load_recipe(ROOT / "recipes/magrpo_code/magrpo.yaml", SMALL)
    with pytest.raises(RewardError, match=r"reward .* code is run in a sandbox only.*unsandboxed: true"):
        train(recipe, tmp_path / "run")


@pytest.mark.parametrize("name", ["magrpo_writing", "magrpo_code", "debate_judged"])
def test_the_tasks_are_what_their_script_writes(name, tmp_path):
    place = ROOT / "recipes" / name
    script = tmp_path / "tasks.py"
    script.write_text((place / "tasks.py").read_text(encoding="utf-8"), encoding="utf-8")
    namespace = {"__file__": str(script), "__name__": "tasks"}
    exec(compile(script.read_text(encoding="utf-8"), str(script), "exec"), namespace)
    namespace["main"]()
    assert (tmp_path / "tasks.jsonl").read_bytes() == (place / "tasks.jsonl").read_bytes()


def test_both_sides_may_have_the_truth_and_the_judge_sees_neither_line_nor_answer():
    loaded = load_recipe(ROOT / "recipes/debate_judged/self_play.yaml")
    game = make_game(loaded.game.name, loaded.game.options)
    true = set()
    for seed in range(60):
        game.reset(seed)
        facts = game.facts()
        true |= {(seat, facts["order"][0]) for seat, own in facts["defends"].items() if own == facts["answer"]}
        game.act({"alice": "a", "bob": "b"})
        (message,) = game.observe("judge")
        assert facts["question"] not in message.text
    assert true == {(one, first) for one in ("alice", "bob") for first in ("alice", "bob")}


@pytest.mark.parametrize("recipe", ["magrpo_writing/magrpo", "magrpo_code/magrpo"])
def test_scripted_players_say_what_the_task_holds_for_their_seat(recipe):
    loaded = load_recipe(ROOT / "recipes" / f"{recipe}.yaml")
    game = make_game(loaded.game.name, loaded.game.options)
    said = {seat: set() for seat in game.seats}
    for seed in range(60):
        game.reset(0)
        for seat in game.seats:
            said[seat].add(game.players["shaky"](game.view(seat), random.Random(seed)))
    assert said == {seat: set(texts) for seat, texts in game.facts()["columns"]["says"].items()}
