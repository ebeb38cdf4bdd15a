"""What an admin may do with a service while it answers, each act with who did it.

With a registry behind the service the acts are the registry's, whose audit keeps them; the service follows at once.
Without one, artifacts are mounted and taken off directly.
"""

import logging
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from adapterkit.errors import AdapterkitError, NotMountedError, RegistryError, ServingError
from adapterkit.manifest import CARD, MANIFEST, REPORT, open_manifest
from adapterkit.registry import AuditReport, Registry, Version
from adapterkit.registry.gates import read_evidence
from adapterkit.serving.fleet import Fleet
from adapterkit.serving.opening import Follower, mount_folder
from adapterkit.serving.requests import Promote

logger = logging.getLogger(__name__)

KEPT_ACTS = 500
SHOWN_ENTRIES = 200
AUDIT_RESTS = 20
"""The chain is proven again after so many times what it took: boards ask every other second, and it only grows."""


class Steering:
    """The acts of admins on one service. `follower`: what keeps the fleet at a registry's channels, if it has one."""

    def __init__(self, fleet: Fleet, follower: Follower | None = None) -> None:
        self._fleet, self._follower = fleet, follower
        self._acts: deque[dict[str, Any]] = deque(maxlen=KEPT_ACTS)
        self._report, self._audit_at = AuditReport(0, "", ()), 0.0

    def mount(self, actor: str, task: str, source: str) -> dict[str, Any]:
        """Mount an artifact, or put it in the place of what answers. Raises what keeps it from answering."""
        self._without_registry("promote a version of its registry instead")
        mount_folder(self._fleet, task, source)
        return self._done(actor, "mount", task, source=source)

    def unmount(self, actor: str, task: str) -> dict[str, Any]:
        """Take a task off. Rows that wait are answered by what they were asked of, or get an error in their place."""
        self._without_registry("withdraw its channels there instead")
        self._fleet.unmount(task)
        return self._done(actor, "unmount", task)

    def drain(self, actor: str, on: bool) -> dict[str, Any]:
        """Send new requests elsewhere, or take them again. What was taken is answered."""
        self._fleet.draining = on
        return self._done(actor, "drain" if on else "take requests again", "")

    def promote(self, actor: str, asked: Promote) -> dict[str, Any]:
        """Let a channel point to a version that passes the gate, on evidence that this host has collected itself.
        Returns the evidence by check and what is missing; without `try_only`, whether the service follows too. Raises
        GateError, RegistryError, ConflictError as `Registry.promote`."""
        registry, task, channel = self._registry(actor), asked.task, asked.channel
        wanted = registry.version(task, asked.version)
        found = {**asked.evidence, **self._tried(registry, wanted)}
        today = registry.channels(task).get(channel)
        gate = registry.gate(task, channel)
        judged = read_evidence(found, wanted.digest, None if today is None else today.digest, gate.most_ece)
        judged |= registry.own_evidence(wanted, gate)
        facts = {
            "task": task,
            "channel": channel,
            "version": _facts(wanted),
            "before": None if today is None else _facts(today),
            "evidence": {name: each.model_dump(mode="json") for name, each in judged.items()},
            "required": list(gate.require),
            "problems": gate.problems(judged),
        }
        if asked.try_only:
            return facts
        registry.promote(task, wanted.digest, channel, evidence=found, force=asked.force)
        return facts | self._done(actor, "promote", task, channel=channel, version=wanted.number, force=asked.force)

    def roll_back(self, actor: str, task: str, channel: str) -> dict[str, Any]:
        """Let a channel point to what it pointed to before. Raises as `Registry.roll_back`."""
        version = self._registry(actor).roll_back(task, channel)
        return self._done(actor, "roll-back", task, channel=channel, version=version.number)

    def divide(self, actor: str, task: str, split: Mapping[str, float]) -> dict[str, Any]:
        """Divide the traffic of a task among its channels. Raises as `Registry.set_shares`."""
        self._registry(actor).set_shares(task, split)
        return self._done(actor, "split", task, split=dict(split))

    def facts(self) -> dict[str, Any]:
        """What is mounted, and why something is not."""
        statuses = self._fleet.statuses()
        tasks = []
        for task, route in sorted(self._fleet.routes.items()):
            arms = [
                {
                    "arm": arm,
                    **route.facts(arm),
                    "backbone": Path(self._fleet.home(found.mounted).backbone.name).name,
                    "method": status.method if (status := statuses.get(found.mounted)) else "",
                    "rows": status.hits if status else 0,
                    "resident": bool(status and status.resident),
                }
                for arm, found in route.arms.items()
            ]
            tasks.append({"task": task, "kind": route.kind, "arms": arms})
        return {
            "backbones": [Path(host.backbone.name).name for host in self._fleet.hosts],
            "registry": self._follower is not None,
            "draining": self._fleet.draining,
            "tasks": tasks,
            "wrong": dict(self._fleet.wrong),
        }

    def versions(self, task: str) -> list[dict[str, Any]]:
        """The versions of a task; without a registry what is mounted. Raises NotMountedError, RegistryError."""
        if self._follower is not None:
            return [_facts(version) for version in self._follower.registry.versions(task)]
        route, _ = self._fleet.find(task, "")
        return [
            {"version": arm.version, "digest": arm.digest, "channels": [name], "kind": route.kind}
            for name, arm in route.arms.items()
        ]

    def about(self, task: str, version: str) -> dict[str, Any]:
        """A version's card and metrics, and whether it has a report. Raises as `folder`."""
        folder = self.folder(task, version)
        manifest, card = open_manifest(folder), folder / CARD
        return {
            "task": task,
            "digest": manifest.sha256,
            "kind": manifest.kind,
            "backbone": manifest.backbone.name,
            "metrics": manifest.model_dump(mode="json")["metrics"],
            "card": card.read_text(encoding="utf-8", errors="replace") if card.is_file() else "",
            "report": self.report(task, version) is not None,
        }

    def report(self, task: str, version: str) -> Path | None:
        """The page about the run that made a version, beside what was added or mounted; None where it is gone."""
        places = [self.folder(task, version)]
        if self._follower is not None:
            found = self._follower.registry.version(task, version)
            source = Path(found.source)
            if (source / MANIFEST).is_file() and open_manifest(source).sha256 == found.digest:
                places.append(source)
        return next((place / REPORT for place in places if (place / REPORT).is_file()), None)

    def folder(self, task: str, version: str) -> Path:
        """Where a version's artifact is on this machine.
        Raises NotMountedError, RegistryError, ArtifactError: there is none, or it is not whole."""
        if self._follower is not None:
            return self._follower.registry.fetch(task, version)
        route, _ = self._fleet.find(task, "")
        statuses = self._fleet.statuses()
        for arm in route.arms.values():
            status = statuses.get(arm.mounted)
            if status and version in (arm.version, arm.digest) and Path(status.source).is_dir():
                return Path(status.source)
        raise NotMountedError(f"no version {version!r} of {task}")

    def audit(self, task: str | None) -> dict[str, Any]:
        """What was done: the registry's entries, whether their chain is whole, and the acts on this process."""
        acts = [act for act in reversed(self._acts) if task in (None, act["task"])]
        if self._follower is None:
            return {"entries": [], "acts": acts, "problems": [], "head": ""}
        registry = self._follower.registry
        if time.monotonic() >= self._audit_at:
            began = time.monotonic()
            self._report = registry.audit(files=False)
            self._audit_at = time.monotonic() + AUDIT_RESTS * (time.monotonic() - began)
        shown = [asdict(entry) for entry in reversed(registry.entries(task, SHOWN_ENTRIES))]
        return {"entries": shown, "acts": acts, "problems": list(self._report.problems), "head": self._report.head}

    def _tried(self, registry: Registry, version: Version) -> dict[str, Any]:
        """Evidence that this very host can give: whether it fits, and whether it answers its golden rows."""
        name, found = f"{version.task}@{version.digest[:16]}", {}
        try:
            folder = registry.fetch(version.task, version.digest)
            found["contract"] = {"passed": True, "detail": "it fits a backbone of this service"}
            self._fleet.try_out(name, str(folder))
            found["golden rows"] = {"passed": True, "detail": "it answers as when it was saved"}
        except AdapterkitError as error:
            check = "contract" if error.code == "contract" else "golden rows"
            found[check] = {"passed": False, "detail": error.message[:4096]}
        return found

    def _registry(self, actor: str) -> Registry:
        if self._follower is None:
            raise ServingError("this service follows no registry", remedy="Start it with --registry URL.")
        return self._follower.registry.acting(actor)

    def _without_registry(self, instead: str) -> None:
        if self._follower is not None:
            raise RegistryError(f"this service follows a registry: {instead}")

    def _done(self, actor: str, action: str, task: str, **details: Any) -> dict[str, Any]:
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._acts.append({"at": at, "actor": actor, "action": action, "task": task, "details": details})
        logger.warning("%s: %s %s %s", actor, action, task, details or "")
        if self._follower is not None:
            self._follower.follow()
        return {"done": action, "by": actor, "problem": self._fleet.wrong.get(task, "")}


def _facts(version: Version) -> dict[str, Any]:
    hidden = {"source", "location"}  # paths of the machine
    return {name: value for name, value in asdict(version).items() if name not in hidden}
