"""Backbones and adapters from a hub: a local server that speaks its protocol, asked by a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.host import artifacts
from tests.host.artifacts import Recipe, differences
from tests.host.conftest import FolderOf
from tests.hub import commit_of, serving

OTHER = Recipe("text-classification", "lora", seed=9)
NONSENSE = (b"", b"<html>", b"[]", b"{}", b"null", b'"lab"', b'{"id": 3, "sha": 4, "siblings": [5]}')
SCRIPT = """
import json, sys
import huggingface_hub
import adapterkit as ak
from adapterkit.errors import AdapterkitError

backbone = ak.Backbone.load("lab/tiny-bert", dtype="float32")
answers = {"revision": backbone.revision}
with ak.Host(backbone) as host:
    for name, place in json.loads(sys.argv[1]).items():
        try:
            host.mount(name, place)
            answers[name] = host.predict([(name, "a fox")])
        except AdapterkitError as error:
            answers[name] = f"{type(error).__name__}: {error}"
    huggingface_hub.constants.HF_HUB_OFFLINE = True
    host.mount("offline", "lab/intent@v1")
    answers["offline"] = host.predict([("offline", "a fox")])
print(json.dumps(answers))
"""


def asked_in_a_process(places: dict[str, str], **environment: str) -> dict[str, Any]:
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(places)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    found: dict[str, Any] = json.loads(run.stdout)
    return found


def test_a_backbone_and_adapters_come_from_a_hub(
    folder_of: FolderOf, tiny_backbones: Mapping[str, Any], tiny_folders: Mapping[str, Path], tmp_path: Path
) -> None:
    good = folder_of("bert", OTHER)
    damaged = Path(shutil.copytree(good, tmp_path / "damaged"))
    tensors = bytearray((damaged / "adapter_model.safetensors").read_bytes())
    tensors[-1] ^= 1
    (damaged / "adapter_model.safetensors").write_bytes(tensors)
    (damaged / ".gitattributes").write_text("*.safetensors filter=lfs")
    cache = {"HF_HOME": str(tmp_path / "hub"), "ADAPTERKIT_CACHE": str(tmp_path / "cache")}
    places = {
        "main": "lab/intent",
        "tagged": "lab/intent@v1",
        "damaged": "lab/intent@broken",
        "no revision": "lab/intent@v9",
        "nobody": "lab/nothing",
        **{f"nonsense {number}": f"lab/odd{number}" for number in range(len(NONSENSE))},
    }

    served = {
        "lab/tiny-bert": {"main": tiny_folders["bert"]},
        "lab/intent": {"main": good, "v1": good, "broken": damaged},
    }
    odd = {f"lab/odd{number}": answer for number, answer in enumerate(NONSENSE)}
    with serving(served, odd) as (address, requests):
        found = asked_in_a_process(places, HF_ENDPOINT=address, HF_HUB_OFFLINE="0", **cache)

    assert found["revision"] == commit_of(tiny_folders["bert"])
    expected = artifacts.alone(good, tiny_backbones["bert"], ["a fox"])
    assert differences(found["main"], expected) == []
    assert differences(found["tagged"], expected) == []
    assert "SHA-256" in found["damaged"]
    assert found["damaged"].startswith("ArtifactError")
    assert "RevisionNotFoundError" in found["no revision"]
    assert "lab/intent@v9" in found["no revision"]
    assert "RepositoryNotFoundError" in found["nobody"]
    for number in range(len(NONSENSE)):
        assert found[f"nonsense {number}"].startswith(f"HubError: there is no folder lab/odd{number} here"), NONSENSE[
            number
        ]
    fetched = {request.split("/")[-1] for request in requests if request.startswith("GET /lab/intent/resolve")}
    assert fetched == {"README.md", "adapter_config.json", "adapter_model.safetensors", "adapterkit.json"}
    assert found["offline"] == found["tagged"]
