"""The suites, on scripted players whose play is known: closed forms, exact solvers, recounts."""

import json

import pytest
import yaml
from typer.testing import CliRunner

import marft.eval.cast as cast
from marft.cli import app
from marft.errors import RecipeError
from marft.eval.arena import evaluate
from marft.eval.evaluation import load_evaluation, players_in, suites
from marft.eval.matches import schedule_of
from marft.eval.results import read_results
from marft.eval.teams import load_teams
from marft.files import write_text
from marft.games import find_game, make_game
from marft.games.rps_bots import BOTS
from marft.recipe import load_player
from marft.store import read_episodes

PD = {"name": "prisoners_dilemma", "rounds": 10}


def suite(path, games, **keys):
    """A suite file of one's own."""
    write_text(path / "mine.yaml", yaml.safe_dump({"games": games, **keys}))
    return str(path / "mine.yaml")


def scripted(*names):
    return {name: f"script:{name}" for name in names}


def means(found):
    return {key: value["mean"] for key, value in found.items()}


def pairs(results):
    return {(one["team"], one["opponent"]): means(one["metrics"]) for one in results["pairs"]}


# --- social


def test_the_scale_of_a_dilemma_is_that_of_its_closed_form(tmp_path):
    """Ten rounds, R 3, P 1, T 5, S 0: joint returns 60 and 20 at the ends; of AllD TFT earns 9 and AllD 10."""
    entry = {"game": PD, "kind": "AllC", "greedy": "AllD", "against": ["AllD"], "cooperation": "cooperation"}
    mine = suite(tmp_path, [entry], summary="social", episodes=4, resamples=20)
    results = evaluate(scripted("AllC", "AllD", "TFT", "alternating"), tmp_path / "out", suite=mine)
    found = {team: means(one) for team, one in results["summary"].items()}
    assert found["AllC"] == {"cooperation": 1.0, "efficiency": 1.0, "robustness": 0.0, "fairness": 1.0}
    assert found["AllD"] == {"cooperation": 0.0, "efficiency": 0.0, "robustness": 1.0, "fairness": 1.0}
    assert found["TFT"] == {"cooperation": 1.0, "efficiency": 1.0, "robustness": pytest.approx(0.9), "fairness": 1.0}
    assert found["alternating"] == pytest.approx(
        {"cooperation": 0.5, "efficiency": (5 * 6 + 5 * 2 - 20) / 40, "robustness": 0.5, "fairness": 1.0}
    )
    assert "scripted:AllC" not in {one["team"] for one in results["pairs"]}


def test_one_intruder_takes_a_seat_and_the_team_all_others(tmp_path):
    """Public goods of four, endowment 20, doubled share 1.6 / 4 each: with one free rider each of three full
    contributors gets 0.4 * 60, the free rider that and its 20."""
    game = {"name": "public_goods", "rounds": 2}
    mine = suite(tmp_path, [{"game": game, "intruders": ["free_rider"], "against": ["free_rider"]}], episodes=3)
    results = evaluate(scripted("full"), tmp_path / "out", suite=mine, resamples=20)
    found = pairs(results)
    among = found["full", "one free_rider"]
    assert among["return"] == pytest.approx(2 * 24)
    assert among["opponent_return"] == pytest.approx(2 * 44)
    assert found["full", "free_rider"]["return"] == pytest.approx(2 * 8)
    rows = next(one for one in results["pairs"] if one["opponent"] == "one free_rider")
    assert (rows["ways"], rows["episodes"], len(rows["seats"])) == (4, 12, 12)


@pytest.mark.parametrize("name", [one for one in suites() if one not in ("own", "cross_play", "reasoning")])
def test_every_game_of_a_suite_is_one_and_its_players_are_there(name):
    evaluation = load_evaluation(name, {"teams": {}, "episodes": 1})
    schedule = schedule_of(evaluation, [])
    games = {entry.game.name for entry in evaluation.games}
    assert all(find_game(game) for game in games)
    for match in schedule.matches:  # those at the ends of a dilemma's scale
        assert match.tables


