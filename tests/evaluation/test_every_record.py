"""What every verb that judges prints: the same bytes for the same call, as its schema says, readable without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from adapterkit.records import RECORDS, Record, record_schema
from adapterkit.report.finding import find_records
from tests.evaluation.test_rows_that_tell_little import EVERY, FINE, VERBS, world

__all__ = ["world"]

NAMES = {
    "evaluate": "evaluation",
    "compare": "comparison",
    "calibrate": "calibrating",
    "attribute": "attribution",
    "probe": "probe",
    "nearest": "nearest",
    "transfer": "transfer",
    "ablate": "ablation",
}
"""Verb -> the kind of its record."""

READ_ALL = """
import sys
from adapterkit.records import RECORDS, read_record

for name, file in zip(sys.argv[1::2], sys.argv[2::2]):
    read_record(RECORDS[name], file)
print(sorted({"torch", "transformers", "sklearn", "scipy"} & set(sys.modules)))
"""


def as_json(record: Record) -> str:
    return json.dumps(record.to_dict(), indent=2)


@pytest.fixture(scope="module")
def printed(world: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, str]]:
    """Verb -> what two calls of it print."""
    folder = tmp_path_factory.mktemp("printed")
    told = {}
    for verb, name in NAMES.items():
        calls = [VERBS[verb](*world, FINE, folder / f"{verb}{turn}") for turn in (0, 1)]
        assert isinstance(calls[0], RECORDS[name])
        told[verb] = (as_json(calls[0]), as_json(calls[1]))
    return told


def test_every_verb_has_a_name_here() -> None:
    assert NAMES.keys() == EVERY


@pytest.mark.parametrize("verb", sorted(NAMES))
def test_the_same_call_gives_the_same_bytes(verb: str, printed: dict[str, tuple[str, str]]) -> None:
    one, other = (json.loads(text) for text in printed[verb])
    if verb == "ablate":  # two sweeps: what training cost by the clock is a measurement
        for told in (one, other):
            for group in told["groups"]:
                assert group.pop("milliseconds_per_step") > 0
        one, other = ([*sorted(map(json.dumps, told.pop("groups"))), told] for told in (one, other))
        assert one == other
        return
    assert printed[verb][0] == printed[verb][1]


@pytest.mark.parametrize("verb", sorted(NAMES))
def test_what_is_printed_fits_its_schema(verb: str, printed: dict[str, tuple[str, str]]) -> None:
    jsonschema = pytest.importorskip("jsonschema_rs", reason="a validator that is not ours needs jsonschema_rs")
    schema = record_schema(NAMES[verb])
    assert not list(jsonschema.validator_for(schema).iter_errors(json.loads(printed[verb][0])))
    assert list(jsonschema.validator_for(schema).iter_errors({**json.loads(printed[verb][0]), "seed": "x"}))


def test_all_of_it_is_read_without_torch_and_stands_on_one_page(
    printed: dict[str, tuple[str, str]], tmp_path: Path
) -> None:
    words = []
    for verb, name in NAMES.items():
        (file := tmp_path / f"{verb}.json").write_text(printed[verb][0], encoding="utf-8")
        words += [name, str(file)]
    done = subprocess.run([sys.executable, "-c", READ_ALL, *words], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr
    assert len(find_records([], words[1::2]).records) == len(NAMES)
