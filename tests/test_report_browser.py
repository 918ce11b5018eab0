"""The page in a real browser: it opens in silence, asks nobody, and does what its parts promise.

Everything is clicked and typed as a reader would. Chromium of the system and Playwright for Python are needed.
"""

import json
import re

import numpy as np
import pytest
from report_fixtures import HOSTILE, RECIPE, RESULTS, line, make_run, needs_browser, open_browser, play

from marft.episode import Turn
from marft.recipe import dump_recipe, load_recipe
from marft.records import TokenRecord
from marft.report.write import write_report
from marft.store import write_tokens

NARROW = {"viewport": {"width": 360, "height": 740}}

pytestmark = pytest.mark.browser
expect = needs_browser().expect
expect.set_options(timeout=10_000)

MANY = 300


browser = pytest.fixture(scope="module")(open_browser)


@pytest.fixture
def visit(browser):
    """visit(path, hash="", **how): the page, opened; at the end nothing may have been asked for or complained about."""
    heard, contexts = [], []

    def go(path, hash="", **how):
        def asked(url):
            if url.partition("#")[0] != path.as_uri():
                heard.append(url)

        context = browser.new_context(reduced_motion="reduce", **how)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: heard.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: heard.append(f"error: {error}"))
        page.on("request", lambda request: asked(request.url))
        page.goto(path.as_uri() + hash)
        page.wait_for_selector("html[data-ready]", timeout=10_000)
        return page

    yield go
    for context in contexts:
        context.close()
    assert heard == []


def debated(number, *said):
    """A play whose alice names these answers; 7 is right."""
    episode = play(number, 1, gain=number, facts={"answer": "7", "roles": {"alice": "debater"}})
    episode.turns = [
        Turn("alice", n, n, "alice", f"It is {one}.", agent="alice", version=1, action={"answer": one})
        for n, one in enumerate(said)
    ]
    return episode


def runs(folder):
    """One run with episodes of all kinds, tokens of one of them; and another with many."""
    special = [debated(0, "7", "3"), debated(1, "3", "7"), debated(2, "7", "7")]
    special.append(play(3, 1, "quite a needle", gain=30, status="failed", cause="the engine died"))
    odd = play(4, 2, "<C>", gain=-50)
    odd.turns[0].invalid = True
    odd.turns[1].finish_reason = "length"
    for turn, ids in zip(odd.turns, ([11, 12], [13]), strict=True):
        turn.prompt_ids, turn.completion_ids, turn.logprobs = [1, 2, 3], ids, [-0.5] * len(ids)
    one = make_run(folder / "one", episodes=[*special, odd])
    record = TokenRecord(odd.id, "alice", 0, np.array([0.5, -1.0]), np.array([-0.5, -0.51]))
    write_tokens([record], one / "tokens" / "update-000002.parquet")
    return {"one": one, "two": make_run(folder / "two", episodes=[play(n, 0, gain=n) for n in range(MANY)])}


@pytest.fixture(scope="module")
def report(tmp_path_factory, cache):
    folder = tmp_path_factory.mktemp("report")
    return write_report(runs(folder), folder / "report.html", title="Two runs")


def listed(page):
    """Ids of the rows in the page, from the top."""
    return page.locator(".row code").all_inner_texts()


def told(page):
    return page.locator("#found").inner_text()


def test_it_opens_with_all_episodes_and_the_first_one_shown(visit, report):
    page = visit(report)
    assert page.title() == "Two runs"
    assert told(page) == f"{MANY + 5} of {MANY + 5} episodes match."
    assert 5 < page.locator(".row").count() < 60  # of hundreds only those in sight
    expect(page.locator("#episode")).to_contain_text("It is 7.")


@pytest.mark.parametrize(
    ("flag", "number"), [("spoiled", 0), ("mended", 1), ("failed", 3), ("invalid", 4), ("cut", 4), ("tokens", 4)]
)
def test_what_episodes_have_filters_them(visit, report, flag, number):
    page = visit(report)
    page.select_option("select[name=flag]", flag)
    assert [one.rpartition("-")[2] for one in listed(page)] == [f"e00{number}"]


def test_ranges_of_return_and_update_and_the_run_filter_together(visit, report):
    page = visit(report)
    page.fill("input[name=low]", "100")  # the mean of n and 5: n from 195
    assert told(page).startswith("105 of")
    page.fill("input[name=high]", "101")
    assert [one.rpartition("-")[2] for one in listed(page)] == ["e195", "e196", "e197"]
    page.select_option("select[name=run]", "0")
    assert told(page).startswith("0 of")
    page.click("#filters button[type=reset]")
    expect(page.locator("#found")).to_have_text(f"{MANY + 5} of {MANY + 5} episodes match.")
    page.fill("input[name=first]", "1")
    page.fill("input[name=last]", "1")
    assert told(page).startswith("4 of")
    page.select_option("select[name=agent]", "alice")
    assert told(page).startswith("4 of")


