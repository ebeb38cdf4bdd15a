"""A small artifact on the tiny BERT, and what its tests share."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from fsspec.implementations.memory import MemoryFileSystem

from adapterkit.adapted import Adapted, build
from adapterkit.artifact import DataFacts, save
from adapterkit.recipe import HeadSettings, LoraMethod, TaskSettings
from adapterkit.tasks.table import TASKS

LABELS = ("no", "perhaps", "yes")
ROWS = [{"text": f"sentence number {number} about a card", "label": LABELS[number % 3]} for number in range(9)]
FAMILY = HeadSettings(kind="family")
LORA = LoraMethod(rank=2, alpha=4.0)


def make(backbone: Any, method: Any = LORA, head: Any = FAMILY, labels: tuple[str, ...] = LABELS) -> Adapted:
    """An adapter for text classification whose every tensor is random, as if it had been trained."""
    rows = [{"text": "a sentence", "label": label} for label in labels]
    task = TASKS["text-classification"].prepare(TaskSettings(kind="text-classification", labels=labels), rows)
    adapted = build(backbone, task, method, head, seed=0)
    shake(adapted)
    return adapted


def shake(adapted: Adapted) -> None:
    """Give every tensor of an adapter random values."""
    generator = torch.Generator().manual_seed(1)
    state = adapted.state()
    adapted.load_state({name: torch.randn(t.shape, generator=generator) * 0.3 for name, t in sorted(state.items())})


def write(folder: Path, adapted: Adapted, **options: Any) -> Path:
    """Save with what the tests do not care about filled in."""
    given = {"recipe": {}, "data": DataFacts(source="made/up", rows={"train": 9}), "metrics": {}, "seed": 0}
    return save(folder, adapted, **{**given, "golden": ROWS, **options})


def logits(adapted: Adapted, rows: list[dict[str, Any]] = ROWS[:3]) -> torch.Tensor:
    """The answers of an adapter, one row at a time."""
    features = adapted.task.encode(rows, adapted.vocabulary, "predict").features
    with torch.inference_mode():
        found = [adapted(adapted.task.collate([feature], adapted.vocabulary).inputs) for feature in features]
    return torch.cat(found)


@pytest.fixture(scope="session")
def saved_once(tmp_path_factory: pytest.TempPathFactory, tiny_backbones: Any) -> Path:
    """An artifact that no test may change."""
    folder = tmp_path_factory.mktemp("saved") / "artifact"
    with make(tiny_backbones["bert"]) as adapted:
        return write(folder, adapted)


@pytest.fixture
def saved(saved_once: Path, tmp_path: Path) -> Path:
    """A copy of the artifact, to be damaged."""
    return Path(shutil.copytree(saved_once, tmp_path / "artifact"))


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ADAPTERKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """The address of a server that speaks S3, with nothing in it."""
    server_module = pytest.importorskip("moto.server", reason="needs a local S3 server: moto, flask, flask-cors")
    pytest.importorskip("s3fs", reason="needs the client of s3://")
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    import s3fs

    for name, value in {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": s3,
        "AWS_CONFIG_FILE": str(tmp_path / "no.config"),
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    name = f"team-{tmp_path.name.replace('_', '-').lower()[-40:]}"
    s3fs.S3FileSystem().mkdir(name)
    yield f"s3://{name}/intent"
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture(params=["folder", "file", "memory", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A store that nobody has pushed to, in each way to have one."""
    if request.param == "s3":
        yield request.getfixturevalue("bucket")
        return
    yield {
        "folder": str(tmp_path / "shared" / "intent"),
        "file": f"file://{tmp_path}/shared/intent",
        "memory": "memory://shared/intent",
    }[request.param]
    MemoryFileSystem.store.clear()
