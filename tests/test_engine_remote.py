"""Seats filled by a chat endpoint: what it is asked, what it may answer, and what happens when it misbehaves."""

import asyncio
import email.utils
import logging
import time
import traceback

import pytest
from chat_server import ChatServer, answer, body, cut, hang, status

from marft.config import Remote
from marft.engines import remote as module
from marft.engines.base import Request
from marft.engines.remote import RemoteEngine
from marft.errors import EngineError, RecipeError

KEY = "sk-very-secret-4711"
ASK = [("system", "Rules."), ("user", "Your move?")]


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch):
    monkeypatch.setattr(module, "BACKOFF", 0.01)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("JUDGE_KEY", KEY)


def engine_of(server, **settings):
    return RemoteEngine({"judge": Remote(**({"url": server.url, "model": "m", "timeout": 5} | settings))})


def request(messages=ASK):
    return Request("remote:judge", 1, messages=list(messages))


def ask(engine, *requests):
    return asyncio.run(engine.generate(requests or [request()]))


def test_what_is_sent_is_a_chat_completion_with_the_key_in_its_header_alone():
    with ChatServer(lambda messages: "  A, I think.\n") as server:
        engine = engine_of(server, key_env="JUDGE_KEY", max_tokens=7, temperature=0.5, url=server.url + "/")
        (completion,) = ask(engine)
        (seen,) = server.requests
    assert (completion.text, completion.token_ids, completion.logprobs) == ("  A, I think.\n", [], [])
    assert (completion.finish_reason, completion.version) == ("stop", -1)
    assert seen["path"] == "/v1/chat/completions"
    assert seen["headers"]["Authorization"] == f"Bearer {KEY}"
    assert seen["body"] == {
        "model": "m",
        "messages": [{"role": "system", "content": "Rules."}, {"role": "user", "content": "Your move?"}],
        "max_tokens": 7,
        "temperature": 0.5,
    }


def test_fields_are_added_and_taken_out_and_no_key_is_sent_where_none_is_named():
    with ChatServer() as server:
        ask(engine_of(server, fields={"max_tokens": None, "max_completion_tokens": 9, "seed": 3, "temperature": None}))
        (seen,) = server.requests
    assert set(seen["body"]) == {"model", "messages", "max_completion_tokens", "seed"}
    assert "Authorization" not in seen["headers"]


def test_answers_come_in_the_order_of_the_requests_and_no_more_than_allowed_at_once():
    def slow_echo(messages):
        time.sleep(0.05 if messages[-1]["content"] == "0" else 0.01)
        return messages[-1]["content"]

    with ChatServer(slow_echo) as server:
        engine = engine_of(server, concurrency=3)
        found = ask(engine, *[request([("user", str(number))]) for number in range(12)])
        assert [completion.text for completion in found] == [str(number) for number in range(12)]
        assert 2 <= server.most_busy <= 3
        assert len({seen["port"] for seen in server.requests}) <= 3  # connections are used again
        assert engine.counters["remote:judge"].answers == 12


def test_connections_last_as_long_as_the_engine_is_open_and_never_longer_than_their_loop():
    used = []

    async def turns(engine):
        async with engine:
            for _ in range(3):
                await engine.generate([request()])
            used.append(engine._endpoints["remote:judge"]._client)

    with ChatServer() as server:
        engine = engine_of(server)
        for _ in range(3):
            asyncio.run(turns(engine), debug=True)
        ports = [seen["port"] for seen in server.requests]
        assert [len(set(ports[start : start + 3])) for start in (0, 3, 6)] == [1, 1, 1]
        assert len(set(ports)) == 3
        assert [client.is_closed for client in used] == [True] * 3

        broken = asyncio.new_event_loop()  # a loop that is stopped while the engine is open
        broken.run_until_complete(engine.__aenter__())
        broken.run_until_complete(engine.generate([request()]))
        broken.close()
        assert ask(engine)[0].text == "<A>"