def test_order_puts_the_best_or_the_worst_first(visit, report):
    page = visit(report)
    page.select_option("select[name=sort]", "best")
    assert listed(page)[0].endswith(f"e{MANY - 1}")
    page.select_option("select[name=sort]", "worst")
    assert listed(page)[0].endswith("e004")
    page.select_option("select[name=sort]", "newest")
    assert listed(page)[0].startswith("u000002")


def test_search_goes_through_the_texts_and_its_words_are_text(visit, report):
    page = visit(report)
    page.fill("input[name=text]", "A NEEDLE")
    expect(page.locator("#found")).to_have_text(f"1 of {MANY + 5} episodes match.")
    assert listed(page)[0].endswith("e003")
    page.fill("input[name=text]", "the engine died")  # a cause
    expect(page.locator("#found")).to_have_text(f"1 of {MANY + 5} episodes match.")
    page.fill("input[name=text]", ".*")
    expect(page.locator("#found")).to_have_text(f"0 of {MANY + 5} episodes match.")


def test_the_keyboard_goes_everywhere(visit, report):
    page = visit(report)
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.name") == "text"
    page.keyboard.type("u000000-g0000-e01")
    expect(page.locator("#found")).to_have_text(f"10 of {MANY + 5} episodes match.")
    page.keyboard.press("ArrowDown")  # from the search into the list
    page.keyboard.press("ArrowDown")
    expect(page.locator("#episode h3")).to_contain_text("e010")
    page.keyboard.press("ArrowDown")
    expect(page.locator("#episode h3")).to_contain_text("e011")
    page.keyboard.press("End")
    expect(page.locator("#episode h3")).to_contain_text("e019")
    chosen = page.locator("[aria-selected=true]").get_attribute("id")
    assert page.locator("#list").get_attribute("aria-activedescendant") == chosen
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "episode"
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.id") == "list"
    page.keyboard.press("/")
    page.keyboard.press("Escape")
    expect(page.locator("#found")).to_have_text(f"{MANY + 5} of {MANY + 5} episodes match.")
    page.keyboard.press("PageDown")
    assert page.locator("[aria-selected=true]").count() == 1


def test_a_far_row_is_drawn_when_it_is_scrolled_to(visit, report):
    page = visit(report)
    page.evaluate("document.getElementById('list').scrollTop = 1e9")
    expect(page.locator(".row code").last).to_have_text(f"u000000-g0000-e{MANY - 1}")


def test_a_link_leads_to_its_episode(visit, report):
    page = visit(report)
    page.fill("input[name=low]", "100")
    page.locator(".row").nth(3).click()
    expect(page.locator("#episode h3")).to_contain_text("two u000000-g0000-e198")
    link = page.locator("#episode a").get_attribute("href")
    assert page.url.endswith(link)
    other = visit(report, link)
    expect(other.locator("#episode h3")).to_contain_text("two u000000-g0000-e198")
    lost = visit(report, "#episode=two%2Fnone")
    expect(lost.locator("#found")).to_contain_text("no episode two/none")


def test_tokens_show_their_advantage_gap_and_mask(visit, report):
    page = visit(report, "#episode=one%2Fu000002-g0000-e004")
    assert page.get_by_role("button", name="Tokens").count() == 1  # bob's turn was not recorded
    page.get_by_role("button", name="Tokens").click()
    styles = [one.get_attribute("class") for one in page.locator(".strip .token").all()]
    assert styles == ["token masked"] * 3 + ["token vp2", "token vm4"]  # half and all of the largest advantage, 1
    page.locator(".strip .token").nth(4).hover()
    expect(page.locator(".told")).to_contain_text("advantage −1 · log-prob −0.5 where it was sampled")
    expect(page.locator(".told")).to_contain_text("gap of the trainer −0.01 · trained")
    page.locator(".strip").focus()
    page.keyboard.press("Home")
    expect(page.locator(".told")).to_contain_text("heard, not trained")
    page.locator(".tokens select").select_option("gap")
    styles = [one.get_attribute("class").replace(" here", "") for one in page.locator(".strip .token").all()]
    assert styles[3:] == ["token vp0", "token vm3"]  # 0, and one beyond 0.01
    page.locator(".tokens select").select_option("mask")
    assert page.locator(".strip .vp2").count() == 2
    page.get_by_role("button", name="Tokens").click()
    expect(page.locator(".tokens")).to_be_hidden()


def test_curves_tell_their_values(visit, tmp_path):
    shares = (0.0, 0.5, 0.6, 0.7, 0.9)
    found = {}
    for seed, share in enumerate(shares):
        run = make_run(tmp_path / f"s{seed}", [line(u, **{"game/cooperation": share}) for u in range(3)], [])
        (run / "recipe.yaml").write_text(dump_recipe(load_recipe(RECIPE, [f"seed={seed}"])), encoding="utf-8")
        found[f"s{seed}"] = run
    page = visit(write_report(found, tmp_path / "r.html"))
    chart = page.get_by_role("img", name=re.compile("^Cooperation\\."))
    chart.focus()
    page.keyboard.press("ArrowRight")
    figure = page.locator("figure", has=chart)
    expect(figure.locator("output")).to_have_text("0.600 (0.000 to 0.900)")
    assert "update 0" in chart.text_content()


