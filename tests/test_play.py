"""A person in a seat sees what the seat is told and no more, earns what the rules say, and may leave at any time."""

import io
import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from marft.errors import GameError, RecipeError, RunFolderError
from marft.games import make_game
from marft.opponents import scripted_table, trained_table
from marft.play import play
from marft.show import show_episodes
from marft.store import read_jsonl

PD = "prisoners_dilemma"


def played(table, answers, seed=0, **options):
    """(episode, what was printed) of a person who gives these answers and leaves when there are no more."""
    console, answers = Console(file=io.StringIO(), width=100), iter(answers)

    def ask(prompt):
        answer = next(answers, EOFError())
        if isinstance(answer, BaseException):
            raise answer
        console.print(prompt, answer, markup=False, highlight=False)
        return answer

    return play(table, seed, console, ask=ask, **options), console.file.getvalue()


def flat(text):
    return " ".join(text.split())


@pytest.mark.parametrize(
    ("answer", "against", "mine", "theirs"),
    [("<B>", "TFT", 14, 9), ("<A>", "TFT", 30, 30), ("<B>", "AllC", 50, 0), ("<A>", "AllD", 0, 50)],
)
@pytest.mark.parametrize("seat", ["alice", "bob"])
def test_the_payoffs_are_those_of_the_game_in_either_seat(answer, against, mine, theirs, seat):
    episode, text = played(scripted_table(PD, {}, seat, against), [answer] * 10)
    other = "bob" if seat == "alice" else "alice"
    assert episode.returns() == {seat: mine, other: theirs}
    assert episode.team == {seat: "person:you", other: f"scripted:{against}"}
    returns = {seat: mine, other: theirs}
    assert f"return  alice {returns['alice']}, bob {returns['bob']}" in text


def test_the_seat_is_shown_its_own_messages_word_for_word_and_nobody_elses():
    answers = ["<<message_start>>hi<<message_end>>", "<<proposal_start>>4<<proposal_end>>"] * 2
    table = scripted_table("trust_and_split", {"rounds": 2}, "bob", "greedy")
    episode, text = played(table, answers, seed=5)
    game = make_game("trust_and_split", {"rounds": 2})
    game.reset(5)
    own, others, given = [], [], iter(answers)
    texts = {turn.seat: [one.text for one in episode.turns_of(turn.seat)] for turn in episode.turns}
    while seats := game.acting():
        said = {}
        for seat in seats:
            (own if seat == "bob" else others).extend(message.text for message in game.observe(seat))
            said[seat] = next(given) if seat == "bob" else texts[seat].pop(0)
        game.act(said)
    shown, result = flat(text).rsplit("step 0 ", 1)
    assert len(own) == 4
    place = 0
    for message in own:
        place = shown.index(flat(message), place) + 1
    assert len(shown) < sum(len(flat(one)) for one in own + answers) + 250  # the greeting, the prompts, and no more
    for message in set(others) - set(own):
        assert flat(message) not in shown
    assert "step 1 " in result


def test_an_answer_that_could_not_be_read_is_told_with_what_was_made_of_it():
    episode, text = played(scripted_table(PD, {"rounds": 2, "invalid": "second"}, None, "AllC"), ["both?", "<A>"])
    assert text.count("could not be read") == 1
    assert "could not be read; the game takes it as D." in text
    assert "alice D (unreadable), bob C  reward alice 5, bob 0" in text
    assert [turn.invalid for turn in episode.turns_of("alice")] == [True, False]


@pytest.mark.parametrize("leave", [EOFError(), KeyboardInterrupt()])
def test_who_leaves_sees_what_there_was_and_the_transcript_says_so(tmp_path, leave):
    out = tmp_path / "me.jsonl"
    episode, text = played(scripted_table(PD, {}, None, "AllC"), ["<B>", leave], out=out)
    assert "not played to the end: alice left after 2 turns" in text
    assert "return  alice 5, bob 0" in text
    assert read_jsonl(out) == [episode]
    assert episode.status == "failed"


def test_transcripts_add_up_and_can_be_shown(tmp_path):
    out = tmp_path / "me.jsonl"
    first, _ = played(scripted_table(PD, {"rounds": 1}, None, "AllC"), ["<A>"], out=out)
    second, _ = played(scripted_table(PD, {"rounds": 1}, None, "AllD"), ["<A>"], out=out)
    assert read_jsonl(out) == [first, second]
    assert first.id != second.id
    console = Console(file=io.StringIO(), width=100)
    show_episodes(out, console=console)
    assert "alice  person:you  action C" in console.file.getvalue()
    assert "scripted:AllD" in console.file.getvalue()