@pytest.mark.parametrize(
    "fault",
    [
        status(500),
        status(503, Retry_After="0"),
        status(429),
        status(408),
        cut,
        body(b"{'choices': truncated"),
        body(b'{"choices": [{"message": {"content": "<'),
        body([1, 2]),
        body({"choices": []}),
        body({"error": {"message": "upstream is down"}}),
        body(answer("")),
        body(answer(" \n")),
        body(answer(None)),
        body(answer([{"type": "text"}])),
    ],
)
def test_a_passing_fault_is_asked_over(fault, caplog):
    with ChatServer(lambda messages: "fine", [fault]) as server:
        engine = engine_of(server)
        assert ask(engine)[0].text == "fine"
        assert len(server.requests) == 2
        assert server.requests[0]["body"] == server.requests[1]["body"]
    assert (engine.counters["remote:judge"].answers, engine.counters["remote:judge"].failures) == (1, 1)
    assert "remotes.judge: attempt 1 of 5 failed" in caplog.text


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (status(500, "out of memory"), ["answered 500", "out of memory"]),
        (body(b"<html>oops</html>"), ["no JSON", "<html>oops</html>"]),
        (body(answer("", reason="length")), ["empty answer", "raise remotes.judge.max_tokens"]),
        (body(answer(None, reason="content_filter")), ["empty answer", "content_filter"]),
        (body({"error": "upstream is down"}), ["empty answer", "upstream is down"]),
        (cut, ["connection broke"]),
    ],
)
def test_a_fault_that_stays_stops_with_its_cause(fault, words):
    with ChatServer(faults=[fault] * 9) as server:
        with pytest.raises(EngineError) as caught:
            ask(engine_of(server, retries=2))
        assert len(server.requests) == 3
    assert all(word in str(caught.value) for word in ["remotes.judge", "3 attempts", *words]), str(caught.value)


@pytest.mark.parametrize("late", ["1", "date"])
def test_it_waits_as_long_as_the_endpoint_asks(late):
    def busy(handler, server):
        date = email.utils.formatdate(time.time() + 2, usegmt=True)  # whole seconds: between 1 and 2 of them are left
        status(429, Retry_After=date if late == "date" else late)(handler, server)

    with ChatServer(faults=[busy]) as server:
        ask(engine_of(server))
        first, second = (seen["began"] for seen in server.requests)
    assert 0.9 <= second - first < 5


def test_an_endpoint_that_asks_for_an_hour_is_not_waited_for():
    with ChatServer(faults=[status(429, "quota", Retry_After="3600")]) as server:
        with pytest.raises(EngineError, match=r"answered 429: quota \(and asks to wait 3,600 s\)"):
            ask(engine_of(server))
        assert len(server.requests) == 1


def test_a_hanging_endpoint_is_left_at_the_deadline():
    with ChatServer(faults=[hang]) as server:
        began = time.monotonic()
        engine = engine_of(server, timeout=0.5, max_tokens=100)
        assert ask(engine)[0].text == "<A>"
        assert 0.5 <= time.monotonic() - began < 4
    assert engine.counters["remote:judge"].tokens >= 110  # what hung may have been answered in full, and be charged


def test_an_answer_that_trickles_is_left_at_the_deadline_too():
    def trickle(handler, server):
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        while not server.released.wait(0.05):
            handler.wfile.write(b" ")

    with ChatServer(faults=[trickle] * 2) as server:
        began = time.monotonic()
        with pytest.raises(EngineError, match="no answer within 0.4 s"):
            ask(engine_of(server, timeout=0.4, retries=1))
        assert time.monotonic() - began < 4


def test_nobody_there_is_an_error_after_the_retries():
    with ChatServer() as server:
        url = server.url
    engine = RemoteEngine({"judge": Remote(url=url, model="m", retries=1)})
    with pytest.raises(EngineError, match="2 attempts; the last one: cannot connect"):
        ask(engine)
    assert engine.counters["remote:judge"].tokens == 0  # nothing was sent


