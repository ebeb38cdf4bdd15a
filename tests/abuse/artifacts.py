"""Damaged and hostile artifacts, through load, mount and verify."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapterkit.adapted import build
from adapterkit.artifact import load, verify
from adapterkit.backbone import Backbone
from adapterkit.errors import AdapterkitError, plain
from adapterkit.host import Host
from adapterkit.recipe import BottleneckMethod, HeadSettings, Ia3Method, LoraMethod
from tests import tiny
from tests.artifact.conftest import shake
from tests.artifact.mutations import mutate
from tests.laws.worlds import prepared, write
from tests.tasks.conftest import ROWS

WORLDS: tuple[tuple[str, str, Any, HeadSettings], ...] = (
    ("text-classification", "bert", LoraMethod(rank=2, alpha=4.0), HeadSettings(kind="family")),
    (
        "token-classification",
        "bert",
        BottleneckMethod(placement="houlsby", width=4),
        HeadSettings(kind="mlp", hidden=6),
    ),
    ("causal-lm", "llama", LoraMethod(rank=2, alpha=4.0, sites=("attention.query",)), HeadSettings(kind="family")),
    ("text-classification", "llama", Ia3Method(), HeadSettings(kind="linear", pooling="mean")),
)
NEAR = 5e-3
"""By how much a number of an answer may differ and still be the same: five times what golden rows allow."""
MOST_CHARACTERS = 20_000
GOLDEN = 4


@dataclass(frozen=True)
class World:
    """An artifact that is whole, and what it answers to its own golden rows."""

    folder: Path
    host: Host
    rows: list[Any]
    answers: list[Any]

    @property
    def backbone(self) -> Backbone:
        return self.host.backbone


def make_world(folder: Path, backbone: Backbone, kind: str, method: Any, head: HeadSettings) -> World:
    """An artifact with random tensors in a folder."""
    rows = list(ROWS[kind])[:GOLDEN]
    with build(backbone, prepared(kind), method, head, 0) as adapted:
        shake(adapted)
        write(folder, adapted, golden=rows, golden_rows=GOLDEN)
    with load(folder, backbone) as adapted:
        return World(folder, Host(backbone), rows, adapted.predict(rows))


def make_worlds(folder: Path) -> list[World]:
    """All of `WORLDS`, each on the backbone that those of its family share."""
    backbones = {
        family: Backbone.load(str(tiny.build(family, folder / family)), dtype="float32", device="cpu")
        for family in dict.fromkeys(family for _, family, _, _ in WORLDS)
    }
    return [
        make_world(folder / f"artifact-{number}", backbones[family], kind, method, head)
        for number, (kind, family, method, head) in enumerate(WORLDS)
    ]


class Artifacts:
    """Load and mount read alike; what is accepted answers as before, or verify names it."""

    judged = True

    def __init__(self, folder: Path) -> None:
        self._worlds = make_worlds(folder)

    def attempt(self, number: int, folder: Path) -> str:
        world = self._worlds[number % len(self._worlds)]
        damaged = Path(shutil.copytree(world.folder, folder / "artifact"))
        done = mutate(damaged, random.Random(number))
        loaded = answered(lambda: by_load(damaged, world))
        mounted = answered(lambda: by_mount(damaged, world))
        report = verify(damaged, world.backbone)
        assert is_plain(str(report)), f"{done}: a report that no terminal should see: {str(report)[:200]!r}"
        if loaded is None or mounted is None:
            assert loaded is mounted, f"{done}: {'load' if loaded is None else 'mount'} alone refuses it"
            assert not report, f"{done}: refused, and verified"
            return "refused"
        assert alike(loaded, mounted), f"{done}: load and mount answer differently"
        if alike(loaded, world.answers):
            return "same answers"
        assert not report, f"{done}: other answers, and verified"
        return "other answers, named by verify"


def answered(ask: Callable[[], Any]) -> Any:
    """The answers; None where they are refused."""
    try:
        return ask()
    except AdapterkitError as error:
        message = str(error)
    assert len(message) < MOST_CHARACTERS, "an endless message"
    assert is_plain(message), f"a message that no terminal should see: {message[:200]!r}"
    return None


def by_load(folder: Path, world: World) -> Any:
    with load(folder, world.backbone) as adapted:
        return adapted.predict(world.rows)


def by_mount(folder: Path, world: World) -> Any:
    world.host.mount("damaged", folder)
    try:
        return world.host.predict([("damaged", row) for row in world.rows])
    finally:
        world.host.unmount("damaged")


def is_plain(text: str) -> bool:
    """Whether nothing in it steers a terminal."""
    return plain(text) == text


def alike(found: Any, expected: Any) -> bool:
    """Equal, but for numbers that may differ a little."""
    if isinstance(found, dict) and isinstance(expected, dict):
        return found.keys() == expected.keys() and all(alike(found[key], expected[key]) for key in found)
    if isinstance(found, list | tuple) and isinstance(expected, list | tuple):
        return len(found) == len(expected) and all(map(alike, found, expected))
    if isinstance(found, float) and isinstance(expected, float):
        return abs(found - expected) <= NEAR * max(1.0, abs(expected))
    return bool(found == expected)
