"""The table of algorithms in words: for the terminal and for docs/algorithms.md.

Everything shown comes from the presets, the settings types and the docstrings of the functions behind each kind, so
it cannot say anything else than the code. `python -m marft.credit.describe` writes the page.
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from marft import blocks
from marft.credit.alignment import ALIGNMENTS
from marft.credit.attribution import ATTRIBUTIONS
from marft.credit.baselines import BASELINES
from marft.credit.couplings import NEEDS
from marft.credit.presets import PRESETS, algorithm
from marft.credit.returns import RETURNS
from marft.credit.sources import PREPARES
from marft.credit.transforms import NORMALISERS, TRANSFORMS

PAGE = Path(__file__).parents[2] / "docs" / "algorithms.md"

TABLES = {
    "attribution": ATTRIBUTIONS,
    "prepare": PREPARES,
    "return": RETURNS,
    "baseline": BASELINES,
    "alignment": ALIGNMENTS,
    "normalise": NORMALISERS,
    "transforms": TRANSFORMS,
}
TYPES = {
    "attribution": blocks.Attribution,
    "prepare": blocks.Prepare,
    "return": blocks.Return,
    "resize": blocks.Resize,
    "baseline": blocks.Baseline,
    "alignment": blocks.Alignment,
    "normalise": blocks.Normalise,
    "transforms": blocks.Transform,
    "ratio": blocks.Ratio,
    "aggregate": blocks.Aggregate,
    "kl": blocks.KL,
    "entropy_band": blocks.EntropyBand,
    "off_policy": blocks.OffPolicy,
    "update": blocks.Update,
}

WHEN = """\
| you have | start with |
|---|---|
| a game where seats have interests of their own | `rloo`; `ad_align` if cooperation should survive self-interest |
| a team with one outcome | `grpo`, `dr_mas` if agents differ in scale, `magrpo` for joint turns and trees |
| self-play of a two-player game | `rae`, or `mars` for rewards in every turn |
| a pipeline of agents and a critic to train | `marft`, `mappo` |
| a debate with scores each round | `maporl`, `umad` |
| a main agent that calls sub-agents | `m_grpo` |
| long tool use | `igpo`, `turn_ppo`, `seeupo` |
| agents of unlike strength on the same prompts | `hacpo` |
"""

HOW_TO_ADD = """\
A method that recombines blocks is one row of `PRESETS` in `marft/credit/presets.py`. A new idea is, besides, one
function in its block's file, whose docstring opens with the formula and names the source; one word in the block's
`kind` in `marft/blocks.py`; one row in the table that ends the file. Then add its loop-by-loop twin to
`tests/slow_credit.py`, reference numbers to `tests/vectors/`, what it asks of the trainer to `needs_of` in
`marft/credit/couplings.py`, and run `python -m marft.credit.describe`.
"""


_KEYLESS = ("none", "critic", "ema_per_seat", "whiten", "clamp", "capability")


def settings_in_words(settings: blocks.Algorithm) -> dict[str, str]:
    """Block -> its kind and the options that differ from their defaults; blocks that do nothing are left out."""
    found = {}
    plain = blocks.Algorithm()
    for name, field in blocks.Algorithm.model_fields.items():
        value = getattr(settings, name)
        if value != getattr(plain, name) or name in ("attribution", "return_", "baseline", "ratio", "aggregate"):
            found[field.alias or name] = _words(value)
    return found


def _words(value: Any) -> str:
    if isinstance(value, tuple):
        return "; ".join(_words(item) for item in value)
    if not isinstance(value, BaseModel):
        return str(value)
    fields, plain = type(value).model_fields, {}
    for name, field in fields.items():
        plain[name] = field.default
    shown = [getattr(value, "kind", None) or ""]
    for name in fields:
        option = getattr(value, name)
        if name != "kind" and (option != plain[name] or (name == "key" and shown[0] not in _KEYLESS)):
            if name == "key":
                text = "[" + ", ".join(option) + "]"
            else:
                text = f"{name} " + (_words(option) if isinstance(option, tuple | BaseModel) else f"{option}")
            shown.append(text)
    return " ".join(part for part in shown if part)


def formulas(settings: blocks.Algorithm) -> dict[str, str]:
    """Block -> the docstring of the function behind its kind, for the credit blocks that do something."""
    found = {}
    for block, table in TABLES.items():
        value = getattr(settings, "return_" if block == "return" else block)
        for item in value if isinstance(value, tuple) else (value,):
            if item.kind != "none":
                found[f"{block} {item.kind}"] = inspect.getdoc(table[item.kind]) or ""
    return found


def overview() -> Table:
    """All presets with credit settings and source, for a terminal."""
    table = Table(title="marft algorithms", show_lines=True, title_justify="left")
    for column in ("preset", "credit", "loss", "source"):
        table.add_column(column, overflow="fold")
    for name, preset in PRESETS.items():
        words = settings_in_words(preset.settings)
        loss_blocks = {"ratio", "aggregate", "kl", "entropy", "entropy_band", "off_policy", "update"}
        credit = "\n".join(f"{block}: {text}" for block, text in words.items() if block not in loss_blocks)
        loss = "\n".join(f"{block}: {text}" for block, text in words.items() if block in loss_blocks)
        table.add_row(name, escape(credit), escape(loss), preset.source)
    return table


def explain_preset(name: str) -> str:
    """One preset in plain text: what it is, its settings, the formulas behind them, what it needs of the trainer."""
    settings = algorithm(name)  # an unknown name is an error that names the nearest
    preset = PRESETS[name]
    lines = [name, f"  {preset.summary}", f"  source: {preset.source}", "", "settings"]
    lines += [f"  {block}: {text}" for block, text in settings_in_words(settings).items()]
    lines += ["", "formulas"]
    for title, text in formulas(settings).items():
        lines += [f"  {title}", *(f"      {line}".rstrip() for line in text.splitlines())]
    if preset.needs:
        lines += ["", "asks for", *(f"  {need}: {NEEDS[need]}" for need in preset.needs)]
    return "\n".join(lines)


def print_algorithms(name: str | None, console: Console) -> None:
    """`marft algorithms [NAME]`."""
    if name is None:
        console.print(overview())
    else:
        console.print(explain_preset(name), markup=False, highlight=False)


def page() -> str:
    """docs/algorithms.md, whole."""
    parts = [
        "# Algorithms",
        "",
        "<!-- Written by python -m marft.credit.describe; edit the docstrings instead. -->",
        "",
    ]
    parts += [
        "An algorithm is one setting per block; a preset is a named row of settings. In a recipe: `algorithm: mars`,"
    ]
    parts += [
        "`algorithm: {preset: mars, kl: {coef: 0}}`, or blocks alone, `algorithm: {return: to_go, baseline: loo}`."
    ]
    parts += ["`marft algorithms` prints the table, `marft algorithms NAME` one preset with its formulas.", ""]
    parts += ["## When to use what", "", WHEN, "## Presets", ""]
    for name, preset in PRESETS.items():
        parts += [f"### `{name}`", "", f"{preset.summary[0].upper()}{preset.summary[1:]}. Source: {preset.source}.", ""]
        if preset.needs:
            parts += [f"Asks for: {', '.join(preset.needs)}.", ""]
        parts += ["| block | setting |", "|---|---|"]
        parts += [f"| {block} | {text} |" for block, text in settings_in_words(preset.settings).items()]
        parts += [""]
    parts += ["## Blocks", ""]
    for block, kind in TYPES.items():
        parts += [f"### {block}", "", inspect.getdoc(kind) or "", ""]
        for name, function in TABLES.get(block, {}).items():
            text = (inspect.getdoc(function) or "").replace("\n\n", "\n").replace("\n", "\n  ")
            parts += [f"- `{name}`: {text}"]
        parts += [""] if block in TABLES else []
    parts += ["## What presets ask for", "", "| word | meaning |", "|---|---|"]
    parts += [f"| {word} | {meaning} |" for word, meaning in NEEDS.items()]
    parts += ["", "## Adding one", "", HOW_TO_ADD]
    return "\n".join(parts).rstrip() + "\n"


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    temporary = PAGE.with_suffix(".tmp")
    temporary.write_text(page(), encoding="utf-8")
    temporary.replace(PAGE)
    sys.stdout.write(f"{PAGE}\n")
