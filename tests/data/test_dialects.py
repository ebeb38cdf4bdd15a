"""Files as users have them: each is read as its author meant, and what its name does not say is told."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from adapterkit.data import read_rows, stream_rows
from adapterkit.errors import DataError
from adapterkit.recipe.columns import COLUMNS
from adapterkit.recipe.data import DataSettings
from tests.data import writers

ROWS = [{"text": "my card, was lost", "label": "lost"}, {"text": "hello", "label": "other"}]
CLASSIFY, TAG, ANSWER = (
    COLUMNS[kind] for kind in ("text-classification", "token-classification", "question-answering")
)

KEYED = [{"key": "q1", "text": "a"}, {"key": "q2", "text": "b"}]
COUNTED = [{"column 1": "0", "text": "a", "label": "x"}, {"column 1": "1", "text": "b", "label": "y"}]
SAID = [{"text": "Hello, you", "label": "x"}, {"text": "bye", "label": "y"}]
QUOTED = [{"text": '"hello"', "label": "x"}, {"text": "Hello, you", "label": "y"}]

# Name of the file, what it holds, the rows that its author meant, a piece of what is told ("" for nothing).
READ: list[tuple[str, str, list[dict[str, Any]], str]] = [
    ("a.json", '[{"text": "a"},\n {"text": "b"}]', [{"text": "a"}, {"text": "b"}], "a JSON array"),
    ("b.jsonl", '[{"text": "a"}, {"text": "b"}]\n', [{"text": "a"}, {"text": "b"}], "a JSON array"),
    ("c.json", '{"text": "a"}\n{"text": "b"}\n', [{"text": "a"}, {"text": "b"}], ""),
    ("d.json", '{\n "text": "a"\n}\n{\n "text": "b"\n}\n', [{"text": "a"}, {"text": "b"}], "one behind the other"),
    ("e.json", '{"meta": {"n": 2}, "data": [{"text": "a"}]}', [{"text": "a"}], "under 'data'"),
    ("f.json", '{"source": "x", "tickets": [{"text": "a"}]}', [{"text": "a"}], "under 'tickets'"),
    ("g.json", '{"text": {"0": "a", "1": "b"}, "label": {"0": "x", "1": "y"}}', 0, "by columns"),
    ("h.json", '{"text": ["a", "b"], "label": ["x", "y"]}', 0, "by columns"),
    ("i.json", '{"columns": ["text", "label"], "data": [["a", "x"], ["b", "y"]]}', 0, "columns and data"),
    ("j.json", '{"0": {"text": "a", "label": "x"}, "1": {"text": "b", "label": "y"}}', 0, "by rows"),
    ("k.json", '{"q1": {"text": "a"}, "q2": {"text": "b"}}', KEYED, "by keys"),
    ("l.json", '{"train": [{"text": "a"}], "dev": [{"text": "b"}]}', [{"text": "a"}], "'train' was read"),
    ("m.jsonl", '{"tokens": ["a", "b"], "tags": ["O", "O"]}\n', [{"tokens": ["a", "b"], "tags": ["O", "O"]}], ""),
    ("n.json", '{"tokens": ["a", "b"], "tags": ["O", "O"]}', [{"tokens": ["a", "b"], "tags": ["O", "O"]}], ""),
    ("o.csv", "text;label\na, b;x\nc;y\n", [{"text": "a, b", "label": "x"}, {"text": "c", "label": "y"}], "semicolons"),
    ("p.csv", "text\tlabel\na, b\tx\nc\ty\n", [{"text": "a, b", "label": "x"}, {"text": "c", "label": "y"}], "tabs"),
    ("q.tsv", "text,label\na,x\nb,y\n", 0, "commas"),
    ("r.csv", "sep=;\ntext;label\na;x\nb;y\n", 0, "semicolons"),
    ("s.csv", 'text, label\n"a", x\n"b", "y"\n', 0, "a space behind each"),
    ("t.csv", "text,label\ra,x\rb,y\r", 0, "carriage return"),
    ("u.csv", 'text,label\n"say \\"a\\", b",x\n', [{"text": 'say "a", b', "label": "x"}], "backslashes"),
    ("v.csv", "\ufefftext,label,\na,x,\nb,y,\n", 0, ""),
    ("w.csv", ",text,label\n0,a,x\n1,b,y\n", COUNTED, ""),
    ("x.tsv", 'text\tlabel\n"Hello, you"\tx\nbye\ty\n', SAID, ""),
    ("y.tsv", 'text\tlabel\n"hello"\tx\nHello, you\ty\n', QUOTED, ""),
    ("z.csv", '{"text": "a", "label": "x"}\n{"text": "b", "label": "y"}\n', 0, "JSON lines"),
    ("noending", "text;label\na;x\nb;y\n", 0, "semicolons"),
    ("data.dat", '{"text": "a"}\n{"text": "b"}\n', [{"text": "a"}, {"text": "b"}], "JSON lines"),
    ("lines.txt", '{"text": "a"}\n{"text": "b"}\n', [{"text": "a"}, {"text": "b"}], "JSON lines"),
]  # fmt: skip
TABLE = [{"text": "a", "label": "x"}, {"text": "b", "label": "y"}]


@pytest.mark.parametrize(("name", "content", "expected", "told"), READ, ids=[case[0] for case in READ])
@pytest.mark.parametrize("packed", [False, True])
def test_a_file_is_read_as_its_author_meant(
    name: str, content: str, expected: Any, told: str, packed: bool, tmp_path: Path
) -> None:
    raw = content.encode()
    path = writers.write(tmp_path / (name + ".gz" * packed), gzip.compress(raw) if packed else raw)
    rows = read_rows(path)
    assert list(rows) == (expected or TABLE)
    assert list(stream_rows(path)) == list(rows)
    assert (told in " ".join(rows.reading.notes)) if told else rows.reading.notes == ()


SQUAD = """{"version": "v2.0", "data": [{"title": "Ada", "paragraphs": [{"context": "Ada wrote it in 1843.", "qas": [
  {"id": "1", "question": "Who?", "is_impossible": false, "answers": [{"text": "Ada", "answer_start": 0}]},
  {"id": "2", "question": "Where?", "is_impossible": true, "answers": [], "plausible_answers": []}]}]}]}"""


def test_the_official_json_of_squad_is_read_by_question(tmp_path: Path) -> None:
    for name, version in (("v2.json", "2.0"), ("v1.json", "1.1")):
        content = SQUAD.replace("v2.0", version).encode()
        rows = read_rows(writers.write(tmp_path / name, content), needs=ANSWER)
        assert [row["question"] for row in rows] == ["Who?", "Where?"]
        assert {row["context"] for row in rows} == {"Ada wrote it in 1843."}
        assert rows[0]["answers"] == {"text": ["Ada"], "answer_start": [0]}
        assert rows[1]["answers"] == {"text": [], "answer_start": []}
        assert [row["is_impossible"] for row in rows] == [False, True]
        assert rows.reading.notes == (f"read as SQuAD's JSON {version}",)


def test_answers_of_an_impossible_question_are_a_contradiction(tmp_path: Path) -> None:
    content = SQUAD.replace('"is_impossible": false', '"is_impossible": true')
    with pytest.raises(DataError) as caught:
        read_rows(writers.write(tmp_path / "a.json", content.encode()))
    assert caught.value.problems == ("article 1, paragraph 1, question 1: is_impossible is true, and it has answers",)


CONLL = """-DOCSTART- -X- -X- O

