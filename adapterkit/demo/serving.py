"""`python -m adapterkit.demo.serving`, which `make demo-serve` runs: a fleet's day, over HTTP, in some two minutes.

Version 1 is a head alone and version 2 an adapter; 2 answers beside 1, is better, and is promoted. Version 3 is broken
(somebody reversed its labels): the gate refuses it; forced past the gate it is not mounted; one roll back ends it.
"""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
import webbrowser
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from adapterkit.artifact import save_version
from adapterkit.backbone import Backbone
from adapterkit.demo.grammar import generate
from adapterkit.demo.lessons import BACKBONE, FOLDER, HEAD_ONLY, LESSONS, LORA, recipe
from adapterkit.errors import ServingError
from adapterkit.manifest import MANIFEST, open_manifest
from adapterkit.registry import Registry
from adapterkit.training import train

ROWS = 120
"""Sentences of each round of traffic."""
PATIENCE_S = 180


class Asking:
    """A client of the service, as anybody would write one."""

    def __init__(self, address: str, console: Console) -> None:
        self.address, self._console = address, console

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """What a path answers; of a refusal what it says."""
        request = urllib.request.Request(self.address + path, json.dumps(body).encode())
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                return json.load(reply)
        except urllib.error.HTTPError as error:
            return json.load(error)

    def traffic(self, rows: Sequence[Mapping[str, str]]) -> Counter[tuple[str, bool]]:
        """Ask about sentences, each by a user of its own, and say what was right: (version, right or not) -> rows."""
        found: Counter[tuple[str, bool]] = Counter()
        for number, row in enumerate(rows):
            asked = [{"task": task, "text": row["text"]} for task in ("intent", "slots")]
            given = self.post("/v1/predict", {"rows": asked, "key": f"user {number}"})["answers"][0]
            right = given["answer"]["label"] == row["label"]
            found[given["receipt"]["version"], right] += 1
            self.post("/v1/feedback", {"task": "intent", "version": given["receipt"]["version"], "right": right})
        versions = sorted({version for version, _ in found})
        shares = [f"version {v}: {found[v, True]} of {found[v, True] + found[v, False]} right" for v in versions]
        self._console.print(f"  {len(rows)} sentences: {'; '.join(shares)}", highlight=False)
        return found


def run(
    folder: Path = FOLDER,
    backbone: Backbone | None = None,
    overrides: Sequence[str] = (),
    console: Console | None = None,
    *,
    show_board: bool = False,
) -> Asking:
    """Train what is not in `folder` yet, serve it, steer it, and print what happened.

    `overrides`: fields to set on top of every recipe; `show_board`: open a browser.
    """
    console = console or Console()
    name = str(backbone.folder) if backbone is not None else BACKBONE
    _train_missing(folder, backbone, overrides, console)
    database = folder / "registry.db"
    database.unlink(missing_ok=True)
    with Registry(f"sqlite:///{database}", actor="demo") as registry:
        for task, run_name in (("intent", "intent-head-only"), ("intent", "intent"), ("slots", "slots")):
            registry.add(task, folder / run_name)
        registry.add("intent", _reversed(folder / "intent", folder / "intent-reversed"))
        for task in ("intent", "slots"):
            registry.promote(task, "1")
        with _served(database, name, folder / "service.log") as address:
            asking = Asking(address, console)
            console.print(f"The board: {address}/board/", highlight=False)
            if show_board:
                webbrowser.open(f"{address}/board/")
            _day(asking, folder, console)
        console.rule("the audit")
        for entry in registry.entries():
            shares = entry.details.get("split", {}).items()
            more = ", ".join(f"{channel} {share:.0%}" for channel, share in shares)
            more += f" (forced: {entry.details['forced']})" if "forced" in entry.details else ""
            named = f"{entry.task} {entry.channel} {entry.digest[:12]}"
            console.print(f"  {entry.number:2} {entry.action:10} {named}{more}")
        console.print(f"Nothing in it was changed: {'yes' if registry.audit() else 'no'}")
    return asking


