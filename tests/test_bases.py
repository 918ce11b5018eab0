"""Agents on different bases in one run, against PEFT and transformers alone, each agent on its own base."""

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from helpers import Speaker
from rich.console import Console
from safetensors.torch import load_file
from trainer_fixtures import base_folder, equal, make_recipe, recipe_data
from two_bases import FOLDERS, fresh_adapter, gaps, plain_model, said, two_bases, two_recipe, wide_folder

from marft.banks import make_scorer, open_bases
from marft.bases import home_of, views_of
from marft.credit import advantages
from marft.engines.base import Completion, Request
from marft.engines.by_base import EngineByBase
from marft.episode import learnable
from marft.errors import EngineError, ModelError, RecipeError
from marft.eval.arena import evaluate
from marft.memory import together
from marft.opponents import trained_table
from marft.plan import cost, costs
from marft.play import play
from marft.recipe import dump_recipe, parse_recipe
from marft.stages.bench import check_launch
from marft.store import read_episodes, read_jsonl
from marft.team import make_rollout
from marft.train import loop
from marft.train.folder import read_metrics
from marft.train.loop import train
from marft.train.table import turn_table
from marft.train.zero import check_sharded

SHARED = "algorithm={preset: rloo, attribution: team_sum}"
HOMES = {"alice": "model", "bob": "models.wide"}


def adapters(run: Path) -> dict[str, dict[str, torch.Tensor]]:
    return {name: load_file(run / "adapters" / name / "adapter_model.safetensors") for name in HOMES}


def lora_of(model) -> dict[str, torch.nn.Parameter]:
    """PEFT's adapter weights under the names they have in a file."""
    return {name.replace(".default", ""): value for name, value in model.named_parameters() if "lora_" in name}


# Training.


@pytest.mark.parametrize("step", ["auto", "loop"])
def test_a_run_leaves_the_adapters_that_plain_peft_and_adamw_make_from_its_episodes(step, tmp_path):
    """Three agents: two share passes on one base, one is on the other; the advantages are those of one table."""
    homes = HOMES | {"carol": "model"}
    start = {name: fresh_adapter(base, tmp_path / name, n) for n, (name, base) in enumerate(homes.items())}
    agents = [f"agents.{name}.start_from={folder}" for name, folder in start.items()]
    game = "game={name: public_goods, seats: 3, rounds: 2}"
    recipe = two_recipe(*agents, game, f"train.step={step}", SHARED, "optimizer.max_grad_norm=1e9")
    run = train(recipe, tmp_path / "run")
    policies = {name: plain_model(base, start[name]) for name, base in homes.items()}
    makers = {name: torch.optim.AdamW(lora_of(one).values(), lr=1e-2, weight_decay=0) for name, one in policies.items()}
    for update in range(3):
        episodes = learnable(list(read_episodes(run, update)))
        assert max(gaps(episodes, policies).values()) < 1e-4
        advantage_U = iter(advantages(recipe.algorithm, turn_table(episodes)))
        worth = {id(turn): next(advantage_U) for episode in episodes for turn in episode.turns}
        losses, counts = dict.fromkeys(homes, 0.0), dict.fromkeys(homes, 0)
        for episode in episodes:
            for seat in episode.seats:
                for turn, context in episode.contexts(seat):
                    logp_N = said(policies[turn.policy], context, turn.completion_ids)
                    losses[turn.policy] = losses[turn.policy] - worth[id(turn)] * logp_N.sum()
                    counts[turn.policy] += len(logp_N)
        for name, maker in makers.items():
            maker.zero_grad()
            (losses[name] / counts[name]).backward()
            maker.step()
    for name, policy in policies.items():
        ours = load_file(run / "adapters" / name / "adapter_model.safetensors")
        theirs, first = lora_of(policy), load_file(Path(start[name]) / "adapter_model.safetensors")
        assert ours.keys() == theirs.keys()
        moved = max(float((theirs[key] - first[key]).abs().max()) for key in ours)
        assert max(float((theirs[key] - ours[key]).abs().max()) for key in ours) < 1e-3 * moved


