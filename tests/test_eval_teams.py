"""What may sit in a seat: runs on different bases, bare models, adapters, endpoints and scripts, at any game."""

import json

import numpy as np
import pytest
import torch
import yaml
from chat_server import ChatServer
from test_remote_seats import tit_for_tat
from test_text_policy import recipe as kuhn_recipe
from trainer_fixtures import Rig, base_folder
from transformers import AutoModelForCausalLM
from two_bases import fresh_adapter, plain_model, said, wide_folder

from marft.answers import same_answer
from marft.bank import AdapterBank
from marft.errors import RecipeError
from marft.eval.arena import evaluate
from marft.eval.evaluation import load_evaluation
from marft.eval.matches import schedule_of
from marft.eval.teams import load_teams
from marft.eval.text_policy import exploitability_of
from marft.files import write_text
from marft.games.debate_metrics import majority
from marft.model import load_base
from marft.recipe import dump_recipe, parse_recipe
from marft.store import read_episodes

PD = {"name": "prisoners_dilemma", "rounds": 3}


def saved(folder, rig):
    write_text(folder / "recipe.yaml", dump_recipe(rig.recipe))
    for agent in rig.learners:
        rig.bank.save(agent, folder / "adapters" / agent)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on the session's base."""
    return saved(tmp_path_factory.mktemp("run"), Rig("name=one", shaken=0.3))


def test_teams_on_different_bases_meet_and_each_speaks_with_its_own(run, tmp_path):
    """Log-probs of every turn are those of plain transformers and PEFT on the team's own base."""
    wide = {"name": "wide", "model": {"name": wide_folder(), "device": "cpu"}, "game": PD, "algorithm": "rloo"}
    wide |= {"agents": {"alice": {}, "bob": {}}, "sampling": {"max_new_tokens": 1}, "trackers": []}
    write_text(tmp_path / "wide.yaml", yaml.safe_dump(wide))
    for seed, agent in enumerate(("alice", "bob")):
        fresh_adapter("models.wide", tmp_path / "wide" / agent, seed)
    teams = {"one": str(run), "wide": {"source": str(tmp_path / "wide"), "recipe": str(tmp_path / "wide.yaml")}}
    teams["bare"] = {"source": base_folder(), "sampling": {"max_new_tokens": 4}}
    results = evaluate(teams, tmp_path / "out", suite="cross_play", episodes=4, resamples=10, game=PD)
    models = {f"one/{name}": plain_model("model", run / "adapters" / name) for name in ("alice", "bob")}
    models |= {f"wide/{name}": plain_model("models.wide", tmp_path / "wide" / name) for name in ("alice", "bob")}
    models["bare/frozen:base"] = AutoModelForCausalLM.from_pretrained(base_folder()).eval()
    seen, longest = set(), {}
    for episode in read_episodes(tmp_path / "out"):
        for seat in episode.seats:
            for turn, context in episode.contexts(seat):
                with torch.no_grad():
                    logp = said(models[turn.policy], context, turn.completion_ids)
                assert np.abs(logp.numpy() - turn.logprobs).max() < 1e-4
                seen.add(turn.policy)
                team = turn.policy.partition("/")[0]
                longest[team] = max(longest.get(team, 0), len(turn.completion_ids))
    assert seen == models.keys()
    assert longest == {"one": 2, "wide": 1, "bare": longest["bare"]}  # each by its own sampling
    assert 2 <= longest["bare"] <= 4
    kinds = {name: facts["kind"] for name, facts in results["teams"].items()}
    assert kinds == {"one": "run", "wide": "adapters", "bare": "model"}


def test_at_a_foreign_game_seats_of_the_same_name_keep_their_agents_and_the_others_cycle(run):
    evaluation = load_evaluation("own", {"teams": {"one": str(run)}, "against": "none", "game": {"name": "chicken"}})
    (match,) = schedule_of(evaluation, load_teams(evaluation)).matches
    assert match.tables == ({"alice": "one/alice", "bob": "one/bob"},)
    changed = {"teams": {"one": str(run)}, "against": "full", "game": {"name": "public_goods", "seats": 3}}
    evaluation = load_evaluation("own", changed)
    alone, among = schedule_of(evaluation, load_teams(evaluation)).matches
    assert alone.tables == ({"p1": "one/alice", "p2": "one/bob", "p3": "one/alice"},)
    assert among.tables[1] == {"p1": "scripted:full", "p2": "one/bob", "p3": "scripted:full"}


