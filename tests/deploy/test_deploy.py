"""What deploy/ ships: manifests that Kubernetes takes, a compose file that hangs together, options that there are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from adapterkit.cli.verbs import load_verb

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))


def manifests() -> list[dict[str, Any]]:
    return [found for file in MANIFESTS for found in yaml.safe_load_all(file.read_text(encoding="utf-8"))]


def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    return found


def container() -> dict[str, Any]:
    found: dict[str, Any] = manifests()[0]["spec"]["template"]["spec"]["containers"][0]
    return found


def test_every_manifest_is_what_kubernetes_takes() -> None:
    checker = pytest.importorskip("kubernetes_validate", reason="it has the schemas of Kubernetes")
    assert {found["kind"] for found in manifests()} == {
        "Deployment",
        "Service",
        "HorizontalPodAutoscaler",
        "PodDisruptionBudget",
    }
    for found in manifests():
        checker.validate(found, "1.31", strict=True)
    broken = manifests()[0]
    broken["spec"]["replica"] = 2
    with pytest.raises(checker.ValidationError):
        checker.validate(broken, "1.31", strict=True)


def test_what_points_to_the_pods_finds_them_and_they_stop_gracefully() -> None:
    deployment, *others = manifests()
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == labels
    for other in others:
        spec = other["spec"]
        target = spec.get("scaleTargetRef", {}).get("name")
        assert target == deployment["metadata"]["name"] or labels in (
            spec.get("selector"),
            spec.get("selector", {}).get("matchLabels"),
        )
    probes = {name: container()[name]["httpGet"]["path"] for name in ("livenessProbe", "readinessProbe")}
    assert probes == {"livenessProbe": "/healthz", "readinessProbe": "/readyz"}
    waits_s = int(container()["lifecycle"]["preStop"]["exec"]["command"][1])
    assert deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] >= waits_s + 30
    assert set(container()["resources"]) == {"requests", "limits"}
    mounts = {mount["name"] for mount in container()["volumeMounts"]}
    assert mounts == {volume["name"] for volume in deployment["spec"]["template"]["spec"]["volumes"]}


@pytest.mark.parametrize("words", [container()["args"], compose()["services"]["serve"]["command"]])
def test_the_service_is_started_with_options_that_there_are_and_with_keys(words: list[str]) -> None:
    verb, *rest = words
    known = {name for parameter in load_verb(verb).params for name in parameter.opts}
    given = {word for word in rest if word.startswith("--")}
    assert given <= known
    assert "--keys" in given


def test_the_compose_file_hangs_together() -> None:
    found = compose()
    assert set(found) <= {"name", "services", "secrets", "volumes"}
    for service in found["services"].values():
        assert set(service.get("depends_on", {})) <= found["services"].keys()
        assert set(service.get("secrets", ())) <= found["secrets"].keys()
        named = {volume.partition(":")[0] for volume in service.get("volumes", ())}
        assert named <= found["volumes"].keys()
    for service in ("database", "serve"):
        assert found["services"][service]["healthcheck"]["test"][0] == "CMD"
    build = found["services"]["serve"]["build"]
    assert (DEPLOY / build["context"] / build["dockerfile"]).is_file()
    where = found["services"]["serve"]["environment"]["ADAPTERKIT_REGISTRY"]
    assert re.fullmatch(r"postgresql\+psycopg://fleet:\$\{PASSWORD:\?\}@database/fleet", where)


def test_the_image_has_what_it_copies() -> None:
    copied = re.findall(r"^COPY (.*) \S+$", (DEPLOY / "Dockerfile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert copied
    assert [name for line in copied for name in line.split() if not (DEPLOY.parent / name).exists()] == []
