"""The report as a page that follows its runs: a small server on the loopback interface alone.

A page of elsewhere cannot read it: requests that name another host are refused (DNS rebinding), the content policy is
sent as a header too, and no answer allows another origin. The runs are looked at when a page asks, not in between.
"""

from __future__ import annotations

import errno
import hashlib
import sys
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from marft.errors import MarftError, RunFolderError
from marft.report.pieces import Store
from marft.report.write import Runs, policy_of, read_report, render

HOST = "127.0.0.1"
PATIENCE = 30.0
"""Seconds that a browser may take to send its request."""


class Live:
    """The page of some runs as it is now, made once for each state of their files."""

    def __init__(self, runs: Runs, results: Path | None = None, title: str | None = None) -> None:
        self._what = runs, results, title
        folders = [[place] if isinstance(place, str | Path) else list(place) for place in runs.values()]
        self._folders = [Path(folder) for several in folders for folder in several]
        self._store = Store(remember=True)
        self._lock = threading.Lock()
        self._pieces: dict[str, str] = {}
        self._before: dict[str, str] = {}
        self._made = ("", "")
        self.page()  # what cannot be read at all is said at once

    def page(self) -> str:
        """The page; what it needs besides is known to `piece` from then on."""
        with self._lock:
            state = self.state()
            if state != self._made[0]:
                report = read_report(*self._what)
                pieces = self._store.pieces(report.runs)
                self._made = state, render(report, pieces, self._store.problems(), live=state)
                self._before = self._pieces
                self._pieces = {piece.key: piece.data for piece in pieces if piece.data is not None}
            return self._made[1]

    def state(self) -> str:
        """Differs where the page may: of the files' names, times and sizes."""
        results = self._what[1]
        watched = [file for folder in self._folders for file in _watched(folder)]
        return hashlib.sha256(repr([*watched, *_stamps(results)]).encode()).hexdigest()[:16]

    def piece(self, key: str) -> str | None:
        """Of the newest page, or the one before it, which may still be open."""
        return self._pieces.get(key) or self._before.get(key)


def _watched(folder: Path) -> list[tuple[str, int, int]]:
    """What the page of a run is made of."""
    files = [folder / name for name in ("recipe.yaml", "run.json", "metrics.jsonl")]
    files += sorted([*folder.glob("episodes/*.parquet"), *folder.glob("tokens/*.parquet")])
    return [stamp for file in files for stamp in _stamps(file)]


def _stamps(file: Path | None) -> list[tuple[str, int, int]]:
    """Its name, time and size; nothing where it is not there."""
    try:
        facts = file.stat() if file is not None else None
    except FileNotFoundError:
        facts = None
    return [(str(file), facts.st_mtime_ns, facts.st_size)] if facts is not None else []


def make_server(live: Live, port: int) -> ThreadingHTTPServer:
    """The server, bound and not yet serving. RunFolderError where the port is taken."""

    class Handler(BaseHTTPRequestHandler):
        timeout = PATIENCE
        server_version, sys_version = "marft", ""

        def do_GET(self) -> None:
            port = self.server.server_address[1]
            if self.headers.get("Host") not in (f"{HOST}:{port}", f"localhost:{port}"):
                return self._answer(HTTPStatus.FORBIDDEN, "this page is served to this machine alone")
            path = self.path.partition("?")[0]
            try:
                text = self._text(path)
            except (MarftError, OSError) as error:  # a run may be removed or damaged while it is watched
                return self._answer(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))
            if text is None:
                return self._answer(HTTPStatus.NOT_FOUND, "nothing here")
            return self._answer(HTTPStatus.OK, text, "text/html" if path == "/" else "text/plain")

        def _text(self, path: str) -> str | None:
            if path == "/":
                return live.page()
            return live.state() if path == "/state" else live.piece(path.removeprefix("/pieces/"))

        def _answer(self, status: HTTPStatus, text: str, kind: str = "text/plain") -> None:
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Content-Security-Policy", f"{policy_of(live=True)}; frame-ancestors 'none'")
            self.send_header("X-Content-Type-Options", "nosniff")
            self.send_header("Referrer-Policy", "no-referrer")
            self.send_header("Cross-Origin-Resource-Policy", "same-origin")
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """A line every two seconds would bury what matters."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        allow_reuse_address = True  # of a server that has just ended, not of one that lives

        def handle_error(self, request: object, client_address: object) -> None:
            """A page that was closed while it was answered is no error worth a traceback."""
            if not isinstance(sys.exception(), ConnectionError | TimeoutError):
                super().handle_error(request, client_address)

    try:
        return Server((HOST, port), Handler)
    except OverflowError:
        raise RunFolderError(f"watch: {port} is no port; choose --port between 0 and 65535") from None
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise RunFolderError(f"watch: port {port} is in use; choose another --port, or 0 for any") from None
        raise RunFolderError(f"watch: port {port} cannot be opened: {error.strerror}; choose another --port") from None