def _day(asking: Asking, folder: Path, console: Console) -> None:
    lines = (folder / "data" / "intents" / "test.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    console.rule("version 1, a head alone, answers")
    asking.traffic(rows[:ROWS])
    console.rule("version 2, an adapter, answers half of the users beside it")
    _told(console, asking.post("/v1/admin/promote", {"task": "intent", "version": "2", "channel": "candidate"}))
    _told(console, asking.post("/v1/admin/split", {"task": "intent", "split": {"stable": 0.5, "candidate": 0.5}}))
    asking.traffic(rows[ROWS : 2 * ROWS])
    console.rule("version 2 is promoted")
    _told(console, asking.post("/v1/admin/promote", {"task": "intent", "version": "2"}))
    asking.traffic(rows[2 * ROWS : 3 * ROWS])
    console.rule("version 3 is broken: somebody reversed its labels")
    _told(console, asking.post("/v1/admin/promote", {"task": "intent", "version": "3"}))
    console.print("  Forced past the gate:")
    forced = {"task": "intent", "version": "3", "force": "it is Friday"}
    _told(console, asking.post("/v1/admin/promote", forced))
    asking.traffic(rows[-ROWS // 3 :])
    console.rule("one roll back")
    _told(console, asking.post("/v1/admin/roll-back", {"task": "intent"}))
    asking.traffic(rows[-ROWS // 3 :])


def _told(console: Console, found: Mapping[str, Any]) -> None:
    """What the service said to an act."""
    if "error" in found:
        console.print(f"  refused: {found['error']['message']}", highlight=False, markup=False, soft_wrap=True)
        return
    passed = [name for name, each in found.get("evidence", {}).items() if each["passed"]]
    evidence = f" (evidence: {', '.join(passed)})" if passed else ""
    console.print(f"  {found['done']}{evidence}", highlight=False, markup=False)
    if found["problem"]:
        console.print(f"  the service: {found['problem']}", highlight=False, markup=False, soft_wrap=True)


def _train_missing(folder: Path, backbone: Backbone | None, overrides: Sequence[str], console: Console) -> None:
    jobs = [(lesson, LORA, lesson.name) for lesson in LESSONS] + [
        (LESSONS[0], HEAD_ONLY, f"{LESSONS[0].name}-head-only")
    ]
    missing = [job for job in jobs if not (folder / job[2] / MANIFEST).is_file()]
    generate(folder / "data")
    if missing:
        loaded = backbone or Backbone.load(BACKBONE)
        for lesson, method, name in missing:
            console.rule(f"training {name}")
            described = recipe(lesson, method, loaded, folder / "data", folder / name)
            train(described, backbone=loaded, overrides=overrides, overwrite=True)


def _reversed(parent: Path, folder: Path) -> Path:
    """A version whose labels stand the other way round, as after an export that sorted them otherwise."""
    manifest = open_manifest(parent)
    task = {**manifest.task, "labels": list(manifest.labels)[::-1]}
    return save_version(folder, parent, {"task": task}, overwrite=True)


@contextmanager
def _served(database: Path, backbone: str, log: Path) -> Iterator[str]:
    """The service in a process of its own, as a shell would start it: its address."""
    settings = ["--registry", f"sqlite:///{database}", "--backbone", backbone, "--port", "0", "--board"]
    with log.open("wb") as written:
        process = subprocess.Popen([sys.executable, "-m", "adapterkit", "serve", *settings], stderr=written)
        try:
            yield _address(process, log)
        finally:
            process.terminate()
            process.wait(60)


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    """Where the service answers, once it is ready. Raises ServingError where it is not in time."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until and process.poll() is None:
        said = log.read_text(encoding="utf-8", errors="replace")
        found = next((line.split()[-1] for line in said.splitlines() if line.startswith("The board: ")), None)
        if found is not None:
            address = found.removesuffix("/board/")
            try:
                with urllib.request.urlopen(f"{address}/readyz", timeout=5):
                    return address
            except OSError:
                pass
        time.sleep(0.1)
    raise ServingError("the service did not start", log.read_text(encoding="utf-8", errors="replace").splitlines()[-5:])


def main() -> int:
    """Run the demo; an argument names the folder that it writes into."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from adapterkit.demo.__main__ import guarded

    shown = bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    return guarded(lambda: run(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER, show_board=shown))


if __name__ == "__main__":
    sys.exit(main())
