"""The bridge to MLflow's model registry: versions there and back, with their digests, channels as aliases."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from adapterkit.errors import RegistryError, first_line
from adapterkit.registry.records import Version
from adapterkit.registry.registry import Registry

FOLDER = "adapter"
"""Where an artifact lies in its run."""
DIGEST = "adapterkit.digest"
"""The tag that names a version's content."""


def to_mlflow(registry: Registry, task: str, named: str, tracking: str, *, name: str | None = None) -> str:
    """Register a version in MLflow: its files in a run of their own, what it is as tags, its channels as aliases.

    The same content again is the same version there, with the aliases of today.

    Args:
        tracking: MLflow's address, such as http://localhost:5000.
        name: of the model in MLflow; None takes the task's.

    Returns:
        The number of the version in MLflow.

    Raises:
        RegistryError: no such version, no MLflow, or it refuses.
    """
    version, name = registry.version(task, named), name or task
    folder = registry.fetch(task, version.digest)
    with _told(tracking) as (client, exceptions):
        try:
            client.create_registered_model(name)
        except exceptions.MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        quoted = name.replace("'", "\\'")
        known = [
            each for each in client.search_model_versions(f"name='{quoted}'") if each.tags.get(DIGEST) == version.digest
        ]
        number = str(known[0].version) if known else _registered(client, name, version, folder)
        for channel in version.channels:
            client.set_registered_model_alias(name, channel, number)
    return number


def from_mlflow(registry: Registry, task: str, name: str, version: str, tracking: str) -> Version:
    """Add a version of MLflow's to the registry. It is promoted to nothing: that asks a gate.

    Args:
        name: of the model in MLflow.
        version: its number, or an alias that points to it.
        tracking: MLflow's address.

    Raises:
        RegistryError: no such version, or no MLflow; or its files are not those that its tag names.
        ArtifactError: it holds no artifact of adapterkit's.
    """
    with tempfile.TemporaryDirectory() as scratch:
        with _told(tracking) as (client, _):
            by_number = version.isdigit()
            found = (
                client.get_model_version(name, version)
                if by_number
                else client.get_model_version_by_alias(name, version)
            )
            from mlflow.artifacts import download_artifacts

            where = client.get_model_version_download_uri(name, found.version)
            folder = download_artifacts(artifact_uri=where, dst_path=scratch, tracking_uri=tracking)
        from adapterkit.manifest import read_whole

        digest = read_whole(folder)[0].sha256
        expected = found.tags.get(DIGEST, digest)
        if digest != expected:
            told = f"{DIGEST}: found {digest}, expected {expected}"
            raise RegistryError(f"{name} {found.version} in MLflow is not what it says", [told])
        return registry.add(task, folder)


def _registered(client: Any, name: str, version: Version, folder: Path) -> str:
    experiment = client.get_experiment_by_name("adapterkit")
    number = client.create_experiment("adapterkit") if experiment is None else experiment.experiment_id
    run = client.create_run(number, run_name=f"{version.task} {version.short}")
    client.log_artifacts(run.info.run_id, str(folder), FOLDER)
    for part, metrics in version.metrics.items():
        for metric, found in metrics.items():
            client.log_metric(run.info.run_id, f"{part}.{metric}", found["value"])
    client.set_terminated(run.info.run_id)
    facts = {"kind": version.kind, "method": version.method, "backbone": version.backbone}
    facts |= {"fingerprint": version.fingerprint, "parent": version.parent or ""}
    tags = {DIGEST: version.digest, **{f"adapterkit.{fact}": value for fact, value in facts.items()}}
    made = client.create_model_version(name, f"{run.info.artifact_uri}/{FOLDER}", run.info.run_id, tags=tags)
    return str(made.version)


@contextmanager
def _told(tracking: str) -> Iterator[tuple[Any, Any]]:
    """MLflow's client and errors; what it refuses, as RegistryError."""
    try:
        from mlflow import MlflowClient, exceptions
    except ImportError as error:
        raise RegistryError("the bridge needs MLflow's client", remedy="pip install 'adapterkit[mlflow]'") from error
    try:
        yield MlflowClient(tracking, tracking), exceptions
    except (exceptions.MlflowException, OSError) as error:
        raise RegistryError(f"MLflow at {tracking} refused", [first_line(error)]) from error
