"""The first chart of a run's report as a picture of its own."""

from __future__ import annotations

from marft.report.curves import main_figures
from marft.report.runs import Run

STYLE = (
    "<style>svg{background:#fff}.line,.lone{fill:none;stroke:#1d6fb8;stroke-width:2}.lone{stroke-linecap:round}"
    ".axis{stroke:#888}.grid{stroke:#ddd}text{font:11px sans-serif;fill:#444}</style>"
)


def curves(run: Run) -> str:
    """An SVG file of the run's main metric by update; empty where there is nothing to draw."""
    figures = main_figures([run]) if run.lines else []
    if not figures:
        return ""
    head, _, rest = str(figures[0].svg).partition(">")
    title = figures[0].title.replace("&", "&amp;").replace("<", "&lt;")
    opened = head.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1)
    return f"{opened}><title>{title}</title>{STYLE}{rest}\n"
