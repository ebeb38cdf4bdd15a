"""A service follows the channels of a registry, and goes on with what answered where it cannot."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from adapterkit.registry import Registry
from adapterkit.serving.opening import registry_fleet
from adapterkit.traffic import read_rules


def test_channels_are_followed_and_a_split_is_sticky(
    tmp_path: Path, tiny_folders: Any, folders: Mapping[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    with Registry(f"sqlite:///{tmp_path}/r.db", actor="ada") as registry:
        stable = registry.add("intent", folders["intent"])
        candidate = registry.add("intent", folders["other"])
        registry.promote("intent", stable.digest)
        rules = read_rules({"tasks": {"intent": {"split": {"stable": 0.5, "candidate": 0.5}}}})
        fleet, follower = registry_fleet(registry, rules, str(tiny_folders["bert"]), slots=None, dtype="float32")
        with fleet.host:
            assert {fleet.find("intent", f"user {n}")[1] for n in range(40)} == {"stable"}
            registry.promote("intent", candidate.digest, "candidate")
            follower.follow()
            arms = [fleet.find("intent", f"user {n}")[1] for n in range(40)]
            assert set(arms) == {"stable", "candidate"}
            assert arms == [fleet.find("intent", f"user {n}")[1] for n in range(40)]
            assert fleet.routes["intent"].arms["candidate"].version == "2"
            registry.promote("intent", candidate.digest)
            follower.follow()
            assert {arm.digest for arm in fleet.routes["intent"].arms.values()} == {candidate.digest}
            assert len(fleet.host) == 1
            (Path(stable.location) / "adapter_model.safetensors").write_bytes(b"damaged")
            registry.roll_back("intent")  # asks no artifact, so it is done; the service says that it cannot follow
            follower.follow()
            assert "stays as it is" in caplog.text
            assert fleet.routes["intent"].arms["stable"].digest == candidate.digest
