"""A chat endpoint in a seat: recipes, rollouts, trees, training, evaluation, and a person at the same table."""

import pytest
import yaml
from chat_server import ChatServer, hang
from trainer_fixtures import Rig, equal, make_recipe, recipe_data, snapshot
from tree_play import plan_of, replayed
from tree_play import play as play_tree

from marft.config import Remote
from marft.engines import remote as module
from marft.engines.remote import RemoteEngine
from marft.errors import EngineError, RecipeError, RunFolderError
from marft.eval.arena import evaluate
from marft.opponents import trained_table
from marft.plan import cost
from marft.recipe import apply_override, dump_recipe, parse_recipe
from marft.store import read_episodes
from marft.train.folder import read_metrics
from marft.train.loop import train

KEY = "sk-very-secret-4711"


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    monkeypatch.setattr(module, "BACKOFF", 0.01)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("JUDGE_KEY", KEY)


def seated(server, *overrides, **remote):
    """Overrides that put an endpoint into bob's seat."""
    entry = {"url": server.url, "model": "m", "key_env": "JUDGE_KEY"} | remote
    flow = yaml.safe_dump(entry, default_flow_style=True, width=1000).strip()
    return ("agents.bob=null", "team.bob={remote: judge}", f"remotes={{judge: {flow}}}", *overrides)


def tit_for_tat(messages):
    """Cooperates at first, then does what the message says that the other did."""
    return (
        "<B>" if len(messages) > 2 and "other" in messages[-1]["content"] and "B" in messages[-1]["content"] else "<A>"
    )


def chat_of(episode, seat):
    """Each prompt that a seat's endpoint must have seen, put together from what the episode recorded."""
    heard, prompts = [], []
    for turn in episode.turns_of(seat):
        for number, (role, text) in enumerate(turn.messages):
            if number and heard[-1][0] == role:
                heard[-1] = (role, f"{heard[-1][1]}\n\n{text}")
            else:
                heard.append((role, text))
        prompts.append(tuple(heard))
        heard.append(("assistant", turn.text))
    return prompts


def sent(server):
    return [tuple((one["role"], one["content"]) for one in seen["body"]["messages"]) for seen in server.requests]


# --- recipes


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("team.bob={remote: jugde}", ["team.bob.remote", "'jugde'", "did you mean 'judge'"]),
        ("team.bob={pool: [alice, {remote: x9}]}", ["team.bob.pool[1].remote", "'x9'", "judge"]),
        ("remotes.judge.modle=x", ["remotes.judge.modle", "did you mean 'model'"]),
        ("remotes.judge.api_key=sk-4711", ["remotes.judge.api_key", "unknown key", "key_env"]),
        ("remotes.judge.key_env=sk-4711", ["remotes.judge.key_env", "name of an environment variable"]),
        ("remotes.judge.key_env=sk_4711", ["remotes.judge.key_env", "name of an environment variable"]),
        ("remotes.judge.url=https://sk-4711@host/v1", ["remotes.judge.url", "key_env"]),
        ("remotes.judge.url=https://host/v1?key=sk-4711", ["remotes.judge.url", "key_env"]),
        ("remotes.judge.url=host/v1", ["remotes.judge.url", "https://host/v1"]),
        ("remotes.judge.url=http://host:99999/v1", ["remotes.judge.url", "https://host/v1"]),
        ("remotes.judge.spend_limit=0", ["remotes.judge.spend_limit", "0"]),
        ("remotes={judge: {url: http://h/v1}}", ["remotes.judge.model", "missing"]),
        ("remotes={'a b': {url: http://h/v1, model: m}}", ["remotes.a b", "letters"]),
        ("team.alice={remote: judge, scripted: TFT}", ["team.alice", "exactly one"]),
    ],
)
def test_what_is_written_wrongly_is_named_and_no_key_repeated(change, words):
    data = recipe_data("remotes={judge: {url: http://h/v1, model: m, key_env: JUDGE_KEY}}", "team.bob={remote: judge}")
    apply_override(data, "agents.bob=null")
    apply_override(data, change)
    with pytest.raises(RecipeError) as caught:
        parse_recipe(data)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert "4711" not in str(caught.value)


def test_without_any_remotes_the_error_shows_how_to_add_one():
    with pytest.raises(RecipeError, match=r"team.bob.remote: no remote 'judge'; add remotes.judge: \{url"):
        parse_recipe(recipe_data() | {"agents": {"alice": {}}, "team": {"bob": {"remote": "judge"}}})


