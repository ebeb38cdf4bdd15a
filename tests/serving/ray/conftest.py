"""A cluster of this machine alone, and a service of two replicas on it, started once."""

from __future__ import annotations

import json
import os
import socket
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from adapterkit.registry import Registry, Version
from adapterkit.serving.keys import SCOPES, add_key
from adapterkit.signing import make_key


class Served(NamedTuple):
    """A service of two replicas.

    Attributes:
        ask: path, body, key -> status, answer, headers; by default with a key that opens everything.
        replicas: Ray's handle of them.
        versions: of the task that has two, the first being stable.
        predict_key: opens the scope predict alone.
        signed_by: the public key of its receipts.
    """

    ask: Callable[..., tuple[int, Any, Mapping[str, str]]]
    replicas: Any
    registry: Registry
    versions: tuple[Version, Version]
    predict_key: str
    signed_by: Path


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Ray, with more processors than it needs to begin with: it starts a process for each."""
    ray = pytest.importorskip("ray", reason="Ray is an extra")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_AUTH_MODE", "disabled")  # else a token is written into the home of whoever tests
        patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else it warns of what it will do some day
        ray.init(
            address="local",
            num_cpus=3,
            include_dashboard=False,
            log_to_driver=bool(os.environ.get("ADAPTERKIT_RAY_LOGS")),
            object_store_memory=100 << 20,
        )
        yield
        ray.shutdown()


@pytest.fixture(scope="module")
def served(
    cluster: None, tmp_path_factory: pytest.TempPathFactory, tiny_folders: Any, folders: Mapping[str, Path]
) -> Iterator[Served]:
    """Three tasks of a registry. It ends with the cluster: a gentle stop would wait for who was just started."""
    from ray import serve

    from adapterkit.serving.ray import app
    from adapterkit.serving.ray.settings import RaySettings

    root = tmp_path_factory.mktemp("fleet")
    with Registry(f"sqlite:///{root}/r.db", actor="ada") as registry:
        versions = (registry.add("intent", folders["intent"]), registry.add("intent", folders["other"]))
        for version in (versions[0], registry.add("tags", folders["tags"]), registry.add("other", folders["other"])):
            registry.promote(version.task, version.digest)
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            port = taken.getsockname()[1]
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        make_key(root / "key.pem")
        keys = [add_key(root / "keys.json", name, scopes) for name, scopes in (("grace", SCOPES), ("bob", ["predict"]))]
        settings = RaySettings(
            registry=registry.url,
            keys=root / "keys.json",
            sign_with=root / "key.pem",
            backbone=str(tiny_folders["bert"]),
            dtype="float32",
            cpus=0.5,
            follow_every_s=600,
        )
        serve.run(app(settings), name="adapterkit")
        yield Served(
            lambda path, body=None, key=keys[0]: _asked(f"http://127.0.0.1:{port}{path}", body, key),
            serve.get_deployment_handle("replicas", app_name="adapterkit"),
            registry,
            versions,
            keys[1],
            root / "key.pem.pub",
        )


def _asked(url: str, body: Any, key: str) -> tuple[int, Any, Mapping[str, str]]:
    raw = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"authorization": f"Bearer {key}"}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, raw, headers), timeout=60) as reply:
            status, found, named = reply.status, reply.read(), reply.headers
    except urllib.error.HTTPError as error:
        with error:
            status, found, named = error.code, error.read(), error.headers
    return status, json.loads(found) if named["content-type"].startswith("application/json") else found, named
