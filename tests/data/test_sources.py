"""What reading gives, and what it says about files that cannot be read."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import datasets
import pyarrow
import pyarrow.parquet
import pytest

from adapterkit.data import read_rows, stream_rows
from adapterkit.errors import DataError
from adapterkit.recipe.data import DataSettings
from tests.data.worlds import jsonl, problems_of

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
ROWS = [
    {"text": "my card was lost", "label": "lost", "score": 1, "tokens": ["my", "card"], "answers": {"start": [0]}},
    {"text": "naïve \u2028 café", "label": "other", "score": 2.5, "tokens": [], "answers": {"start": []}},
]


def test_json_lines_keep_every_value_as_written(tmp_path):
    rows = read_rows(jsonl(tmp_path / "a.jsonl", ROWS))
    assert list(rows) == ROWS
    assert type(rows[0]["score"]) is int
    assert rows.numbers == (1, 2)
    assert rows.source == str(tmp_path / "a.jsonl")


def test_a_missing_key_is_none(tmp_path):
    rows = read_rows(jsonl(tmp_path / "a.jsonl", [{"text": "a"}, {"label": "x", "text": "b"}]))
    assert list(rows) == [{"text": "a", "label": None}, {"text": "b", "label": "x"}]


def test_blank_lines_are_passed_over_and_numbers_stay_line_numbers(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'\xef\xbb\xbf{"text": "a"}\r\n\r\n  \n{"text": "b"}')
    rows = read_rows("a.jsonl")
    assert rows.column("text") == ["a", "b"]
    assert rows.numbers == (1, 4)


def test_gzip_reads_like_the_plain_file(tmp_path):
    plain = jsonl(tmp_path / "a.jsonl", ROWS)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(plain.read_bytes()))
    assert list(read_rows("b.jsonl.gz")) == list(read_rows("a.jsonl"))


def test_csv_cells_stay_text_and_a_record_has_the_number_of_its_first_line(tmp_path):
    (tmp_path / "a.csv").write_text('text,label\n"two\nlines, one cell",007\n\nNA,\n"say ""hi""",1.0\n')
    rows = read_rows("a.csv")
    assert list(rows) == [
        {"text": "two\nlines, one cell", "label": "007"},
        {"text": "NA", "label": None},
        {"text": 'say "hi"', "label": "1.0"},
    ]
    assert rows.numbers == (2, 5, 6)


def test_tsv_has_no_quoting(tmp_path):
    (tmp_path / "a.tsv").write_text('text\tlabel\n"hello\tx\n')
    assert list(read_rows("a.tsv")) == [{"text": '"hello', "label": "x"}]


def test_plain_text_comes_by_line_paragraph_or_document(tmp_path):
    (tmp_path / "a.txt").write_text("one\ntwo\n\n\nthree\n")
    read = {unit: read_rows("a.txt", text_unit=unit) for unit in ("line", "paragraph", "document")}
    assert {unit: rows.column("text") for unit, rows in read.items()} == {
        "line": ["one", "two", "three"],
        "paragraph": ["one\ntwo", "three"],
        "document": ["one\ntwo\n\n\nthree\n"],
    }
    assert {unit: rows.numbers for unit, rows in read.items()} == {
        "line": (1, 2, 5),
        "paragraph": (1, 5),
        "document": (1,),
    }


def test_parquet_keeps_values_and_names_class_labels(tmp_path):
    labels = datasets.ClassLabel(names=["no", "yes"])
    positions = datasets.ClassLabel(names=["0", "1"])
    features = datasets.Features(
        {
            "text": datasets.Value("string"),
            "label": labels,
            "tags": datasets.List(labels),
            "choice": positions,
            "inner": {"label": labels},
        }
    )
    table = pyarrow.table(
        {"text": ["a", None], "label": [1, -1], "tags": [[0, 1], []], "choice": [1, 0], "inner": [{"label": 1}, None]},
        schema=features.arrow_schema,
    )
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    rows = read_rows("a.parquet")
    assert list(rows) == [
        {"text": "a", "label": "yes", "tags": ["no", "yes"], "choice": 1, "inner": {"label": "yes"}},
        {"text": None, "label": None, "tags": [], "choice": 0, "inner": None},
    ]
    assert rows.numbers == (1, 2)


