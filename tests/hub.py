"""A model hub on this machine: the few requests that downloads and uploads make, answered from folders."""

from __future__ import annotations

import json
import shutil
import threading
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha1, sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

TOKEN = "hf_mayWriteHere"


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
    repositories: dict[str, dict[str, Path]],
    nonsense: Mapping[str, bytes] | None = None,
    store: Path | None = None,
    *,
    announced: Callable[[Path], int] = lambda file: file.stat().st_size,
    trailing: Mapping[str, bytes] | None = None,
) -> Iterator[tuple[str, list[str]]]:
    """Serve repositories (owner/name -> revision -> folder). Gives the hub's address and the requests that it got.

    Args:
        nonsense: owner/name -> what is answered to every request about it.
        announced: the size that is said of a file.
        trailing: file name -> what comes behind the file's own bytes.
        store: where uploads go, of those who bring `TOKEN`; repositories get what they commit. None takes none.
    """
    nonsense = nonsense or {}
    objects: dict[str, bytes] = {}
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            """Nothing: a test's output is not a server's log."""

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def do_POST(self) -> None:
            self._answer(body=True)

        def do_PUT(self) -> None:
            self._answer(body=True)

        def _answer(self, *, body: bool) -> None:
            path = unquote(urlsplit(self.path).path)
            asked.append(f"{self.command} {path}")
            parts = path.strip("/").split("/")
            if self.command in ("HEAD", "GET"):
                status, headers, raw = self._found(parts)
            else:
                sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                headers = {"Content-Type": "application/json"}
                status, answer = self._taken(parts, sent)
                raw = json.dumps(answer).encode()
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(raw))}.items():
                self.send_header(name, value)
            self.end_headers()
            if body:
                self.wfile.write(raw)

        def _found(self, parts: list[str]) -> tuple[int, dict[str, str], bytes]:
            """api/models/OWNER/NAME/revision|tree/REVISION, or OWNER/NAME/resolve/REVISION/FILE."""
            about = parts[:2] == ["api", "models"]
            if parts == ["api", "models"]:
                return 200, {}, json.dumps(self._listed()).encode()
            owner, name, verb, revision, *file = [*(parts[2:] if about else parts), "", "", "", ""][:5]
            if f"{owner}/{name}" in nonsense:
                return 200, {"Content-Type": "application/json"}, nonsense[f"{owner}/{name}"]
            repository = repositories.get(f"{owner}/{name}")
            if repository is None:
                return 401, {"X-Error-Code": "RepoNotFound"}, b""
            if verb == "refs":
                refs = [{"name": n, "ref": n, "targetCommit": commit_of(at)} for n, at in repository.items()]
                tags = [ref for ref in refs if ref["name"] != "main"]
                return 200, {}, json.dumps({"branches": refs[:1], "tags": tags, "converts": []}).encode()
            folder = next((at for known, at in repository.items() if revision in (known, commit_of(at))), None)
            if folder is None:
                return 404, {"X-Error-Code": "RevisionNotFound"}, b""
            files = sorted(entry for entry in folder.iterdir() if entry.is_file())
            if verb == "revision":
                names = [{"rfilename": entry.name, "size": announced(entry)} for entry in files]
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
            return 200, headers, (folder / file[0]).read_bytes() + (trailing or {}).get(file[0], b"")

        def _listed(self) -> list[dict[str, Any]]:
            """Repositories whose cards have every tag that is asked for; a base model is a tag too."""
            wanted = set(parse_qs(urlsplit(self.path).query).get("filter", []))
            listed = []
            for name, revisions in repositories.items():
                card = yaml.safe_load((revisions["main"] / "README.md").read_text().split("---\n")[1])
                tags = {*card["tags"], f"base_model:{card.get('base_model')}"}
                if wanted <= tags:
                    about = {
                        "id": name,
                        "sha": commit_of(revisions["main"]),
                        "lastModified": "2026-11-29T08:00:00.000Z",
                    }
                    listed.append(about)
            return listed

        def _taken(self, parts: list[str], sent: bytes) -> tuple[int, Any]:
            """What an upload sends: a repository, its card, the kinds of files, a large file, a commit, a tag."""
            if parts[0] == "large":  # its address is the right to write it
                objects[parts[1]] = sent
                return 200, {}
            if parts == ["api", "validate-yaml"]:
                return 200, {"errors": [], "warnings": []}
            if store is None or self.headers.get("Authorization") != f"Bearer {TOKEN}":
                return 401, {"error": "Invalid credentials"}
            address = f"http://{self.headers['Host']}"
            if parts[-3:] == ["lfs", "objects", "batch"]:
                asked_for = json.loads(sent)["objects"]
                links = [{"upload": {"href": f"{address}/large/{entry['oid']}"}} for entry in asked_for]
                made = [{**e, "actions": link} for e, link in zip(asked_for, links, strict=True)]
                return 200, {"transfer": "basic", "objects": made}
            if parts == ["api", "repos", "create"]:
                wanted = json.loads(sent)
                name = f"{wanted.get('organization') or 'me'}/{wanted['name']}"
                if name in repositories:
                    return 409, {"error": "You already created this model repo", "url": f"{address}/{name}"}
                repositories[name] = {"main": store / name.replace("/", "--") / "0"}
                repositories[name]["main"].mkdir(parents=True)
                return 200, {"url": f"{address}/{name}"}
            repository, verb = repositories[f"{parts[2]}/{parts[3]}"], parts[4]
            if verb == "preupload":
                modes = [
                    {
                        "path": entry["path"],
                        "uploadMode": "lfs" if entry["path"].endswith(".safetensors") else "regular",
                        "shouldIgnore": False,
                    }
                    for entry in json.loads(sent)["files"]
                ]
                return 200, {"files": modes}
            if verb == "tag":
                repository[json.loads(sent)["tag"]] = repository["main"]
                return 200, {}
            before = repository["main"]
            after = Path(shutil.copytree(before, before.with_name(str(int(before.name) + 1))))
            for line in map(json.loads, sent.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    (after / value["path"]).write_bytes(b64decode(value["content"]))
                elif line["key"] == "lfsFile":
                    (after / value["path"]).write_bytes(objects[value["oid"]])
                elif line["key"] == "deletedFile":
                    (after / value["path"]).unlink()
            repository["main"] = after
            url = f"{address}/{parts[2]}/{parts[3]}/commit/{commit_of(after)}"
            return 200, {"success": True, "commitOid": commit_of(after), "commitUrl": url, "hookOutput": ""}

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
