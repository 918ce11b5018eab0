"""The report: complete, self-contained, the same bytes for the same run, and deaf to hostile text."""

import json
import math
import re
from pathlib import Path

import pytest
from report_fixtures import HOSTILE, RECIPE, RESULTS, line, make_run, measured, play, report

from marft.errors import RunFolderError
from marft.recipe import dump_recipe, load_recipe
from marft.report.svg import decades, ticks
from marft.report.text import number, short, visible
from marft.report.write import LIVE, SCRIPTS, write_report


def test_the_page_needs_nothing_else(tmp_path):
    page = report(tmp_path, {"one": make_run(tmp_path / "one")}, RESULTS)
    names = [tag for tag, _ in page.tags]
    assert not {"link", "img", "iframe", "object", "embed", "base", "audio", "video", "use", "image"} & set(names)
    for _, attrs in page.tags:
        assert "src" not in attrs
        assert not any(key.startswith("on") or key == "style" for key in attrs)
        assert attrs.get("href", "#").startswith("#")
    assert "@import" not in page.source
    assert "url(" not in page.source
    without_namespace = page.source.replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?://|//[a-z]+\.", without_namespace)


def test_the_content_policy_allows_the_pages_own_scripts_only(tmp_path):
    page = report(tmp_path, {"one": make_run(tmp_path / "one")})
    policy = next(attrs["content"] for tag, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "connect-src" not in policy
    assert policy.count("sha256-") == 5  # style, four scripts


def test_the_same_run_gives_the_same_bytes(tmp_path):
    run = make_run(tmp_path / "one")
    (tmp_path / "results.json").write_text(json.dumps(RESULTS), encoding="utf-8")
    first = write_report({"one": run}, tmp_path / "a.html", tmp_path / "results.json").read_bytes()
    second = write_report({"one": run}, tmp_path / "b.html", tmp_path / "results.json").read_bytes()
    assert first == second
    assert str(tmp_path).encode() not in first


def test_hostile_text_stays_text(tmp_path):
    run = make_run(
        tmp_path / "one",
        lines=[line(0, **{f"game/{HOSTILE}": 1.0, f"agent/{HOSTILE.replace('/', '')}/kl": 1.0})],
        episodes=[play(0, 0, HOSTILE, status="failed", cause=HOSTILE, facts={"said": HOSTILE}), play(1, 0)],
    )
    results = json.loads(json.dumps(RESULTS))
    results["pairs"][0]["game"] = results["pairs"][0]["team"] = results["pairs"][1]["opponent"] = HOSTILE
    results["pairs"][0]["metrics"][HOSTILE] = measured(1.0, 0.5, 2.0)
    page = report(tmp_path, {HOSTILE: run}, results, title=HOSTILE)
    scripts = [attrs for tag, attrs in page.tags if tag == "script"]
    plain, data = [one for one in scripts if not one], [one for one in scripts if one]
    assert len(plain) == 4
    assert {one["type"] for one in data} == {"text/plain"}
    assert [one["id"].partition("-")[0] for one in data] == ["index", "piece"]
    assert "img" not in [tag for tag, _ in page.tags]
    assert "alert(1)" in page.text
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u202e]", page.source)
    said = [one["texts"][turn[3]] for one in page.episodes for turn in one["turns"]]
    assert visible(HOSTILE) in said