def test_a_recipe_with_an_endpoint_comes_back_from_its_dump_and_costs_no_tokens_of_its_own():
    with ChatServer() as server:
        recipe = make_recipe(*seated(server, temperature=0.3))
    text = dump_recipe(recipe)
    assert parse_recipe(yaml.safe_load(text)) == recipe
    assert KEY not in text
    assert str(recipe.team["bob"]) == "remote:judge"
    scripted = cost(make_recipe("agents.bob=null", "team.bob={scripted: TFT}"))
    assert cost(recipe) == scripted


# --- play


def test_a_remote_seat_hears_its_whole_conversation_every_time():
    with ChatServer(tit_for_tat) as server:
        rig = Rig(*seated(server, "rollout={groups: 2, group_size: 2}", "game.rounds=4"))
        episodes = rig.play()
        found = sent(server)
    assert len(episodes) == 4
    expected = [prompt for episode in episodes for prompt in chat_of(episode, "bob")]
    assert len(expected) == 16
    assert sorted(found) == sorted(expected)
    assert {len(prompt) for prompt in expected} >= {7}  # of the fourth round: four messages, three answers
    for episode in episodes:
        assert episode.team["bob"] == "remote:judge"
        for turn in episode.turns_of("bob"):
            assert (turn.policy, turn.agent, turn.version) == ("remote:judge", None, -1)
            assert (turn.prompt_ids, turn.completion_ids, turn.logprobs) == ([], [], [])
            assert turn.text in ("<A>", "<B>")
        for turn in episode.turns_of("alice"):
            assert turn.agent == "alice"
            assert turn.completion_ids


def test_of_seats_that_turn_the_endpoint_keeps_its_own_view(monkeypatch):
    with ChatServer() as server:
        rig = Rig(*seated(server, "rollout={groups: 2, group_size: 1, swap_seats: true}"))
        first, second = rig.play()
        found = sent(server)
    assert (first.team, second.team) == (
        {"alice": "alice", "bob": "remote:judge"},
        {"alice": "remote:judge", "bob": "alice"},
    )
    assert sorted(found) == sorted([*chat_of(first, "bob"), *chat_of(second, "alice")])


def test_paths_of_a_tree_keep_their_conversations_apart(chat):
    """What each path recorded is what its endpoint was told; answers differ from sample to sample."""
    count = iter(range(10_000))
    with ChatServer(lambda messages: str(next(count) % 4)) as server:
        engine = RemoteEngine({"judge": Remote(url=server.url, model="m", concurrency=4)})
        team = {"left": "alice", "right": "remote:judge"}
        episodes = play_tree(chat, plan_of("tree", samples=2), team=team, remote=engine)
        found = sent(server)
    assert len({episode.id for episode in episodes}) == len(episodes) >= 4
    for episode in episodes:
        replayed(episode)
    expected = {prompt for episode in episodes for prompt in chat_of(episode, "right")}
    assert expected == set(found)
    assert len({prompt for prompt in expected if len(prompt) > 2}) > 1


def test_a_deadline_of_the_rollout_ends_a_wait_for_the_endpoint():
    with ChatServer(faults=[hang] * 9) as server:
        rig = Rig(*seated(server, "rollout.deadline=0.5"))
        with pytest.raises(EngineError, match=r"rollout\.deadline"):
            rig.play()


# --- training


def test_the_agent_learns_beside_an_endpoint_that_fails_now_and_then(tmp_path):
    import chat_server as faults

    broken = [None, faults.status(500), None, faults.body(b"{"), faults.cut, None, faults.status(429, Retry_After="0")]
    with ChatServer(tit_for_tat, broken) as server:
        recipe = make_recipe(*seated(server, "train={updates: 3, save_every: 2}"))
        start = Rig(*seated(server), shaken=0.0)
        folder = train(recipe, tmp_path / "run")
        asked = len(server.requests)
    episodes = list(read_episodes(folder))
    assert len(episodes) == 3 * 2 * 3
    assert asked == len(episodes) * 3 + 4  # three rounds each, and four faults
    assert {turn.policy for episode in episodes for turn in episode.turns_of("bob")} == {"remote:judge"}
    assert [line["update"] for line in read_metrics(folder / "metrics.jsonl")] == [0, 1, 2]
    assert sorted(path.name for path in (folder / "adapters").iterdir()) == ["alice"]
    before = snapshot(start.bank, "alice")
    start.bank.load("trained", folder / "adapters" / "alice")
    after = snapshot(start.bank, "trained")
    assert not equal(before, {name: after[other] for name, other in zip(before, after, strict=True)})
    for path in folder.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path


