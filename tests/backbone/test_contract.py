"""Contracts: what is compared, and what a stranger's one may hold."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapterkit.backbone import Contract
from adapterkit.errors import ContractError
from tests import tiny

CONTRACT = Contract(
    architecture="bert",
    hidden_size=384,
    layers=6,
    vocabulary_size=30522,
    tokenizer="a" * 64,
    max_tokens=512,
    padding_side="right",
    truncation_side="right",
    generation="c" * 64,
    chat_template="",
    special_tokens={"pad_token": 0, "cls_token": 101},
)
counts = st.integers(1, 10**6)
contracts = st.builds(
    Contract,
    architecture=st.text(max_size=8),
    hidden_size=counts,
    layers=counts,
    vocabulary_size=counts,
    tokenizer=st.text("0123456789abcdef", min_size=64, max_size=64),
    max_tokens=st.none() | counts,
    padding_side=st.sampled_from(["left", "right"]),
    truncation_side=st.sampled_from(["left", "right"]),
    generation=st.sampled_from(["", "d" * 64]),
    chat_template=st.sampled_from(["", "e" * 64]),
    special_tokens=st.dictionaries(st.text(max_size=8), st.integers(0, 10**6), max_size=4),
)


def test_equal_contracts_do_not_differ() -> None:
    assert CONTRACT.differences(CONTRACT.model_copy()) == []


def test_every_difference_names_both_sides() -> None:
    changes = {
        "hidden_size": 768,
        "tokenizer": "b" * 64,
        "max_tokens": None,
        "special_tokens": {"pad_token": 1, "mask_token": 5, "cls_token": 101},
    }
    other = CONTRACT.model_copy(update=changes)
    assert CONTRACT.differences(other) == [
        "hidden width: artifact needs 384, this backbone gives 768",
        "tokenizer: artifact needs aaaaaaaaaaaa…, this backbone gives bbbbbbbbbbbb…",
        "longest input in tokens: artifact needs 512, this backbone gives None",
        "special tokens, mask_token: artifact needs None, this backbone gives 5",
        "special tokens, pad_token: artifact needs 0, this backbone gives 1",
    ]


def test_what_decides_generated_text_alone_counts_where_text_is_generated() -> None:
    other = CONTRACT.model_copy(update={"generation": "", "chat_template": "f" * 64})
    assert CONTRACT.differences(other) == [
        "generation settings: artifact needs cccccccccccc…, this backbone gives none of its own",
        "chat template: artifact needs none of its own, this backbone gives ffffffffffff…",
    ]
    assert CONTRACT.differences(other, generates=False) == []


@given(contracts)
def test_a_contract_survives_json(contract: Contract) -> None:
    assert Contract.from_dict(json.loads(json.dumps(contract.to_dict()))) == contract


@given(contracts, contracts)
def test_contracts_differ_exactly_when_they_are_not_equal(one: Contract, other: Contract) -> None:
    assert (one.differences(other) == []) == (one == other)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("hidden_size", "384"),
        ("hidden_size", True),
        ("layers", 0),
        ("layers", 2**50),
        ("vocabulary_size", 1.5),
        ("tokenizer", None),
        ("max_tokens", -1),
        ("padding_side", "top"),
        ("padding_side", ["left"]),
        ("truncation_side", "middle"),
        ("generation", None),
        ("chat_template", 1),
        ("special_tokens", [1]),
        ("special_tokens", {"pad_token": "0"}),
        ("architecture", 3),
    ],
)
def test_a_field_of_a_wrong_type_is_refused(field: str, value: Any) -> None:
    with pytest.raises(ContractError) as caught:
        Contract.from_dict(CONTRACT.to_dict() | {field: value})
    assert len(caught.value.problems) == 1
    assert caught.value.problems[0].startswith(field)


def test_missing_and_unknown_fields_are_all_named() -> None:
    content = CONTRACT.to_dict() | {"more": 1}
    del content["layers"], content["tokenizer"]
    with pytest.raises(ContractError) as caught:
        Contract.from_dict(content)
    assert caught.value.problems == ("layers: is missing", "tokenizer: is missing", "more: unknown field")
    with pytest.raises(ContractError, match="found list"):
        Contract.from_dict([])


def test_a_contract_says_what_the_config_says(tiny_backbones: Any) -> None:
    roberta = tiny_backbones["roberta"].contract
    assert (roberta.architecture, roberta.hidden_size, roberta.layers) == ("roberta", 32, 3)
    assert (roberta.max_tokens, roberta.padding_side, roberta.vocabulary_size) == (tiny.MAX_TOKENS, "right", 360)
    assert roberta.special_tokens["mask_token"] == 4
    assert tiny_backbones["llama"].contract.padding_side == "left"
    assert tiny_backbones["t5"].contract.layers == 4
    assert tiny_backbones["bart"].contract.layers == 4


def test_two_families_with_one_tokenizer_differ_in_architecture_only(tiny_backbones: Any) -> None:
    (line,) = tiny_backbones["bert"].contract.differences(tiny_backbones["distilbert"].contract)
    assert line == "architecture: artifact needs bert, this backbone gives distilbert"