def test_an_adapter_names_its_own_base_and_is_as_wide(tmp_path):
    run = train(two_recipe("train={updates: 1, save_every: 1}"), tmp_path / "run")
    for folder in (run / "adapters", run / "checkpoints" / "update-000001" / "adapters"):
        for name, base in HOMES.items():
            config = json.loads((folder / name / "adapter_config.json").read_text())
            assert config["base_model_name_or_path"] == FOLDERS[base]()
    widths = {name: {t.shape[1] for key, t in one.items() if "lora_A" in key} for name, one in adapters(run).items()}
    assert widths == {"alice": {32}, "bob": {64}}


def test_a_run_goes_on_bit_for_bit(tmp_path, monkeypatch):
    """Broken off in the third of four updates, a checkpoint behind: versions, snapshots and optimizers come back."""
    anchored = "algorithm={preset: rloo, kl: {coef: 0.05, anchor: snapshot}}"
    recipe = two_recipe("train={updates: 4, save_every: 1}", anchored, "optimizer.weight_decay=0.1")
    whole = train(recipe, tmp_path / "whole")
    original, calls = loop.write_parquet, []

    def break_off(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(loop, "write_parquet", break_off)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "run")
    monkeypatch.undo()
    resumed = train(recipe, tmp_path / "run", resume=True)
    for name, tensors in adapters(whole).items():
        assert equal(tensors, adapters(resumed)[name])
        place = Path("checkpoints") / "update-000004" / "optimizers" / f"{name}.safetensors"
        assert equal(load_file(whole / place), load_file(resumed / place))
    assert list(read_episodes(resumed)) == list(read_episodes(whole))


@pytest.mark.parametrize("way", ["rollout.max_staleness=1", "rollout.pipeline=true"])
def test_play_that_goes_on_meanwhile_agrees_with_the_trainer_on_each_base(way, tmp_path):
    run = train(two_recipe(way, "rollout.groups=4", "train.updates=3"), tmp_path / "run")
    lines = read_metrics(run / "metrics.jsonl")
    found = [[line[f"agent/{name}/gap"] for line in lines] for name in HOMES]
    found = [[gap for gap in own if gap is not None] for own in found]  # none where nothing of an update is new
    assert all(found)
    assert max(map(max, found)) < 1e-5


def test_kl_in_the_reward_is_measured_on_each_agents_base(tmp_path):
    """At first every adapter is its base; the KL that a later update reports is that of the adapter it had."""
    kl = "algorithm={preset: rloo, kl: {coef: 0.1, where: reward, kind: k1}}"
    run = train(two_recipe(kl, "train={updates: 2, save_every: 1}"), tmp_path / "run")
    first = read_metrics(run / "metrics.jsonl")[0]
    assert {name: first[f"agent/{name}/kl"] for name in HOMES} == pytest.approx(dict.fromkeys(HOMES, 0.0), abs=1e-6)


def test_equal_models_are_one_base(tmp_path):
    """The recipe is the very one that names no models, so everything that follows is, too."""
    named = recipe_data()
    same = named | {"models": {"same": named["model"]}, "agents": {"alice": {}, "bob": {"model": "same"}}}
    assert parse_recipe(same) == parse_recipe(named)
    only = named | {"model": "tiny", "models": {"one": named["model"], "unused": "tiny"}}
    only |= {"agents": {"alice": {"model": "one"}, "bob": {"model": "one"}}}
    assert parse_recipe(only) == parse_recipe(named)


def test_what_is_resolved_is_read_again():
    recipe = two_recipe("team.bob={pool: [bob, {frozen: base, model: wide}, {past: alice}]}")
    assert parse_recipe(yaml.safe_load(dump_recipe(recipe))) == recipe


# Play.


