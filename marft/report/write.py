"""The page: gather, lay out by the template, write whole.

The content policy in the page's head forbids every connection and every script but the page's own (by their hashes), so
even a hole in the escaping could run nothing. Whatever the template prints is made `visible` and escaped on its way.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from marft.errors import RunFolderError
from marft.eval.results import Results, read_results
from marft.files import write_text
from marft.report.curves import conditional_figures, main_figures, other_figures, recent_rows, time_figure
from marft.report.evaluation import comparison, full_table, opponent_figures
from marft.report.names import name_of
from marft.report.runs import WINDOW, Run, algorithm_summary, differences, read_run
from marft.report.text import count, number, visible
from marft.report.transcripts import script_json, transcripts

SCRIPTS = ("page.js", "viewer.js")


def write_report(runs: Mapping[str, Path], out: Path, results: Path | None = None, title: str | None = None) -> Path:
    """Write one self-contained HTML file on the run folders `runs` (name -> folder) and return where it is.

    results: a results.json of `marft eval`; adds the comparison and the evaluation. out: the file, or a folder that
    then gets report.html. Raises RunFolderError for a folder that is no run and for damaged files; a run that has
    not recorded anything yet is shown as such.
    """
    if not runs and results is None:
        raise RunFolderError("report: name at least one run folder, or results of an evaluation")
    read = [read_run(visible(name), Path(path)) for name, path in runs.items()]
    found = read_results(Path(results)) if results is not None else None
    out = Path(out) / "report.html" if Path(out).is_dir() else Path(out)
    try:
        write_text(out, render(read, found, title))
    except OSError as error:
        raise RunFolderError(f"report {out} cannot be written: {error.strerror}; choose another --out") from None
    return out


def render(runs: Sequence[Run], results: Results | None, title: str | None) -> str:
    """The page as text. The same runs and results give the same text."""
    style = Markup(_read("style.css"))
    scripts = [Markup(_read(name)) for name in SCRIPTS]
    policy = (
        f"default-src 'none'; style-src {_hash(style)}; script-src {' '.join(map(_hash, scripts))}; "
        "base-uri 'none'; form-action 'none'"
    )
    environment = Environment(
        loader=PackageLoader("marft.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: value if isinstance(value, Markup) else visible(value),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "metric": name_of}
    names = [run.name for run in runs]
    shown = transcripts(runs)
    return environment.get_template("page.html.j2").render(
        title=title or "Training report: " + (", ".join(names) or "evaluation"),
        policy=Markup(policy),
        style=style,
        scripts=scripts,
        runs=runs,
        cards=[_card(run) for run in runs],
        differences=differences(runs) if len(runs) > 1 else [],
        window=WINDOW,
        evaluation=_evaluation(results, runs) if results is not None else None,
        **_training(runs),
        shown=shown["runs"],
        episodes=len(shown["episodes"]),
        transcripts=Markup(script_json(shown)),
    )


def _training(runs: Sequence[Run]) -> dict[str, Any]:
    if not any(run.lines for run in runs):
        return {"main": [], "conditional": [], "other": [], "constants": [], "recent": [], "time": None, "spent": []}
    other, constants = other_figures(runs)
    time, spent = time_figure(runs)
    return {
        "main": main_figures(runs),
        "conditional": conditional_figures(runs),
        "other": other,
        "constants": constants,
        "recent": recent_rows(runs),
        "time": time if spent else None,
        "spent": spent,
    }


def _evaluation(results: Results, runs: Sequence[Run]) -> dict[str, Any]:
    """Teams that are named like a run keep its place and its colour."""
    hues = {run.name: place for place, run in enumerate(runs)}
    for team in results.played():
        hues.setdefault(team, len(hues))
    results = results.model_copy(update={"pairs": sorted(results.pairs, key=lambda pairing: hues[pairing.team])})
    metrics, pairings = full_table(results)
    level = results.settings.get("interval")
    return {
        "game": ", ".join(results.games()),
        "level": f"{level:.0%} " if isinstance(level, float) else "",
        "teams": results.played(),
        "rows": comparison(results),
        "metrics": metrics,
        "pairings": pairings,
        "figures": opponent_figures(results, hues),
        "hues": hues,
    }


def _card(run: Run) -> dict[str, Any]:
    """The facts of one run; a run without metrics shows what its recipe plans."""
    recipe = run.recipe
    seconds = math.fsum(
        value
        for key in run.metrics()
        if key.startswith("seconds/")
        for value in run.column(key)
        if math.isfinite(value)
    )
    model, train = recipe.get("model"), recipe.get("train")
    model = model.get("name") if isinstance(model, Mapping) else model
    planned = train.get("updates") if isinstance(train, Mapping) else None
    versions = run.facts.get("versions")
    versions = versions if isinstance(versions, Mapping) else {}
    team = recipe.get("team")
    headline = [
        (name_of(key), run.recent(f"game/{key}")) for key in ("cooperation", "return") if f"game/{key}" in run.metrics()
    ]
    return {
        "run": run,
        "headline": headline,
        "facts": [
            ("Recipe", recipe.get("name", "unnamed")),
            ("Game", run.game()),
            ("Team", ", ".join(f"{seat}: {_policy(who)}" for seat, who in (team or {}).items())),
            ("Algorithm", algorithm_summary(recipe)),
            ("Model", model),
            ("Seed", recipe.get("seed", "?")),
            ("Updates", f"{len(run.lines):,} of {planned:,}" if isinstance(planned, int) else f"{len(run.lines):,}"),
            ("Episodes", count(run.last("episodes"))),
            ("Trained tokens", count(run.last("trained_tokens"))),
            ("Time", f"{seconds:,.1f} s in updates"),
            ("Versions", ", ".join(f"{name} {version}" for name, version in versions.items()) or "not recorded"),
        ],
    }


def _policy(who: Any) -> str:
    if not isinstance(who, Mapping):
        return str(who)
    return next((f"{name} {value}" if name != "agent" else str(value) for name, value in who.items() if value), "?")


def _read(name: str) -> str:
    return resources.files("marft.report").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
