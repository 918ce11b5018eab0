"""The offline stages with TRL itself: what reaches its trainers, what they report, and what their adapters do."""

import dataclasses
import json
import sys
from collections import Counter
from queue import Queue
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from peft import PeftModel
from trainer_fixtures import Rig, base_folder, folder_bytes, make_recipe, recipe_data
from transformers import AutoModelForCausalLM, TrainerCallback

from marft.cli import main
from marft.errors import RecipeError
from marft.stages import dpo, sft
from marft.stages.bench import Bench, need_trl
from marft.stages.pairs import preference_pairs
from marft.stages.select import Filters, sft_rows
from marft.stages.settings import Settings
from marft.stages.sources import Batch, read_batches
from marft.stages.stage import run_stage
from marft.store import read_episodes, write_parquet
from marft.train.loop import train

pytest.importorskip("trl")
pytest.importorskip("datasets")

BEST = Filters(top_share=0.5)
ALL_AT_ONCE = {"batch_size": 10_000, "micro_batch": 10_000, "epochs": 1}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder as a run leaves it: episodes of two updates, the agents off the base."""
    folder = tmp_path_factory.mktemp("run")
    rig = Rig("rollout.group_size=12", "rollout.groups=3")
    for update in range(2):
        write_parquet(rig.play(update), folder / "episodes" / f"update-{update:06d}.parquet")
    for name in rig.learners:
        rig.bank.save(name, folder / "adapters" / name)
    return SimpleNamespace(folder=folder, recipe=rig.recipe, updates=[list(read_episodes(folder, n)) for n in (0, 1)])


@pytest.fixture
def bench(tmp_path, run):
    """bench(*overrides) -> a Bench on a recipe like the run's."""
    return lambda *overrides: Bench(make_recipe(*overrides), tmp_path)


def begin(bench, agent="alice"):
    """The adapter that training starts from, as PEFT's plain model."""
    with bench.bank(agent, trained=False) as bank:
        bank.save(agent, bench.scratch / agent / "start")
    return PeftModel.from_pretrained(bench.model, bench.scratch / agent / "start", is_trainable=True)


def trained(run, out, kind, data, *overrides, **settings):
    settings = {"learning_rate": 1e-2, "epochs": 4, "batch_size": 8} | settings
    return run_stage(make_recipe(*overrides), data, out, Settings(kind, **settings), {})


def plain_logp(folder, texts):
    """Log-probs of continuations after their prompts, by transformers and PEFT alone; no folder, the bare base."""
    model = AutoModelForCausalLM.from_pretrained(base_folder())
    if folder is not None:
        model = PeftModel.from_pretrained(model, folder)
    found = []
    for prompt, said in texts:
        with torch.no_grad():
            logits = model(torch.tensor([[*prompt, *said]])).logits[0, len(prompt) - 1 : -1].double()
        found.append(torch.log_softmax(logits, -1)[range(len(said)), list(said)].numpy())
    return found


def tasted(episodes):
    """The episodes with a reward that hangs on a seat's own answer alone: 1 where it starts with <A>."""
    for episode in episodes:
        steps = range(len(episode.rewards))
        good = {(turn.seat, turn.step) for turn in episode.turns if turn.text.startswith("<A>")}
        taste = {seat: [float((seat, step) in good) for step in steps] for seat in episode.seats}
        yield dataclasses.replace(episode, terms={"taste": taste})


def margins(folder, pairs):
    """(P,) log-prob of the chosen less that of the rejected completion."""
    chosen, rejected = (
        plain_logp(folder, [(p.prompt, getattr(p, side)) for p in pairs]) for side in ("chosen", "rejected")
    )
    return np.array([one.sum() - other.sum() for one, other in zip(chosen, rejected, strict=True)])


def test_sft_s_collator_gets_the_recorded_ids_and_labels_on_what_was_sampled_alone(run, bench):
    rows = sft_rows(read_batches([run.folder], run.recipe), Filters())["alice"]
    bench = bench()
    trainer = sft.make_trainer(bench, "alice", begin(bench), rows, Settings("sft", 1, 1e-3, batch_size=5))
    found = Counter()
    for batch in trainer.get_train_dataloader():
        for ids, labels, real in zip(batch["input_ids"], batch["labels"], batch["attention_mask"], strict=True):
            assert (labels[real == 0] == -100).all()
            found[tuple(ids[real == 1].tolist()), tuple(labels[real == 1].tolist())] += 1
    expected = Counter()
    for episode in [*run.updates[0], *run.updates[1]]:
        ids, labels = [], []
        for turn in episode.turns_of("alice"):
            ids += turn.prompt_ids + turn.completion_ids
            labels += [-100] * len(turn.prompt_ids) + turn.completion_ids
        expected[tuple(ids), tuple(labels)] += 1
    assert found == expected


