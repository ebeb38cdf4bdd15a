"""Several backbones side by side behind one service: each adapter on the host of the one that it was trained on.

A fleet speaks to them as to one host, so that a task's arms may sit on different backbones while its traffic moves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from adapterkit.errors import ContractError, MountError, ServingError
from adapterkit.host import Host
from adapterkit.host.answers.asked_rows import Answered
from adapterkit.host.bank.mounted import Status, Statuses
from adapterkit.host.bank.sources import Source

Asked = Sequence[tuple[str, Any]]


class Hosts:
    """Hosts of different backbones, as one, with which they are closed. The methods are those of `Host`; the first one
    is meant where none is named. Raises ServingError: two have one backbone, between which nothing could choose."""

    def __init__(self, hosts: Sequence[Host]) -> None:
        prints = [host.backbone.fingerprint for host in hosts]
        if len(set(prints)) < len(prints):
            names = ", ".join(f"{host.backbone.name} ({host.backbone.fingerprint[:12]})" for host in hosts)
            raise ServingError("a backbone is named twice", [f"backbones: {names}"], "Name each one once.")
        self.hosts = tuple(hosts)

    def home(self, name: str | None) -> Host:
        """The host on which a name is mounted; the first where it is on none."""
        return next((host for host in self.hosts if name in host), self.hosts[0])

    def mount(self, name: str, source: Source) -> Status:
        """Mount on the host whose backbone it fits. Raises ContractError: it fits none; says why of each."""
        if name in self:
            raise MountError(f"{name!r} is mounted already", remedy="Unmount it first.")
        problems = list[str]()
        for host in self.hosts:
            try:
                return host.mount(name, source)
            except ContractError as error:
                problems += [f"{host.backbone.name}: {problem}" for problem in error.problems]
        raise ContractError(f"{source} fits none of the {len(self.hosts)} backbones", problems)

    def unmount(self, name: str) -> None:
        """Take an adapter off."""
        self.home(name).unmount(name)

    def status(self) -> Statuses:
        """What is mounted on all of them, by name."""
        return Statuses(sorted((each for host in self.hosts for each in host.status()), key=lambda each: each.name))

    def __contains__(self, name: object) -> bool:
        return any(name in host for host in self.hosts)

    def __len__(self) -> int:
        return sum(map(len, self.hosts))

    def close(self) -> None:
        """Close every host."""
        for host in self.hosts:
            host.close()

    def __enter__(self) -> Hosts:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def answers(self, rows: Asked, **settings: Any) -> list[Answered]:
        """Answer rows, those of one backbone together."""
        return self._each(rows, lambda host, own: host.answers(own, **settings))

    def texts(self, rows: Asked, **settings: Any) -> list[Answered]:
        """Continue prompts, those of one backbone together."""
        return self._each(rows, lambda host, own: host.texts(own, **settings))

    def features(self, texts: Sequence[str], adapter: str | None = None) -> list[Tensor]:
        """Last hidden states with an adapter on its own backbone, or of the first one bare."""
        return self.home(adapter).features(texts, adapter)

    def _each(self, rows: Asked, ask: Callable[[Host, Asked], list[Answered]]) -> list[Answered]:
        """What each host says to its rows, in the order of all rows."""
        groups: dict[Host, list[int]] = {}
        for number, (name, _) in enumerate(rows):
            groups.setdefault(self.home(name), []).append(number)
        found: dict[int, Answered] = {}
        for host, numbers in groups.items():
            found.update(zip(numbers, ask(host, [rows[number] for number in numbers]), strict=True))
        return [found[number] for number in range(len(rows))]
