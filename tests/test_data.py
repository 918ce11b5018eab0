"""marft data: the rows that come out of recorded episodes, as `datasets` loads them and TRL trains on them."""

import json
import sys
from collections import Counter
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from test_stages_choice import BATCHES, filters
from trainer_fixtures import Rig, base_folder
from tree_play import plan_of, play

from marft.cli import main
from marft.stages.export import SCHEMAS, turn_rows
from marft.stages.pairs import by_text
from marft.stages.select import sft_rows
from marft.store import read_episodes, write_parquet

datasets = pytest.importorskip("datasets")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two updates of play with few tokens, bob scripted in none of them; 6 episodes each."""
    folder = tmp_path_factory.mktemp("run")
    rig = Rig()
    for update in range(2):
        write_parquet(rig.play(update), folder / "episodes" / f"update-{update:06d}.parquet")
    return SimpleNamespace(folder=folder, episodes=list(read_episodes(folder)))


@pytest.fixture
def command(tmp_path, monkeypatch, capfd):
    """command(*arguments) -> (exit code, stdout, stderr), in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["marft", "data", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        said = capfd.readouterr()
        return stop.value.code or 0, said.out, said.err

    return call


def load(folder, tmp_path):
    return datasets.load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "cache"))


def spoken(episodes):
    """Every turn with what its seat had heard and said before, by a plain walk: joined where one role speaks on."""
    for episode in episodes:
        for number, turn in enumerate(episode.turns):
            talk = []
            for other in episode.turns[: number + 1]:
                if other.seat == turn.seat:
                    talk += other.messages + ([("assistant", other.text)] if other is not turn else [])
            joined = []
            for role, text in talk:
                if joined and joined[-1]["role"] == role:
                    joined[-1]["content"] += "\n\n" + text
                else:
                    joined.append({"role": role, "content": text})
            yield episode, turn, joined


@pytest.mark.parametrize("form", ["parquet", "jsonl"])
def test_turns_are_what_was_heard_and_said(command, run, tmp_path, form):
    assert command(run.folder, "--out", "set", "--format", form)[0] == 0
    rows = load("set", tmp_path)
    expected = [
        (episode.id, turn.seat, turn.agent, turn.step, talk, turn.text, episode.returns()[turn.seat])
        for episode, turn, talk in spoken(run.episodes)
    ]
    found = [
        (r["episode"], r["seat"], r["agent"], r["step"], r["prompt"], r["completion"][0]["content"], r["reward"])
        for r in rows
    ]
    assert found == expected
    assert {row["completion"][0]["role"] for row in rows} == {"assistant"}
    assert [json.loads(row["action"]) for row in rows] == [turn.action for _, turn, _ in spoken(run.episodes)]
    about = json.loads((tmp_path / "set" / "about.json").read_text())
    assert (about["rows"], about["episodes"]["count"]) == (len(rows), len(run.episodes))


def test_episodes_are_rows_that_hold_all_that_was_said(command, run, tmp_path):
    assert command(run.folder, "--as", "episodes", "--updates", "1", "--out", "set")[0] == 0
    rows = load("set", tmp_path)
    played = [episode for episode in run.episodes if episode.update == 1]
    assert [row["id"] for row in rows] == [episode.id for episode in played]
    for row, episode in zip(rows, played, strict=True):
        assert [turn["text"] for turn in row["turns"]] == [turn.text for turn in episode.turns]
        assert json.loads(row["worth"]) == episode.returns()
        assert json.loads(row["facts"]) == episode.facts


def test_filters_choose_turns(command, run, tmp_path):
    flags = ["--seat", "alice", "--steps", "1-", "--updates", "0", "--valid-only", "--min-reward", "2"]
    assert command(run.folder, *flags, "--as", "sft", "--out", "set")[0] == 0
    expected = [
        (episode.id, turn.step, [*talk, {"role": "assistant", "content": turn.text}])
        for episode, turn, talk in spoken(run.episodes)
        if turn.seat == "alice" and turn.step >= 1 and episode.update == 0 and not turn.invalid
        if episode.returns()["alice"] >= 2
    ]
    assert 0 < len(expected) < sum(turn.seat == "alice" for episode in run.episodes for turn in episode.turns)
    assert [(row["episode"], row["step"], row["messages"]) for row in load("set", tmp_path)] == expected


def test_what_scripts_said_is_left_out_unless_everyone_is_asked_for(command, tmp_path):
    rig = Rig("team.bob={scripted: TFT}", "agents={alice: {}}")
    write_parquet(rig.play(0), tmp_path / "one.parquet")
    assert command("one.parquet", "--out", "own")[0] == 0
    assert set(load("own", tmp_path)["agent"]) == {"alice"}
    assert command("one.parquet", "--everyone", "--out", "all")[0] == 0
    rows = load("all", tmp_path)
    assert Counter(rows["agent"]) == {"alice": 18, "scripted:TFT": 18}
    code, _, said = command("one.parquet", "--agent", "scripted:TFT", "--out", "none")
    assert code == 2
    assert "alice" in said


