"""Episodes on disk: what is written is what is read, whole or not at all."""

import dataclasses
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from marft.episode import Episode, Turn, finished
from marft.errors import RunFolderError
from marft.store import read_episodes, read_jsonl, read_parquet, write_jsonl, write_parquet

TEXT = st.text(max_size=12) | st.sampled_from(
    ["", "zß日🙂", "line\u2028\u2029\x85\x0b\x0c\x1cbreaks\r\n", '"quo\\ted"', "\x00"]
)
SMALL = st.integers(0, 2**31 - 1)
ACTION = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
LOGPROB = st.floats(-(2.0**99), 0, width=32)
SEAT = st.sampled_from(["alice", "bob", "zoë"])
TURN = st.builds(
    Turn,
    seat=SEAT,
    step=SMALL,
    order=SMALL,
    policy=TEXT,
    text=TEXT,
    messages=st.lists(st.tuples(TEXT, TEXT), max_size=5),
    agent=st.none() | SEAT,
    version=st.integers(-1, 2**31 - 1),
    prompt_ids=st.lists(SMALL, max_size=5),
    fresh=st.booleans(),
    completion_ids=st.lists(SMALL, max_size=5),
    logprobs=st.lists(LOGPROB, max_size=5),
    finish_reason=st.sampled_from(["stop", "length"]),
    action=ACTION,
    invalid=st.booleans(),
)
EPISODE = st.builds(
    Episode,
    id=TEXT,
    game=TEXT,
    seats=st.lists(SEAT, max_size=3).map(tuple),
    team=st.dictionaries(SEAT, TEXT),
    seed=st.integers(0, 2**63 - 1),
    group=SMALL,
    index=SMALL,
    attempt=SMALL,
    update=SMALL,
    turns=st.lists(TURN, max_size=4),
    rewards=st.lists(st.dictionaries(SEAT, NUMBERS), max_size=3),
    terms=st.dictionaries(TEXT, st.dictionaries(SEAT, st.lists(NUMBERS, max_size=3)), max_size=2),
    facts=st.dictionaries(TEXT, ACTION, max_size=2),
    status=st.sampled_from(["done", "failed"]),
    cause=st.none() | TEXT,
)


def exactly(value):
    """A text that tells apart what == does not: 1, 1.0 and True; 0.0 and -0.0; a tuple and a list."""
    return repr(value)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


ALIKE = [
    Turn("alice", 0, n, "p", "", action=action)
    for n, action in enumerate([1, True, 1.0, 0, False, 0.0, -0.0, [1], [True]])
]


@given(st.lists(EPISODE, max_size=3))
@example([Episode("e", "g", ("alice",), {}, 0, turns=ALIKE)])
def test_parquet_and_jsonl_give_back_what_was_written(folder, episodes):
    for write, read in ((write_parquet, read_parquet), (write_jsonl, read_jsonl)):
        write(episodes, folder / "episodes")
        found = read(folder / "episodes")
        assert found == episodes
        assert exactly(found) == exactly(episodes)


@pytest.mark.parametrize(("dtype", "kind"), [(np.float32, "float"), (np.float64, "double")])
def test_log_probs_are_kept_as_they_are_in_no_more_room_than_they_need(tmp_path, dtype, kind):
    values = [float(dtype(value)) for value in (-0.1, -1e-9, -123.456789, -1 / 3)]
    episode = Episode("e", "g", ("a",), {"a": "a"}, 1, turns=[Turn("a", 0, 0, "a", "", logprobs=values)])
    write_parquet([episode], tmp_path / "e.parquet")
    assert read_parquet(tmp_path / "e.parquet")[0].turns[0].logprobs == values
    stored = pq.read_schema(tmp_path / "e.parquet").field("turn_logprobs").type
    assert str(stored.value_type.value_type) == kind
    write_jsonl([episode], tmp_path / "e.jsonl")
    assert read_jsonl(tmp_path / "e.jsonl")[0].turns[0].logprobs == values