def test_frozen_and_past_policies_play_on_their_own_base(tmp_path):
    """Every policy that sat somewhere said what its own base, or PEFT's adapter on it, gives."""
    frozen = fresh_adapter("models.wide", tmp_path / "frozen", 7)
    pool = f"{{frozen: base}}, {{frozen: base, model: wide}}, {{frozen: '{frozen}', model: wide}}, {{past: bob}}"
    recipe = two_recipe(
        f"team={{alice: {{pool: [bob, {pool}]}}, bob: alice}}", "past={every: 1, keep: 2}", "rollout.groups=12"
    )
    run = train(recipe, tmp_path / "run")
    for update in range(3):
        episodes = list(read_episodes(run, update))
        models = {"frozen:base": plain_model("model"), "frozen:base@wide": plain_model("models.wide")}
        models[f"frozen:{frozen}@wide"] = plain_model("models.wide", frozen)
        for policy in {turn.policy for episode in episodes for turn in episode.turns} - models.keys() - HOMES.keys():
            models[policy] = plain_model("models.wide", run / "past" / "bob" / f"{int(policy.split('@')[1]):06d}")
        if update == 2:
            assert {policy.partition("@")[0] for policy in models} >= {"past:bob", "frozen:base"}
        played = [episode for episode in episodes if episode.team["alice"] in models]
        names = {turn.policy for episode in played for turn in episode.turns} - HOMES.keys()
        apart = {}
        for episode in played:
            for turn, context in episode.contexts("alice"):
                with torch.no_grad():
                    logp_N = said(models[turn.policy], context, turn.completion_ids)
                apart[turn.policy] = float(np.abs(logp_N.numpy() - turn.logprobs).max())
                assert turn.agent is None
        assert apart.keys() == names
        assert max(apart.values()) < 1e-4
        assert len(names) >= 3


def test_a_trained_team_is_evaluated_and_played_on_its_bases(tmp_path):
    run = train(two_recipe("train={updates: 1, save_every: 1}", "optimizer.learning_rate=0.05"), tmp_path / "run")
    results = evaluate({"two": run}, tmp_path / "eval", against="TFT", episodes=4, resamples=20)
    assert results["teams"]["two"]["bases"] == {base: folder() for base, folder in FOLDERS.items()}
    trained = {f"two/{name}": plain_model(base, run / "adapters" / name) for name, base in HOMES.items()}
    found = gaps(read_episodes(tmp_path / "eval"), trained)
    assert found.keys() == trained.keys()
    assert max(found.values()) < 1e-4
    table = trained_table("prisoners_dilemma", {}, "alice", run)
    play(table, 3, Console(quiet=True), ask=lambda _: "<A>", out=tmp_path / "me.jsonl")
    (episode,) = read_jsonl(tmp_path / "me.jsonl")
    assert max(gaps([episode], {"run/bob": trained["two/bob"]}).values()) < 1e-4


def test_chances_of_answers_are_those_that_each_seats_own_base_gives():
    """As `marft exploit` asks for them: of all tokens after the whole conversation, the end of the turn included."""
    pytest.importorskip("pyspiel")
    from marft.eval.exploitability import InformationState
    from marft.eval.text_policy import TextPolicy

    heard, answers = (("user", "Round 1. Your choice?"),), {"<A>": 0, "<B>": 1}
    states = [InformationState(seat, n, seat, (), heard, answers) for n, seat in enumerate(HOMES)]
    base, bank = open_bases(two_recipe())
    asked = {"alice": "frozen:base", "bob": "frozen:base@wide"}
    found = TextPolicy(make_scorer(base, bank, 512), base.chat, asked).chances(states)
    for seat, policy, chances in zip(HOMES, asked.values(), found, strict=True):
        chat, model = base.chat.of(policy), plain_model(HOMES[seat])
        context, _ = chat.conversation().hear(heard)
        with torch.no_grad():
            logps = [said(model, context, [*chat.plain(text), chat.end_id]) for text in answers]
        mass = [float(logp_N.sum().exp()) for logp_N in logps]
        assert sum(mass) > 0.1
        assert list(chances.values()) == pytest.approx([one + (1 - sum(mass)) / 2 for one in mass], rel=1e-4)


