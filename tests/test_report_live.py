"""A page that follows its run, in a real browser: new updates come in, and the reader's place stays."""

import pytest
from report_fixtures import make_run, needs_browser, open_browser, play
from test_report_watch import go_on, served

from marft.report.watch import Live

pytestmark = pytest.mark.browser
expect = needs_browser().expect
expect.set_options(timeout=10_000)
browser = pytest.fixture(scope="module")(open_browser)


@pytest.fixture
def page(browser):
    context = browser.new_context(reduced_motion="reduce")
    page = context.new_page()
    page.complaints = []
    page.on("console", lambda message: page.complaints.append(message.text))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    yield page
    context.close()


def top(page, part):
    return page.evaluate(f"document.querySelector('{part}').getBoundingClientRect().top")


def test_new_updates_come_in_and_the_readers_place_stays(page, tmp_path):
    run = make_run(tmp_path / "one", episodes=[play(n, u, gain=n) for u in range(4) for n in range(40)])
    with served(Live({"one": run})) as address:
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address)
        page.wait_for_selector("html[data-ready]")
        page.locator("details.more summary").click()
        page.select_option("select[name=sort]", "best")
        page.fill("input[name=low]", "10")
        page.locator(".row").nth(2).click()
        chosen = page.locator("#episode h3").inner_text()
        page.evaluate("document.getElementById('conditional').scrollIntoView()")
        page.evaluate("document.getElementById('list').scrollTop = 300")
        before = top(page, "#conditional")
        go_on(run, 4)
        expect(page.locator("#found")).to_contain_text("of 163 episodes match")
        expect(page.locator(".card").first).to_contain_text("5 of 40")
        assert abs(top(page, "#conditional") - before) < 2
        assert page.locator("details.more").evaluate("one => one.open")
        assert page.input_value("input[name=low]") == "10"
        assert page.input_value("select[name=sort]") == "best"
        assert page.locator("#episode h3").inner_text() == chosen
        assert page.evaluate("document.getElementById('list').scrollTop") == 300
        chart = page.get_by_role("img").first
        chart.focus()
        page.keyboard.press("End")  # new charts are read like the first ones
        assert "update 4" in chart.text_content()
        assert {url.startswith(address) for url in asked} == {True}
    assert page.complaints == []


def test_episodes_come_to_a_run_that_had_none(page, tmp_path):
    run = make_run(tmp_path / "one", lines=[], episodes=[])
    with served(Live({"one": run})) as address:
        page.goto(address)
        expect(page.locator("#no-episodes")).to_be_visible()
        go_on(run, 0)
        expect(page.locator("#found")).to_have_text("3 of 3 episodes match.")
        expect(page.locator("#episode .turn").first).to_be_visible()
        expect(page.locator("svg.curves").first).to_be_visible()


def test_a_server_that_stops_is_told(page, tmp_path):
    with served(Live({"one": make_run(tmp_path / "one")})) as address:
        page.goto(address)
        expect(page.locator("#live")).to_have_text("live")
    expect(page.locator("#live")).to_have_text("the server has stopped")
