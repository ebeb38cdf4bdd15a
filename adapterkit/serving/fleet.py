"""Who answers a task at this moment: the arms of its split, and the mounted version behind each.

A version is mounted under a name that holds its digest. A row is addressed when its batch begins, so it is answered by
what is routed then, and what was routed before stays mounted until the batches that began with it have ended.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from adapterkit.errors import AdapterkitError, NotMountedError
from adapterkit.host import Host
from adapterkit.host.bank.mounted import Mounted
from adapterkit.manifest import Manifest
from adapterkit.recipe.suggestions import nearest
from adapterkit.tasks.table import TASKS
from adapterkit.traffic import Split, arm_of

ONLY = "stable"
"""The arm of a task that has no split."""


@dataclass(frozen=True)
class Arm:
    """One side of a split.

    Attributes:
        mounted: the name under which the host has it.
        version: for people: the registry's number, or the artifact's own.
        digest: of the artifact's manifest; "" for a composition.
    """

    mounted: str
    version: str
    digest: str


@dataclass(frozen=True)
class Route:
    """How a task is answered.

    Attributes:
        task: its name.
        kind: its kind; of a composition with several heads their kinds.
        arms: arm -> what answers.
        split: arm -> share.
    """

    task: str
    kind: str
    arms: Mapping[str, Arm]
    split: Split

    @property
    def generates(self) -> bool:
        """Whether its answers are generated text."""
        return any(kind in TASKS and TASKS[kind].generates for kind in self.kind.split(", "))


@dataclass(frozen=True)
class Receipt:
    """What proves whose an answer is."""

    task: str
    version: str
    artifact: str
    backbone: str
    arm: str

    def as_json(self) -> dict[str, str]:
        """As a service gives it."""
        return dict(vars(self))


@dataclass
class Fleet:
    """A host and the routes to what is mounted on it.

    Attributes:
        host: with everything mounted.
        routes: task -> route. It is replaced as a whole, never changed.
        checked: task -> what is wrong with its golden rows; a task that is missing was not checked yet.
    """

    host: Host
    routes: Mapping[str, Route] = field(default_factory=dict)
    checked: dict[str, str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def find(self, task: str, key: str) -> tuple[Route, str]:
        """The route of a task, and the arm that answers this key.

        Raises:
            NotMountedError: no such task; says which there are.
        """
        route = self.routes.get(task)
        if route is None:
            known = sorted(self.routes)
            near = nearest(task, known)
            hint = f"; did you mean {near!r}?" if near else ""
            raise NotMountedError(f"no task {task!r}{hint}", [f"tasks: {', '.join(known[:20]) or 'none'}"])
        return route, arm_of(route.split, key, salt=task)

    def receipt(self, route: Route, arm: str, mounted: Mounted) -> Receipt:
        """Whose an answer is, by the very record that answered."""
        chosen = route.arms[arm]
        digest = mounted.origin.sha256
        if (
            digest != chosen.digest
        ):  # what was mounted under this name is not what was routed: never give such an answer
            raise NotMountedError(f"{route.task} was answered by another version than the one it was routed to")
        return Receipt(route.task, chosen.version, digest, self.host.backbone.fingerprint, arm)

    def mount(self, task: str, source: Any, manifest: Manifest | None) -> None:
        """Mount one artifact as the only arm of a task, or put it in the place of what answers there."""
        with self._lock:
            digest = "" if manifest is None else manifest.sha256
            name = f"{task}@{digest[:16]}"
            if name not in self.host:
                self.host.mount(name, source)
            kind = next(status.kind for status in self.host.status() if status.name == name)
            version = "" if manifest is None else str(manifest.version)
            self._route(Route(task, kind, {ONLY: Arm(name, version, digest)}, {ONLY: 1.0}))

    def set_route(self, route: Route, sources: Mapping[str, Any]) -> None:
        """Route a task to arms, mounting what is not mounted yet. Raises before anything is changed.

        Args:
            sources: mounted name -> where its artifact is.
        """
        with self._lock:
            fresh = []
            try:
                for arm in route.arms.values():
                    if arm.mounted not in self.host:
                        self.host.mount(arm.mounted, sources[arm.mounted])
                        fresh.append(arm.mounted)
            except AdapterkitError:
                for name in fresh:
                    self.host.unmount(name)
                raise
            self._route(route)

    def unmount(self, task: str) -> None:
        """Take a task off. Raises NotMountedError where there is none."""
        with self._lock:
            self.find(task, "")
            self.routes = {name: route for name, route in self.routes.items() if name != task}
            self._sweep()

    def _route(self, route: Route) -> None:
        self.checked.pop(route.task, None)
        self.routes = {**self.routes, route.task: route}
        self._sweep()

    def _sweep(self) -> None:
        """Unmount what no route leads to. Calls that have begun with it finish with it."""
        used = {arm.mounted for route in self.routes.values() for arm in route.arms.values()}
        for status in self.host.status():
            if status.name not in used:
                self.host.unmount(status.name)