def test_a_text_is_scored_as_the_policys_own_base_reads_it():
    recipe = two_recipe()
    base, bank = open_bases(recipe)
    scorer = make_scorer(base, bank, 512)
    make_rollout(recipe, base.chat, bank, Speaker(base.chat, lambda request: "<A>"))
    prompt, answer = "Round 1. You said <A> and", " the answer is 42"
    for policy, key in {"frozen:base": "model", "bob": "models.wide"}.items():
        if policy == "bob":
            bank.of("bob").add("bob", recipe.adapter, 0)  # as the base, until it learns
        context, ids = scorer.encode(prompt, policy), scorer.encode(answer, policy)
        (logp_N,) = scorer.score(policy, [context], [ids])
        with torch.no_grad():
            np.testing.assert_allclose(logp_N, said(plain_model(key), context, ids).numpy(), atol=1e-4)
    assert scorer.encode(prompt, "alice") != scorer.encode(prompt, "bob")
    with pytest.raises(ModelError, match="encode.text, policy."):
        scorer.encode(prompt)
    with pytest.raises(ModelError, match="name a policy"):
        scorer.score(None, [[5]], [[6]])


def test_the_dry_run_counts_each_base_as_a_run_of_its_own_and_then_all():
    """All bases are there, and one is updated at a time."""
    plans = costs(two_recipe())
    small = cost(make_recipe("agents.bob=null", "team.bob={scripted: TFT}"))
    wide = cost(make_recipe(f"model.name={wide_folder()}", "agents.alice=null", "team.alice={scripted: TFT}"))
    assert list(plans.values()) == [small, wide]
    whole, parts = together([small.memory, wide.memory]), (small.memory, wide.memory)
    assert whole.update == max(part.update for part in parts)
    held = sum(part.base + part.adapters + part.optimizers for part in parts)
    assert whole.rollout == sum(part.cache for part in parts) + max(part.passes for part in parts)
    assert whole.total == held + max(whole.update, whole.rollout)


# The engine in front of the engines.


class Told:
    """An engine that says who it is, and notes what it is told."""

    shares_weights = False

    def __init__(self, name, broken=False):
        self.name, self.broken, self.heard = name, broken, []

    async def generate(self, requests):
        await asyncio.sleep(0)
        if self.broken:
            raise EngineError(f"{self.name} is broken")
        return [Completion([], [], "stop", text=f"{self.name} {request.policy} {request.seed}") for request in requests]

    def close(self):
        self.heard.append("close")
        if self.broken:
            raise EngineError(f"{self.name} cannot be closed")

    def __getattr__(self, what):
        return lambda *given: self.heard.append((what, *given))


def engines(**broken):
    recipe = two_recipe("team.bob={pool: [bob, {frozen: base, model: wide}, {past: alice}]}")
    each = {key: Told(key, key in broken.values()) for key in FOLDERS}
    return each, EngineByBase(each, lambda policy: home_of(recipe, policy))


def test_every_request_is_answered_by_its_own_base_in_order():
    _, engine = engines()
    asked = ["bob", "alice", "frozen:base@wide", "past:alice@3", "bob", "frozen:base"]
    answers = asyncio.run(engine.generate([Request(policy, seed) for seed, policy in enumerate(asked)]))
    assert [answer.text for answer in answers] == [
        "models.wide bob 0",
        "model alice 1",
        "models.wide frozen:base 2",
        "model past:alice@3 3",
        "models.wide bob 4",
        "model frozen:base 5",
    ]


def test_engines_hear_of_their_own_policies_only():
    each, engine = engines()
    engine.start()
    engine.publish("bob", 4)
    engine.prepare(["alice", "frozen:base@wide", "past:alice@2", "scripted:TFT", "remote:judge"])
    engine.end_sessions("u1")
    assert each["model"].heard == [("start",), ("prepare", ["alice", "past:alice@2"]), ("end_sessions", "u1")]
    wide = [("start",), ("publish", "bob", 4), ("prepare", ["frozen:base"]), ("end_sessions", "u1")]
    assert each["models.wide"].heard == wide


