"""Adapters for servers that see no disk of ours: the few routes of a model hub from which vLLM can load by itself.

vLLM resolves an adapter's path that is no path as a name on the hub at HF_ENDPOINT and downloads it. Here each version
of an adapter is a repository of its own. It costs one download per server and version, and room in the server's hub
cache. Read-only, and only for whoever has the key.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import unquote, urlsplit

OWNER = "marft"


class Hub:
    """Serves the folders given to `offer`. url: what servers take as HF_ENDPOINT; the key is their HF_TOKEN."""

    def __init__(self, key: str | None, host: str = "127.0.0.1", port: int = 0) -> None:
        self.key = key
        self._folders: dict[str, Path] = {}
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer((host, port), handler)
        self._server.daemon_threads = True
        self.url = f"http://{host}:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, name="marft-hub", daemon=True)
        self._thread.start()

    def offer(self, name: str, folder: Path) -> str:
        """The repository under which a folder can be had from now on; what it holds must not change."""
        repository = f"{OWNER}/{name.replace('@', '-').replace('~', '-')}"
        self._folders[repository] = folder
        return repository

    def withdraw(self, folder: Path) -> None:
        for name in [name for name, held in self._folders.items() if held == folder]:
            del self._folders[name]

    def files(self, repository: str) -> dict[str, Path] | None:
        folder = self._folders.get(repository)
        if folder is None:
            return None
        return {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    """GET and HEAD of /api/models/OWNER/NAME[/revision/…|/tree/…] and of /OWNER/NAME/resolve/REVISION/FILE."""

    hub: ClassVar[Hub]
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def log_message(self, *_: object) -> None:
        return None

    def _answer(self, body: bool) -> None:
        given = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.hub.key is not None and not hmac.compare_digest(given, self.hub.key):
            self._send(401, b"the key is missing or wrong (HF_TOKEN)", {"X-Error-Code": "GatedRepo"}, body)
            return
        parts = [unquote(part) for part in urlsplit(self.path).path.split("/") if part]
        if parts[:2] == ["api", "models"]:
            self._describe("/".join(parts[2:4]), parts[4:5] == ["tree"], body)
        elif len(parts) >= 5 and parts[2] == "resolve":
            self._file("/".join(parts[:2]), "/".join(parts[4:]), body)
        else:
            self._send(404, b"no such route", {}, body)

    def _describe(self, repository: str, tree: bool, body: bool) -> None:
        files = self.hub.files(repository)
        if files is None:
            self._send(404, b"no such adapter", {"X-Error-Code": "RepoNotFound"}, body)
            return
        if tree:
            data = [
                {"type": "file", "path": name, "size": path.stat().st_size, "oid": _revision(f"{repository}/{name}")}
                for name, path in files.items()
            ]
        else:
            data = {
                "id": repository,
                "modelId": repository,
                "sha": _revision(repository),
                "private": True,
                "siblings": [{"rfilename": name} for name in files],
            }
        self._send(200, json.dumps(data).encode(), {"Content-Type": "application/json"}, body)

    def _file(self, repository: str, name: str, body: bool) -> None:
        path = (self.hub.files(repository) or {}).get(name)
        if path is None:
            self._send(404, b"no such file", {"X-Error-Code": "EntryNotFound"}, body)
            return
        content = path.read_bytes()
        headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": _revision(repository)}
        self._send(200, content, headers, body)

    def _send(self, status: int, content: bytes, headers: dict[str, str], body: bool) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # whoever asked has gone
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            if body:
                self.wfile.write(content)


def _revision(repository: str) -> str:
    """A commit's name: as long as the hub's, the same for the same version of an adapter."""
    return hashlib.sha1(repository.encode(), usedforsecurity=False).hexdigest()