def test_dpo_s_collator_gets_the_recorded_ids_and_masks_the_prompt(run, bench):
    pairs = preference_pairs(read_batches([run.folder], run.recipe), Filters())["bob"]
    recorded = {
        (tuple(context), tuple(turn.completion_ids))
        for episode in [*run.updates[0], *run.updates[1]]
        for turn, context in episode.contexts("bob")
    }
    bench = bench()
    trainer = dpo.make_trainer(bench, "bob", begin(bench, "bob"), pairs, Settings("dpo", 1, 1e-3, batch_size=7))
    found = Counter()
    for batch in trainer.get_train_dataloader():
        sides = []
        for ids, said, real in zip(batch["input_ids"], batch["completion_mask"], batch["attention_mask"], strict=True):
            assert (said <= real).all()
            start = int(said.argmax())
            assert said[start : int(real.sum())].all()
            sides.append((tuple(ids[:start].tolist()), tuple(ids[said == 1].tolist())))
        half = len(sides) // 2
        for (prompt, chosen), (same, rejected) in zip(sides[:half], sides[half:], strict=True):
            assert prompt == same
            assert {(prompt, chosen), (prompt, rejected)} <= recorded
            found[prompt, chosen, rejected] += 1
    assert found == Counter((pair.prompt, pair.chosen, pair.rejected) for pair in pairs)


def test_sft_makes_the_filtered_completions_likelier_and_its_loss_is_plain_peft_s(run, tmp_path):
    rows = sft_rows([Batch("", run.updates[0])], BEST)
    stage = trained(run, tmp_path / "out", "sft", rows)
    for agent, own in rows.items():
        texts = []
        for row in own:
            for turn in dict.fromkeys(row.turn.tolist()):
                span = row.targets[row.turn == turn]
                texts.append((row.ids[: span[0]].tolist(), row.ids[span].tolist()))
        before, after = (
            -np.concatenate(plain_logp(folder, texts)).mean()
            for folder in (None, tmp_path / "out" / "adapters" / agent)
        )
        report = stage["agents"][agent]
        assert after < before - 0.02
        assert (report["before"]["loss"], report["after"]["loss"]) == pytest.approx((before, after), abs=1e-5)
        assert report["tokens"] == sum(len(said) for _, said in texts)


def test_dpo_widens_the_margin_on_episodes_that_it_did_not_see(run, tmp_path):
    seen, held_out = (preference_pairs([Batch("", list(tasted(one)))], Filters(), by="step") for one in run.updates)
    stage = trained(run, tmp_path / "out", "dpo", seen, beta=0.5, epochs=10)
    for agent, pairs in held_out.items():
        before = margins(None, pairs)
        after = margins(tmp_path / "out" / "adapters" / agent, pairs)
        assert len(pairs) > 10
        assert (after - before).mean() > 1
        assert (after > 0).mean() > (before > 0).mean()
        assert stage["agents"][agent]["before"]["loss"] == pytest.approx(np.log(2), abs=1e-6)
        own = margins(tmp_path / "out" / "adapters" / agent, seen[agent]) - margins(None, seen[agent])
        assert stage["agents"][agent]["after"]["margin"] == pytest.approx(own.mean(), abs=1e-4)


def test_the_loss_that_sft_reports_is_the_mean_over_trained_tokens(run, bench):
    rows = sft_rows([Batch("", run.updates[0])], Filters())["alice"]
    bench = bench(f"agents.alice.start_from={run.folder / 'adapters' / 'alice'}")
    with bench.bank("alice", trained=False) as bank:
        bank.save("alice", bench.scratch / "alice" / "start")
        expected = sft.measure(bench.scorer(bank), "alice", rows)["loss"]
    settings = Settings("sft", learning_rate=1e-3, **ALL_AT_ONCE)
    (line,) = bench.train("alice", lambda model: sft.make_trainer(bench, "alice", model, rows, settings), None)
    assert line["loss"] == pytest.approx(expected, abs=1e-4)
    said = [lp for row in rows for lp in row.engine]
    assert expected == pytest.approx(-np.mean(said), abs=1e-4)  # the engine sampled them from the same adapter


def test_micro_batches_change_nothing_about_a_step(run, tmp_path):
    rows = {"alice": sft_rows([Batch("", run.updates[0])], Filters())["alice"][:8]}
    losses = []
    for micro in (8, 2):
        stage = trained(run, tmp_path / str(micro), "sft", rows, batch_size=8, micro_batch=micro, epochs=3)
        assert stage["agents"]["alice"]["steps"] == 3
        losses.append(stage["agents"]["alice"]["after"]["loss"])
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)


