"""A registry's writers that are killed in the middle: history whole, chain valid, nothing acknowledged is lost."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import signal
from pathlib import Path

from adapterkit.errors import RegistryError
from adapterkit.manifest import CARD, CONFIG, TENSORS, dump_manifest
from adapterkit.registry import Registry
from tests.abuse.kills import Said, killed
from tests.registry.conftest import facts


class RegistryKills:
    """Two writers on one registry: one is killed, the other goes on; then it is killed as well."""

    judged = True

    def __init__(self, folder: Path) -> None:
        self._made = folder / "made"
        for name in "abcd":
            files = {CARD: b"a card", CONFIG: b"{}", TENSORS: name.encode()}
            (self._made / name).mkdir(parents=True)
            for file, raw in {**files, "adapterkit.json": dump_manifest(facts(files))}.items():
                (self._made / name / file).write_bytes(raw)
        self._begun = folder / "begun"
        self._begun.mkdir()
        with Registry(f"sqlite:///{self._begun}/r.db", store=self._begun / "kept", actor="ada") as registry:
            for number, name in enumerate("abc", 1):
                registry.add("intent", self._made / name)
                registry.promote("intent", str(number))

    def attempt(self, number: int, folder: Path) -> str:
        shutil.copy(self._begun / "r.db", folder / "r.db")
        url, generator = f"sqlite:///{folder}/r.db", random.Random(number)

        def write(said: Said, actor: str) -> None:
            moves = itertools.count()
            with Registry(url, actor=actor) as registry:
                for step in itertools.count():
                    try:
                        self._step(registry, step)
                    except RegistryError:
                        continue  # the other writer was quicker, or has withdrawn it already
                    if step % 5 != 4:
                        said(next(moves))

        beside = os.fork() if number % 2 else 0
        if number % 2 and beside == 0:
            try:
                write(lambda _: None, "bob")
            finally:
                os._exit(0)
        try:
            last = killed(lambda said: write(said, "eve"), generator.uniform(0.02, 0.4))
        finally:
            if beside:
                os.kill(beside, signal.SIGKILL)
                os.waitpid(beside, 0)
        with Registry(url, actor="ada") as registry:
            report = registry.audit()
            assert report, f"the history is not whole: {report.problems}"
            done = sum(entry.actor == "eve" and entry.action != "add" for entry in registry.entries())
            assert done > last, f"{last + 1} moves were acknowledged, {done} are there"
            registry.promote("intent", "1")
            assert registry.version("intent", "stable").number == 1, "it cannot be written any more"
        return "two writers" if beside else "one writer"

    def _step(self, registry: Registry, step: int) -> None:
        match step % 5:
            case 0:
                registry.promote("intent", str(step // 5 % 3 + 1))
            case 1:
                registry.promote("intent", str(step // 5 % 3 + 1), "candidate")
            case 2:
                registry.withdraw("intent", "candidate")
            case 3:
                registry.promote("intent", str((step // 5 + 1) % 3 + 1))
            case _:
                registry.add("intent", self._made / "d")
