"""`adapterkit host`.

Every sentence is answered by all that is mounted. Adapters can be mounted, swapped and taken off as you go.

$ adapterkit host --mount intent=runs/banking77 --mount ner=runs/wnut17
$ echo "my card was lost" | adapterkit host --mount intent=runs/banking77
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import typer

from adapterkit.cli import console
from adapterkit.cli.options import BackboneFormat, BackboneName, Mounts, RequiredKeys, Slots, sources_of
from adapterkit.errors import AdapterkitError

if TYPE_CHECKING:
    from adapterkit.host import Host

HELP = """\
A sentence, or a JSON object with a task's columns, is answered by every adapter that can read it.
:status                what is mounted
:mount NAME=FOLDER     mount an artifact, a hub id or a composition
:swap NAME=FOLDER      put another version in its place
:unmount NAME          take it off
:quit                  leave; so do Ctrl-D and Ctrl-C"""


def host(
    mount: Mounts = None,
    backbone: BackboneName = None,
    backbone_dtype: BackboneFormat = "auto",
    slots: Slots = None,
    require_signature: RequiredKeys = None,
) -> None:
    if not mount:
        raise typer.BadParameter("give at least one, as in --mount intent=runs/banking77", param_hint="--mount")
    from adapterkit.host.opening import open_host

    keys: Any = require_signature or None
    with open_host(sources_of(mount), backbone, slots=slots, dtype=backbone_dtype, require_signature=keys) as opened:
        if sys.stdin.isatty():
            console.say(f"{len(opened)} mounted on {opened.backbone.name}. :help lists what else can be typed.", "dim")
        for line in _lines():
            if line in (":quit", ":q", ":exit"):
                return
            try:
                _do(opened, line)
            except AdapterkitError as error:
                console.print_error(error)


def _lines() -> Iterator[str]:
    """What is typed, or what comes in, line by line; blank lines are passed over."""
    if not sys.stdin.isatty():
        yield from (line.strip() for line in sys.stdin if line.strip())
        return
    import contextlib

    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  (the arrow keys)
    while True:
        try:
            line = input("> ").strip()
        except EOFError:
            console.say("")
            return
        if line:
            yield line


def _do(opened: Host, line: str) -> None:
    if not line.startswith(":"):
        _ask(opened, line)
        return
    word, _, rest = line.partition(" ")
    name, _, source = rest.strip().partition("=")
    if word == ":status":
        console.echo(str(opened.status()))
    elif word == ":unmount" and name and not source:
        opened.unmount(name)
        console.say(f"{name} is off.", "dim")
    elif word in (":mount", ":swap") and name and source:
        status = (opened.mount if word == ":mount" else opened.swap)(name, source)
        console.say(f"{name}: {status.kind}, {status.method}, version {status.version}", "dim")
    else:
        console.echo(HELP)


def _ask(opened: Host, line: str) -> None:
    """Show what every adapter that can read this row says of it."""
    from adapterkit.data.incoming import read_line

    row = read_line(line, objects=line.startswith("{"))
    if isinstance(row, AdapterkitError):
        raise row
    started = time.perf_counter()
    answers: dict[str, Any] = opened.predict_all(row, errors="return")
    elapsed = time.perf_counter() - started
    rows = [
        [name, f"({answer.summary})"] if isinstance(answer, AdapterkitError) else [name, *_shown(answer)]
        for name, answer in answers.items()
    ]
    console.print_table(rows)
    if sys.stdin.isatty():
        console.say(f"{len(answers)} answers in {1000 * elapsed:.0f} ms", "dim")


def _shown(answer: dict[str, Any]) -> list[str]:
    from adapterkit.tasks.closer_look import one_line

    if answer and all(isinstance(own, dict) for own in answer.values()):  # several heads
        return ["; ".join(f"{head}: {one_line(own)}" for head, own in answer.items()).replace("\t", " ")]
    return one_line(answer).split("\t")
