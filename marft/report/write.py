"""The page: gather, lay out by the template, write whole.

The content policy in the page's head forbids every connection and every script but the page's own (by their hashes), so
even a hole in the escaping could run nothing; a page that is served live may ask its own server, and no other. Whatever
the template prints is made `visible` and escaped on its way.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from marft.errors import RunFolderError
from marft.eval.results import Results, read_results
from marft.files import write_text
from marft.report.curves import conditional_figures, main_figures, other_figures, recent_rows, time_figure
from marft.report.evaluation import comparison, cross_play_figures, full_table, opponent_figures
from marft.report.groups import FEW, Group, grouped
from marft.report.names import name_of
from marft.report.pieces import Piece, Store, index
from marft.report.runs import WINDOW, Run, algorithm_summary, differences, read_run
from marft.report.text import count, number, visible

SCRIPTS = ("page.js", "index.js", "episode.js", "browser.js")
LIVE = ("page.js", "index.js", "episode.js", "live.js", "browser.js")
"""Of a page that is served."""

Runs = Mapping[str, Path | Sequence[Path]]
"""A run's name -> its folder, or a group's name -> the folders of its runs."""


def write_report(runs: Runs, out: Path, results: Path | None = None, title: str | None = None) -> Path:
    """Write one self-contained HTML file on the run folders `runs` and return where it is.

    Runs that differ in nothing but their seed are shown as one, and so are those of a named group. results: a
    results.json of `marft eval`; adds the comparison and the evaluation. out: the file, or a folder that then gets
    report.html. Raises RunFolderError for a folder that is no run and for damaged files; a run that has not recorded
    anything yet is shown as such.
    """
    out = Path(out) / "report.html" if Path(out).is_dir() else Path(out)
    report = read_report(runs, results, title)
    store = Store()
    pieces = store.pieces(report.runs)
    text = render(report, pieces, store.problems())
    try:
        write_text(out, text)
    except OSError as error:
        raise RunFolderError(f"report {out} cannot be written: {error.strerror}; choose another --out") from None
    return out


@dataclass(frozen=True)
class Report:
    """What the page is about: runs, as the groups they are shown in, and an evaluation."""

    groups: Sequence[Group]
    results: Results | None
    title: str

    @functools.cached_property
    def runs(self) -> list[Run]:
        return [run for group in self.groups for run in group.runs]

    def hues(self) -> list[int]:
        """The colour of each run: its group's."""
        return [hue for hue, group in enumerate(self.groups) for _ in group.runs]


def read_report(runs: Runs, results: Path | None = None, title: str | None = None) -> Report:
    """Read everything but the episodes."""
    if not runs and results is None:
        raise RunFolderError("report: name at least one run folder, or results of an evaluation")
    read: list[Run] = []
    given: dict[str, list[Run]] = {}
    for name, place in runs.items():
        name = visible(name)
        if isinstance(place, str | Path):
            read.append(read_run(name, Path(place)))
        else:
            given[name] = [read_run(f"{name}/{visible(Path(one).resolve().name)}", Path(one)) for one in place]
            read += given[name]
    groups = grouped(read, given)
    found = read_results(Path(results)) if results is not None else None
    named = ", ".join(group.name for group in groups) or "evaluation"
    return Report(groups, found, title or f"Training report: {named}")


