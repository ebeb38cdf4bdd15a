"""Errors that machines read too."""

from __future__ import annotations

import pytest

from adapterkit import errors
from adapterkit.errors import AdapterkitError, BadRowError, ContractError, NotMountedError

CODES = {BadRowError: "bad_row", NotMountedError: "not_mounted", ContractError: "contract", errors.DataError: "data"}


@pytest.mark.parametrize("kind", CODES)
def test_a_code_is_the_class_s_name_in_words(kind: type[AdapterkitError]) -> None:
    assert kind("x").code == CODES[kind]


def test_every_error_has_a_code_of_its_own() -> None:
    classes = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, AdapterkitError)]
    assert len({each("x").code for each in classes}) == len(classes) > 20


def test_a_message_says_everything_in_one_line() -> None:
    error = ContractError("it does not fit", ["width: 3, expected 4", "labels: a, expected b"], "Train it again.")
    assert error.message == "it does not fit: width: 3, expected 4; labels: a, expected b. Train it again."
    assert ContractError("it does not fit").message == "it does not fit"
    assert ContractError("did you mean x?", remedy="Say so.").message == "did you mean x? Say so."
    assert error.as_json() == {"code": "contract", "message": error.message}


def test_of_very_many_problems_the_first_are_printed_and_all_are_there() -> None:
    error = ContractError("no", [f"row {number}" for number in range(100_000)])
    assert len(error.problems) == 100_000
    assert str(error).splitlines()[200:] == ["  row 199", "  and 99,800 more"]
    assert len(error.message) < 10_000