def test_a_run_that_has_spent_its_limit_stops_and_goes_on_with_a_higher_one(tmp_path):
    # An update asks 2 × 3 × 3 = 18 times; 500 tokens are the 50 requests of two updates and most of a third.
    settings = {"spend_limit": 500, "concurrency": 1}
    with ChatServer(tit_for_tat) as server:
        run = ("train={updates: 4, save_every: 1}",)
        with pytest.raises(EngineError, match=r"500 tokens are spent.*remotes\.judge\.spend_limit"):
            train(make_recipe(*seated(server, *run, **settings)), tmp_path / "run")
        with pytest.raises(EngineError, match="500 tokens are spent"):
            train(make_recipe(*seated(server, *run, **settings)), tmp_path / "run", resume=True)
        assert len(server.requests) == 50
        train(make_recipe(*seated(server, *run, **(settings | {"spend_limit": 1000}))), tmp_path / "run", resume=True)
        assert len(server.requests) == 50 + 36
    metrics = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert [line["update"] for line in metrics] == [0, 1, 2, 3]
    assert [line["remote/judge/answers"] for line in metrics] == [18, 36, 50 + 18, 50 + 36]
    assert [line["remote/judge/tokens"] for line in metrics] == [180, 360, 680, 860]


def test_a_file_of_what_was_spent_that_cannot_be_read_stops_a_resumed_run_and_stays(tmp_path):
    with ChatServer(tit_for_tat) as server:
        folder = train(make_recipe(*seated(server, "train.updates=1")), tmp_path / "run")
        (folder / "spending.json").write_text("{")
        with pytest.raises(RunFolderError, match="spending.json cannot be read"):
            train(make_recipe(*seated(server, "train.updates=2")), folder, resume=True)
        assert (folder / "spending.json").read_text() == "{"


def test_processes_of_a_launch_share_the_limit(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    with ChatServer() as server:
        rig = Rig(*seated(server, spend_limit=400, concurrency=1))
        with pytest.raises(EngineError, match="100 tokens are spent and the limit is 100, of which each of 4"):
            rig.play()
        assert len(server.requests) == 10


def test_a_run_without_its_key_does_not_start(tmp_path, monkeypatch):
    monkeypatch.delenv("JUDGE_KEY")
    with ChatServer() as server, pytest.raises(RecipeError, match="JUDGE_KEY is not set"):
        train(make_recipe(*seated(server)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


# --- afterwards


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run beside an endpoint, whose recipe names the address of one that is gone by now."""
    with pytest.MonkeyPatch.context() as patch, ChatServer(tit_for_tat) as server:
        patch.setenv("JUDGE_KEY", KEY)
        patch.setenv("NO_PROXY", "127.0.0.1")
        return train(make_recipe(*seated(server, "train.updates=1")), tmp_path_factory.mktemp("remote") / "run")


def moved(run, server):
    """The run with its endpoint at the server's address."""
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    recipe["remotes"]["judge"]["url"] = server.url
    (run / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return run


def test_in_the_arena_the_endpoint_keeps_its_seat_in_self_play_and_is_not_measured(run, tmp_path):
    with ChatServer(tit_for_tat) as server:
        results = evaluate({"one": moved(run, server)}, tmp_path, against="AllD", episodes=3, resamples=20)
        asked = len(server.requests)
    assert asked == 3 * 3  # the rounds of self-play's three episodes
    assert {(pair["opponent"], *pair["seats"]) for pair in results["pairs"]} == {("self", "alice"), ("AllD", "alice")}
    teams = {tuple(episode.team.items()) for episode in read_episodes(tmp_path)}
    assert teams == {
        (("alice", "one/alice"), ("bob", "remote:judge")),
        (("alice", "one/alice"), ("bob", "scripted:AllD")),
    }


def test_the_arena_asks_for_the_key_first(run, tmp_path, monkeypatch):
    monkeypatch.delenv("JUDGE_KEY")
    with pytest.raises(RecipeError, match=r"remotes\.judge\.key_env: the environment variable JUDGE_KEY is not set"):
        evaluate({"one": run}, tmp_path, against="none")


def test_a_person_may_sit_at_the_endpoints_table(run):
    import io

    from rich.console import Console

    from marft.play import play

    with ChatServer(tit_for_tat) as server:
        table = trained_table("prisoners_dilemma", {}, "alice", moved(run, server))
        episode = play(table, 0, Console(file=io.StringIO()), ask=lambda prompt: "<A>")
        assert sorted(sent(server)) == sorted(chat_of(episode, "bob"))
    assert episode.team == {"alice": "person:you", "bob": "remote:judge"}
    assert [turn.text for turn in episode.turns_of("bob")] == ["<A>"] * 3