def test_an_endpoint_plays_against_a_run_and_a_script(run, tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("THE_KEY", "sk-1234")
    with ChatServer(tit_for_tat) as server:
        teams = {"gpt": f"{server.url}#m", "one": str(run), "d": "script:AllD"}
        sources = {name: {"source": one} for name, one in teams.items() if name != "gpt"}
        sources["gpt"] = {"remote": {"url": server.url, "model": "m", "key_env": "THE_KEY"}}
        results = evaluate(sources, tmp_path / "out", suite="cross_play", episodes=2, resamples=10)
        asked = server.requests
    assert {one["headers"]["Authorization"] for one in asked} == {"Bearer sk-1234"}
    assert "sk-1234" not in "".join(path.read_text() for path in (tmp_path / "out").glob("*.*"))
    row = next(one for one in results["pairs"] if (one["team"], one["opponent"]) == ("gpt", "d"))
    assert row["metrics"]["return"]["mean"] == 2  # tit-for-tat of AllD: 0, then 1 twice
    assert results["teams"]["gpt"]["kind"] == "endpoint"
    monkeypatch.delenv("THE_KEY")
    with pytest.raises(RecipeError, match="THE_KEY is not set"):
        evaluate(sources, tmp_path / "no", suite="cross_play", episodes=2)


def test_nash_conv_of_a_suite_is_that_of_the_exploit_command(tmp_path):
    recipe, folder = kuhn_recipe(), tmp_path / "kuhn"
    bank = AdapterBank(load_base(recipe, "cpu").model)
    bank.add("player", recipe.adapter, 3)
    bank.save("player", folder / "adapters" / "player")
    write_text(folder / "recipe.yaml", dump_recipe(recipe))
    write_text(
        tmp_path / "s.yaml", "summary: games\ngames: [{game: kuhn_poker, against: [cfr], exact: true}]\nepisodes: 4\n"
    )
    results = evaluate({"kuhn": folder, "r": "script:random"}, tmp_path / "out", suite=str(tmp_path / "s.yaml"))
    expected = exploitability_of(folder).nash_conv
    found = {one["team"]: one["metrics"].get("nash_conv") for one in results["pairs"] if one["kind"] == "self"}
    assert found["kuhn"]["mean"] == pytest.approx(expected, abs=1e-6)
    assert found["r"] is None
    assert results["summary"]["kuhn"]["NashConv of kuhn_poker"]["mean"] == found["kuhn"]["mean"]


# --- reasoning

DEBATE = {
    "name": "debate",
    "model": {"name": "tiny", "device": "cpu", "tiny": {"warmup_steps": 150, "warmup_episodes": 64}},
    "game": {"name": "debate", "seats": 2, "task": {"options": {"kind": "largest", "terms": 3}, "size": 200}},
    "agents": {"p1": {}, "p2": {}},
    "sampling": {"max_new_tokens": 12},
    "algorithm": "grpo",
    "trackers": [],
}


def test_a_team_is_compared_with_votes_that_cost_what_it_does(cache, tmp_path):
    """Votes, accuracies and tokens counted again from the episodes, question by question."""
    recipe, folder = parse_recipe(DEBATE), tmp_path / "run"
    bank = AdapterBank(load_base(recipe, "cpu").model, packing=False)
    for agent in recipe.agents:
        bank.add(agent, recipe.adapter_of(agent), 0)
        bank.save(agent, folder / "adapters" / agent)
    write_text(folder / "recipe.yaml", dump_recipe(recipe))
    results = evaluate({"run": folder}, tmp_path / "out", suite="reasoning", episodes=12, seeds=2, resamples=10)
    found = {key: value["mean"] for key, value in results["summary"]["run"].items()}
    plan = json.loads((tmp_path / "out" / "plan.json").read_text())["schedule"]["pairs"]
    group = {pair["kind"]: pair["group"] for pair in plan}
    rows = {kind: [one for one in read_episodes(tmp_path / "out") if one.group == group[kind]] for kind in group}
    cost = {kind: np.mean([sum(len(t.completion_ids) for t in one.turns) for one in rows[kind]]) for kind in rows}
    assert found["team/tokens"] == pytest.approx(cost["self"])
    assert found["single/tokens"] == pytest.approx(cost["votes"])
    votes = round(cost["self"] / cost["votes"])
    assert 1 < found["majority/votes"] == votes <= 16
    assert found["majority/tokens"] == pytest.approx(votes * cost["votes"], rel=0.25)
    assert len(rows["votes"]) == 12 * 2 * 16
    single, vote = [], []
    for instance in {one.seed for one in rows["votes"]}:
        own = sorted((one for one in rows["votes"] if one.seed == instance), key=lambda one: one.index)
        truth = own[0].facts["answer"]
        said_ = [one.turns[-1].action["answer"] for one in own]
        single += [same_answer(answer, truth) for answer in said_]
        vote += [same_answer(majority(said_[start : start + votes]), truth) for start in (0, 16)]
    assert found["single/accuracy"] == pytest.approx(np.mean(single))
    assert found["majority/accuracy"] == pytest.approx(np.mean(vote))
    asked = {kind: {one.facts["question"] for one in own} for kind, own in rows.items()}
    assert asked["self"] == asked["votes"]
    assert {turn.policy for one in rows["votes"] for turn in one.turns} == {"run/p1"}