@pytest.mark.parametrize("name", ["me.txt", "no/me.jsonl", "other.jsonl", "folder.jsonl"])
def test_a_transcript_that_cannot_be_written_is_refused_before_anything_is_played(tmp_path, name):
    (tmp_path / "other.jsonl").write_text("not an episode")
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(RunFolderError, match="--out"):
        played(scripted_table(PD, {}, None, "AllC"), [AssertionError("was asked")], out=tmp_path / name)
    assert (tmp_path / "other.jsonl").read_text() == "not an episode"


def test_players_take_the_other_seats_in_turn_and_own_ones_may_come_from_a_file(tmp_path):
    (tmp_path / "mine.py").write_text("def four(view, rng):\n    return '<answer>4</answer>'\n")
    table = scripted_table("public_goods", {"rounds": 1}, "p2", f"full,{tmp_path}/mine.py:four")
    assert [table.team[seat] for seat in ("p1", "p3", "p4")] == [
        "scripted:full",
        f"scripted:{tmp_path}/mine.py:four",
        "scripted:full",
    ]
    episode, _ = played(table, ["<answer>0</answer>"])
    # contributions 20 + 0 + 4 + 20 = 44, times 1.6, shared by four: 17.6 each beside what was kept
    assert episode.returns() == pytest.approx({"p1": 17.6, "p2": 37.6, "p3": 33.6, "p4": 17.6})


def test_whoever_cannot_sit_there_is_named():
    for arguments, message in [
        ((PD, {}, "carol", None), "--seat.*'carol'.*known: alice, bob"),
        ((PD, {}, None, "TTF"), "--against.*'TTF'.*did you mean 'TFT'"),
        ((PD, {}, None, "TFT,AllC"), "2 players for the 1 other seats"),
        ((PD, {"round": 2}, None, None), "did you mean 'rounds'"),
    ]:
        with pytest.raises(RecipeError, match=message):
            scripted_table(*arguments)
    assert scripted_table(PD, {}, None, None).team == {"alice": "person:you", "bob": "scripted:random"}


def test_a_game_that_raises_is_named_and_what_was_played_is_kept(tmp_path):
    (tmp_path / "bad.py").write_text(
        "from marft.games.matrix import PrisonersDilemma\n"
        "class Bad(PrisonersDilemma):\n"
        "    def act(self, texts):\n"
        "        if self.clock:\n"
        "            raise KeyError('the dice')\n"
        "        return super().act(texts)\n"
    )
    table = scripted_table(f"{tmp_path}/bad.py:Bad", {}, None, "AllC")
    with pytest.raises(GameError, match="KeyError: 'the dice'"):
        played(table, ["<A>"] * 3, out=tmp_path / "me.jsonl")
    (kept,) = read_jsonl(tmp_path / "me.jsonl")
    assert kept.status == "failed"
    assert len(kept.turns) == 2