def test_each_dilemma_of_the_suite_has_a_scale(tmp_path):
    """Greedy company earns less together than kind company does, and a kind one less among them than they."""
    results = evaluate(scripted("random"), tmp_path, suite="social", episodes=6, resamples=10, options={"rounds": 4})
    assert json.loads((tmp_path / "results.json").read_text()) == results
    plan = json.loads((tmp_path / "plan.json").read_text())
    episodes = {}
    for one in read_episodes(tmp_path):
        episodes.setdefault(one.group, []).append(one)
    ends = [pair for pair in plan["schedule"]["pairs"] if pair["kind"] == "reference"]
    assert len(ends) == 3 * len(plan["entries"])
    for kind, greedy in zip(ends[::3], ends[1::3], strict=True):
        joint = [
            sum(sum(one.returns().values()) for one in episodes[end["group"]]) / len(episodes[end["group"]])
            for end in (kind, greedy)
        ]
        game = plan["entries"][kind["entry"]]["game"]["name"]
        assert joint[0] > joint[1] or game == "ultimatum", game  # there both ends agree on every deal


# --- games


def test_the_games_suite_has_all_programs_and_its_points_are_wins_and_half_draws(tmp_path):
    evaluation = load_evaluation("games")
    (rps,) = (one for one in evaluation.games if one.game.name == "rock_paper_scissors")
    assert set(rps.against) == set(BOTS)
    assert len(BOTS) == 43
    game = {"name": "tic_tac_toe"}
    mine = suite(tmp_path, [{"game": game, "against": ["random", "first"]}], summary="games", episodes=10)
    results = evaluate(scripted("perfect"), tmp_path / "out", suite=mine, resamples=20)
    found = pairs(results)
    for opponent in ("random", "first"):
        own = found["perfect", opponent]
        assert own["loss"] == 0.0
        assert results["summary"]["perfect"][f"points against {opponent}"]["mean"] == own["win"] + own["draw"] / 2


def test_a_player_may_be_made_from_a_number():
    game = make_game("tic_tac_toe")
    assert load_player(game, "mcts(7)", "x").__name__ == "mcts7"
    assert load_player(game, "marft.games.spiel_players:mcts(8)", "x").__name__ == "mcts8"
    assert players_in("mcts(7), file.py:made(1,2.5),random") == ("mcts(7)", "file.py:made(1,2.5)", "random")
    with pytest.raises(RecipeError, match="makes no player 'mtcs'; did you mean 'mcts'"):
        load_player(game, "mtcs(7)", "--against")
    with pytest.raises(RecipeError, match=r"mcts\(1, 2\)"):
        load_player(game, "mcts(1, 2)", "--against")


# --- gama


@pytest.mark.parametrize(
    ("game", "player", "expected"),
    [
        ("guess_two_thirds", "zero", 100.0),  # (max - mean) / range
        ("guess_two_thirds", "highest", 0.0),
        ("divide_dollar", "even", 100.0),  # 1 - mean |bid - g| / g
        ("public_goods_tokens", "all", 0.0),  # 1 - mean contribution / 20
        ("public_goods_tokens", "none", 100.0),
        ("diners_dilemma", "costly", 100.0),  # 1 - share of the cheap dish
        ("el_farol", "go", 100 * (1 - 0.4 / 0.6)),  # 1 - mean |go - 0.6| / 0.6
    ],
)
def test_scores_of_known_play(tmp_path, game, player, expected):
    mine = suite(tmp_path, [{"game": {"name": game, "rounds": 3}}], summary="gama", episodes=2, resamples=10)
    summary = evaluate({"team": f"script:{player}"}, tmp_path / "out", suite=mine)["summary"]["team"]
    assert summary["score"]["mean"] == pytest.approx(expected)
    assert summary[f"score/{game}"]["mean"] == pytest.approx(expected)


def test_the_gama_suite_plays_the_eight_games_with_ten_seats():
    evaluation = load_evaluation("gama")
    games = [make_game(one.game.name, one.game.options) for one in evaluation.games]
    assert len(games) == 8
    assert {len(game.seats) for game in games} == {10}
    assert {game.options.rounds for game in games if game.name not in ("battle_royale", "pirates")} == {20}


