"""The canary's verdict, and which answers of a server count as one."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marft.config import Sampling
from marft.engines.canary import LIMITS, verdict
from marft.engines.replica import AdapterLost, Unwell, check_status, read_completion, request_body
from marft.errors import EngineError

EXPECTED = np.linspace(-5, -0.1, 40)


def noise(size, seed=0):
    return size * np.random.default_rng(seed).standard_normal(40)


def test_the_same_numbers_pass_and_rounding_does():
    others = {"bob": EXPECTED + 0.5, "alice version 1": EXPECTED + noise(1e-3, 1)}
    assert verdict(EXPECTED, EXPECTED, others, "float32") is None
    assert verdict(EXPECTED + noise(1e-6), EXPECTED, others, "float32") is None


def test_a_gap_above_the_limit_fails_wherever_it_is():
    found = EXPECTED.copy()
    found[17] -= 2e-3
    assert "0.002, above 0.001" in verdict(found, EXPECTED, {}, "float32")
    assert verdict(found, EXPECTED, {}, "float32", limit=0.01) is None
    assert "not finite" in verdict(np.where(EXPECTED < -4, np.nan, EXPECTED), EXPECTED, {}, "float32")
    assert "scored 39 tokens of 40" in verdict(EXPECTED[1:], EXPECTED, {}, "float32")


@pytest.mark.parametrize("step", [1e-4, 1e-3, 0.1])
def test_a_stale_adapter_is_told_from_a_new_one_far_below_the_limit(step):
    """The version before differs by one step; the server's rounding is 1e-6."""
    stale = EXPECTED + noise(step, 3)
    told = verdict(stale + noise(1e-6), EXPECTED, {"alice version 4": stale, "base": EXPECTED + 1}, "float32")
    assert "answers like alice version 4" in told
    assert verdict(EXPECTED + noise(1e-6), EXPECTED, {"alice version 4": stale}, "float32") is None


def test_policies_that_are_the_same_are_no_mistake():
    """Before the first update every adapter is the base."""
    others = {"bob": EXPECTED + noise(1e-7, 1), "base": EXPECTED + noise(1e-7, 2)}
    assert verdict(EXPECTED + noise(1e-6), EXPECTED, others, "float32") is None


@pytest.mark.parametrize("dtype", LIMITS)
def test_each_type_has_room_for_its_own_rounding(dtype):
    rounding = {"float64": 1e-6, "float32": 1e-6, "bfloat16": 0.03, "float16": 0.004}[dtype]
    assert verdict(EXPECTED + noise(rounding), EXPECTED, {"base": EXPECTED + noise(1.0, 9)}, dtype) is None
    assert verdict(EXPECTED + 1.0, EXPECTED, {}, dtype) is not None


def answer(ids=(5, 9), logprobs=(-0.5, -1.0), reason="stop", prompt=3):
    choice = {"token_ids": list(ids), "logprobs": {"token_logprobs": list(logprobs)}, "finish_reason": reason}
    return json.dumps({"choices": [choice], "usage": {"prompt_tokens": prompt}}).encode()


def read(content):
    return read_completion(content, 3, 4, frozenset({9}), 7)


def test_a_sound_answer_becomes_a_completion():
    found = read(answer())
    assert (found.token_ids, found.logprobs, found.finish_reason, found.version) == ([5, 9], [-0.5, -1.0], "stop", 7)
    assert read(answer((5, 6, 7, 8), (-1, -1, -1, -1), "length")).finish_reason == "length"


@pytest.mark.parametrize(
    "content",
    [
        answer(()),
        answer(logprobs=(-0.5,)),
        answer((1, 2, 3, 4, 9), (-1,) * 5),
        answer(prompt=2),
        answer((5, 6)),
        answer((5, 9), reason="length"),
        answer(reason="abort"),
        answer(logprobs=(-0.5, None)),
        answer(logprobs=(-0.5, float("nan"))),
        answer(logprobs=(-0.5, 0.5)),
        b"",
        b"null",
        b"[]",
        b'{"choices": []}',
        answer()[:-10],
    ],
    ids=repr,
)
def test_anything_else_is_no_answer(content):
    with pytest.raises(Unwell):
        read(content)


@given(st.binary(max_size=200))
def test_no_bytes_at_all_pass_as_an_answer(content):
    with pytest.raises(Unwell):
        read(content)


@pytest.mark.parametrize(
    ("status", "said", "raised", "told"),
    [
        (404, "The model `a@1` does not exist. Valid aliases: base.", AdapterLost, "a@1"),
        (404, "Not Found", Unwell, "404"),
        (500, "dead", Unwell, "500: dead"),
        (503, "", Unwell, "503"),
        (429, "slow down", Unwell, "429"),
        (401, "Unauthorized", EngineError, "API key"),
        (400, "max_tokens is too large", EngineError, r"refused /x \(400\): max_tokens is too large"),
    ],
)
def test_statuses_are_sorted_by_who_can_help(status, said, raised, told):
    content = json.dumps({"error": {"message": said}}).encode() if said else b""
    with pytest.raises(raised, match=told) as caught:
        check_status(status, content, "/x")
    assert type(caught.value) is raised


def test_a_request_carries_the_whole_distribution():
    body = json.loads(request_body("a@1", [1, 2], Sampling(temperature=0.5, top_p=0.9, top_k=7), 2**64 - 1, [9]))
    assert body["prompt"] == [1, 2]
    assert (body["temperature"], body["top_p"], body["top_k"]) == (0.5, 0.9, 7)
    assert 0 <= body["seed"] < 2**63
    assert body["stop_token_ids"] == [9]
    assert body["return_token_ids"] is True
    plain = json.loads(request_body("a@1", [1, 2], Sampling(), 3, [9]))
    assert "top_p" not in plain
    assert "top_k" not in plain
