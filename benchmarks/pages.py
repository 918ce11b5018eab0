"""The report of eight runs with 50,000 episodes behind it: written, opened in Chromium, searched, gone through.

The runs are trained here: two recipes on the prisoner's dilemma, four seeds each, all episodes their own. What is timed
is seen from outside the browser, so the driver's own time is in it.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from statistics import median

from marft.report.write import read_report

MARFT = [sys.executable, "-m", "marft"]
RECIPES = Path(__file__).parents[1] / "recipes" / "prisoners_dilemma"
NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ["headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking"]
FLAGS += ["disable-component-update", "disable-sync"]
SEEDS, UPDATES = 4, 100
"""2 recipes × 4 seeds × 100 updates × 64 episodes are 51,200."""
NONE = re.compile(r"^0 of [\d,]+ episodes match\.$")
"""What the page says when a search has gone through everything in vain."""
DEADLINE = 60_000
"""Milliseconds."""


def table(rounds: int) -> list[tuple[str, str]]:
    """Rows of results."""
    with tempfile.TemporaryDirectory() as folder:
        wanted = [(name, seed) for name in ("naive", "ad_align") for seed in range(SEEDS)]
        runs = {f"{name}-{seed}": trained(name, seed, Path(folder)) for name, seed in wanted}
        out = Path(folder) / "report.html"
        began = time.perf_counter()
        subprocess.run([*MARFT, "report", *map(str, runs.values()), "--out", str(out)], check=True, capture_output=True)
        written = time.perf_counter() - began
        count = int(sum(run.last("episodes") for run in read_report(runs).runs))
        rows = [
            ("runs, episodes", f"{len(runs)}, {count:,}, each of its own: nothing repeated"),
            ("writing the file", f"{written:.0f} s, Python's start in it"),
            ("size of the file", f"{out.stat().st_size / 1e6:.1f} MB"),
        ]
        browser = next((found for name in NAMES if (found := shutil.which(name))), None)
        if browser is None or find_spec("playwright") is None:
            return [*rows, ("opening it", "not measured: needs chromium and playwright (pip install 'marft[browser]')")]
        return [*rows, *opened(out, browser, rounds)]


def trained(name: str, seed: int, folder: Path) -> Path:
    """The folder of a short run."""
    changes = [f"seed={seed}", f"train.updates={UPDATES}"]
    out = folder / f"{name}-{seed}"
    command = [*MARFT, "train", str(RECIPES / f"{name}.yaml"), *changes, "--out", str(out)]
    subprocess.run(command, check=True, capture_output=True)
    return out


def opened(page_file: Path, chromium: str, rounds: int) -> list[tuple[str, str]]:
    """Each round in a fresh profile, so that nothing is cached."""
    from playwright.sync_api import expect, sync_playwright

    usable, far, searched, asked = [], [], [], []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=[f"--{flag}" for flag in FLAGS])
        for _ in range(rounds + 1):  # the first one warms up
            context = browser.new_context(reduced_motion="reduce")
            page = context.new_page()
            page.on("request", lambda request: asked.append(request.url))
            began = time.perf_counter()
            page.goto(page_file.as_uri(), wait_until="commit")
            page.wait_for_selector("html[data-ready] .row", timeout=DEADLINE)
            usable.append(time.perf_counter() - began)
            page.locator("#list").focus()
            began = time.perf_counter()
            page.keyboard.press("End")
            expect(page.locator("#episode h3")).to_contain_text(f"u{UPDATES - 1:06d}", timeout=DEADLINE)
            far.append(time.perf_counter() - began)
            began = time.perf_counter()
            page.fill("input[name=text]", "no text holds this")
            expect(page.locator("#found")).to_have_text(NONE, timeout=DEADLINE)
            searched.append(time.perf_counter() - began)
            context.close()
        browser.close()
    others = {url for url in asked if not url.startswith("file:")}
    return [
        ("till its list can be used", f"{1000 * median(usable[1:]):.0f} ms, at most {1000 * max(usable[1:]):.0f}"),
        ("showing the last episode", f"{1000 * median(far[1:]):.0f} ms"),
        ("searching every text", f"{median(searched[1:]):.1f} s in the background"),
        ("requests but for the file itself", f"{len(others)}"),
    ]