@pytest.mark.parametrize(("reference", "weight"), [("start", 0.0), ("base", 0.0), ("base", 0.3)])
def test_the_loss_that_dpo_reports_is_against_the_reference_asked_for(run, bench, reference, weight):
    pairs = preference_pairs([Batch("", run.updates[0])], Filters())["alice"]
    start = run.folder / "adapters" / "alice"
    ratio = margins(start, pairs)
    margin = ratio - (ratio if reference == "start" else margins(None, pairs))
    expected = np.log1p(np.exp(-0.7 * margin)).mean()
    assert (abs(expected - np.log(2)) > 1e-3) == (reference == "base")
    expected -= weight * np.concatenate(plain_logp(start, [(pair.prompt, pair.chosen) for pair in pairs])).mean()
    bench = bench(f"agents.alice.start_from={start}")
    begin(bench).unload()
    given = {"beta": 0.7, "reference": reference, "sft_weight": weight} | ALL_AT_ONCE
    settings = Settings("dpo", learning_rate=1e-3, **given)
    (line,) = bench.train("alice", lambda model: dpo.make_trainer(bench, "alice", model, pairs, settings), None)
    assert line["loss"] == pytest.approx(expected, abs=1e-4)


def test_the_next_run_starts_from_the_very_adapter_that_trl_trained(run, tmp_path, bench):
    rows = sft_rows([Batch("", run.updates[0])], BEST)["alice"]
    bench = bench()
    begin(bench).unload()
    kept = {}

    class Keep(TrainerCallback):
        def on_train_end(self, args, state, control, model, **_):
            kept.update({k.replace(".default", ""): v.clone() for k, v in model.named_parameters() if "lora_" in k})

    def make(model):
        trainer = sft.make_trainer(bench, "alice", model, rows, Settings("sft", 2, 1e-2))
        trainer.add_callback(Keep())
        return trainer

    bench.train("alice", make, None)
    with bench.bank("alice", trained=True) as bank:
        bank.save("alice", tmp_path / "warm")
        for name, parameter in bank.named_parameters("alice").items():
            assert torch.equal(parameter, kept.pop(name))
    assert not kept

    recipe = make_recipe(f"agents.alice.start_from={tmp_path / 'warm'}", "train.updates=1")
    folder = train(recipe, tmp_path / "next")
    texts, engine = [], []
    for episode in read_episodes(folder, 0):
        for turn, context in episode.contexts("alice"):
            texts.append((context, turn.completion_ids))
            engine.extend(turn.logprobs)
    assert np.concatenate(plain_logp(tmp_path / "warm", texts)) == pytest.approx(np.array(engine), abs=1e-5)


def test_the_same_seed_writes_the_same_bytes(run, tmp_path):
    rows = {"alice": sft_rows([Batch("", run.updates[0])], BEST)["alice"]}
    written = []
    for name in ("one", "two"):
        trained(run, tmp_path / name, "sft", rows, epochs=1)
        written.append(folder_bytes(tmp_path / name / "adapters"))
    assert written[0] == written[1]


def test_a_stage_that_fails_leaves_nothing_and_an_old_one_as_it_was(run, tmp_path, monkeypatch):
    rows = {"alice": sft_rows([Batch("", run.updates[0])], BEST)["alice"]}
    trained(run, tmp_path / "out", "sft", rows, epochs=1)
    before = folder_bytes(tmp_path)

    def broken(*_):
        raise RuntimeError("the disk is gone")

    monkeypatch.setattr(sft, "make_trainer", broken)
    for name in ("out", "new"):
        with pytest.raises(RuntimeError, match="the disk is gone"):
            run_stage(make_recipe(), rows, tmp_path / name, Settings("sft", 1, 1e-3), {}, overwrite=True)
    assert folder_bytes(tmp_path) == before


def test_trl_is_kept_from_reporting_to_the_hub(monkeypatch):
    import trl.trainer.base_trainer as base_trainer
    from huggingface_hub.utils import _telemetry

    monkeypatch.setattr(_telemetry.constants, "is_offline_mode", lambda: False)
    monkeypatch.setattr(_telemetry.constants, "HF_HUB_DISABLE_TELEMETRY", False)
    monkeypatch.setattr(_telemetry, "_start_telemetry_thread", lambda: None)  # what is queued stays there
    monkeypatch.setattr(_telemetry, "_TELEMETRY_QUEUE", queue := Queue())
    base_trainer.send_telemetry("probe")
    assert queue.qsize() == 1
    need_trl()
    base_trainer.send_telemetry("probe")
    assert queue.qsize() == 1


