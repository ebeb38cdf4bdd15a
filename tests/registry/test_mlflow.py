"""Versions go to a real MLflow server and come back as what they were."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adapterkit.errors import ArtifactError, RegistryError
from adapterkit.registry import Registry
from adapterkit.registry.mlflow import DIGEST, from_mlflow, to_mlflow
from tests.registry.conftest import Make

mlflow: Any = pytest.importorskip("mlflow", reason="a server of MLflow comes with the extra `mlflow`")
pytest.importorskip("mlflow.server.handlers", reason="mlflow-skinny brings no server")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """MLflow's own server, with its database and its artifacts in a folder."""
    folder = tmp_path_factory.mktemp("mlflow")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    store = [
        "--backend-store-uri",
        f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination",
        str(folder / "artifacts"),
    ]
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1", *store]
    with (folder / "log").open("w") as log:
        started = subprocess.Popen(
            command, stdout=log, stderr=log, env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
        )
    address = f"http://127.0.0.1:{port}"
    try:
        assert _answers(address, seconds=300), (folder / "log").read_text()[-2000:]
        yield address
    finally:
        started.terminate()
        started.wait()


def _answers(address: str, seconds: int) -> bool:
    """Whether the server is there within so many seconds; it makes its tables first."""
    for _ in range(seconds):
        try:
            urllib.request.urlopen(f"{address}/health", timeout=2).close()
            return True
        except OSError:
            time.sleep(1)
    return False


def test_a_version_goes_there_and_comes_back_as_it_was(
    registry: Registry, make: Make, server: str, tmp_path: Path
) -> None:
    version = registry.add("intent", make("a"))
    registry.add("intent", make("b"))
    registry.promote("intent", version.digest)
    assert to_mlflow(registry, "intent", "stable", server) == "1"
    assert to_mlflow(registry, "intent", "1", server) == "1"
    assert to_mlflow(registry, "intent", "2", server) == "2"
    client = mlflow.MlflowClient(server, server)
    there = client.get_model_version_by_alias("intent", "stable")
    assert (str(there.version), there.tags[DIGEST]) == ("1", version.digest)
    assert client.get_run(there.run_id).data.metrics == {"test.accuracy": 0.9}
    with Registry(f"sqlite:///{tmp_path}/other.db", actor="bob") as other:
        back = from_mlflow(other, "intent", "intent", "stable", server)
        assert back.digest == version.digest
        assert from_mlflow(other, "intent", "intent", "1", server) == back
        assert other.channels("intent") == {}
        assert other.audit()


def test_what_is_not_there_or_is_something_else_is_refused(
    registry: Registry, make: Make, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RegistryError, match="refused"):
        from_mlflow(registry, "intent", "nobody", "1", server)
    client = mlflow.MlflowClient(server, server)
    version = registry.add("intent", make("a"))
    to_mlflow(registry, "intent", "1", server, name="mine")
    client.set_model_version_tag("mine", "1", DIGEST, "0" * 64)
    with pytest.raises(RegistryError, match="not what it says"):
        from_mlflow(registry, "intent", "mine", "1", server)
    run = client.create_run("0")
    (tmp_path / "x").write_text("no adapter")
    client.log_artifact(run.info.run_id, str(tmp_path / "x"), "adapter")
    client.create_model_version("mine", f"{run.info.artifact_uri}/adapter", run.info.run_id)
    with pytest.raises(ArtifactError):
        from_mlflow(registry, "intent", "mine", "2", server)
    assert registry.versions() == (version,)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(RegistryError, match="refused"):
        to_mlflow(registry, "intent", "1", "http://127.0.0.1:9")


def test_the_bridge_needs_no_torch(server: str) -> None:
    code = (
        "import sys, adapterkit.registry.mlflow, mlflow; mlflow.MlflowClient(sys.argv[1]);print('torch' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code, server], capture_output=True, text=True, check=True)
    assert found.stdout.split()[-1] == "False"
