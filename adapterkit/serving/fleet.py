"""Who answers a task at this moment: the arms of its split, and the mounted version behind each.

A version is mounted under a name that holds its digest. A row is addressed when its batch begins, so it is answered by
what is routed then, and what was routed before stays mounted until the batches that began with it have ended.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

from adapterkit.errors import AdapterkitError, MountError, NotMountedError
from adapterkit.host import Host
from adapterkit.host.bank.mounted import Mounted, Status
from adapterkit.manifest import Manifest, open_manifest
from adapterkit.recipe.suggestions import nearest
from adapterkit.serving import golden
from adapterkit.serving.hosts import Hosts
from adapterkit.tasks.table import TASKS
from adapterkit.traffic import Split, arm_of

ONLY = "stable"
"""The arm of a task that has no split."""


@dataclass(frozen=True)
class Arm:
    """One side of a split: the name under which the host has it, its version for people (the registry's number, or the
    artifact's own), and the digest of its manifest, "" for a composition."""

    mounted: str
    version: str
    digest: str


@dataclass(frozen=True)
class Route:
    """How a task is answered: by arms, each with a share of the split."""

    task: str
    kind: str
    """Of a composition with several heads their kinds."""
    arms: Mapping[str, Arm]
    split: Split
    shadow: Arm | None = None
    """What is asked beside it, and never answers."""
    flag: str | None = None
    """Which chooses the arm of a key, where it says one that there is."""

    @property
    def everything(self) -> tuple[Arm, ...]:
        """What has to be mounted: what answers, and the shadow."""
        return (*self.arms.values(), *filter(None, [self.shadow]))

    def facts(self, arm: str) -> dict[str, Any]:
        """An arm as JSON."""
        chosen = self.arms[arm]
        return {"version": chosen.version, "artifact": chosen.digest, "share": self.split.get(arm, 0.0)}

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


@dataclass
class Fleet:
    """A host, or several as one where backbones stand side by side, and the routes to what is mounted there."""

    host: Host | Hosts
    routes: Mapping[str, Route] = field(default_factory=dict)
    """Task -> route. It is replaced as a whole, never changed."""
    checked: set[str] = field(default_factory=set)
    """Names under which something was mounted that answered its golden rows; they hold its digest."""
    wrong: dict[str, str] = field(default_factory=dict)
    """Task -> why it could not be routed as it should be."""
    draining: bool = False
    """Whether new requests are sent elsewhere."""
    before: dict[str, str] = field(default_factory=dict)
    """Task -> the folder of what answered before it was mounted anew."""
    flags: Callable[[str, str, str], str] | None = None
    """From the name of a flag, the key, and the arm that the split gives, to the arm of that key."""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _compositions: Iterator[int] = field(default_factory=lambda: count(1))

    @property
    def hosts(self) -> tuple[Host, ...]:
        """One per backbone, the first first."""
        return self.host.hosts if isinstance(self.host, Hosts) else (self.host,)

    def statuses(self) -> dict[str, Status]:
        """Mounted name -> what the host says of it."""
        return {status.name: status for status in self.host.status()}

    def home(self, name: str | None) -> Host:
        """The host on which a name is mounted; the first for None."""
        return self.host.home(name) if isinstance(self.host, Hosts) else self.host

    def find(self, task: str, key: str) -> tuple[Route, str]:
        """The route of a task, and the arm that answers this key.
        Raises NotMountedError: no such task; says which there are."""
        route = self.routes.get(task)
        if route is None:
            known = sorted(self.routes)
            near = nearest(task, known)
            hint = f"; did you mean {near!r}?" if near else ""
            raise NotMountedError(f"no task {task!r}{hint}", [f"tasks: {', '.join(known[:20]) or 'none'}"])
        arm = arm_of(route.split, key, salt=task)
        if route.flag is not None and self.flags is not None:
            chosen = self.flags(route.flag, key, arm)
            arm = chosen if chosen in route.arms else arm
        return route, arm

    def receipt(self, route: Route, arm: str, mounted: Mounted) -> Receipt:
        """Whose an answer is, by the very record that answered."""
        chosen, digest = route.arms[arm], mounted.origin.sha256
        if digest != chosen.digest:  # another was mounted under this name than was routed: never give such an answer
            raise NotMountedError(f"{route.task} was answered by another version than the one it was routed to")
        return Receipt(route.task, chosen.version, digest, mounted.backbone, arm)

    def mount(self, task: str, source: Any, manifest: Manifest | None) -> None:
        """Mount one artifact as the only arm of a task, or put it in the place of what answers there."""
        with self._lock:
            digest = "" if manifest is None else manifest.sha256
            name = f"{task}@{digest[:16] or next(self._compositions)}"
            self._mount(name, source)
            kind = self.statuses()[name].kind
            version = "" if manifest is None else str(manifest.version)
            if (old := self.routes.get(task)) is not None:
                self.before[task] = self.statuses()[old.arms[ONLY].mounted].source
            self._route(Route(task, kind, {ONLY: Arm(name, version, digest)}, {ONLY: 1.0}))

    def back(self, task: str, digest: str) -> bool:
        """Let what answered before answer again, if this version still answers. Whether there was anything."""
        route, folder = self.routes.get(task), self.before.get(task)
        if route is None or folder is None or digest not in {arm.digest for arm in route.arms.values()}:
            return False
        self.mount(task, folder, open_manifest(folder))
        del self.before[task]
        return True

    def set_route(self, route: Route, source_of: Callable[[str], Any]) -> AdapterkitError | None:
        """Route a task to arms, mounting what is not mounted yet. Raises before anything is changed.

        A shadow that cannot be mounted keeps nothing from answering. Returns why there is none, where one was asked
        for. `source_of`: from the name under which something shall be mounted to where its artifact is.
        """
        problem = None
        with self._lock:
            fresh = []
            try:
                for arm in route.arms.values():
                    if arm.mounted not in self.host:
                        self._mount(arm.mounted, source_of(arm.mounted))
                        fresh.append(arm.mounted)
            except AdapterkitError:
                for name in fresh:
                    self.host.unmount(name)
                raise
            if route.shadow is not None:
                try:
                    self._mount(route.shadow.mounted, source_of(route.shadow.mounted))
                except AdapterkitError as error:
                    route, problem = replace(route, shadow=None), error
            self._route(route)
        return problem

    def try_out(self, name: str, source: Any) -> None:
        """Mount an artifact for a moment and let it answer its golden rows. Raises what keeps it from answering."""
        with self._lock:
            if self._mount(name, source):
                self.host.unmount(name)

    def unmount(self, task: str) -> None:
        """Take a task off. Raises NotMountedError where there is none."""
        with self._lock:
            self.find(task, "")
            self.routes = {name: route for name, route in self.routes.items() if name != task}
            self.before.pop(task, None)  # who is mounted there next has no part in it
            self._sweep()

    def _mount(self, name: str, source: Any) -> bool:
        """Mount what is not there yet, if it answers its golden rows: before any row is routed to it."""
        if name in self.host:
            return False
        status = self.host.mount(name, source)
        problem = "" if name in self.checked else golden.problem_of(self.home(name), name, status.source)
        if problem:
            self.host.unmount(name)
            raise MountError(f"{name} does not answer as when it was saved", [problem], "What answered before goes on.")
        self.checked.add(name)
        return True

    def _route(self, route: Route) -> None:
        self.wrong.pop(route.task, None)
        self.routes = {**self.routes, route.task: route}
        self._sweep()

    def _sweep(self) -> None:
        """Unmount what no route leads to. Calls that have begun with it finish with it."""
        used = {arm.mounted for route in self.routes.values() for arm in route.everything}
        for status in self.host.status():
            if status.name not in used:
                self.host.unmount(status.name)
