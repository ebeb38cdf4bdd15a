"""`adapterkit registry`.

$ adapterkit registry add intent runs/banking77
$ adapterkit registry promote intent 1 --backbone sentence-transformers/all-MiniLM-L6-v2
$ adapterkit registry history intent
$ adapterkit registry served intent --at 2026-11-28T09:30
$ adapterkit registry roll-back intent
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adapterkit.cli import console
from adapterkit.cli.options import Folder, Json, argument, option
from adapterkit.cli.shared import OptionGroup, joined

if TYPE_CHECKING:
    from adapterkit.registry import Registry, Served, Version

Url = Annotated[
    str, typer.Option("--registry", metavar="URL", envvar="ADAPTERKIT_REGISTRY", help="The registry's database.")
]
StoreUrl = Annotated[
    str | None,
    option(
        "--store", metavar="FOLDER_OR_URL", help="Where artifacts are kept; named once. Default: beside a SQLite file."
    ),
]
Actor = Annotated[
    str | None, option("--as", envvar="ADAPTERKIT_ACTOR", metavar="NAME", help="Who does it, for the audit.")
]
Channel = Annotated[str, typer.Option("--channel", help="Which pointer: stable, candidate, shadow, or any name.")]
Task = Annotated[str, argument(metavar="TASK", help="The task's name in the registry.")]
Named = Annotated[str, argument(metavar="VERSION", help="A number, a digest or its beginning, or a channel.")]
DEFAULT_URL = "sqlite:///registry.db"
STABLE = "stable"

registry = typer.Typer()


def _open(url: str, store: str | None = None, actor: str | None = None, *, new: bool = False) -> Registry:
    from adapterkit.errors import RegistryError
    from adapterkit.registry import Registry

    kind, _, file = url.partition(":///")
    if not new and kind == "sqlite" and "?" not in file and not Path(file).exists():
        remedy = "Name another: --registry URL. Or make it: adapterkit registry add TASK SOURCE."
        raise RegistryError(f"there is no registry at {url}", remedy=remedy)
    return Registry(url, store=store, actor=actor)


@dataclass(frozen=True, kw_only=True)
class ReadOptions(OptionGroup):
    """A registry to look at."""

    url: Url = DEFAULT_URL

    def given(self) -> Registry:
        return _open(self.url)


@dataclass(frozen=True, kw_only=True)
class ChangeOptions(ReadOptions):
    """A registry to change, by somebody."""

    actor: Actor = None

    def given(self) -> Registry:
        return _open(self.url, None, self.actor)


@dataclass(frozen=True, kw_only=True)
class FillOptions(ChangeOptions):
    """A registry to add to, which is made where there is none."""

    store: StoreUrl = None

    def given(self) -> Registry:
        return _open(self.url, self.store, self.actor, new=True)


ToRead = Annotated[Any, ReadOptions]
ToChange = Annotated[Any, ChangeOptions]
ToFill = Annotated[Any, FillOptions]


def act(name: str | None = None) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A verb of the registry's own."""
    return lambda verb: registry.command(name)(joined(verb))


@act()
def add(opened: ToFill, task: Task, source: Folder, as_json: Json = False) -> None:
    """Keep an artifact as a version of a task. The same content again is the same version."""
    _show(opened.add(task, source), as_json)


@act("list")
def list_(
    opened: ToRead,
    task: Annotated[str | None, argument(metavar="[TASK]", help="One task.")] = None,
    fingerprint: Annotated[str | None, option(help="Only versions for the backbone with this fingerprint.")] = None,
    as_json: Json = False,
) -> None:
    """List versions: task, number, digest, kind, method, channels, main metric, when."""
    versions = opened.versions(task, fingerprint=fingerprint)
    headings = ["task", "version", "digest", "kind", "method", "channels", "metric", "added"]
    console.print_either(as_json, [*map(vars, versions)], [*map(_row, versions)], headings)


@act()
def show(opened: ToRead, task: Task, version: Named, as_json: Json = False) -> None:
    """Show a version: where it came from, what it was made from, its metrics, where it answers."""
    line = opened.lineage(task, version)
    if as_json:
        console.print_json({**vars(line[0]), "lineage": [each.digest for each in line]})
        return
    _show(line[0], False)
    console.print_table([["made from", f"{each.task} {each.number} ({each.short})"] for each in line[1:]])


