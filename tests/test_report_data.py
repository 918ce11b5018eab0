"""What stands behind the page: pieces, budgets, flips, tokens, the cross-play table."""

import base64
import gzip
import json
import re

import numpy as np
import pytest
from report_fixtures import RESULTS, line, make_run, play, report

from marft.episode import Episode, Turn
from marft.errors import RunFolderError
from marft.records import TokenRecord
from marft.report.commands import named
from marft.report.heat import heat_map
from marft.report.pieces import Piece, Store, planned, within
from marft.report.runs import read_run
from marft.report.svg import band
from marft.report.tokens import MOST, Vocabulary, token_turns
from marft.report.transcripts import Texts, flips, glance
from marft.store import write_parquet, write_tokens

MATRIX = {"players": ["one", "two"], "payoff": [[27.0, 12.5], [14.0, None]]}
RATINGS = {
    "bradley_terry": {
        "one": {"mean": 1600, "low": 1550, "high": 1650},
        "two": {"mean": 1400, "low": 1350, "high": 1450},
    },
    "alpha_rank": {"one": 0.75, "two": 0.25},
}


def unpacked(data):
    return json.loads(gzip.decompress(base64.b64decode(data)))


def piece(number, size=100):
    return Piece(0, f"key{number}", [{"id": number}], "x" * size)


def test_within_its_budget_everything_is_kept_and_beyond_it_evenly_spread_pieces():
    pieces = [piece(number) for number in range(40)]
    assert within(pieces, 4000) == pieces
    for budget, stride in ((3999, 2), (2000, 2), (1999, 4), (1, 64)):  # the first one stays whatever it takes
        found = within(iter(pieces), budget)
        assert [one.key for one in found] == [one.key for one in pieces]
        assert [place for place, one in enumerate(found) if one.data is not None] == list(range(0, 40, stride))


def test_a_page_that_cannot_hold_all_lists_all_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("marft.report.pieces.EPISODES", 10)
    monkeypatch.setattr(Store.pieces, "__defaults__", (1500,))
    page = report(
        tmp_path, {"one": make_run(tmp_path / "one", episodes=[play(n, u) for u in range(8) for n in range(10)])}
    )
    assert len(page.index["columns"]["id"]) == 80
    assert 0 < len(page.episodes) < 80
    told = f"All 80 episodes on disk are listed; {len(page.episodes)} of them, evenly spread, are here in full"
    assert told in page.text


def test_pieces_are_made_again_only_where_a_file_changed(tmp_path, monkeypatch):
    folder = make_run(tmp_path / "one", episodes=[play(n, u) for u in range(3) for n in range(200)])
    read = []
    from marft.report import pieces as module

    real = module.read_parquet
    monkeypatch.setattr(module, "read_parquet", lambda path, ids=None: (read.append(path.name), real(path, ids))[1])
    store = Store(remember=True)
    first = store.pieces([read_run("one", folder)])
    assert len(read) == 3
    write_parquet([play(n, 3) for n in range(200)], folder / "episodes" / "update-000003.parquet")
    second = store.pieces([read_run("one", folder)])
    assert read[3:] == ["update-000003.parquet"]
    assert second[: len(first)] == first
    assert sum(len(one.rows) for one in second) == 800


def test_small_files_share_a_piece_and_large_ones_are_cut(tmp_path):
    small = make_run(tmp_path / "small", episodes=[play(n, u) for u in range(10) for n in range(3)])
    assert [len(files) for files, _ in planned(read_run("small", small))] == [10]
    large = make_run(tmp_path / "large", episodes=[play(n, 0) for n in range(600)])
    found = Store().pieces([read_run("large", large)])
    assert [len(one.rows) for one in found] == [256, 256, 88]
    assert unpacked(found[2].data)["episodes"][0]["id"] == "u000000-g0000-e512"


def answer(seat, said):
    return Turn(seat, 0, 0, seat, said, action={"answer": said})


def debate(*turns, truth="7", roles=None):
    facts = {"answer": truth, "roles": roles or dict.fromkeys(("p1", "p2"), "debater")}
    return Episode("e", "debate", ("p1", "p2"), {"p1": "p1", "p2": "p2"}, 0, turns=list(turns), facts=facts)


def test_flips_are_counted_by_first_and_last_answers():
    spoiled = debate(answer("p1", "7"), answer("p2", "3"), answer("p1", "3"), answer("p2", "3"))
    mended = debate(answer("p1", "7"), answer("p2", "3"), answer("p1", "8"), answer("p1", "7.0"), answer("p2", "7"))
    assert flips(spoiled) == (1, 0)
    assert flips(mended) == (0, 1)  # p1 ends as right as it began
    assert flips(debate(answer("p1", "3"))) == (0, 0)  # a single answer changes nothing
    judge = debate(answer("p1", "3"), answer("p1", "7"), roles={"p1": "judge", "p2": "debater"})
    assert flips(judge) == (0, 0)
    assert flips(debate(answer("p1", "3"), answer("p1", "7"), truth=None)) == (0, 0)
    assert flips(play(0, 0)) == (0, 0)


def test_a_glance_is_the_moves_or_the_last_words():
    assert glance(play(0, 0)) == "alice C bob D"
    assert glance(debate(answer("p1", "I think\nit is 7"))) == "I think it is 7"
    assert glance(play(0, 0, status="failed", cause="broke\x1b off")) == "broke␛ off"


