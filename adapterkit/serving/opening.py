"""A fleet from names and sources, or from a registry whose channels it follows."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from adapterkit.artifact.sharing import find_folder
from adapterkit.errors import AdapterkitError, ConflictError, RegistryError, ServingError
from adapterkit.host import Host
from adapterkit.host.opening import open_host
from adapterkit.manifest import Manifest, open_manifest
from adapterkit.manifest.signature import TrustedKeys
from adapterkit.registry import Registry, Version
from adapterkit.serving.fleet import ONLY, Arm, Fleet, Route
from adapterkit.serving.hosts import Hosts
from adapterkit.traffic import Rules

logger = logging.getLogger(__name__)


def mounted_fleet(sources: Mapping[str, str], backbones: Sequence[str], **settings: Any) -> Fleet:
    """A fleet that answers with these artifacts, compositions or hub ids, by name. Settings, errors: of `open_hosts`.
    `backbones`: where to load them from, side by side; none loads the one that the first artifact names."""
    folders = {name: str(find_folder(source)) for name, source in sources.items()}
    if not backbones:
        named = [manifest.backbone.name for folder in folders.values() if (manifest := _manifest(folder)) is not None]
        if not named:
            raise ServingError("nothing names a backbone", remedy="Give one with --backbone PATH_OR_ID.")
        backbones = named[:1]
    fleet = Fleet(open_hosts(backbones, **settings))
    try:
        for name, folder in folders.items():
            mount_folder(fleet, name, folder)
    except BaseException:
        fleet.host.close()
        raise
    return fleet


def open_hosts(
    backbones: Sequence[str], *, slots: int | None, dtype: str = "auto", require_signature: TrustedKeys | None = None
) -> Host | Hosts:
    """A host of a backbone, or those of several as one. Raises as `open_host` and `Hosts`, and leaves none open.
    `slots`: of each host."""
    hosts = list[Host]()
    try:
        for backbone in backbones:
            hosts.append(open_host({}, backbone, slots=slots, dtype=dtype, require_signature=require_signature))
        return hosts[0] if len(hosts) == 1 else Hosts(hosts)
    except BaseException:
        for host in hosts:
            host.close()
        raise


def mount_folder(fleet: Fleet, task: str, source: str) -> None:
    """Let an artifact's folder, a hub id or a composition answer a task alone. Raises what keeps it from answering."""
    folder = str(find_folder(source))
    fleet.mount(task, folder, _manifest(folder))


def registry_fleet(registry: Registry, rules: Rules, *backbones: str, **settings: Any) -> tuple[Fleet, Follower]:
    """A fleet that answers with what the channels of a registry point to, and what keeps it so. Settings, errors: of
    `open_hosts`."""
    fleet = Fleet(open_hosts(backbones, **settings))
    follower = Follower(fleet, registry, rules)
    follower.follow()
    return fleet, follower


class Follower:
    """Keeps a fleet at what the channels of a registry point to. A version that cannot be mounted is named in the log,
    and what answered before goes on."""

    def __init__(self, fleet: Fleet, registry: Registry, rules: Rules) -> None:
        self.registry = registry
        self._fleet, self._rules = fleet, rules
        self._stopped = threading.Event()
        self._failed: dict[str, list[str]] = {}
        self._turn = threading.Lock()

    def follow(self) -> None:
        """Look once, and route what has changed. One look after the other: an older one never undoes a newer one."""
        with self._turn:
            for task in self.registry.tasks():
                self._follow(task)

    def _follow(self, task: str) -> None:
        route, places = self._wanted(task)
        if route is None or route == self._fleet.routes.get(task):
            self._fleet.wrong.pop(task, None)
            return
        try:
            without = self._fleet.set_route(route, lambda mounted: self.registry.fetch(task, places[mounted]))
            problem = None if without is None else f"{task} has no shadow: {without}"
        except AdapterkitError as error:
            problem = f"{task} stays as it is: {error}"
            self._fleet.wrong[task] = error.message
        if problem is None:
            self._failed.pop(task, None)
        elif self._failed.get(task) != sorted(places):
            logger.error("%s", problem)
            self._failed[task] = sorted(places)

    def take_off(self, task: str, channel: str, digest: str, why: Mapping[str, Any]) -> str:
        """Take a version off that broke a guard: a channel beside others, to nothing; the only one, to what it had.
        Returns what was done: another replica may have been quicker."""
        try:
            if channel == ONLY or self._rules.of(task).channels == (channel,):
                said = f"rolled back to version {self.registry.roll_back(task, expected=digest, why=why).number}"
            else:
                self.registry.withdraw(task, channel, expected=digest, why=why)
                said = f"withdrawn from {channel}"
        except ConflictError:
            said = "taken off by somebody else already"
        except RegistryError as error:
            return f"it goes on: {'; '.join([error.summary, *error.problems])}"
        self.follow()
        return said

    def run(self, every_s: float) -> None:
        """Look again and again, in a thread of its own, until `stop`."""
        threading.Thread(target=self._run, args=(every_s,), name="adapterkit-registry", daemon=True).start()

    def stop(self) -> None:
        """Follow no more."""
        self._stopped.set()

    def _run(self, every_s: float) -> None:
        while not self._stopped.wait(every_s):
            try:
                self.follow()
            except AdapterkitError as error:
                logger.error("the registry cannot be followed: %s", error)

    def _wanted(self, task: str) -> tuple[Route | None, dict[str, str]]:
        """The route that the registry asks for, and mounted name -> digest; None where no channel points anywhere."""
        rules, channels = self._rules.of(task), self.registry.channels(task)
        if (asked := self.registry.shares(task)) is not None:
            rules = rules.model_copy(update={"split": dict(asked)})
        beside = channels.get(rules.shadow or "")
        found = {channel: channels[channel] for channel in rules.channels if channel in channels}
        split = {channel: share for channel, share in rules.split.items() if channel in found and share}
        if not split:
            return None, {}
        arms = {channel: _arm(task, version) for channel, version in found.items()}
        kind = next(iter(found.values())).kind
        places = {arms[channel].mounted: version.digest for channel, version in found.items()}
        shadow = None if beside is None else _arm(task, beside)
        if beside is not None and shadow is not None:
            places[shadow.mounted] = beside.digest
        return Route(task, kind, arms, split, shadow, rules.flag), places


def _arm(task: str, version: Version) -> Arm:
    return Arm(f"{task}@{version.digest[:16]}", str(version.number), version.digest)


def _manifest(folder: str) -> Manifest | None:
    """What an artifact says of itself; None for a composition's file."""
    return open_manifest(folder) if os.path.isdir(folder) else None