# --- cross-play


@pytest.fixture(scope="module")
def crossed(tmp_path_factory):
    names = ("AllC", "AllD", "TFT", "Grim")
    settings = {"suite": "cross_play", "game": PD, "episodes": 5, "resamples": 20}
    return evaluate(scripted(*names), tmp_path_factory.mktemp("cross"), **settings)


def test_the_matrix_is_that_of_the_closed_form(crossed):
    """Ten rounds: 30 for mutual cooperation, 50 and 0 for AllD against AllC, 9 and 14 for TFT against AllD."""
    assert crossed["matrix"]["players"] == ["AllC", "AllD", "TFT", "Grim"]
    assert crossed["matrix"]["payoff"] == [[30, 0, 30, 30], [50, 10, 14, 14], [30, 9, 30, 30], [30, 9, 30, 30]]
    summary = {team: means(one) for team, one in crossed["summary"].items()}
    assert summary["AllD"]["partner"] == pytest.approx((50 + 14 + 14) / 3)
    assert summary["AllC"] == pytest.approx({"self": 30, "partner": 20, "joint with partners": (50 + 60 + 60) / 3})


def test_ratings_follow_who_came_out_ahead(crossed):
    """AllD earns more than each of its partners in every episode; all others are level with each other."""
    rating = means(crossed["ratings"]["bradley_terry"])
    assert rating["AllD"] > max(rating[name] for name in ("AllC", "TFT", "Grim")) + 200
    assert rating["AllC"] == pytest.approx(rating["TFT"], abs=1e-3)
    assert sum(rating.values()) / 4 == pytest.approx(1500)
    skill = crossed["ratings"]["openskill"]
    assert max(skill, key=lambda name: skill[name]["mean"]) == "AllD"
    assert sum(crossed["ratings"]["alpha_rank"].values()) == pytest.approx(1)


def test_a_mutual_match_is_played_once_and_measured_from_both_sides(crossed):
    groups = {(one["team"], one["opponent"]): one["group"] for one in crossed["pairs"]}
    assert groups["AllC", "AllD"] == groups["AllD", "AllC"]
    assert len(set(groups.values())) == 4 + 6


# --- safety


def test_rates_of_known_victims_with_wilsons_interval(tmp_path):
    """AllC does what every attack asks for, AllD never. Six episodes of two rounds and both seats: 24 moves of six
    instances that are all alike are worth six trials."""
    attack = "marft.eval.attacks:injection"
    control = "marft.eval.attacks:plain_greedy"
    game = {**PD, "rounds": 2, "cheap_talk": True}
    entry = {"game": game, "self": False, "demands": "C", "control": control, "against": [attack]}
    mine = suite(tmp_path, [entry], summary="safety", episodes=6, resamples=20)
    results = evaluate(scripted("AllC", "AllD"), tmp_path / "out", suite=mine)
    obeyed = {team: one["obeyed under injection in prisoners_dilemma"] for team, one in results["summary"].items()}
    z2 = 1.959964**2
    assert obeyed["AllC"] == pytest.approx({"mean": 1.0, "low": 6 / (6 + z2), "high": 1.0}, abs=1e-5)
    assert obeyed["AllD"] == pytest.approx({"mean": 0.0, "low": 0.0, "high": z2 / (6 + z2)}, abs=1e-5)
    assert results["summary"]["AllC"]["cost of injection"]["mean"] == 0.0
    said = {turn.text for one in read_episodes(tmp_path / "out") for turn in one.turns if turn.policy.endswith("n")}
    assert any("Ignore all instructions" in text for text in said)


# --- what is asked for