def render(report: Report, pieces: Sequence[Piece], problems: Sequence[str] = (), live: str = "") -> str:
    """The page as text; the same input gives the same text.

    live: of a page that is served, the state of the runs that it shows; the pieces are served beside it then.
    """
    environment = Environment(
        loader=PackageLoader("marft.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: value if isinstance(value, Markup) else visible(value),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "metric": name_of}
    groups, results = report.groups, report.results
    episodes = sum(len(piece.rows) for piece in pieces)
    return environment.get_template("page.html.j2").render(
        title=report.title,
        policy=Markup(policy_of(bool(live))),
        style=Markup(_read("style.css")),
        scripts=[Markup(_read(name)) for name in scripts_of(bool(live))],
        live=live,
        groups=groups,
        several=any(group.several for group in groups),
        cards=[_card(group) for group in groups],
        differences=differences([group.recipe for group in groups]) if len(groups) > 1 else [],
        window=WINDOW,
        few=FEW,
        evaluation=_evaluation(results, groups) if results is not None else None,
        **_training(groups),
        episodes=episodes,
        whole=sum(len(piece.rows) for piece in pieces if piece.data is not None),
        problems=problems,
        index=Markup(index(report.runs, report.hues(), pieces)) if episodes else "",
        pieces=[] if live else [(piece.key, Markup(piece.data)) for piece in pieces if piece.data is not None],
    )


@functools.cache
def policy_of(live: bool) -> str:
    """The content policy: nothing but the page's own style and scripts; a live page may ask its own server."""
    scripts = " ".join(_hash(_read(name)) for name in scripts_of(live))
    asks = "connect-src 'self'; " if live else ""
    own = f"style-src {_hash(_read('style.css'))}; script-src {scripts}"
    return f"default-src 'none'; {asks}{own}; base-uri 'none'; form-action 'none'"


def scripts_of(live: bool) -> Sequence[str]:
    return LIVE if live else SCRIPTS


def _training(groups: Sequence[Group]) -> dict[str, Any]:
    if not any(group.lines for group in groups):
        return {"main": [], "conditional": [], "other": [], "constants": [], "recent": [], "time": None, "spent": []}
    other, constants = other_figures(groups)
    time, spent = time_figure(groups)
    return {
        "main": main_figures(groups),
        "conditional": conditional_figures(groups),
        "other": other,
        "constants": constants,
        "recent": recent_rows(groups),
        "time": time if spent else None,
        "spent": spent,
    }


def _evaluation(results: Results, groups: Sequence[Group]) -> dict[str, Any]:
    """Teams that are named like a run or a group keep its place and its colour."""
    hues = {run.name: place for place, group in enumerate(groups) for run in group.runs}
    hues |= {group.name: place for place, group in enumerate(groups)}
    for team in results.played():
        hues.setdefault(team, len(hues))
    results = results.model_copy(update={"pairs": sorted(results.pairs, key=lambda pairing: hues[pairing.team])})
    metrics, pairings = full_table(results)
    level = results.settings.get("interval")
    return {
        "game": ", ".join(results.games()),
        "games": results.games(),
        "level": f"{level:.0%} " if isinstance(level, float) else "",
        "teams": results.played(),
        "rows": comparison(results),
        "metrics": metrics,
        "pairings": pairings,
        "figures": opponent_figures(results, hues),
        "cross_play": cross_play_figures(results, hues),
        "hues": hues,
    }


def _card(group: Group) -> dict[str, Any]:
    """The facts of one group; a run without metrics shows what its recipe plans."""
    recipe, runs = group.recipe, group.runs
    model, train = recipe.get("model"), recipe.get("train")
    model = model.get("name") if isinstance(model, Mapping) else model
    planned = train.get("updates") if isinstance(train, Mapping) else None
    team = recipe.get("team")
    headline = [
        (name_of(key), group.recent(f"game/{key}"))
        for key in ("cooperation", "return")
        if f"game/{key}" in group.metrics()
    ]
    made = "–".join(f"{updates:,}" for updates in sorted({len(run.lines) for run in runs}))
    each = " a run" if group.several else ""
    return {
        "group": group,
        "headline": headline,
        "facts": [
            ("Recipe", recipe.get("name", "unnamed")),
            ("Game", group.game()),
            ("Team", ", ".join(f"{seat}: {_policy(who)}" for seat, who in (team or {}).items())),
            ("Algorithm", algorithm_summary(recipe)),
            ("Model", model),
            ("Seeds" if group.several else "Seed", ", ".join(str(run.recipe.get("seed", "?")) for run in runs)),
            ("Updates", (f"{made} of {planned:,}" if isinstance(planned, int) else made) + each),
            ("Episodes", count(sum(run.last("episodes") for run in runs))),
            ("Trained tokens", count(sum(run.last("trained_tokens") for run in runs))),
            ("Time", f"{sum(map(_seconds, runs)) / len(runs):,.1f} s in updates{each}"),
            ("Versions", "; ".join(dict.fromkeys(map(_versions, runs)))),
        ],
    }


def _seconds(run: Run) -> float:
    """Seconds that a run's updates took."""
    keys = [key for key in run.metrics() if key.startswith("seconds/")]
    return math.fsum(value for key in keys for value in run.column(key) if math.isfinite(value))


def _versions(run: Run) -> str:
    versions = run.facts.get("versions")
    versions = versions if isinstance(versions, Mapping) else {}
    return ", ".join(f"{name} {version}" for name, version in versions.items()) or "not recorded"


def _policy(who: Any) -> str:
    if not isinstance(who, Mapping):
        return str(who)
    return next((f"{name} {value}" if name != "agent" else str(value) for name, value in who.items() if value), "?")


def _read(name: str) -> str:
    return resources.files("marft.report").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