@act()
def promote(
    opened: ToChange,
    task: Task,
    version: Named,
    channel: Channel = STABLE,
    backbone: Annotated[
        str | None,
        option(
            "--backbone",
            metavar="PATH_OR_ID",
            help="Verify the version on this backbone first: evidence for contract and golden rows.",
        ),
    ] = None,
    evidence: Annotated[
        list[Path] | None,
        option(
            metavar="FILE",
            help="What compare, evaluate or calibrate print with --json, or check -> {passed, detail}. Many times.",
        ),
    ] = None,
    force: Annotated[str, option(metavar="REASON", help="Go past the gate; the audit keeps why.")] = "",
    as_json: Json = False,
) -> None:
    """Let a channel point to a version, once it passes the gate."""
    found = _evidence(evidence or [])
    if backbone is not None:
        found |= _verified(opened, task, version, backbone)
    _show(opened.promote(task, version, channel, evidence=found, force=force), as_json)


@act("roll-back")
def roll_back(opened: ToChange, task: Task, channel: Channel = STABLE, as_json: Json = False) -> None:
    """Let a channel point to the version that it had before. Nothing is asked and nothing is fetched."""
    _show(opened.roll_back(task, channel), as_json)


@act()
def withdraw(
    opened: ToChange, task: Task, channel: Annotated[str, typer.Option("--channel", help="Which pointer.")]
) -> None:
    """Let a channel point to nothing, so that it answers no more. roll-back undoes it."""
    opened.withdraw(task, channel)


@act("split")
def divide(
    opened: ToChange,
    task: Task,
    shares: Annotated[list[str], argument(metavar="CHANNEL=SHARE…", help="Shares count relative to their sum.")],
) -> None:
    """Divide a task's traffic among its channels; services that follow this registry do so, before their rules."""
    divided = {}
    for one in shares:
        channel, _, share = one.rpartition("=")
        try:
            divided[channel] = float(share)
        except ValueError:
            raise typer.BadParameter(f"{one!r}: expected CHANNEL=SHARE, such as stable=0.95") from None
    opened.set_shares(task, divided)
    whole = sum(divided.values())
    console.say(", ".join(f"{channel} {share / whole:.1%}" for channel, share in divided.items()))


@act()
def history(opened: ToRead, task: Task, channel: Channel = STABLE, as_json: Json = False) -> None:
    """Show everything that a channel answered with: since when, until when, by whom, on what evidence."""
    moves = opened.history(task, channel)
    rows = [
        [
            move.since,
            move.until or "",
            f"{move.version.number} ({move.version.short})",
            move.action,
            move.by,
            f"forced: {move.forced}" if move.forced else ", ".join(move.evidence),
            str(move.ended.get("detail", "")),
        ]
        for move in moves
    ]
    headings = ["since", "until", "version", "what", "by", "evidence", "left because"]
    console.print_either(as_json, [*map(_facts, moves)], rows, headings)


@act()
def served(
    opened: ToRead,
    task: Task,
    at: Annotated[str, option(metavar="TIME", help="ISO 8601; without a zone it is UTC.")],
    channel: Channel = STABLE,
    as_json: Json = False,
) -> None:
    """Say which version answered at a time. Exit status 1 where none did."""
    found = opened.served(task, at, channel)
    if as_json:
        console.print_json(None if found is None else _facts(found))
    elif found is not None:
        _show(found.version, False)
    if found is None:
        console.say(f"Nothing answered for {task} on {channel} at {at}.")
        raise typer.Exit(1)


@act()
def gate(
    require: Annotated[
        list[str] | None,
        option(
            metavar="CHECK",
            help="files, contract, 'golden rows', compare, calibration, signature. Many times. Default: show it.",
        ),
    ] = None,
    signer: Annotated[
        list[str] | None,
        option(metavar="PUB", help="Whose signature passes: a public key, as a file or ed25519:…. Many times."),
    ] = None,
    most_ece: Annotated[float | None, option(help="The largest calibration error that passes. Default: 0.05.")] = None,
    task: Annotated[str, typer.Option(help="One task. Default: all without a gate of their own.")] = "",
    channel: Channel = STABLE,
    url: Url = DEFAULT_URL,
    actor: Actor = None,
) -> None:
    """Show or set what a version must pass before a channel may point to it."""
    from adapterkit.manifest.signature import read_trusted

    changed = bool(require or signer or most_ece is not None)
    with _open(url, None, actor, new=changed) as opened:
        if changed:
            before = opened.gate(task, channel).model_dump()
            asked = {"require": require or None, "most_ece": most_ece, "signers": read_trusted(signer or None) or None}
            wanted = {**before, **{name: value for name, value in asked.items() if value is not None}}
            opened.set_gate(wanted, task=task, channel=channel)
        console.print_json(opened.gate(task, channel).model_dump(mode="json"))