def test_a_parquet_file_without_class_labels_or_with_a_column_twice(tmp_path):
    table = pyarrow.table({"text": ["a"], "tags": [["x"]], "inner": [{"n": 1}]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    assert list(read_rows("a.parquet")) == [{"text": "a", "tags": ["x"], "inner": {"n": 1}}]
    twice = pyarrow.Table.from_arrays([pyarrow.array([1]), pyarrow.array([2])], names=["n", "n"])
    pyarrow.parquet.write_table(twice, tmp_path / "b.parquet")
    assert problems_of("b.parquet").problems == ("column 'n'",)


def test_types_inside_lists_of_objects_are_checked_too(tmp_path):
    rows = [{"chat": [{"role": "user", "text": "a"}]}, {"chat": [{"role": 1, "text": "a"}, None]}]
    error = problems_of(jsonl(tmp_path / "a.jsonl", rows))
    assert error.problems == ("line 2, column chat[].role: a number, but text on line 1; a column holds one type",)


def test_bytes_and_dates_have_a_digest(tmp_path):
    table = pyarrow.table({"raw": [b"\x01"], "day": pyarrow.array([0], pyarrow.date32())})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    assert len(read_rows("a.parquet").digest()) == 64


def test_a_folder_in_hub_layout_reads_through_datasets(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "set").mkdir()
    jsonl(tmp_path / "set" / "train.jsonl", [{"text": "a", "label": 3}])
    jsonl(tmp_path / "set" / "test.jsonl", [{"text": "b", "label": 4}])
    settings = DataSettings(format="hub", splits={"validation": "test"})
    assert list(read_rows("set", settings)) == [{"text": "a", "label": 3}]
    assert list(read_rows("set", settings, split="validation")) == [{"text": "b", "label": 4}]
    assert list(stream_rows("set", settings, split="validation").numbered()) == [(1, {"text": "b", "label": 4})]
    assert "it/s" not in capfd.readouterr().err
    with pytest.raises(DataError) as caught:
        read_rows("set", DataSettings(format="hub", splits={"train": "nowhere"}))
    assert "split nowhere" in caught.value.problems[0]


def test_a_hub_data_set_offline_is_one_clear_error(tmp_path):
    code = (
        "from adapterkit.data import read_rows\nfrom adapterkit.errors import DataError\n"
        "try:\n    read_rows('nobody/nothing')\nexcept DataError as error:\n    print(error)"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=300
    )
    assert "nobody/nothing cannot be fetched: the hub cannot be reached" in done.stdout
    assert "HF_HUB_OFFLINE" in done.stdout
    assert f"no such file: {tmp_path / 'nobody/nothing'}" in done.stdout


def test_a_changed_file_is_read_anew(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", [{"text": "old"}])
    assert read_rows(path).column("text") == ["old"]
    stamp = path.stat()
    jsonl(path, [{"text": "new"}])
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert read_rows(path).column("text") == ["new"]


def test_reading_changes_nothing_in_the_folder(tmp_path):
    jsonl(tmp_path / "a.jsonl", ROWS)
    read_rows("a.jsonl")
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


# Errors: name, content, what the problems say. Each names the file.
BROKEN = {
    "nothing.jsonl": (b"", ["found: 0 bytes"]),
    "nothing.csv": (b"", ["found: 0 bytes"]),
    "nothing.parquet": (b"", ["found: 0 bytes"]),
    "blank.jsonl": (b"\n\n", ["found: no rows"]),
    "blank.txt": (b"\n\n", ["found: no rows"]),
    "header.csv": (b"text,label\n", ["found: a header but no rows"]),
    "image.jsonl": (b"\x89PNG\r\n\x1a\n", ["found: a PNG image"]),
    "table.jsonl": (b"PAR1\x15\x04", ["found: a Parquet file"]),
    "lines.parquet": (b'{"text": "a"}\n', ["found: text"]),
    "torn.parquet": (b"PAR1\x15\x04 and no more", ["found behind record 0: "]),
    "torn.jsonl.gz": (gzip.compress(b'{"text": "a"}\n' * 99)[:-9], ["found: "]),
    "broken.jsonl": (
        b'{"a": 1}\n{"a": 1\n{"a": 2}\n{a: 3}\n',
        ["line 2: not valid JSON (Expecting ',' delimiter at character 8, which is its end)", "line 4: not valid JSON"],
    ),
    "list.jsonl": (b'["a"]\n7\n', ["line 1: expected an object", "line 2: expected an object"]),
    "twice.jsonl": (b'{"a": 1, "a": 2}\n', ["line 1: the key 'a' stands there twice"]),
    "nan.jsonl": (b'{"a": NaN}\n{"a": -Infinity}\n', ["line 1: NaN is not", "line 2: -Infinity is not"]),
    "half.jsonl": (b'{"a": "\\ud800"}\n', ["line 1: half a surrogate pair"]),
    "deep.jsonl": (b"[" * 100_000 + b"\n", ["line 1: not usable JSON"]),
    "latin.jsonl": (b'{"a": "b"}\n{"a": "caf\xe9"}\n', ["line 2: not UTF-8: byte 0xe9 at byte 11 of the line"]),
    "latin.csv": (b"a,b\ncaf\xe9,1\n", ["line 2: not UTF-8: byte 0xe9"]),
    "ragged.csv": (b"a,b\n1,2\n1\n1,2,3\n", ["line 3: 1 cell, but the header has 2", "line 4: 3 cells"]),
    "quotes.csv": (b'a,b\n"x"y,2\n', ["line 2: not valid CSV"]),
    "open.csv": (b'a,b\n1,2\n"x,2\n1,2\n', ["line 3: not valid CSV"]),
    "names.csv": (b"a,b,a\n1,2,3\n", ["line 1: 'a' names columns 1 and 3"]),
    "types.jsonl": (
        b'{"a": "x", "t": ["y"]}\n{"a": 1, "t": ["y"]}\n{"a": "x", "t": ["y", 2]}\n{"a": true, "t": "y"}\n',
        [
            "line 2, column a: a number, but text on line 1",
            "line 3, column t[]: a number, but text on line 1",
            "line 4, column a: true or false, but text on line 1",
            "line 4, column t: text, but a list on line 1",
        ],
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_file_that_cannot_be_read_says_where_and_why(name, tmp_path):
    content, expected = BROKEN[name]
    (tmp_path / name).write_bytes(content)
    error = problems_of(name)
    assert name in error.summary
    assert len(error.problems) >= len(expected)
    for part, problem in zip(expected, error.problems, strict=False):
        assert part in problem


@pytest.mark.parametrize("name", BROKEN)
def test_a_stream_refuses_what_memory_refuses(name, tmp_path):
    (tmp_path / name).write_bytes(BROKEN[name][0])
    with pytest.raises(DataError) as caught:
        list(stream_rows(name))
    assert name in caught.value.summary


def test_numbers_with_and_without_a_fraction_share_a_column(tmp_path):
    assert read_rows(jsonl(tmp_path / "a.jsonl", [{"x": 1}, {"x": 1.5}, {"x": None}])).column("x") == [1, 1.5, None]


def test_many_problems_are_counted_and_the_first_are_shown(tmp_path):
    (tmp_path / "a.jsonl").write_text("oops\n" * 1_234)
    error = problems_of("a.jsonl")
    assert "1,234 problems" in error.summary
    assert len(error.problems) == 21
    assert error.problems[-1] == "… and 1,214 more"


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.csv", "a.tsv", "a.txt", "a.parquet"])
def test_a_stream_gives_what_memory_gives(name, tmp_path):
    plain = [{"text": f"row {n}", "label": str(n % 3)} for n in range(700)]
    text = {
        "jsonl": "".join(json.dumps(row) + "\n" for row in plain),
        "csv": "text,label\n" + "".join(f"{row['text']},{row['label']}\n" for row in plain),
        "tsv": "text\tlabel\n" + "".join(f"{row['text']}\t{row['label']}\n" for row in plain),
        "txt": "".join(f"{row['text']}\n\n" for row in plain),
    }
    kind = name.split(".")[1]
    if kind == "parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(plain), tmp_path / name)
    else:
        content = text[kind].encode()
        (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    rows, stream = read_rows(name), stream_rows(name)
    assert len(rows) == 700
    assert list(stream) == list(rows) == list(stream)
    assert tuple(number for number, _ in stream.numbered()) == rows.numbers
    assert stream.columns == rows.columns


def test_a_stream_stops_at_the_first_bad_row_and_not_before(tmp_path):
    good = '{"text": "a"}\n' * 1_000
    (tmp_path / "a.jsonl").write_text(good + "oops\n" + good)
    given = iter(stream_rows("a.jsonl"))
    assert [next(given)["text"] for _ in range(1_000)] == ["a"] * 1_000
    with pytest.raises(DataError) as caught:
        next(given)
    assert caught.value.problems[0].startswith("line 1001: ")


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the data sets of ../shared/data")
def test_the_shared_data_sets_read_as_they_are():
    paths = sorted(SHARED.glob("*/*.jsonl"))
    assert len(paths) >= 20
    for path in paths:
        plain = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
        rows = read_rows(path)
        assert list(rows) == plain
        assert rows.numbers == tuple(range(1, len(plain) + 1))
