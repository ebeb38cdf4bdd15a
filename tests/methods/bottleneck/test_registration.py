"""PEFT knows the bottleneck. If an upgrade of PEFT breaks one of these, registration.py has to change with it."""

from __future__ import annotations

from enum import Enum

import peft
import pytest
from peft import PeftConfig, PeftType
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_PREFIX_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING
from peft.utils import register_peft_method

from adapterkit.methods.bottleneck import BottleneckConfig, BottleneckModel, BottleneckType
from adapterkit.methods.bottleneck.registration import register


def test_peft_finds_it_by_the_string_of_a_file_in_all_three_mappings() -> None:
    assert PEFT_TYPE_TO_CONFIG_MAPPING["BOTTLENECK"] is BottleneckConfig  # type: ignore[index]
    assert PEFT_TYPE_TO_TUNER_MAPPING["BOTTLENECK"] is BottleneckModel  # type: ignore[index]
    assert PEFT_TYPE_TO_PREFIX_MAPPING["BOTTLENECK"] == "bottleneck_"  # type: ignore[index]


def test_peft_still_keys_its_mappings_by_a_str_enum() -> None:
    assert issubclass(PeftType, str)
    assert issubclass(PeftType, Enum)
    for mapping in (PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING, PEFT_TYPE_TO_PREFIX_MAPPING):
        assert mapping.keys() >= {PeftType.LORA, BottleneckType.BOTTLENECK}
        assert all(isinstance(key, str) for key in mapping)
        assert all(key.value == key for key in mapping)  # error paths of PEFT read .value


def test_pefts_own_way_to_register_still_refuses_names_outside_its_enum() -> None:
    # The day this stops raising, registration.py can be replaced by one call.
    with pytest.raises(ValueError, match="Unknown PEFT type"):
        register_peft_method(name="bottleneck2", config_cls=BottleneckConfig, model_cls=BottleneckModel)


def test_a_config_of_a_file_becomes_ours() -> None:
    content = {"peft_type": "BOTTLENECK", "target_modules": ["a.b"], "placement": "houlsby", "width": 3}
    config = PeftConfig.from_peft_type(**content)
    assert isinstance(config, BottleneckConfig)
    assert isinstance(peft.get_peft_config(dict(content)), BottleneckConfig)
    assert config.peft_type == "BOTTLENECK"
    assert config.peft_type.value == "BOTTLENECK"


def test_registering_again_changes_nothing_and_a_taken_name_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    register()
    monkeypatch.setitem(PEFT_TYPE_TO_TUNER_MAPPING, BottleneckType.BOTTLENECK, object)
    with pytest.raises(RuntimeError, match="already knows a method named BOTTLENECK"):
        register()
