"""Runs made by hand, an evaluation, and the page as a parser sees it: what the tests of the report share."""

import base64
import gzip
import json
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from marft.episode import Episode, Turn
from marft.recipe import dump_recipe, load_recipe
from marft.report.write import write_report
from marft.store import write_parquet

RECIPE = Path(__file__).parents[1] / "recipes" / "prisoners_dilemma" / "naive.yaml"
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>&amp;\x00\x1b[31m\u2028\u202e\"'`${1}"


def line(update, **other):
    return {
        "update": update,
        "game/cooperation": 0.5 + update / 100,
        "game/p_c_cc": 0.9,
        "game/p_c_cd": None,
        "game/invalid": 0.0,
        "game/return": 20.0,
        "game/return_alice": 20.0 + update,
        "game/return_bob": 20.0 - update,
        "game/welfare": 4.0 + update,
        "game/alice/cooperation": 0.25,
        "reward/payoff": 40.0,
        "agent/alice/kl": 0.01 * update,
        "agent/alice/grad_norm": 1.5,
        "agent/bob/kl": None,
        "agent/bob/grad_norm": 2.5,
        "episodes/failed": 0.0,
        "episodes": 8 * (update + 1),
        "trained_tokens": 1234 * (update + 1),
        "seconds/rollout": 0.5,
        "seconds/update": 0.25,
    } | other


def play(number, update, text="<A>", gain=3.0, **other):
    turns = [
        Turn(
            "alice", 0, 0, "alice", text, [("user", f"Your choice? {text}")], agent="alice", version=update, action="C"
        ),
        Turn("bob", 0, 1, "bob", "<B>", [("user", "Your choice?")], agent="bob", version=update, action="D"),
    ]
    return Episode(
        id=f"u{update:06d}-g0000-e{number:03d}",
        game="prisoners_dilemma",
        seats=("alice", "bob"),
        team={"alice": "alice", "bob": "bob"},
        seed=7287005709578419157,
        update=update,
        turns=turns,
        rewards=[{"alice": gain, "bob": 5.0}],
        terms={"payoff": {"alice": [gain], "bob": [5.0]}},
        **other,
    )


def make_run(folder, lines=None, episodes=None):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.yaml").write_text(dump_recipe(load_recipe(RECIPE, ["train.updates=40"])), encoding="utf-8")
    (folder / "run.json").write_text(json.dumps({"seed": 0, "versions": {"marft": "0.1.0"}}), encoding="utf-8")
    lines = [line(update) for update in range(4)] if lines is None else lines
    (folder / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines), encoding="utf-8")
    episodes = [play(n, u, gain=n) for u in range(4) for n in range(3)] if episodes is None else episodes
    for update in {one.update for one in episodes}:
        chosen = [one for one in episodes if one.update == update]
        write_parquet(chosen, folder / "episodes" / f"update-{update:06d}.parquet")
    return folder


def measured(mean, low, high):
    return {"mean": mean, "low": low, "high": high}


RESULTS = {
    "schema": 2,
    "suite": "own",
    "teams": {"one": {"kind": "run", "source": "runs/one", "adapters": {}}},
    "settings": {"interval": 0.95},
    "pairs": [
        {"team": "one", "opponent": "self", "kind": "self", "game": "prisoners_dilemma", "episodes": 128,
         "seats": ["alice", "bob"],
         "metrics": {"cooperation": measured(0.8712345, 0.8123, 0.9234), "return": measured(27.15625, 26.5, 27.75)}},
        {"team": "one", "opponent": "AllD", "kind": "scripted", "game": "prisoners_dilemma", "episodes": 64,
         "seats": ["alice", "bob"],
         "metrics": {"cooperation": measured(0.1015625, 0.05, 0.15), "return": measured(9.1015625, 8.75, 9.5),
                     "p_c_cd": measured(None, None, None)}},
    ],
}  # fmt: skip


class Page(HTMLParser):
    """What a browser would make of the file: elements, the data blocks, the <data> values, the visible text."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.values, self.blocks, self.text = [], [], {}, ""
        self._open = []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append((tag, attrs))
        if tag not in ("meta", "img", "input", "br", "link"):
            self._open.append((tag, attrs.get("id")))
        if tag == "data":
            self.values.append(float(attrs["value"]))

    def handle_endtag(self, tag):
        if self._open and self._open[-1][0] == tag:
            self._open.pop()

    def handle_data(self, data):
        if self._open and self._open[-1][0] == "script" and self._open[-1][1]:
            self.blocks[self._open[-1][1]] = self.blocks.get(self._open[-1][1], "") + data
        elif not (self._open and self._open[-1][0] in ("script", "style")):
            self.text += data

    def block(self, name):
        return json.loads(gzip.decompress(base64.b64decode(self.blocks[name])))

    @property
    def index(self):
        return self.block("index")

    @property
    def episodes(self):
        """The whole episodes, each with its texts."""
        pieces = [self.block(name) for name in self.blocks if name.startswith("piece-")]
        return [one | {"texts": piece["texts"]} for piece in pieces for one in piece["episodes"]]


def report(tmp_path, runs, results=None, **options):
    if results is not None:
        (tmp_path / "results.json").write_text(json.dumps(results), encoding="utf-8")
        results = tmp_path / "results.json"
    return Page(write_report(runs, tmp_path / "report.html", results, **options))


NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next((found for name in NAMES if (found := shutil.which(name))), None)
FLAGS = ["headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking"]
FLAGS += ["disable-component-update", "disable-sync"]


def needs_browser():
    """Playwright; the module that asks is skipped, with the reason, where it or a browser is missing."""
    found = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install 'marft[browser]'")
    if CHROMIUM is None:
        pytest.skip(f"needs a browser on the PATH: {', '.join(NAMES)}", allow_module_level=True)
    return found


def open_browser():
    """The browser, for a fixture."""
    with needs_browser().sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=[f"--{flag}" for flag in FLAGS])
        yield opened
        opened.close()
