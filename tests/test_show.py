"""Episodes in the terminal: the right ones, and nothing of their text acts on the terminal."""

import io

import pytest
from rich.console import Console

from marft.episode import Episode, Turn
from marft.errors import RunFolderError
from marft.show import show_episodes
from marft.store import write_jsonl, write_parquet


def episode(number, update=0, gain=1.0, text="<A>", **other):
    turns = [
        Turn("alice", 0, 0, "alice", text, [("user", "Your choice?")], agent="alice", version=update, action="C",
             completion_ids=[270, 1], logprobs=[-0.5, -0.25]),
        Turn("bob", 0, 1, "scripted:TFT", "<B>", [("user", "Your choice?")], action="D"),
    ]  # fmt: skip
    return Episode(
        id=f"u{update:06d}-g0000-e{number:03d}",
        game="prisoners_dilemma",
        seats=("alice", "bob"),
        team={"alice": "alice", "bob": "scripted:TFT"},
        seed=7287005709578419157,
        update=update,
        turns=other.pop("turns", turns),
        rewards=[{"alice": gain, "bob": 5.0}],
        terms={"payoff": {"alice": [gain], "bob": [5.0]}},
        **other,
    )


def shown(path, color=None, **options):
    console = Console(file=io.StringIO(), width=100, force_terminal=color is not None, color_system=color)
    show_episodes(path, console=console, **options)
    return console.file.getvalue()


@pytest.fixture
def run(tmp_path):
    for update in (0, 1, 12):
        episodes = [episode(number, update, gain) for number, gain in enumerate((3.0, 0.0, 5.0, 1.0))]
        write_parquet(episodes, tmp_path / "episodes" / f"update-{update:06d}.parquet")
    return tmp_path


def ids(text):
    return [word for word in text.split() if word.startswith("u0")]


def test_an_episode_is_shown_whole(run):
    text = shown(run, episode="u000001-g0000-e002")
    for part in ("u000001-g0000-e002", "prisoners_dilemma", "7287005709578419157", "alice 5, bob 5", "scripted:TFT",
                 "Your choice?", "<A>", "action C", "version 1", "step 0"):  # fmt: skip
        assert part in text
    assert "270" not in text


def test_without_a_choice_the_newest_update_is_shown_by_id(run):
    text = shown(run)
    assert text.startswith("update 12: 3 of 4 episodes, by id")
    assert ids(text) == [f"u000012-g0000-e00{n}" for n in (0, 1, 2)]


def test_updates_are_chosen_by_number_or_from_the_end(run):
    assert ids(shown(run, update=1, limit=1)) == ["u000001-g0000-e000"]
    assert ids(shown(run, update=-2, limit=1)) == ["u000001-g0000-e000"]


def test_best_and_worst_are_by_the_learners_return(run):
    assert ids(shown(run, sort="best", limit=2)) == ["u000012-g0000-e002", "u000012-g0000-e000"]
    assert ids(shown(run, sort="worst", limit=2)) == ["u000012-g0000-e001", "u000012-g0000-e003"]


def test_failed_episodes_come_last_and_say_why(tmp_path):
    file = tmp_path / "some.jsonl"
    write_jsonl([episode(0, gain=-9.0, status="failed", cause="the engine gave up"), episode(1, gain=2.0)], file)
    text = shown(file, sort="worst")
    assert ids(text) == ["u000000-g0000-e001", "u000000-g0000-e000"]
    assert "the engine gave up" in text


def test_tokens_come_with_their_logprobs(run):
    text = shown(run, episode="u000000-g0000-e000", tokens=True)
    assert "270 (−0.500)" in text
    assert "1 (−0.250)" in text


def test_unreadable_and_cut_answers_are_flagged(tmp_path):
    turn = Turn("alice", 0, 0, "alice", "", agent="alice", invalid=True, finish_reason="length")
    write_jsonl([episode(0, turns=[turn])], tmp_path / "e.jsonl")
    text = shown(tmp_path / "e.jsonl")
    assert "unreadable" in text
    assert "cut short" in text
    assert "(empty)" in text


@pytest.mark.parametrize("color", [None, "truecolor"])
def test_text_is_neither_markup_nor_emoji_nor_escape(tmp_path, color):
    hostile = "[bold red]x[/] [/nothing] :smile: \x1b[2J\x1b]0;owned\x07 a\rb \x9b31m \u202eback"
    spoken = Turn("alice", 0, 0, "alice", hostile, [("user\x1b[1m", hostile)], agent="alice", action=hostile)
    one = episode(0, turns=[spoken], facts={"said": hostile}, status="failed", cause=hostile)
    one.team["bob"] = hostile
    write_parquet([one], tmp_path / "e.parquet")
    text = shown(tmp_path / "e.parquet", color=color, tokens=True)
    assert "[bold red]x[/] [/nothing] :smile:" in text
    assert "␛[2J" in text
    assert "⟨U+202E⟩" in text
    for char in "\x07\x08\r\x9b\u202e":
        assert char not in text
    assert "\x1b[2J" not in text
    assert "\x1b]" not in text
    if color is None:
        assert "\x1b" not in text


def test_a_lone_surrogate_can_be_shown(tmp_path):
    (tmp_path / "e.jsonl").write_text("", encoding="utf-8")
    write_jsonl([episode(0, text="ok")], tmp_path / "e.jsonl")
    line = (tmp_path / "e.jsonl").read_text(encoding="utf-8").replace('"ok"', '"\\ud83d!"')
    (tmp_path / "e.jsonl").write_text(line, encoding="utf-8")
    assert "⟨U+D83D⟩!" in shown(tmp_path / "e.jsonl")


def test_what_cannot_be_found_is_named_with_what_there_is(run, tmp_path):
    with pytest.raises(RunFolderError, match="no episodes of update 5; it has updates 0 to 12"):
        shown(run, update=5)
    with pytest.raises(RunFolderError, match="did you mean 'u000012-g0000-e003'"):
        shown(run, episode="u000012-g0000-e033")
    with pytest.raises(RunFolderError, match="sort 'lowest' is not one of id, best, worst"):
        shown(run, sort="lowest")
    with pytest.raises(RunFolderError, match="does not exist"):
        shown(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunFolderError, match="is no run folder"):
        shown(tmp_path / "empty")


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"id": "x"}', "7"])
def test_a_file_without_episodes_is_an_error_of_the_user(tmp_path, content):
    (tmp_path / "e.jsonl").write_text(content, encoding="utf-8")
    with pytest.raises(RunFolderError, match="holds no episodes"):
        shown(tmp_path / "e.jsonl")
    (tmp_path / "e.parquet").write_text(content, encoding="utf-8")
    with pytest.raises(RunFolderError, match="Parquet"):
        shown(tmp_path / "e.parquet")