# The command line


@pytest.fixture
def command(tmp_path, monkeypatch, capfd, run):
    """command(*arguments) -> (exit code, stdout, stderr) in a folder of its own, with recipe.yaml in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe_data()))

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["marft", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        said = capfd.readouterr()
        return stop.value.code or 0, said.out, said.err

    return call


def test_both_commands_write_a_folder_that_says_what_was_done(command, run, tmp_path):
    flags = ["recipe.yaml", "--episodes", run.folder, "--agent", "alice", "--learning-rate", "1e-2"]
    assert command("sft", *flags, "--top-share", "0.5", "--epochs", "1", "--out", "warm")[0] == 0
    start = "agents.alice.start_from=warm/adapters/alice"
    assert command("dpo", *flags, start, "--margin", "0.5", "--max-pairs", "6", "--out", "preferred")[0] == 0
    for name, kind, key in (("warm", "sft", "rows"), ("preferred", "dpo", "pairs")):
        stage = json.loads((tmp_path / name / "stage.json").read_text())
        assert (stage["stage"], list(stage["agents"])) == (kind, ["alice"])
        assert stage["episodes"] == {"from": [str(run.folder)], "files": 2, "count": 72}
        assert stage["agents"]["alice"][key] == {"rows": 36, "pairs": 6}[key]
        assert stage["agents"]["alice"]["after"]["loss"] < stage["agents"]["alice"]["before"]["loss"]
        assert (tmp_path / name / "adapters" / "alice" / "adapter_config.json").is_file()
    again = command("dpo", *flags, "--out", "warm")
    assert again[0] == 4
    assert "--overwrite" in again[2]


def test_a_dry_run_counts_and_writes_nothing(command, run, tmp_path):
    code, out, _ = command("sft", "recipe.yaml", "--episodes", run.folder, "--steps", "0", "--dry-run")
    assert code == 0
    assert "72 episodes" in out
    for seat in ("alice", "bob"):
        first = [next(episode.turns_of(seat)) for episode in [*run.updates[0], *run.updates[1]]]
        assert f" {sum(len(turn.completion_ids) for turn in first)} " in out
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.yaml"]


@pytest.mark.parametrize(
    ("flags", "code", "parts"),
    [
        (["--agent", "carol"], 2, ["--agent", "'carol'", "alice"]),
        (["--seat", "alise"], 2, ["--seat", "'alise'", "did you mean 'alice'"]),
        (["--steps", "5-2"], 2, ["--steps", "'5-2'", "2-5"]),
        (["--top-share", "0"], 2, ["--top-share", "0"]),
        (["--reward", "mine"], 2, ["--reward", "'mine'", "own"]),
        (["--min-reward", "1000"], 2, ["alice", "loosen the filters"]),
        (["--batch-size", "6", "--micro-batch", "4"], 2, ["--batch-size 6", "--micro-batch 4"]),
        (["--learning-rate", "0"], 2, ["--learning-rate", "0"]),
        (["--episodes", "nowhere"], 4, ["nowhere", "does not exist"]),
        (["--out", "."], 4, ["no stage folder"]),
        (["adapter.targets=[q_proj,lm_head]"], 3, ["adapter.targets", "lm_head"]),
    ],
)
def test_bad_flags_get_one_message(command, run, tmp_path, flags, code, parts):
    found, _, error = command("sft", "recipe.yaml", "--episodes", run.folder, *flags)
    assert (found, error.count("error: ")) == (code, 1), error
    for part in parts:
        assert part in error
    assert not (tmp_path / "runs").exists() or not any((tmp_path / "runs").iterdir())


def test_a_run_on_another_base_is_refused(run, tmp_path):
    (tmp_path / "episodes").mkdir()
    other = yaml.safe_dump(recipe_data() | {"model": {"name": "some/model"}})
    (tmp_path / "recipe.yaml").write_text(other)
    with pytest.raises(RecipeError, match="played on some/model"):
        read_batches([tmp_path], run.recipe)


def test_without_trl_the_message_says_what_to_install(command, run, monkeypatch):
    monkeypatch.setitem(sys.modules, "trl", None)
    code, _, error = command("sft", "recipe.yaml", "--episodes", run.folder)
    assert code == 2
    assert "pip install 'marft[offline]'" in error
    assert command("sft", "recipe.yaml", "--episodes", run.folder, "--dry-run")[0] == 0
