"""`marft serve`: a recipe's servers on their own, watched until Ctrl-C, for one or several trainings to use."""

from __future__ import annotations

import logging
import os
import signal
import threading
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table

from marft.config import Launch, Recipe
from marft.engines.make import check_head_size
from marft.engines.replica import Admin, Replica
from marft.engines.watch import Watch
from marft.errors import EngineError, RecipeError
from marft.files import write_text
from marft.model import base_source, pick_device
from marft.serve.fleet import Fleet

logger = logging.getLogger("marft")


def serve(recipe: Recipe, out: Path, console: Console, *, urls_file: Path | None = None) -> None:
    """Start `engine.launch` (one replica where there is none), show their state, stop them at SIGINT or SIGTERM.

    The API key is that of the recipe's `engine.key_env`, or a new one, which is printed. urls_file: written once all
    are healthy, for trainings with `engine.urls_file`.
    """
    if recipe.models:
        raise RecipeError("marft serve: it serves one base, and the recipe has several; let the training launch them")
    launch, variable = recipe.engine.launch or Launch(), recipe.engine.key_env
    source, context, on_cpu = facts_of_base(recipe)
    given = os.environ.get(variable)
    fleet = Fleet(recipe, source, launch, out, on_cpu=on_cpu, context=context, key=given)
    keeper = Keeper(recipe, fleet)
    previous = {
        number: signal.signal(number, lambda *_: keeper.over.set()) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        fleet.start()
        keeper.watch.start()
        told = False
        with Live(keeper.table(), console=console, auto_refresh=False) as live:
            while not keeper.over.wait(0.5):
                keeper.check()
                live.update(keeper.table(), refresh=True)
                if not told and keeper.ready:
                    told = True
                    if urls_file is not None:
                        write_text(urls_file, "\n".join(fleet.urls) + "\n")
                    for line in advice(fleet, None if given else variable, urls_file):
                        console.print(line, highlight=False, soft_wrap=True, markup=False)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        console.print("stopping the servers", highlight=False)
        keeper.watch.stop()
        fleet.stop()
        keeper.admin.close()


class Keeper:
    """What is known of the servers, for the table."""

    def __init__(self, recipe: Recipe, fleet: Fleet) -> None:
        self.fleet, self.admin, self.over = fleet, Admin(fleet.key), threading.Event()
        self.replicas = {url: Replica(url, url) for url in fleet.urls}
        self._error: EngineError | None = None
        self.watch = Watch(
            recipe.engine,
            self.admin,
            fleet,
            replicas=lambda: list(self.replicas.values()),
            admit=self._admit,
            down=self._down,
            fatal=self._fatal,
            follow=lambda urls: None,
        )

    @property
    def ready(self) -> bool:
        return all(replica.up for replica in self.replicas.values())

    def check(self) -> None:
        if self._error is not None:
            raise self._error

    def table(self) -> Table:
        table = Table("server", "state", "starts", "adapters", "log")
        for url, replica in self.replicas.items():
            server = self.fleet.server(url)
            state = "up" if replica.up else f"{replica.state}: {replica.reason}"
            table.add_row(url, state, str(server.starts), str(replica.served), str(server.log))
        return table

    def _admit(self, replica: Replica) -> None:
        replica.served = len(self.admin.adapters(replica)) - 1
        replica.take_in()

    def _down(self, replica: Replica, why: str) -> None:
        replica.take_out(why)
        logger.warning("serve: %s: %s", replica.url, why)

    def _fatal(self, error: EngineError) -> None:
        self._error = error


def facts_of_base(recipe: Recipe) -> tuple[str, int, bool]:
    """(folder or hub name, longest sequence, whether there is no accelerator) of the recipe's base, unloaded."""
    from transformers import AutoConfig

    source = base_source(recipe)
    config = AutoConfig.from_pretrained(source, revision=recipe.model.revision)
    on_cpu = pick_device(recipe.model.device).type == "cpu"
    if on_cpu:
        check_head_size(config)
    return source, getattr(config, "max_position_embeddings", None) or 0, on_cpu


def advice(fleet: Fleet, variable: str | None, urls_file: Path | None) -> list[str]:
    """How a training reaches these servers. variable: where the key goes, if it was made up here."""
    where = f"urls_file: {urls_file}" if urls_file is not None else f"urls: [{', '.join(fleet.urls)}]"
    lines = [f"export {variable}={fleet.key}"] if variable is not None else []
    return [*lines, f"in a recipe: engine: {{kind: vllm, {where}}}"]