def test_pairs_of_texts_are_siblings_and_the_better_is_chosen(command, chat, tmp_path):
    played = play(chat, plan_of(samples=3), groups=2)
    write_parquet(played, tmp_path / "trees.parquet")
    assert command("trees.parquet", "--as", "dpo", "--worth", "value", "--format", "jsonl", "--out", "set")[0] == 0
    rows = list(load("set", tmp_path))
    texts = {}
    for episode in played:
        for seat in episode.seats:
            for turn, talk, said in by_text(episode, seat):
                place = (seat, tuple(talk), episode.group, turn.marks["parent"])
                texts.setdefault(place, set()).add(said)
    alike = {(seat, talk, said) for (seat, talk, *_), found in texts.items() for said in found}
    assert rows
    for row in rows:
        talk = tuple((one["role"], one["content"]) for one in row["prompt"])
        for side in ("chosen", "rejected"):
            assert (row["seat"], talk, row[side][0]["content"]) in alike
        assert row["gap"] > 0
        assert row["chosen"] != row["rejected"]


@settings(max_examples=60, deadline=None)
@given(BATCHES, filters())
def test_turns_are_as_many_as_the_completions_that_marft_sft_trains(batches, chosen):
    rows = list(turn_rows(batches, chosen))
    trained = sft_rows(batches, chosen)
    assert Counter(row["agent"] for row in rows) == {
        agent: sum(len(set(row.turn.tolist())) for row in own) for agent, own in trained.items()
    }
    assert all(set(row) == set(SCHEMAS["turns"].names) for row in rows)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["nowhere"], ["nowhere", "does not exist"]),
        (["RUN", "--as", "pairs"], ["--as", "pairs"]),
        (["RUN", "--seat", "alicia"], ["--seat", "alice"]),
        (["RUN", "--updates", "7"], ["12 episodes", "filters"]),
        (["RUN", "--updates", "x"], ["--updates", "2-5"]),
        (["RUN", "--as", "dpo", "--min-reward", "0"], ["--min-reward", "dpo"]),
        (["RUN", "--margin", "1"], ["--margin", "dpo"]),
        (["RUN", "--as", "episodes", "--above", "0"], ["--above", "episodes"]),
        (["RUN", "--as", "sft", "--status", "failed"], ["--status"]),
        (["RUN", "--out", "taken"], ["taken", "choose another"]),
    ],
)
def test_what_cannot_be_is_said_clearly(command, run, tmp_path, flags, words):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").write_text("mine")
    code, _, said = command(*(str(run.folder) if flag == "RUN" else flag for flag in flags))
    assert code in (2, 4)
    assert all(word in said for word in words)
    assert (tmp_path / "taken" / "file").read_text() == "mine"


def test_dry_run_counts_and_writes_nothing(command, run, tmp_path):
    code, said, _ = command(run.folder, "--dry-run", "--out", "set")
    assert code == 0
    assert "36" in said
    assert not (tmp_path / "set").exists()


def test_a_data_set_is_written_over_only_where_that_is_asked_for(command, run):
    assert command(run.folder, "--out", "set")[0] == 0
    assert "--overwrite" in command(run.folder, "--out", "set")[2]
    assert command(run.folder, "--out", "set", "--overwrite")[0] == 0


def test_trl_trains_on_each_kind(command, run, chat, tmp_path):
    pytest.importorskip("trl")
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

    write_parquet(play(chat, plan_of(samples=2)), tmp_path / "trees.parquet")
    tokenizer = AutoTokenizer.from_pretrained(base_folder())
    common = {"max_steps": 2, "per_device_train_batch_size": 2, "report_to": "none", "save_strategy": "no"}
    common |= {"logging_steps": 1, "use_cpu": True, "bf16": False, "disable_tqdm": True}
    for kind, source in (("turns", run.folder), ("sft", run.folder), ("dpo", "trees.parquet")):
        assert command(source, "--as", kind, "--out", kind)[0] == 0
        made, config = (DPOTrainer, DPOConfig) if kind == "dpo" else (SFTTrainer, SFTConfig)
        trainer = made(
            AutoModelForCausalLM.from_pretrained(base_folder()),
            args=config(str(tmp_path / "trl"), **common),
            train_dataset=load(kind, tmp_path),
            processing_class=tokenizer,
        )
        trainer.train()
        losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
        assert len(losses) == 2
        assert all(0 < loss < 20 for loss in losses)