Tracking = Annotated[
    str, typer.Option("--tracking", metavar="URL", envvar="MLFLOW_TRACKING_URI", help="MLflow's address.")
]
Model = Annotated[str | None, option("--name", help="Of the model in MLflow. Default: the task's.")]


@act("to-mlflow")
def to_mlflow_(opened: ToRead, task: Task, version: Named, tracking: Tracking, name: Model = None) -> None:
    """Register a version in MLflow: its files, what it is as tags, its channels as aliases."""
    from adapterkit.registry.mlflow import to_mlflow

    console.say(f"{name or task} {to_mlflow(opened, task, version, tracking, name=name)} in MLflow")


@act("from-mlflow")
def from_mlflow_(
    opened: ToFill,
    task: Task,
    version: Annotated[str, argument(metavar="VERSION", help="A number or an alias in MLflow.")],
    tracking: Tracking,
    name: Model = None,
    as_json: Json = False,
) -> None:
    """Add a version of MLflow's. It is promoted to nothing: that asks a gate."""
    from adapterkit.registry.mlflow import from_mlflow

    _show(from_mlflow(opened, task, name or task, version, tracking), as_json)


@act()
def audit(
    opened: ToRead,
    head: Annotated[str | None, option(metavar="HASH", help="A hash noted earlier, which must still be there.")] = None,
    files: Annotated[bool, typer.Option("--files/--no-files", help="Read the artifacts' bytes too.")] = True,
    as_json: Json = False,
) -> None:
    """Prove that nothing in the history was changed. Exit status 0 or 1. Keep the hash that it prints elsewhere."""
    report = opened.audit(head=head, files=files)
    if as_json:
        console.print_json(vars(report))
    else:
        for problem in report.problems:
            console.say(problem, style="red")
        whole = "nothing was changed" if report else f"{len(report.problems)} problem{'s'[: len(report.problems) > 1]}"
        console.print_table([["entries", f"{report.entries:,}"], ["found", whole], ["head", report.head]])
    if not report:
        raise typer.Exit(1)


def _verified(opened: Registry, task: str, version: str, backbone: str) -> dict[str, Any]:
    """What `verify` finds, check by check, as evidence."""
    from adapterkit.artifact import verify
    from adapterkit.registry.gates import CHECKS

    report = verify(opened.fetch(task, version), backbone)
    return {
        check.name: {"passed": check.ok, "detail": check.detail}
        for check in report.checks
        if check.name in CHECKS and check.name not in ("files", "signature")
    }


def _evidence(files: Sequence[Path]) -> dict[str, Any]:
    from adapterkit.errors import RegistryError
    from adapterkit.registry.gates import check_of

    found: dict[str, Any] = {}
    problems = []
    for file in files:
        try:
            value = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            problems.append(f"{file}: {error}")
            continue
        if isinstance(value, dict):
            found |= {check_of(value): value} if "schema" in value else value
        else:
            problems.append(f"{file}: found {type(value).__name__}, expected an object of check -> evidence")
    if problems:
        raise RegistryError("the evidence cannot be read", problems)
    return found


def _facts(move: Served) -> dict[str, Any]:
    return {**vars(move), "version": vars(move.version)}


def _row(version: Version) -> list[str]:
    part = version.metrics.get("test") or version.metrics.get("validation") or {}
    metric = next((f"{name} {found['value']:.4f}" for name, found in part.items()), "")
    channels = ", ".join(version.channels)
    day = version.added_at[:16].replace("T", " ")
    return [version.task, str(version.number), version.short, version.kind, version.method, channels, metric, day]


def _show(version: Version, as_json: bool) -> None:
    rows = [
        ["version", f"{version.task} {version.number}"],
        ["digest", version.digest],
        ["kind", f"{version.kind}, {version.method}"],
        ["backbone", f"{version.backbone} ({version.fingerprint[:12]})"],
        ["channels", ", ".join(version.channels) or "none"],
        ["size", console.readable_bytes(version.size_bytes)],
        ["source", version.source],
        ["kept in", version.location],
        ["added", f"{version.added_at} by {version.added_by}"],
    ]
    for part, metrics in version.metrics.items():
        rows += [[f"{part} {name}", f"{value} ({interval})"] for name, value, interval in console.metric_rows(metrics)]
    console.print_either(as_json, vars(version), rows)