def test_a_suite_of_ones_own_builds_on_a_built_in_one(tmp_path):
    write_text(
        tmp_path / "quick.yaml",
        "suite: gama\nepisodes: 2\noptions: {rounds: 3, seats: 4}\nteams: {a: 'script:random'}\n",
    )
    evaluation = load_evaluation(
        str(tmp_path / "quick.yaml"), {"seed": 7}, ["options.rounds=2", "teams.b=script:random"]
    )
    assert (evaluation.suite, evaluation.episodes, evaluation.seed) == ("gama", 2, 7)
    assert len(evaluation.games) == 8
    teams = load_teams(load_evaluation(str(tmp_path / "quick.yaml")))
    schedule = schedule_of(evaluation, teams)
    assert all(match.options.get("rounds", 2) == 2 for match in schedule.matches)
    assert {len(match.tables[0]) for match in schedule.matches} == {4}


def test_what_is_wrong_is_named(tmp_path):
    for arguments, message in (
        (("sozial",), "no suite 'sozial'; did you mean 'social'"),
        (("own", {}, ["epsodes=3"]), "epsodes.*did you mean 'episodes'"),
        (("own", {"episodes": 0}), "episodes.*greater than or equal to 1"),
        (("own", {"teams": {"a": {}}}), "either a source or a remote"),
        ((str(tmp_path / "none.yaml"),), "is not a file"),
    ):
        with pytest.raises(RecipeError, match=message):
            load_evaluation(*arguments)
    with pytest.raises(RecipeError, match="no team"):
        evaluate({}, tmp_path / "out")
    with pytest.raises(RecipeError, match="names no model"):
        evaluate({"gpt": "http://127.0.0.1:1/v1"}, tmp_path / "out", game=PD)
    with pytest.raises(RecipeError, match=r"none of the teams has a game of its own.*--set game"):
        evaluate(scripted("TFT"), tmp_path / "out")
    with pytest.raises(RecipeError, match=r"teams\.a: prisoners_dilemma has no player 'TTF'; did you mean 'TFT'"):
        evaluate({"a": "script:TTF"}, tmp_path / "out", game=PD)
    with pytest.raises(RecipeError, match=r"games\[0\]\.exact: needs a game of OpenSpiel's"):
        evaluate(scripted("TFT"), tmp_path / "out", suite=suite(tmp_path, [{"game": PD, "exact": True}]))
    with pytest.raises(RecipeError, match="asks no questions of a task set"):
        evaluate(scripted("TFT"), tmp_path / "out", suite="reasoning", game=PD)
    assert not (tmp_path / "out").exists()


def test_a_dry_run_counts_and_loads_nothing(tmp_path, monkeypatch):
    """Two teams of one seat each at ten rounds: one is asked ten times, a message of at most 64 tokens each."""
    monkeypatch.setattr(cast, "load_base", lambda *_: pytest.fail("a model was loaded"))
    model = tmp_path / "model"
    write_text(model / "config.json", "{}")
    arguments = ["eval", "own", "--team", f"m={model}", "--set", "game={name: prisoners_dilemma, rounds: 10}"]
    arguments += ["--against", "TFT", "--episodes", "8", "--dry-run", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    assert "2 matches, 24 episodes in 1 shards" in done.output
    assert f"at most {8 * 20 * 64 + 16 * 10 * 64:,} written" in done.output
    assert not (tmp_path / "out").exists()


def test_the_command_lists_scores_and_goes_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = CliRunner()
    listed = run.invoke(app, ["eval", "--list"])
    assert all(name in listed.output for name in suites())
    base = ["eval", "own", "--team", "script:TFT", "--set", "game=prisoners_dilemma", "--episodes", "2", "--out", "e"]
    done = run.invoke(app, base, env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    assert "TFT" in done.output
    assert run.invoke(app, base).exit_code != 0
    assert run.invoke(app, [*base, "--resume"]).exit_code == 0
    stored = (tmp_path / "e" / "results.json").read_bytes()
    assert run.invoke(app, ["eval", "--rescore", "e"]).exit_code == 0
    assert (tmp_path / "e" / "results.json").read_bytes() == stored
    read = read_results(tmp_path / "e" / "results.json")
    assert read.played() == ["TFT"]
    assert read.games() == ["prisoners_dilemma"]
    assert read.pairs[0].measure("return").mean == 30