EU NNP B-NP B-ORG
rejects VBZ B-VP O

Peter NNP B-NP B-PER
"""
CONLLU = """# sent_id = 1
# text = Don't go
1-2\tDon't\t_\t_\t_\t_\t_\t_\t_\t_
1\tDo\tdo\tAUX\tVB\t_\t3\taux\t_\t_
2\tn't\tnot\tPART\tRB\t_\t3\tadvmod\t_\t_
3\tgo\tgo\tVERB\tVB\t_\t0\troot\t_\t_
3.1\tlater\tlater\tADV\t_\t_\t_\t_\t_\t_

"""
SENTENCES = [
    {"tokens": ["EU", "rejects"], "column_2": ["NNP", "VBZ"], "column_3": ["B-NP", "B-VP"], "tags": ["B-ORG", "O"]},
    {"tokens": ["Peter"], "column_2": ["NNP"], "column_3": ["B-NP"], "tags": ["B-PER"]},
]


@pytest.mark.parametrize("name", ["eng.conll", "eng.train", "train.txt", "eng.iob2"])
def test_conll_2003_is_read_by_sentence_and_its_columns_are_named(name: str, tmp_path: Path) -> None:
    rows = read_rows(writers.write(tmp_path / name, CONLL.encode()), needs=TAG)
    assert [{**row, "text": None} for row in SENTENCES] == [{**row, "text": None} for row in rows]
    assert rows.numbers == (3, 6)
    assert "4 columns: tokens, column_2, column_3, tags" in rows.reading.notes[0]
    others = read_rows(name, needs=TAG, columns={"tags": "column_3"})
    assert others.column("tags") == [["B-NP", "B-VP"], ["B-NP"]]


def test_conll_u_keeps_words_and_every_column_by_its_name(tmp_path: Path) -> None:
    rows = read_rows(writers.write(tmp_path / "a.conllu", CONLLU.encode()), needs=TAG)
    assert rows[0]["tokens"] == ["Do", "n't", "go"]
    assert rows[0]["tags"] == ["AUX", "PART", "VERB"]
    assert rows[0]["deprel"] == ["aux", "advmod", "root"]
    assert rows.reading.columns == {"tokens": "tokens", "tags": "upos"}


def test_words_with_numbers_before_them_and_words_that_hold_spaces(tmp_path: Path) -> None:
    content = "1\tNew York\tB-LOC\n2\tis\tO\n\n1\tbig\tO\n"
    rows = read_rows(writers.write(tmp_path / "a.conll", content.encode()), needs=TAG)
    assert rows.column("tokens") == [["New York", "is"], ["big"]]


def test_a_line_with_another_number_of_columns_is_named(tmp_path: Path) -> None:
    writers.write(tmp_path / "a.conll", b"a\tO\nb\nc\tO\n\nd\tO\tx\n")
    with pytest.raises(DataError) as caught:
        read_rows("a.conll", needs=TAG)
    assert caught.value.problems == (
        "line 2: 1 column, expected 2 as on the lines before",
        "line 5: 3 columns, expected 2 as on the lines before",
    )


def test_text_that_happens_to_look_like_conll_stays_text_for_other_kinds(tmp_path: Path) -> None:
    writers.write(tmp_path / "a.txt", b"Go O\n\nStop O\n")
    assert read_rows("a.txt", needs=COLUMNS["masked-lm"]).column("text") == ["Go O", "Stop O"]


def test_a_text_file_whose_first_line_names_columns_is_a_table(tmp_path: Path) -> None:
    writers.write(tmp_path / "a.txt", b"Text\tLabel\na\tx\nb\ty\n")
    assert list(read_rows("a.txt", needs=CLASSIFY)) == TABLE
    assert read_rows("a.txt", needs=COLUMNS["masked-lm"]).column("text") == ["Text\tLabel", "a\tx", "b\ty"]


def test_columns_that_differ_in_case_alone_are_found(tmp_path: Path) -> None:
    writers.write(tmp_path / "a.csv", b"Text,LABEL\na,x\nb,y\n")
    assert list(read_rows("a.csv", needs=CLASSIFY)) == TABLE


def test_what_a_file_does_not_show_can_be_said(tmp_path: Path) -> None:
    writers.write(tmp_path / "a.csv", "größer,x\nb,y\n".encode("cp1252"))
    settings = DataSettings(encoding="cp1252", header=["text", "label"])
    assert list(read_rows("a.csv", settings)) == [{"text": "größer", "label": "x"}, {"text": "b", "label": "y"}]
    writers.write(tmp_path / "b.json", b'{"result": {"rows": [{"text": "a"}]}, "rows": [{"text": "b"}]}')
    assert list(read_rows("b.json", DataSettings(field="result.rows"))) == [{"text": "a"}]
    writers.write(tmp_path / "c.tsv", b'text\tlabel\n"a"\tx\n')
    assert list(read_rows("c.tsv", DataSettings(quotes=True))) == [{"text": "a", "label": "x"}]
    assert list(read_rows("c.tsv", DataSettings(quotes=False))) == [{"text": '"a"', "label": "x"}]
    writers.write(tmp_path / "d.csv", b"text:label\na:x\n")
    assert list(read_rows("d.csv", DataSettings(delimiter=":"))) == [{"text": "a", "label": "x"}]


# Name, content, a piece of the problems, a piece of the way out.
REFUSED: list[tuple[str, bytes, str, str]] = [
    ("a.csv", "a,b\nZürich,1\n".encode("cp1252"), "in cp1252 it would read 'Zürich,1'", "data.encoding=cp1252"),
    ("b.jsonl", '{"a": "café"}\n'.encode()[:-4], "line 1: not UTF-8: the file ends inside a character", ""),
    ("c.jsonl", b'{"a": 1,}\n{"a": 2}\n', "line 1: not valid JSON (a comma before the closing bracket", ""),
    ("d.jsonl", b'{"a": 1},\n{"a": 2},\n', "line 1: not valid JSON (a comma behind the object; JSON lines", ""),
    ("e.jsonl", b"{'a': 1}\n{'a': 2}\n", "single quotation marks, as Python prints them", ""),
    ("f.jsonl", b'{"a": None}\n{"a": 2}\n', "None is Python; JSON has true, false and null", ""),
    ("g.jsonl", b'{"a": 1}{"a": 2}\n{"a": 2}\n', "a second value on the line", ""),
    ("h.json", b'[{"a": 1}, {"a": 2},]', "line 1: not valid JSON (a comma before the closing bracket)", ""),
    ("i.json", b'[{"a": 1},\n {"a": 2}', "line 2: not valid JSON (expected a comma or ] behind a record", ""),
    ("j.json", b'[{"a": 1},\n {"a": NaN}]', "line 2: NaN is not a JSON number; write null", ""),
    ("k.json", b'[{"a": 1}, 7]', "record 2: on line 1, expected an object", ""),
    ("l.json", b'{"a": [{"x": 1}], "b": [{"y": 2}]}', "found: 'a', 'b', expected one list of rows", "data.field=a"),
    ("m.csv", b"a,b;c\n1,2;3\n", "commas and semicolons part every line", "data.delimiter"),
    ("n.jsonl", b'{"a": "b\x00"}\n', "binary data (a NUL at byte 9)", ""),
    ("o.csv", b"a,b\n1,2\n3,\x00\n", "line 3: a NUL at character 3", ""),
    ("p.xls", b"\xd0\xcf\x11\xe0" + bytes(99), "an Excel or Word document", "CSV UTF-8"),
    ("q.tar", bytes(257) + b"ustar", "a tar archive", "Unpack it"),
    ("r.dat", b"just some text\nand more, of it\n", "text that is neither JSON, CoNLL nor a table", "data.format"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "problem", "way_out"), REFUSED, ids=[case[0] for case in REFUSED])
def test_what_cannot_be_read_is_refused_with_the_place_and_the_way_out(
    name: str, content: bytes, problem: str, way_out: str, tmp_path: Path
) -> None:
    writers.write(tmp_path / name, content)
    with pytest.raises(DataError) as caught:
        read_rows(name)
    assert problem in "\n".join(caught.value.problems)
    assert way_out in caught.value.remedy
    assert name in caught.value.summary


def test_an_excel_workbook_is_refused_with_the_way_out(tmp_path: Path) -> None:
    import zipfile

    for member, what in (("xl/workbook.xml", "an Excel workbook"), ("a.csv", "a ZIP archive")):
        with zipfile.ZipFile(tmp_path / "a.xlsx", "w") as archive:
            archive.writestr(member, "x")
        with pytest.raises(DataError) as caught:
            read_rows("a.xlsx")
        assert caught.value.problems[0] == f"found: {what}"
    writers.write(tmp_path / "b.csv.gz", gzip.compress(gzip.compress(b"a,b\n1,2\n")))
    with pytest.raises(DataError, match="inside the archive"):
        read_rows("b.csv.gz")


def test_text_that_is_utf_8_but_asked_for_in_another_encoding_is_doubted(tmp_path: Path) -> None:
    writers.write(tmp_path / "a.csv", "text,label\ncafé,x\n".encode())
    rows = read_rows("a.csv", DataSettings(encoding="latin-1"))
    assert rows.reading.notes == ("read as CSV, in iso8859-1 as asked for, though it is valid UTF-8",)
