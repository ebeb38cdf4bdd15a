"""A flag of OpenFeature chooses the arm of a key, and the split does where it says nothing usable."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adapterkit.errors import ServingError
from adapterkit.serving.fleet import Fleet
from adapterkit.serving.starting import open_feature

api = pytest.importorskip("openfeature.api", reason="flags come with the extra `flags`")
memory = pytest.importorskip("openfeature.provider.in_memory_provider")


@pytest.fixture
def split(fleet: Fleet) -> Iterator[Fleet]:
    """A task with two arms, of which stable alone has a share, and a flag that may choose."""
    route = fleet.routes["intent"]
    arms = {"stable": route.arms["stable"], "candidate": fleet.routes["other"].arms["stable"]}
    fleet.routes = {**fleet.routes, "intent": replace(route, arms=arms, flag="intent-arm")}
    yield fleet
    api.shutdown()
    api.clear_providers()


def flagd(path: Path, **flag: Any) -> Path:
    path.write_text(json.dumps({"flags": {"intent-arm": {"state": "ENABLED", **flag}}}))
    return path


def test_a_flag_of_any_provider_chooses_the_arm(split: Fleet) -> None:
    def chosen(_: Any, context: Any) -> Any:
        from openfeature.flag_evaluation import FlagResolutionDetails

        return FlagResolutionDetails({"ada": "candidate", "eve": "nonsense"}.get(context.targeting_key, "stable"))

    api.set_provider(
        memory.InMemoryProvider({"intent-arm": memory.InMemoryFlag("off", {"off": "stable"}, context_evaluator=chosen)})
    )
    split.flags = open_feature()
    assert [split.find("intent", key)[1] for key in ("ada", "bob", "eve")] == ["candidate", "stable", "stable"]


@pytest.mark.parametrize("value", [True, 3, {"a": 1}])
def test_a_flag_that_names_no_arm_or_is_not_there_leaves_it_to_the_split(split: Fleet, value: Any) -> None:
    flags = {} if value is True else {"intent-arm": memory.InMemoryFlag("on", {"on": value})}
    api.set_provider_and_wait(memory.InMemoryProvider(flags))
    split.flags = open_feature()
    assert split.find("intent", "ada")[1] == "stable"


def test_files_of_flagd_are_read(split: Fleet, tmp_path: Path) -> None:
    variants = {"stable": "stable", "candidate": "candidate"}
    file = flagd(
        tmp_path / "flags.json",
        variants=variants,
        defaultVariant="stable",
        targeting={"fractional": [{"var": "targetingKey"}, ["stable", 50], ["candidate", 50]]},
    )
    split.flags = open_feature(file)
    keys = [f"user {number}" for number in range(200)]
    found = [split.find("intent", key)[1] for key in keys]
    assert 60 < Counter(found)["candidate"] < 140
    assert found == [split.find("intent", key)[1] for key in keys]


@pytest.mark.parametrize("text", ["{", "[]", '{"flag": {}}', '{"flags": []}'])
def test_a_file_that_holds_no_flags_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "flags.json").write_text(text)
    with pytest.raises(ServingError, match="flags cannot be read"):
        open_feature(tmp_path / "flags.json")
    with pytest.raises(ServingError, match="flags cannot be read"):
        open_feature(tmp_path / "none.json")