def test_dark_and_back(visit, report):
    page = visit(report, color_scheme="dark")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.click("#theme")
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (dark, light) == ("rgb(20, 23, 27)", "rgb(251, 251, 250)")


CONTRAST = """() => {
  const part = (v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
  const light = (colour) => {
    const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3).map(Number).map(part);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (one) => {
    for (; one; one = one.parentElement) {
      const colour = getComputedStyle(one).backgroundColor;
      if (!colour.endsWith(", 0)")) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const low = new Set();
  const parts = "h1, h2, p, a, dt, dd, th, td, label, .row span, .row code, .badge, .turn span, .turn b, button";
  for (const one of document.querySelectorAll(parts)) {
    if (!one.offsetParent || !one.textContent.trim()) continue;
    const [more, less] = [light(getComputedStyle(one).color), light(behind(one))].sort((x, y) => y - x);
    const ratio = (more + 0.05) / (less + 0.05);
    if (ratio < 4.5) low.add(`${one.className || one.tagName}: ${ratio.toFixed(2)}`);
  }
  return [...low];
}"""
"""Texts whose contrast (WCAG 2, relative luminance) is below 4.5."""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(visit, report, scheme):
    page = visit(report, color_scheme=scheme)
    page.select_option("select[name=flag]", "invalid")
    assert page.evaluate(CONTRAST) == []


def test_everything_that_is_worked_with_has_a_name(visit, report):
    page = visit(report, "#episode=one%2Fu000002-g0000-e004")
    page.get_by_role("button", name="Tokens").click()
    for kind in ("button", "combobox", "searchbox", "spinbutton", "listbox", "link", "img"):
        for one in page.get_by_role(kind).all():
            labels = one.evaluate("e => [...(e.labels || [])].map(l => l.textContent).join()")
            name = one.get_attribute("aria-label") or one.inner_text() or labels
            assert name.strip(), (kind, one.evaluate("e => e.outerHTML"))


def test_a_phone_shows_it_without_scrolling_sideways(visit, report):
    page = visit(report, "#episode=one%2Fu000002-g0000-e004", **NARROW)
    page.get_by_role("button", name="Tokens").click()
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    box = page.locator("#episode").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 360


def test_print_leaves_the_tools_out(visit, report):
    page = visit(report)
    page.emulate_media(media="print")
    for part in ("#filters", "#list", "nav", "#theme", ".tools"):
        expect(page.locator(part).first).to_be_hidden()
    expect(page.locator("#episode .turn").first).to_be_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_hostile_text_stays_text_and_does_not_freeze_the_page(visit, tmp_path):
    owned = HOSTILE.replace("alert(1)", "document.title='owned'").replace("alert(2)", "document.title='owned'")
    episodes = [play(n, 0, owned, gain=n, cause=owned, status="failed") for n in range(2)]
    episodes += [play(2, 0, "W" * 1_000_000, gain=2), play(3, 0, "\u202eevil \u2066rtl", gain=3)]
    episodes.append(play(4, 0, "א" * 500 + "\n" * 5000))
    run = make_run(tmp_path / "one", episodes=episodes)
    page = visit(write_report({owned: run}, tmp_path / "r.html", title="A title"))
    expect(page.locator("#episode")).to_contain_text("<img src=x onerror=")
    page.locator("#list").focus()
    for number in range(1, 5):
        page.keyboard.press("ArrowDown")
        expect(page.locator("#episode h3")).to_contain_text(f"e00{number}")
    page.fill("input[name=text]", "⟨U+202E⟩evil")
    expect(page.locator("#found")).to_have_text("1 of 5 episodes match.")
    assert page.title() == "A title"
    assert page.locator("#episode img, #list img, #episode script").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_an_evaluation_with_cross_play_is_drawn(visit, tmp_path):
    matrix = {"players": ["one", "<b>two</b>"], "payoff": [[27.0, 12.5], [14.0, None]]}
    (tmp_path / "results.json").write_text(json.dumps(RESULTS | {"matrix": matrix}), encoding="utf-8")
    page = visit(write_report({"one": make_run(tmp_path / "one")}, tmp_path / "r.html", tmp_path / "results.json"))
    cells = page.locator("svg.heatmap .cell").all_text_contents()
    assert cells == ["27", "12.5", "14"]
    shades = page.evaluate("[...document.querySelectorAll('svg.heatmap rect.heat')].map(e => getComputedStyle(e).fill)")
    assert len(set(shades)) == 3  # lowest twice, highest, none


def test_a_run_without_episodes_opens_in_silence(visit, tmp_path):
    page = visit(write_report({"one": make_run(tmp_path / "one", episodes=[])}, tmp_path / "r.html"))
    expect(page.locator("#no-episodes")).to_be_visible()
