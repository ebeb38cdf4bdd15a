"""Fixtures for the whole suite: tiny checkpoints on disk, and each loaded once."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Before huggingface_hub is imported: no test may reach for a network.
os.environ["HF_HUB_OFFLINE"] = "1"
# `from tests import tiny` has to work whatever way pytest was started.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import hypothesis
import pytest
import torch

from tests import tiny

if TYPE_CHECKING:
    from adapterkit.backbone import Backbone

# A loaded machine is slow, and that is no finding.
hypothesis.settings.register_profile(
    "unhurried", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("unhurried")

# The collector would walk through all of torch and transformers again and again: a tenth of the suite's time.
gc.set_threshold(50_000, 20, 100)


def pytest_collection_finish() -> None:
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The suite's own cache folder: tests neither read nor write the user's."""
    folder = tmp_path_factory.mktemp("cache")
    before = os.environ.get("ADAPTERKIT_CACHE")
    os.environ["ADAPTERKIT_CACHE"] = str(folder)
    yield folder
    if before is None:
        del os.environ["ADAPTERKIT_CACHE"]
    else:
        os.environ["ADAPTERKIT_CACHE"] = before


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_disks() -> Iterator[None]:
    """What is written is in the system's hands; that it survives the power's end no test can see."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def slow_bfloat16() -> Iterator[None]:
    """A CPU whose hardware does not multiply bfloat16, whatever this one does: "auto" is float32 in every test."""
    ask = torch.cpu.get_capabilities
    with pytest.MonkeyPatch.context() as patch:
        without = {"avx512_bf16": False, "amx_bf16": False}
        patch.setattr(torch.cpu, "get_capabilities", lambda: {**ask(), **without})
        yield


class TinyFolders(Mapping[str, Path]):
    """Family or variant -> folder of its checkpoint, built when first asked for. Iterates over `tiny.FAMILIES`."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._built: dict[str, Path] = {}

    def __getitem__(self, family: str) -> Path:
        if family not in tiny.FAMILIES + tiny.VARIANTS + tiny.OTHERS + tiny.UNKNOWN:
            raise KeyError(family)
        if family not in self._built:
            self._built[family] = tiny.build(family, self._root / family)
        return self._built[family]

    def __iter__(self) -> Iterator[str]:
        return iter(tiny.FAMILIES)

    def __len__(self) -> int:
        return len(tiny.FAMILIES)


class TinyBackbones(Mapping[str, "Backbone"]):
    """Family or variant -> its backbone in fp32 on the CPU, loaded when first asked for and then shared."""

    def __init__(self, folders: Mapping[str, Path]) -> None:
        self._folders = folders
        self._loaded: dict[str, Backbone] = {}
        self._asked_for: set[str] = set()
        self._as_loaded: dict[str, dict[str, Any]] = {}

    def __getitem__(self, family: str) -> Backbone:
        from adapterkit.backbone import Backbone

        if family not in self._loaded:
            backbone = Backbone.load(str(self._folders[family]), dtype="float32", device="cpu")
            self._loaded[family] = backbone
            self._as_loaded[family] = {name: tensor.clone() for name, tensor in backbone.trunk.state_dict().items()}
        self._asked_for.add(family)
        return self._loaded[family]

    def __iter__(self) -> Iterator[str]:
        return iter(self._folders)

    def __len__(self) -> int:
        return len(self._folders)

    @property
    def loaded(self) -> list[str]:
        """Those that are in memory."""
        return list(self._loaded)

    def forget_changed(self) -> list[str]:
        """Drop every backbone asked for since the last call that is not as it was loaded. One line for each."""
        changed = []
        for family in sorted(self._asked_for & self._loaded.keys()):
            backbone = self._loaded[family]
            now, before = backbone.trunk.state_dict(), self._as_loaded[family]
            findings = [
                *(f"{name} was added" for name in now.keys() - before.keys()),
                *(f"{name} is gone" for name in before.keys() - now.keys()),
                *(f"{name} changed" for name in before.keys() & now.keys() if not torch.equal(now[name], before[name])),
                *(f"{name} is trainable" for name, p in backbone.trunk.named_parameters() if p.requires_grad),
                *(f"{name} is in training mode" for name, m in backbone.trunk.named_modules() if m.training),
            ]
            if findings:
                del self._loaded[family]
                changed.append(f"{family}: {findings[0]} ({len(findings)} findings)")
        self._asked_for.clear()
        return changed


@pytest.fixture(scope="session")
def tiny_folders(tmp_path_factory: pytest.TempPathFactory) -> TinyFolders:
    """Family -> folder of its tiny checkpoint. `tiny.VARIANTS`, `OTHERS` and `UNKNOWN` can be asked for too."""
    return TinyFolders(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def tiny_backbones(tiny_folders: TinyFolders) -> Iterator[TinyBackbones]:
    """Family -> its backbone, shared by the session: a test leaves it as it was (see `backbones_stay_as_they_were`)."""
    backbones = TinyBackbones(tiny_folders)
    yield backbones
    for family in backbones.loaded:
        backbones[family]
    assert backbones.forget_changed() == [], "changed by a test that was handed it by a fixture"


@pytest.fixture(scope="session")
def fresh_backbone(tiny_folders: TinyFolders) -> Callable[..., Backbone]:
    """`fresh_backbone(family, **load_arguments)`: a backbone of one's own, to change at will."""

    def load(family: str, **arguments: Any) -> Backbone:
        from adapterkit.backbone import Backbone

        return Backbone.load(str(tiny_folders[family]), **{"dtype": "float32", "device": "cpu", **arguments})

    return load


@pytest.fixture(autouse=True)
def backbones_stay_as_they_were(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail the test that changes a shared backbone, and keep the change from the tests after it."""
    yield
    if "tiny_backbones" in request.fixturenames:
        changed = request.getfixturevalue("tiny_backbones").forget_changed()
        if changed:
            pytest.fail("a shared backbone was changed, take fresh_backbone(family) instead:\n" + "\n".join(changed))