def test_what_breaks_on_one_base_is_told_and_all_are_closed():
    each, engine = engines(one="models.wide")
    with pytest.raises(EngineError, match="models.wide is broken"):
        asyncio.run(engine.generate([Request("alice", 0), Request("bob", 1)]))
    with pytest.raises(EngineError, match="cannot be closed"):
        engine.close()
    assert all("close" in one.heard for one in each.values())


def test_each_base_has_servers_of_its_own():
    launch = "{replicas: 2, port: 9000, gpus: ['0', '1', '2', '3']}"
    views = views_of(two_recipe(f"engine={{kind: vllm, launch: {launch}}}"))
    found = {key: (view.engine.launch.port, view.engine.launch.gpus) for key, view in views.items()}
    assert found == {"model": (9000, ("0", "1")), "models.wide": (9002, ("2", "3"))}
    assert {key: (list(view.agents), view.model.name) for key, view in views.items()} == {
        "model": (["alice"], base_folder()),
        "models.wide": (["bob"], wide_folder()),
    }


# What cannot be.


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["agents.bob.model=wode"], r"agents\.bob\.model: no model 'wode'; did you mean 'wide'"),
        (["agents.bob.model=[wide]"], r"agents\.bob\.model"),
        (["team.bob={agent: bob, model: wide}"], r"team\.bob.*agents\.NAME\.model"),
        (["team.bob={pool: [bob, {frozen: base, model: none}]}"], r"team\.bob\.pool\[1\]\.model: no model 'none'"),
        (["algorithm=ippo"], r"algorithm: it asks for a critic.*model, models\.wide"),
        (["algorithm=hacpo"], r"algorithm: its agents learn from each other's rows.*bob on models\.wide"),
        (["algorithm={preset: rloo, kl: {coef: 0.1, anchor: 'agent:bob'}}"], r"algorithm\.kl\.anchor: bob cannot"),
        (["engine={kind: vllm, urls: ['http://a:1']}"], r"engine\.urls: given servers serve one base"),
        (["engine={kind: vllm, launch: {gpus: ['0', '1', '2']}}"], r"engine\.launch\.gpus names 3 .* take 2"),
        (["engine={kind: vllm, launch: {}}", "models.wide.quantization=4bit"], r"models\.wide\.quantization"),
        (["team.bob={pool: [bob, {frozen: 'x@wide'}]}"], r"team\.bob\.pool\[1\]\.frozen: x@wide ends like"),
        (
            ["models={wide: tiny, 'a/b': tiny}", "models.a/b.dtype=float64", "agents.bob.model=a/b"],
            r"models\.a/b: names",
        ),
        (["models.wide.tiny.players={nobody: 1}"], r"models\.wide\.tiny\.players\.nobody"),
    ],
)
def test_what_cannot_cross_bases_is_refused_with_its_key(overrides, message):
    with pytest.raises(RecipeError, match=message):
        parse_recipe(two_bases(*overrides))


def test_a_frozen_policy_elsewhere_rules_out_a_critic_but_not_shared_rows():
    team = ["agents.bob.model=null", "team.bob={pool: [bob, {frozen: base, model: wide}]}"]
    parse_recipe(two_bases(*team, "algorithm=hacpo", "train.minibatches=2"))
    with pytest.raises(RecipeError, match="critic"):
        parse_recipe(two_bases(*team, "algorithm=ippo"))


def test_zero_stage_3_and_the_offline_stages_take_one_base():
    with pytest.raises(RecipeError, match="ZeRO stage 3: models"):
        check_sharded(two_recipe())
    with pytest.raises(RecipeError, match="marft sft and dpo train on one base"):
        check_launch(two_recipe())
    check_sharded(make_recipe())


def test_the_gap_limit_is_that_of_the_coarsest_base():
    assert two_recipe("models.wide.dtype=bfloat16").train.gap_limit == 0.1
    assert two_recipe().train.gap_limit == 0.05
