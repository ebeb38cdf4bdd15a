"""A model hub on this machine: the few requests that a download makes, answered from folders."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha1, sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit


def commit_of(folder: Path) -> str:
    """A commit's name: 40 hex digits that depend on the files."""
    digest = sha1(usedforsecurity=False)
    for file in sorted(entry for entry in folder.iterdir() if entry.is_file()):
        digest.update(f"{file.name} {_digest(file)}".encode())
    return digest.hexdigest()


def _digest(file: Path) -> str:
    return sha256(file.read_bytes()).hexdigest()


@contextmanager
def serving(
    repositories: Mapping[str, Mapping[str, Path]], nonsense: Mapping[str, bytes] | None = None
) -> Iterator[tuple[str, list[str]]]:
    """Serve repositories (owner/name -> revision -> folder). Gives the hub's address and the requests that it got.

    Args:
        nonsense: owner/name -> what is answered to every request about it.
    """
    nonsense = nonsense or {}
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            """Nothing: a test's output is not a server's log."""

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, *, body: bool) -> None:
            path = unquote(urlsplit(self.path).path)
            asked.append(f"{self.command} {path}")
            status, headers, raw = self._found(path.strip("/").split("/"))
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(raw))}.items():
                self.send_header(name, value)
            self.end_headers()
            if body:
                self.wfile.write(raw)

        def _found(self, parts: list[str]) -> tuple[int, dict[str, str], bytes]:
            """api/models/OWNER/NAME/revision|tree/REVISION, or OWNER/NAME/resolve/REVISION/FILE."""
            about = parts[:2] == ["api", "models"]
            owner, name, verb, revision, *file = [*(parts[2:] if about else parts), "", "", "", ""][:5]
            if f"{owner}/{name}" in nonsense:
                return 200, {"Content-Type": "application/json"}, nonsense[f"{owner}/{name}"]
            repository = repositories.get(f"{owner}/{name}")
            if repository is None:
                return 401, {"X-Error-Code": "RepoNotFound"}, b""
            folder = next((at for known, at in repository.items() if revision in (known, commit_of(at))), None)
            if folder is None:
                return 404, {"X-Error-Code": "RevisionNotFound"}, b""
            files = sorted(entry for entry in folder.iterdir() if entry.is_file())
            if verb == "revision":
                names = [{"rfilename": entry.name} for entry in files]
                return (
                    200,
                    {},
                    json.dumps({"id": f"{owner}/{name}", "sha": commit_of(folder), "siblings": names}).encode(),
                )
            if verb == "tree":
                entries = [{"type": "file", "path": e.name, "size": e.stat().st_size, "oid": _digest(e)} for e in files]
                return 200, {}, json.dumps(entries).encode()
            if folder / file[0] not in files:
                return 404, {"X-Error-Code": "EntryNotFound"}, b""
            headers = {"ETag": f'"{_digest(folder / file[0])}"', "X-Repo-Commit": commit_of(folder)}
            return 200, headers, (folder / file[0]).read_bytes()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