def test_a_jsonl_line_is_an_episode_that_any_tool_reads(tmp_path):
    episodes = [Episode(f"e{n}", "g", ("a",), {"a": "b\nc\u2028"}, n) for n in range(3)]
    write_jsonl(episodes, tmp_path / "e.jsonl")
    lines = (tmp_path / "e.jsonl").read_bytes().decode("utf-8").split("\n")
    assert [json.loads(line)["id"] for line in lines[:-1]] == ["e0", "e1", "e2"]
    assert lines[-1] == ""


def test_a_parquet_row_is_an_episode_with_plain_columns(tmp_path):
    episodes = [Episode(f"e{n}", "g", ("a",), {"a": "x"}, n, turns=[Turn("a", 0, 0, "x", "hi")] * n) for n in range(3)]
    write_parquet(episodes, tmp_path / "e.parquet")
    table = pq.read_table(tmp_path / "e.parquet")
    assert table.column("id").to_pylist() == ["e0", "e1", "e2"]
    assert table.column("turn_text").to_pylist() == [[], ["hi"], ["hi", "hi"]]


@pytest.mark.parametrize("write", [write_parquet, write_jsonl])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, write):
    path = tmp_path / "episodes" / "e"
    good = Episode("e", "g", ("a",), {}, 1)
    write([good], path)
    before = path.read_bytes()
    with pytest.raises((TypeError, OSError)):
        write([good, dataclasses.replace(good, facts={"x": object()})], path)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["e"]


def test_a_disk_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path, good = tmp_path / "e", Episode("e", "g", ("a",), {}, 1)
    write_parquet([good], path)
    before = path.read_bytes()

    def half(table, where, **options):
        where.write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr("marft.store.pq.write_table", half)
    with pytest.raises(OSError, match="no space left"):
        write_parquet([good, good], path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["e"]


def test_a_file_that_is_no_parquet_is_named(tmp_path):
    (tmp_path / "e.parquet").write_text("not this")
    with pytest.raises(RunFolderError, match=r"e\.parquet is not readable as Parquet"):
        read_parquet(tmp_path / "e.parquet")
    with pytest.raises(RunFolderError, match=r"none\.parquet is not readable"):
        read_parquet(tmp_path / "none.parquet")


def test_a_runs_episodes_are_read_in_the_order_of_play(tmp_path):
    for update in (10, 2, 1):
        for shard in ("-0", "-1") if update == 2 else ("",):
            episodes = [Episode(f"u{update}{shard}", "g", ("a",), {}, 0)]
            write_parquet(episodes, tmp_path / "episodes" / f"update-{update:06d}{shard}.parquet")
    assert [episode.id for episode in read_episodes(tmp_path)] == ["u1", "u2-0", "u2-1", "u10"]
    assert [episode.id for episode in read_episodes(tmp_path, 2)] == ["u2-0", "u2-1"]
    assert list(read_episodes(tmp_path, 3)) == []


def test_contexts_put_the_whole_prompts_together_again():
    turns = [
        Turn("a", 0, 0, "p", "", prompt_ids=[1, 2], fresh=True, completion_ids=[3]),
        Turn("b", 0, 1, "p", "", prompt_ids=[9], fresh=True, completion_ids=[9]),
        Turn("a", 1, 0, "p", "", prompt_ids=[4], fresh=False, completion_ids=[5, 6]),
        Turn("a", 2, 0, "p", "", prompt_ids=[1, 7], fresh=True, completion_ids=[8]),
        Turn("a", 3, 0, "p", "", prompt_ids=[], fresh=False, completion_ids=[0]),
    ]
    episode = Episode("e", "g", ("a", "b"), {}, 0, turns=turns)
    assert [context for _, context in episode.contexts("a")] == [[1, 2], [1, 2, 3, 4], [1, 7], [1, 7, 8]]


def test_failed_episodes_are_never_among_the_finished():
    episodes = [Episode("a", "g", (), {}, 0), Episode("b", "g", (), {}, 0, status="failed", cause="x")]
    assert finished(episodes) == episodes[:1]
