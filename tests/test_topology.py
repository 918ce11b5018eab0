"""Graphs of a pipeline: stages against a slow reading of the same graph, and complaints that name the key."""

import itertools
import re
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from marft.compliance import check_game
from marft.errors import RecipeError
from marft.games import make_game
from marft.games.topology import Schedule, Topology, presets, topology_of
from marft.verdict import Verdict

CALLS = ["<call>a</call><call>b</call>", "<call>x</call>y<call> </call><call>z</call>"]


def read(**topology):
    return Schedule(Topology.model_validate(topology))


@pytest.mark.parametrize("name", sorted(presets()))
def test_every_named_topology_keeps_the_contract_of_games(name):
    check_game(lambda: make_game("pipeline", {"topology": name}), seeds=(0, 1), texts=CALLS)
    assert topology_of(name).roles


def test_the_systems_that_recipes_are_written_for_are_there():
    assert set(presets()) == {
        "writer_reviewer",
        "generator_verifier_refiner",
        "planner_executor",
        "pioneer_observer",
        "aux_main",
        "writers_parallel",
        "writers_sequence",
        "rewriter_selector_answerer",
        "coordinator_workers",
        "solution_evaluation_score",
    }


graphs = st.integers(1, 7).flatmap(lambda n: st.tuples(*(st.sets(st.integers(0, n - 1), max_size=3) for _ in range(n))))


@given(graphs)
def test_stages_are_the_longest_ways_to_a_role_and_cycles_are_refused(edges):
    roles = {f"r{n}": {"after": [f"r{m}" for m in before]} for n, before in enumerate(edges)}
    longest = dict.fromkeys(roles, 0)
    for _ in range(len(roles) + 1):  # Bellman and Ford: still growing after as many rounds as roles, there is a cycle
        before = dict(longest)
        for name, role in roles.items():
            longest[name] = max([0, *(longest[other] + 1 for other in role["after"])])
    if longest != before:
        with pytest.raises(ValidationError, match="is a cycle without a bound"):
            read(roles=roles, final="r0")
        return
    stages = read(roles=roles, final="r0").stages
    assert [sorted(stage) for stage in stages] == [
        sorted(name for name in roles if longest[name] == level) for level in range(max(longest.values()) + 1)
    ]


ordered = st.integers(2, 7).flatmap(
    lambda n: st.tuples(*(st.sets(st.integers(0, m - 1), min_size=1) if m else st.just(set()) for m in range(n)))
)


@given(ordered, st.data())
def test_a_loop_holds_the_roles_on_the_ways_between_its_ends(edges, data):
    roles = {f"r{n}": {"after": [f"r{m}" for m in before]} for n, before in enumerate(edges)}
    start, end = (data.draw(st.sampled_from(sorted(roles))) for _ in range(2))

    def ways(name):
        if name == end:
            return [[end]]
        onward = [other for other in roles if name in roles[other]["after"]]
        return [[name, *way] for other in onward for way in ways(other)]

    wanted = set(itertools.chain(*ways(start)))
    given = {"roles": roles, "final": "r0", "loops": [{"end": end, "back_to": start}]}
    if not wanted:
        with pytest.raises(ValidationError, match=rf"loops\[0\]\.back_to: {end} does not come after {start}"):
            read(**given)
    else:
        assert read(**given).inside == [wanted]