@pytest.mark.parametrize(
    ("code", "words"),
    [(401, ["Incorrect key [key]", "the key comes from JUDGE_KEY"]), (404, ["no such model"]), (400, ["bad"])],
)
def test_a_refusal_is_final_and_says_what_the_endpoint_said_without_the_key(code, words, caplog):
    caplog.set_level(logging.DEBUG)
    said = {401: f"Incorrect key {KEY}", 404: "no such model m", 400: "bad request"}[code]
    with ChatServer(faults=[status(code, said)]) as server:
        engine = engine_of(server, key_env="JUDGE_KEY")
        with pytest.raises(EngineError) as caught:
            ask(engine)
        assert len(server.requests) == 1
    text = str(caught.value)
    assert all(word in text for word in ["remotes.judge", server.url.split("/v1")[0], str(code), *words]), text
    shown = caplog.text + "".join(traceback.format_exception(caught.value)) + repr(engine) + repr(engine.__dict__)
    assert KEY not in shown


def test_a_refusal_without_a_key_names_the_setting():
    fault, words = status(401, "who are you?"), r"who are you\?; set remotes.judge.key_env"
    with ChatServer(faults=[fault]) as server, pytest.raises(EngineError, match=words):
        ask(engine_of(server))


@pytest.mark.parametrize(
    ("value", "words"), [(None, "JUDGE_KEY is not set"), ("  ", "JUDGE_KEY is not set"), ("ключ", "JUDGE_KEY holds")]
)
def test_a_missing_key_is_an_error_before_anything_is_asked(monkeypatch, value, words):
    monkeypatch.delenv("JUDGE_KEY") if value is None else monkeypatch.setenv("JUDGE_KEY", value)
    with pytest.raises(RecipeError, match=words) as caught:
        RemoteEngine({"judge": Remote(url="http://127.0.0.1:1/v1", model="m", key_env="JUDGE_KEY")})
    assert "ключ" not in str(caught.value)


def test_the_key_may_end_in_a_newline(monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", KEY + "\n")
    with ChatServer() as server:
        ask(engine_of(server, key_env="JUDGE_KEY"))
        assert server.requests[0]["headers"]["Authorization"] == f"Bearer {KEY}"


def test_the_limit_stops_before_the_request_that_would_follow_it():
    with ChatServer(usage=40) as server:
        engine = engine_of(server, spend_limit=100)
        for _ in range(3):  # 40, 80, 120
            ask(engine)
        with pytest.raises(
            EngineError, match=r"120 tokens are spent and the limit is 100; .*remotes.judge.spend_limit"
        ):
            ask(engine)
        assert len(server.requests) == 3


def test_the_limit_holds_between_attempts_and_for_what_waits():
    with ChatServer(faults=[body(answer("", usage=60))] * 9) as server:
        with pytest.raises(EngineError, match="120 tokens are spent"):
            ask(engine_of(server, spend_limit=100))
        assert len(server.requests) == 2
    with ChatServer(usage=50) as server:
        with pytest.raises(EngineError, match="limit is 100"):
            ask(engine_of(server, spend_limit=100, concurrency=1), *[request() for _ in range(9)])
        assert len(server.requests) == 2


def test_several_processes_share_a_limit():
    with ChatServer(usage=40) as server:
        engine = RemoteEngine({"judge": Remote(url=server.url, model="m", spend_limit=100)}, processes=4)
        ask(engine)
        with pytest.raises(EngineError, match="limit is 25, of which each of 4 processes has its part"):
            ask(engine)


def test_tokens_are_estimated_where_the_endpoint_counts_none_and_it_says_so_once(caplog):
    with ChatServer(lambda messages: "x" * 30, usage=None) as server:
        engine = engine_of(server)
        ask(engine, request([("user", "y" * 60)]), request([("user", "ж" * 30)]))
    counters = engine.counters["remote:judge"]
    assert (counters.tokens, counters.estimated) == (60, 60)  # twice (60 + 30) bytes at three a token
    assert caplog.text.count("one is counted for every 3 bytes") == 1
    with ChatServer(
        faults=[body(answer("a", None) | {"usage": {"prompt_tokens": 5, "completion_tokens": 2}})]
    ) as server:
        engine = engine_of(server)
        ask(engine)
    assert (engine.counters["remote:judge"].tokens, engine.counters["remote:judge"].estimated) == (7, 0)


def test_a_cut_answer_says_so_and_broken_letters_are_mended():
    lone = answer("half \ud83d", reason="length")
    with ChatServer(faults=[body(lone)]) as server:
        (completion,) = ask(engine_of(server))
    assert (completion.text, completion.finish_reason) == ("half ?", "length")