def test_the_scripts_never_turn_data_into_markup():
    for name in dict.fromkeys(SCRIPTS + LIVE):
        script = (Path(__file__).parents[1] / "marft" / "report" / name).read_text(encoding="utf-8")
        assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|Function\(|XMLHttp", script)
        assert ("fetch(" in script) == (name == "live.js")


def test_tables_hold_the_numbers_of_the_results(tmp_path):
    page = report(tmp_path, {"one": make_run(tmp_path / "one")}, RESULTS)
    for pairing in RESULTS["pairs"]:
        for value in pairing["metrics"].values():
            if value["mean"] is not None:
                assert value["mean"] in page.values
    for shown in ("0.871", "0.812 to 0.923", "27.16", "26.50 to 27.75", "9.102", "8.750 to 9.500", "95% interval"):
        assert shown in page.text


def test_recent_means_are_those_of_the_last_ten_updates(tmp_path):
    lines = [line(update, **{"game/cooperation": update / 64}) for update in range(20)]
    page = report(tmp_path, {"one": make_run(tmp_path / "one", lines)})
    assert sum(range(10, 20)) / 10 / 64 in page.values  # cooperation
    assert 20 + sum(range(10, 20)) / 10 in page.values  # alice's return


def test_a_card_tells_what_the_run_was(tmp_path):
    text = report(tmp_path, {"one": make_run(tmp_path / "one")}).text
    for fact in (
        "naive",
        "prisoners_dilemma",
        "baseline loo",
        "tiny",
        "4 of 40",
        "32",
        "4,936",
        "3.0 s",
        "marft 0.1.0",
    ):
        assert fact in text


def reseeded(folder, lines=None, *changes):
    run = make_run(folder, lines)
    (run / "recipe.yaml").write_text(dump_recipe(load_recipe(RECIPE, ["train.updates=40", *changes])), encoding="utf-8")
    return run


def curve(page, title):
    """What the chart of that title tells those who cannot see it."""
    words = [attrs["aria-label"] for tag, attrs in page.tags if tag == "svg" and "curves" in attrs.get("class", "")]
    return next(label for label in words if label.startswith(f"{title}."))


def test_two_recipes_are_compared_in_one_chart_and_by_what_differs(tmp_path):
    one, two = make_run(tmp_path / "one"), reseeded(tmp_path / "two", None, "seed=7", "optimizer.learning_rate=0.5")
    page = report(tmp_path, {"one": one, "two": two})
    assert curve(page, "Cooperation") == "Cooperation. one: 0.500 to 0.530; two: 0.500 to 0.530"
    assert "Where the recipes differ" in page.text
    assert "optimizer.learning_rate" in page.text
    assert "Episodes" in page.text


def seeds(tmp_path, *shares):
    """Runs of one recipe with these constant shares of cooperation."""
    return {
        f"run{n}": reseeded(tmp_path / f"run{n}", [line(u, **{"game/cooperation": v}) for u in range(4)], f"seed={n}")
        for n, v in enumerate(shares)
    }


def test_seeds_of_one_recipe_are_a_line_in_the_middle_of_a_band(tmp_path):
    page = report(tmp_path, seeds(tmp_path, 0.0, 0.5, 0.6, 0.7, 0.9))  # the middle half of five: all but both ends
    assert curve(page, "Cooperation") == "Cooperation. naive: 0.600 to 0.600"
    path = next(attrs for tag, attrs in page.tags if tag == "path" and "data-low" in attrs)
    middle, low, high = (
        {float(y) for y in re.findall(r"[ML][\d.]+ ([\d.]+)", path[key])} for key in ("d", "data-low", "data-high")
    )
    assert (middle, low, high) == ({80.4}, {186.0}, {27.6})  # 0.6, 0 and 0.9 of an axis from 186 (0) up to 10 (1)
    assert "band c0 d0" in [attrs.get("class") for tag, attrs in page.tags if tag == "path"]
    assert "in a band from the lowest to the highest seed" in page.text
    assert "0, 1, 2, 3, 4" in page.text


def test_a_named_group_is_one_whatever_its_recipes_are(tmp_path):
    runs = list(seeds(tmp_path, 0.2, 0.4).values())
    other = reseeded(tmp_path / "other", None, "seed=9", "optimizer.learning_rate=0.5")
    page = report(tmp_path, {"mine": [*runs, other]})
    assert curve(page, "Cooperation").startswith("Cooperation. mine: ")
    assert [one["name"] for one in page.index["runs"]] == ["mine/run0", "mine/run1", "mine/other"]
    assert [one["hue"] for one in page.index["runs"]] == [0, 0, 0]


def test_the_table_has_the_seeds_interval_or_their_span_where_they_are_few(tmp_path):
    """Of seven, one of them lucky, a resample holds the lucky one three times with 0.065 and four times with 0.011: the
    upper end of the interval is the middle of the former, (3 · 0.25 + 2 · 0.75) / 5."""
    few = report(tmp_path, seeds(tmp_path, 0.125, 0.25, 0.5)).text
    assert "0.2920.125 to 0.500" in few  # of three the plain mean
    assert "0.2500.250 to 0.450" in report(tmp_path, seeds(tmp_path, *[0.25] * 6, 0.75)).text
    alone = report(tmp_path, {"run0": tmp_path / "run0"})
    assert "bootstrap over seeds" not in alone.text


def test_without_results_there_is_no_evaluation(tmp_path):
    page = report(tmp_path, {"one": make_run(tmp_path / "one")})
    assert "Evaluation" not in page.text
    assert "Conditional cooperation" in page.text


def test_results_alone_make_a_report(tmp_path):
    page = report(tmp_path, {}, RESULTS)
    assert 27.15625 in page.values
    assert "Learning curves" not in page.text


def test_a_game_without_cooperation_shows_its_own_metrics(tmp_path):
    lines = [{"update": u, "game/solved": u / 4, "game/tries": 3.0, "seconds/rollout": 1.0} for u in range(4)]
    page = report(tmp_path, {"one": make_run(tmp_path / "one", lines)})
    titles = [attrs["aria-label"] for tag, attrs in page.tags if tag == "svg" and "curves" in attrs.get("class", "")]
    assert titles == ["Solved. one: 0.000 to 0.750"]
    assert "Tries 3" in page.text  # constant: told, not drawn
    assert "Cooperation" not in page.text
    assert "Conditional" not in page.text


def test_null_metrics_leave_gaps_and_dashes(tmp_path):
    lines = [line(u, **{"game/cooperation": None, "game/p_c_cc": None if u == 1 else 0.5}) for u in range(4)]
    page = report(tmp_path, {"one": make_run(tmp_path / "one", lines)})
    charts = [attrs["aria-label"] for tag, attrs in page.tags if tag == "svg" and "curves" in attrs.get("class", "")]
    assert "Cooperation. one: no values" in charts
    paths = [
        attrs["d"] for tag, attrs in page.tags if tag == "path" and attrs.get("class", "").startswith("line c0 d0")
    ]
    assert any(path.count("M") == 2 and "L" in path for path in paths)
    assert "NaN" not in page.source.replace("isNaN", "")


def test_a_cut_last_line_is_left_out(tmp_path):
    run = make_run(tmp_path / "one")
    with open(run / "metrics.jsonl", "a", encoding="utf-8") as file:
        file.write('{"update": 4, "game/coop')
    assert "4 of 40" in report(tmp_path, {"one": run}).text


def test_a_run_without_any_update_says_so(tmp_path):
    run = make_run(tmp_path / "one", lines=[], episodes=[])
    (run / "metrics.jsonl").unlink()
    page = report(tmp_path, {"one": run})
    assert "No update has been recorded yet." in page.text
    assert "No episodes on disk." in page.text


def test_a_run_that_has_begun_stands_beside_one_that_has_not(tmp_path):
    begun, fresh = make_run(tmp_path / "one"), make_run(tmp_path / "two", lines=[], episodes=[])
    page = report(tmp_path, {"one": begun, "two": fresh})
    assert 20.0 in page.values
    assert "No update has been recorded yet." in page.text


def test_what_cannot_be_read_is_named(tmp_path):
    run = make_run(tmp_path / "one")
    with pytest.raises(RunFolderError, match="is no run folder"):
        write_report({"x": tmp_path / "nothing"}, tmp_path / "r.html")
    with pytest.raises(RunFolderError, match="name at least one run"):
        write_report({}, tmp_path / "r.html")
    with pytest.raises(RunFolderError, match="cannot be read"):
        write_report({"one": run}, tmp_path / "r.html", tmp_path / "no.json")
    (tmp_path / "bad.json").write_text('{"schema": 9}', encoding="utf-8")
    with pytest.raises(RunFolderError, match="schema 9"):
        write_report({"one": run}, tmp_path / "r.html", tmp_path / "bad.json")
    (tmp_path / "bad.json").write_text('{"schema": 2, "pairs": [{"team": "a"}]}', encoding="utf-8")
    with pytest.raises(RunFolderError, match=r"pairs\.0\.opponent"):
        write_report({"one": run}, tmp_path / "r.html", tmp_path / "bad.json")
    (run / "metrics.jsonl").write_text("{]\n", encoding="utf-8")
    with pytest.raises(RunFolderError, match=r"metrics\.jsonl is damaged"):
        write_report({"one": run}, tmp_path / "r.html")
    assert not (tmp_path / "r.html").exists()


def test_all_episodes_are_listed_and_told(tmp_path):
    page = report(
        tmp_path,
        {"one": make_run(tmp_path / "one", episodes=[play(n, u, gain=n) for u in range(5) for n in range(50)])},
    )
    assert len(page.index["columns"]["id"]) == 250
    assert [one["id"] for one in page.episodes] == page.index["columns"]["id"]
    assert page.index["columns"]["score"][:50] == [(n + 5) / 2 for n in range(50)]  # alice n, bob 5
    assert "All 250 episodes on disk are listed." in page.text


def test_long_texts_are_cut(tmp_path):
    page = report(tmp_path, {"one": make_run(tmp_path / "one", episodes=[play(0, 0, "x" * 1_000_000)])})
    assert len(page.source) < 300_000
    told = next(text for text in page.episodes[0]["texts"] if text.startswith("xxx"))
    assert "980000 characters left out here" in told


def test_an_episode_can_be_traced_to_its_file_and_seed(tmp_path):
    page = report(tmp_path, {"one": make_run(tmp_path / "one")})
    one = page.episodes[0]
    assert one["id"] == "u000000-g0000-e000"
    assert one["file"] == "update-000000.parquet"
    assert one["seed"] == "7287005709578419157"  # as text: a float would round it
    assert one["terms"] == {"payoff": [0.0, 5.0]}


def test_a_long_run_is_drawn_with_means_of_bins(tmp_path):
    page = report(tmp_path, {"one": make_run(tmp_path / "one", [line(u) for u in range(1000)])})
    assert "Each point is the mean of 5 updates." in page.text
    paths = [attrs["d"] for tag, attrs in page.tags if tag == "path" and attrs.get("class", "").startswith("line")]
    assert max(path.count("L") + path.count("M") for path in paths) == 200


def test_out_may_be_a_folder(tmp_path):
    (tmp_path / "pages").mkdir()
    assert write_report({"one": make_run(tmp_path / "one")}, tmp_path / "pages") == tmp_path / "pages" / "report.html"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.5, "0.500"), (27.15625, "27.16"), (-1.5, "−1.500"), (1.2e-7, "1.2e−7"), (12345.6, "12,346"), (0.0, "0.000"),
     (None, "–"), (math.nan, "–"), (math.inf, "–")],
)  # fmt: skip
def test_numbers_are_written_for_people(value, text):
    assert number(value) == text


def test_axis_labels_are_short_and_ticks_round():
    assert ticks(0, 1) == [0, 0.25, 0.5, 0.75, 1]
    assert ticks(3, 3)[0] < 3 < ticks(3, 3)[-1]
    assert ticks(0, 3, whole=True) == [0, 1, 2, 3]
    assert decades(2e-8, 3e-3)[0] <= 2e-8 < 3e-3 <= decades(2e-8, 3e-3)[-1]
    assert [short(v) for v in (0.25, 20000, 1.5e-7, -3, 0)] == ["0.25", "20k", "1.5e−7", "−3", "0"]


def test_control_characters_become_signs_and_letters_stay():
    assert visible("a\x1b[31m\x00\x7f") == "a␛[31m␀␡"
    assert visible("\u202eab\ud800\x9b\u2028\ufeff") == "⟨U+202E⟩ab⟨U+D800⟩⟨U+009B⟩⟨U+2028⟩⟨U+FEFF⟩"
    assert visible("naïve 日本\u3000語 👩\u200d🚀\tx\ny") == "naïve 日本\u3000語 👩\u200d🚀\tx\ny"