@pytest.mark.parametrize(
    ("topology", "complaint"),
    [
        ("writer_reviewr", r"game\.topology: no topology 'writer_reviewr'; did you mean 'writer_reviewer'"),
        ({"roles": {}}, r"game\.topology\.roles: "),
        ({"roles": {"a": {"aftr": "b"}}}, r"game\.topology\.roles\.a\.aftr: unknown key; did you mean 'after'"),
        ({"roles": {"a": {"seats": 0}}}, r"game\.topology\.roles\.a\.seats: "),
        (
            {"roles": {"a": {"after": "writter"}, "writer": {}}},
            r"roles\.a\.after: no role 'writter'; did you mean 'writer'",
        ),
        ({"roles": {"a": {"sees": "b"}}}, r"roles\.a\.sees: no role 'b'"),
        (
            {"roles": {"a": {"after": "b"}, "b": {"after": "a"}}},
            r"roles\.[ab]\.after: . -> . -> . is a cycle without a bound",
        ),
        ({"roles": {"a": {"after": "a"}}}, r"roles\.a\.after: a -> a is a cycle"),
        ({"roles": {"a": {}, "b": {}}}, r"final: no final role is named, and a, b all end the graph"),
        ({"roles": {"a": {}}, "final": "b"}, r"final: no role 'b'"),
        ({"roles": {"a": {"calls": "b"}, "b": {}}, "final": "b"}, r"final: b speaks only when it is called"),
        ({"roles": {"a": {"calls": "a"}}}, r"roles\.a\.calls: a role cannot call itself"),
        ({"roles": {"a": {"calls": "c"}}}, r"roles\.a\.calls: no role 'c'"),
        ({"roles": {"a": {"calls": "b"}, "b": {"after": "a"}}}, r"roles\.b\.after: it speaks when it is called"),
        (
            {"roles": {"a": {"calls": "b"}, "b": {}, "c": {"after": "b"}}},
            r"roles\.c\.after: b speaks only when it is called",
        ),
        ({"roles": {"a": {"calls": "b"}, "b": {"calls": "a"}}}, r"roles\.[ab]\.calls: it speaks when it is called"),
        ({"roles": {"Writer": {}}}, r"roles\.Writer: a role's name is small letters"),
        ({"roles": {"a": {"seats": 2}, "a1": {"after": "a"}}}, r"roles: two seats are called 'a1'"),
        (
            {
                "roles": {"a": {"seats": 20, "after": []}, "b": {"seats": 20}, "c": {"seats": 20}, "d": {"seats": 20}},
                "final": "a",
            },
            r"80 seats in all",
        ),
        ({"roles": {"a": {}}, "loops": [{"end": "a", "back_to": "z"}]}, r"loops\[0\]\.back_to: no role 'z'"),
        (
            {"roles": {"a": {}}, "loops": [{"end": "a", "back_to": "a"}, {"end": "a", "back_to": "a"}]},
            r"loops\[1\]: a role can be in one loop only",
        ),
        (
            {"roles": {"a": {}}, "loops": [{"end": "a", "back_to": "a", "repeat": 0}]},
            r"game\.topology\.loops\.0\.repeat",
        ),
        (
            {"roles": {"a": {}}, "loops": [{"end": "a", "back_to": "a", "until": "/(a|b)*c/"}]},
            r"loops\[0\]\.until: .* may repeat no group",
        ),
        (
            {"roles": {"a": {}}, "loops": [{"end": "a", "back_to": "a", "until": "/[/"}]},
            r"loops\[0\]\.until: /\[/ is not a pattern",
        ),
        (
            {"roles": {"a": {"template": "{{ outputs.b }}"}, "b": {"after": "a"}}},
            r"roles\.a\.template: line 1 .*outputs has no 'b' here",
        ),
        (
            {"roles": {"a": {"question": False, "system": "{{ question }}"}}},
            r"roles\.a\.system: line 1 .*nothing is called 'question'",
        ),
        ({"roles": {"a": {"again": "{{ subtask }}"}}}, r"roles\.a\.again: .*nothing is called 'subtask'"),
    ],
)
def test_a_graph_that_cannot_be_played_is_refused_with_the_key(topology, complaint):
    with pytest.raises(RecipeError, match=complaint):
        make_game("pipeline", {"topology": topology})


@pytest.mark.parametrize(
    ("until", "text", "over"),
    [
        ("ACCEPT", "I accept.", True),
        ("ACCEPT", "no", False),
        ("ACCEPT", "accept" + " but no" * 60, False),
        (r"/score: [89]\b/", "Score: 9", True),
        (r"/score: [89]\b/", "Score: 7", False),
        ("/", "a / b", True),
    ],
)
def test_a_loops_verdict_is_a_word_or_a_pattern_in_the_end_of_the_text(until, text, over):
    plan = read(roles={"a": {}}, loops=[{"end": "a", "back_to": "a", "until": until}])
    assert plan.untils[0]([text]) is over
    assert plan.untils[0]([text, "no"]) is False


def test_the_slowest_pattern_that_is_let_through_takes_no_time():
    """Cubic in 200 characters."""
    verdict = Verdict("/.*.*!/")
    start = time.process_time()
    assert verdict(["x" * 100_000]) is False
    assert time.process_time() - start < 2


def test_the_docs_show_what_can_be_played_and_list_every_name():
    text = (Path(__file__).parents[1] / "docs" / "dialogue.md").read_text(encoding="utf-8")
    blocks = [yaml.safe_load(block)["game"] for block in re.findall(r"```yaml\n(.*?)```", text, re.S)]
    assert [block["name"] for block in blocks] == ["debate", "debate", "pipeline"]
    for block in blocks:
        name, options = block.pop("name"), block
        check_game(lambda name=name, options=options: make_game(name, options), seeds=(0,), texts=CALLS)
    assert all(f"`{name}`" in text for name in presets())