def told(n=3, extra=()):
    ids = list(range(10, 10 + n))
    turn = Turn("alice", 0, 0, "alice", "abc", agent="alice", version=0, prompt_ids=[1, 2], completion_ids=ids,
                logprobs=[-0.5] * n)  # fmt: skip
    episode = Episode("e", "g", ("alice",), {"alice": "alice"}, 0, turns=[*extra, turn])
    record = TokenRecord("e", "alice", len(extra), np.full(n, 0.25), np.full(n, -0.75))
    return episode, {("alice", len(extra)): record}


def vocabulary(tmp_path):
    """Of a run whose model is nowhere to be found."""
    folder = make_run(tmp_path / "run")
    text = (folder / "recipe.yaml").read_text(encoding="utf-8")
    (folder / "recipe.yaml").write_text(re.sub("(?m)^  name: tiny", "  name: ./nowhere", text), encoding="utf-8")
    return Vocabulary(read_run("run", folder))


def test_tokens_tell_what_was_heard_and_said_and_how_far_the_trainer_is(tmp_path):
    texts, words = Texts(), vocabulary(tmp_path)
    episode, records = told()
    found = token_turns(episode, records, words, texts)[0]
    assert [texts.texts[one] for one in found["heard"] + found["said"]] == ["#1", "#2", "#10", "#11", "#12"]
    assert found["engine"] == [-0.5] * 3
    assert found["gap"] == [-0.25] * 3
    assert found["advantage"] == [0.25] * 3
    assert "nowhere" in words.problem


def test_a_turn_without_a_record_or_with_another_one_is_left_out(tmp_path):
    words = vocabulary(tmp_path)
    episode, records = told()
    assert token_turns(episode, {}, words, Texts()) == {}
    records[("alice", 0)] = TokenRecord("e", "alice", 0, np.zeros(2), np.zeros(2))  # of another length
    assert token_turns(episode, records, words, Texts()) == {}


def test_very_long_turns_are_cut_and_say_by_how_much(tmp_path):
    episode, records = told(MOST + 5)
    found = token_turns(episode, records, vocabulary(tmp_path), Texts())[0]
    assert (len(found["said"]), found["after"], found["before"]) == (MOST, 5, 0)


def test_the_page_tells_tokens_by_the_runs_own_tokenizer(tmp_path, cache):
    from marft.recipe import load_recipe
    from marft.report.tokens import tokenizer_of

    folder = make_run(tmp_path / "one", episodes=[])
    tokenizer = tokenizer_of(load_recipe(folder / "recipe.yaml", []))
    ids = tokenizer.encode("<A>", add_special_tokens=False)
    episode = play(0, 0)
    turn = episode.turns[0]
    turn.completion_ids, turn.logprobs = ids, [-0.5] * len(ids)
    write_parquet([episode], folder / "episodes" / "update-000000.parquet")
    record = TokenRecord(episode.id, "alice", 0, np.full(len(ids), 1.0), np.full(len(ids), -0.5))
    write_tokens([record], folder / "tokens" / "update-000000.parquet")
    page = report(tmp_path, {"one": folder})
    one = page.episodes[0]
    assert "".join(one["texts"][number] for number in one["tokens"]["0"]["said"]) == "<A>"
    assert page.index["columns"]["tokens"] == [1]


def test_the_heat_map_shades_from_lowest_to_highest_and_marks_what_was_not_played():
    figure = heat_map("Cross-play", "", MATRIX["players"], MATRIX["payoff"])
    cells = re.findall(r"<title>(.*?)</title><rect class=\"(.*?)\"", str(figure.svg))
    assert cells == [("one with one: 27.00", "heat h8"), ("one with two: 12.50", "heat h0"),
                     ("two with one: 14.00", "heat h0"), ("two with two: –", "heat none")]  # fmt: skip
    assert [label for label, _ in figure.legend] == ["12.5", "", "27"]


def test_cross_play_has_its_table_and_its_ratings_on_the_page(tmp_path):
    page = report(tmp_path, {}, RESULTS | {"matrix": MATRIX, "ratings": RATINGS})
    labels = [attrs["aria-label"] for tag, attrs in page.tags if tag == "svg" and "aria-label" in attrs]
    assert "Cross-play. one: one 27.00, two 12.50; two: one 14.00, two –" in labels
    assert "Bradley–Terry" in page.text
    assert "α-rank" in page.text
    assert "OpenSkill" not in page.text  # not rated by it


def test_a_band_is_closed_and_breaks_where_values_are_missing():
    lows, highs = [(0, 9), (1, 8), None, (3, 7)], [(0, 1), (1, 2), None, (3, 3)]
    assert band(lows, highs) == "M0 1L1 2L1 8L0 9ZM3 3L3 7Z"


def test_names_of_runs_and_groups(tmp_path):
    found = named(["runs/a", "other/a", "x=runs/b", "g=r/1,r/2"])
    assert list(found) == ["a", "other/a", "x", "g"]
    assert [str(one) for one in found["g"]] == ["r/1", "r/2"]
    for wrong in (["=runs/a"], ["x="], ["x=a", "x=b"]):
        with pytest.raises(Exception, match="runs:"):
            named(wrong)


def test_damaged_episodes_are_named(tmp_path):
    folder = make_run(tmp_path / "one", lines=[line(0)])
    (folder / "episodes" / "update-000000.parquet").write_bytes(b"no parquet")
    with pytest.raises(RunFolderError, match="update-000000.parquet is not readable as Parquet"):
        report(tmp_path, {"one": folder})
    assert not (tmp_path / "report.html").exists()