def test_what_a_game_tells_cannot_act_on_the_terminal(tmp_path):
    (tmp_path / "odd.py").write_text(
        "from marft.game import Message\n"
        "from marft.games.matrix import PrisonersDilemma\n"
        "class Odd(PrisonersDilemma):\n"
        "    def observe(self, seat):\n"
        "        return [Message('system', '[red]x[/] \\x1b[2J'), Message('user', 'y \\x07')]\n"
    )
    _, text = played(scripted_table(f"{tmp_path}/odd.py:Odd", {"rounds": 1}, None, "AllC"), ["<A>"])
    assert "system: [red]x[/] ␛[2J" in text
    assert "\x1b" not in text
    assert "\x07" not in text


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run of one update."""
    from trainer_fixtures import make_recipe

    from marft.train.loop import train

    recipe = make_recipe("train.updates=1", "team.bob={agent: bob}")
    return train(recipe, tmp_path_factory.mktemp("runs") / "short")


def test_a_trained_run_takes_the_other_seats_with_its_newest_adapters(run):
    import torch
    from safetensors.torch import load_file

    table = trained_table(PD, {"rounds": 4}, "bob", run)
    assert table.team == {"alice": "short/alice", "bob": "person:you"}
    stored = load_file(run / "adapters" / "alice" / "adapter_model.safetensors")
    loaded = table.model.bank.named_parameters("short/alice")
    assert len(loaded) == len(stored)
    for name, weight in stored.items():
        assert any(torch.equal(weight, one.detach()) for one in loaded.values()), name
    episode, _ = played(table, ["<A>"] * 4, seed=3)
    turns = list(episode.turns_of("alice"))
    assert len(turns) == 4
    for turn, context in episode.contexts("alice"):
        assert table.chat.text_of(turn.completion_ids) == turn.text
        assert len(turn.logprobs) == len(turn.completion_ids) > 0
        assert flat(turn.messages[-1][1]) in flat(table.chat.text_of(context))
    again, _ = played(trained_table(PD, {"rounds": 4}, "bob", run), ["<A>"] * 4, seed=3)
    assert [turn.text for turn in again.turns_of("alice")] == [turn.text for turn in turns]


def test_of_a_pool_the_agent_itself_takes_the_seat(tmp_path):
    from trainer_fixtures import make_recipe

    from marft.train.loop import train

    recipe = make_recipe("train.updates=1", "team.bob={pool: [{scripted: TFT}, bob]}")
    table = trained_table(PD, {}, "alice", train(recipe, tmp_path / "pool"))
    assert table.team["bob"] == "pool/bob"
    episode, _ = played(table, ["<A>"] * 3)
    assert episode.status == "done"


def test_a_run_of_another_game_or_no_run_is_refused(run):
    assert trained_table(PD, {}, None, run).game.options.rounds == 3  # the run's, not the game's 10
    with pytest.raises(RecipeError, match="plays prisoners_dilemma, not ultimatum"):
        trained_table("ultimatum", {}, None, run)
    with pytest.raises(RunFolderError, match=f"holds runs, it is none; give {run}"):
        trained_table(PD, {}, None, run.parent)
    with pytest.raises(RunFolderError, match=r"holds no recipe\.yaml"):
        trained_table(PD, {}, None, run / "adapters")


COMMAND = [sys.executable, "-m", "marft", "play", PD, "rounds=2", "--against", "AllC", "--seed", "1"]


def test_the_command_plays_from_a_pipe(tmp_path):
    answers = b"<B>\n\xff\n"  # the second is no text, hence no choice
    done = subprocess.run(
        [*COMMAND, "--out", "me.jsonl"], input=answers, cwd=tmp_path, capture_output=True, timeout=120, check=True
    )
    text = done.stdout.decode()
    assert "alice> <B>" in text
    assert "could not be read" in text
    assert "step 0  alice D, bob C  reward alice 5, bob 0" in text
    assert len(read_jsonl(tmp_path / "me.jsonl")) == 1
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("key", [b"\x03", b"\x04"])
def test_ctrl_c_and_ctrl_d_end_it_cleanly(tmp_path, key):
    main, second = pty.openpty()
    with subprocess.Popen(
        COMMAND, stdin=second, stdout=second, stderr=second, cwd=tmp_path, start_new_session=True,
        preexec_fn=_own_terminal,
    ) as process:  # fmt: skip
        try:
            os.close(second)
            text = _read_until(main, b"alice> ")
            os.write(main, b"<B>\n")
            text += _read_until(main, b"alice> ")
            time.sleep(
                0.5
            )  # a signal that comes between prompt and waiting is only seen at the next key: so is readline
            os.write(main, key)
            text += _read_until(main, None)
            assert process.wait(30) == 0
        finally:
            process.kill()
    os.close(main)
    assert b"not played to the end: alice left after 2 turns" in text
    assert b"Traceback" not in text


def _own_terminal():
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _read_until(terminal, end):
    text, deadline = b"", time.monotonic() + 60
    while end is None or not text.endswith(end):
        ready, _, _ = select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, f"nothing more came after {text!r}"
        try:
            piece = os.read(terminal, 4096)
        except OSError:  # the other side is closed
            break
        if not piece:
            break
        text += piece
    return text


def test_both_kinds_of_opponents_at_once_are_refused(tmp_path):
    done = subprocess.run([*COMMAND, "--run", "x"], cwd=Path(tmp_path), capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert "give one of them" in done.stderr
