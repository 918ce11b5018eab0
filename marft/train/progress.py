"""What a person sees while a run goes on: a live bar in a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

LINE_EVERY = 10.0
"""Seconds between plain lines."""


class Display:
    """Shows updates as they end. Use as a context manager; `quiet` shows nothing (all processes but the main one)."""

    def __init__(self, name: str, start: int, updates: int, *, quiet: bool = False, console: Console | None = None):
        self.console = console or Console(stderr=True)
        self.name, self.first, self.updates, self.quiet = name, start, updates, quiet
        self.live = self.console.is_terminal and not quiet
        self._began = self._shown = time.monotonic()
        self._bar: Progress | None = None

    def __enter__(self) -> Display:
        if self.live:
            self._bar = Progress(
                TextColumn("[bold]{task.description}"),
                BarColumn(bar_width=20),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=self.console,
            )
            self._task = self._bar.add_task(self.name, total=self.updates, completed=self.first, note="")
            self._bar.start()
        elif not self.quiet:
            self._say(f"{self.name}: updates {self.first} to {self.updates}")
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, done: int, metrics: Mapping[str, float]) -> None:
        """`done` updates have been made; `metrics` is the last one's line."""
        if self.quiet:
            return
        note = brief(metrics, short=self.live and self.console.width < 110)
        if self._bar is not None:
            self._bar.update(self._task, completed=done, note=note)
            return
        now = time.monotonic()
        if done == self.updates or done == self.first + 1 or now - self._shown >= LINE_EVERY:
            self._shown = now
            rate = (now - self._began) / max(1, done - self.first)
            left = rate * (self.updates - done)
            self._say(f"{self.name}: update {done}/{self.updates}  {note}  {rate:.2f} s/update, {left:.0f} s left")

    def _say(self, text: str) -> None:
        self.console.print(text, highlight=False, soft_wrap=True)
        sys.stderr.flush()


def brief(metrics: Mapping[str, float], short: bool = False) -> str:
    """The handful of numbers worth a glance; `short` where a bar takes most of the line."""
    shown = []
    for key, label in (("game/cooperation", "cooperation"), ("game/return", "return"), ("game/invalid", "invalid")):
        if key in metrics:
            shown.append(f"{label} {metrics[key]:.2f}")
    if short:
        return "  ".join(shown[:2])
    kl = [value for key, value in metrics.items() if key.startswith("agent/") and key.endswith("/kl")]
    if kl:
        shown.append(f"kl {sum(kl) / len(kl):.3f}")
    return "  ".join(shown)
