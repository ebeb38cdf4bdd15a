"""Whatever table is written, in whatever format, packed or not, reads back equal."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from adapterkit.data import read_rows, stream_rows
from tests.data import writers

SHARED = Path(__file__).parents[2].parent / "shared" / "data"

EVERY = int(os.environ.get("ADAPTERKIT_EVERY_ROW", "8"))
"""Of the real rows every so many are converted; ADAPTERKIT_EVERY_ROW=1 takes minutes."""

# NUL and halves of surrogate pairs are refused, not read; test_hostile.py has them.
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=12)
TRICKY = st.sampled_from(
    [
        *('"', '""', '"a"', 'say "hi"', "'", "\\", '\\"', "\ufeff"),
        *("a,b", "a;b", "a\tb", "a|b", "line\nline", "\r", "a\r\nb", " ", "\u2028", "\x85"),
        *("NA", "007", "1.0", "null", "-DOCSTART-", "#", "sep=;", "{", "["),
    ]
)
CELL = TEXT | TRICKY | st.builds(str.__add__, TEXT, TRICKY)
TABLE = st.lists(st.builds(lambda text, label: {"text": text, "label": label}, CELL, CELL), min_size=1, max_size=6)
WORD = st.text(st.characters(exclude_categories=["Cs", "Zs", "Cc"]), min_size=1, max_size=6) | st.sampled_from(
    ["#", "\u00a0", "#tag", '"', ":-)", "1"]
)
TAGS = st.sampled_from(["O", "B-PER", "I-PER", "B-LOC"])
SENTENCES = st.lists(
    st.lists(st.tuples(WORD.filter(lambda word: word != "-DOCSTART-"), TAGS), min_size=1, max_size=5),
    min_size=1,
    max_size=4,
)
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("roundtrips")


def written(rows: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """The rows as the format can hold them: an empty cell of CSV and TSV is None."""
    if name.endswith((".csv", ".tsv")):
        return [{column: cell or None for column, cell in row.items()} for row in rows]
    return rows


PACKED = [
    (name, packing) for name in ("lines.jsonl", "pretty.json", "commas.csv", "tabs.tsv") for packing in writers.PACKERS
]
PLAIN = [(name, "") for name in writers.TABLES if (name, "") not in PACKED]


@pytest.mark.parametrize(("name", "packing"), PACKED + PLAIN)
@settings(max_examples=15)
@given(table=TABLE)
@example(table=[{"text": '"a"', "label": "x"}, {"text": 'b""c', "label": '"'}])
@example(table=[{"text": "a\rb", "label": "x"}])
@example(table=[{"text": '"Hello, world"', "label": "x"}, {"text": "a", "label": "y"}])
@example(table=[{"text": "", "label": ""}])
@example(table=[{"text": '\\"', "label": "\\"}])
def test_a_table_of_texts_reads_back_equal(name: str, packing: str, folder: Path, table: list[dict[str, Any]]) -> None:
    if name in writers.ENDED_BY_NEWLINES:  # a carriage return at the end of a line is the line's
        table = [{column: cell.rstrip("\r") for column, cell in row.items()} for row in table]
    path = writers.write(folder / (name + packing), writers.PACKERS[packing](writers.TABLES[name](table)))
    expected = written(table, name)
    assert list(read_rows(path)) == expected
    assert list(stream_rows(path)) == expected


@pytest.mark.parametrize("name", ["lines.jsonl", "array.json", "pretty.json", "data.json"])
@settings(max_examples=40)
@given(values=st.lists(VALUE, min_size=1, max_size=4))
def test_values_of_every_kind_come_out_of_json_as_they_went_in(name: str, folder: Path, values: list[Any]) -> None:
    table = [{"text": "a", f"value {place}": value} for place, value in enumerate(values)]
    columns = {column: None for row in table for column in row}
    path = writers.write(folder / name, writers.TABLES[name](table))
    assert [json.dumps(row) for row in read_rows(path, needs={})] == [json.dumps({**columns, **row}) for row in table]


@pytest.mark.parametrize("packing", writers.PACKERS)
@settings(max_examples=20)
@given(sentences=SENTENCES)
def test_sentences_come_out_of_conll_as_they_went_in(
    packing: str, folder: Path, sentences: list[list[tuple[str, str]]]
) -> None:
    rows = [{"tokens": [word for word, _ in one], "tags": [tag for _, tag in one]} for one in sentences]
    content = writers.PACKERS[packing](writers.conll(rows))
    assert list(read_rows(writers.write(folder / f"a.conll{packing}", content))) == rows


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("name", ["lines.jsonl", "array.json", "commas.csv", "semicolons.csv", "tabs.tsv"])
def test_every_recognisable_encoding_reads_as_utf_8_does(name: str, encoding: str, tmp_path: Path) -> None:
    table = [{"text": f"naïve café № {number}, Zürich", "label": "größer"} for number in range(20)]
    text = writers.TABLES[name](table).decode()
    path = writers.write(tmp_path / name, text.encode(encoding))
    assert list(read_rows(path)) == table
    assert list(stream_rows(path)) == table


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the data sets of ../shared/data")
@pytest.mark.parametrize("path", sorted(SHARED.glob("*/*.jsonl")), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_real_data_set_reads_equal_in_every_format_that_can_hold_it(path: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line][::EVERY]
    texts = all(isinstance(value, str) and value for row in rows for value in row.values())
    names = list(writers.TABLES) if texts else list(writers.NESTED)
    formats = {name: writers.TABLES[name] for name in names}
    formats |= {"official.json": writers.squad} if "context" in rows[0] else {}
    formats |= {"words.conll": writers.conll} if "tags" in rows[0] else {}
    for place, (name, write) in enumerate(formats.items()):
        packing = "" if name.endswith("parquet") else list(writers.PACKERS)[place % len(writers.PACKERS)]
        read = read_rows(writers.write(tmp_path / (name + packing), writers.PACKERS[packing](write(rows))))
        if list(read) != rows:  # a plain assert would spend minutes on the difference
            pytest.fail(f"{name}: {len(read)} rows that differ from the {len(rows)} that were written")


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the data sets of ../shared/data")
def test_every_shared_data_set_takes_part() -> None:
    assert len(list(SHARED.glob("*/*.jsonl"))) >= 20
