"""Where a source is looked for, and what its format is taken to be."""

import os

import pytest

from adapterkit.data import check_sources, locate, read_rows
from adapterkit.data.files.opening import format_of
from adapterkit.errors import DataError
from adapterkit.recipe.data import DataSettings
from tests.data.worlds import jsonl, problems_of

ROWS = [{"text": "my card was lost", "label": "lost"}, {"text": "hello", "label": "other"}]


def test_all_files_that_are_missing_are_named_at_once(tmp_path):
    jsonl(tmp_path / "A.jsonl", ROWS)
    check_sources(DataSettings(train="A.jsonl", validation=0.1, test="owner/rows"))
    check_sources(DataSettings(train="memory", test="A.jsonl"), given={"train"})
    with pytest.raises(DataError) as caught:
        check_sources(DataSettings(train="missing.jsonl", validation="none.csv", test="A.jsonl"), tmp_path / "recipes")
    assert caught.value.summary == "2 sources of rows cannot be found"
    expected = [
        f"There is no file {name}: looked at: {folder / name}"
        for name in ("missing.jsonl", "none.csv")
        for folder in (tmp_path / "recipes", tmp_path)
    ]
    assert [problem.partition("; did you mean")[0] for problem in caught.value.problems] == expected


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_file_without_permission_is_refused(tmp_path):
    jsonl(tmp_path / "a.jsonl", ROWS).chmod(0)
    assert "Permission denied" in problems_of("a.jsonl").problems[0]


def test_a_path_from_home_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    jsonl(tmp_path / "a.jsonl", ROWS)
    assert len(read_rows("~/a.jsonl")) == 2


def test_a_missing_file_lists_the_places_in_order_and_the_nearest_name(tmp_path, monkeypatch):
    for name in ("root", "variable", "recipe"):
        (tmp_path / name).mkdir()
    jsonl(tmp_path / "variable" / "train.jsonl", ROWS)
    monkeypatch.setenv("ADAPTERKIT_DATA", str(tmp_path / "variable"))
    error = problems_of("trian.jsonl", root=tmp_path / "root", folder=tmp_path / "recipe")
    places = [tmp_path / "root", tmp_path / "variable", tmp_path / "recipe", tmp_path]
    assert [problem.split(";")[0] for problem in error.problems] == [
        f"looked at: {place / 'trian.jsonl'}" for place in places
    ]
    assert "did you mean train.jsonl" in error.problems[1]


def test_the_first_place_that_has_the_file_wins(tmp_path, monkeypatch):
    order = ["root", "variable", "recipe", "."]
    monkeypatch.setenv("ADAPTERKIT_DATA", str(tmp_path / "variable"))
    for name in order:
        (tmp_path / name).mkdir(exist_ok=True)
        jsonl(tmp_path / name / "a.jsonl", [{"text": name}])
    for name in order:
        rows = read_rows("a.jsonl", root=tmp_path / "root", folder=tmp_path / "recipe")
        assert rows.column("text") == [name]
        assert rows.path == (tmp_path / name / "a.jsonl")
        (tmp_path / name / "a.jsonl").unlink()


def test_an_unknown_format_is_refused_with_the_nearest_one():
    with pytest.raises(DataError, match="no format 'jsonlines'; did you mean jsonl"):
        locate("a.txt", "jsonlines")


def test_a_named_format_beats_the_ending(tmp_path):
    jsonl(tmp_path / "a.data", ROWS)
    assert list(read_rows("a.data", DataSettings(format="jsonl"))) == ROWS


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.jsonl", "jsonl"),
        ("a.JSON", "json"),
        ("a.ndjson.gz", "jsonl"),
        ("a.csv.zst", "csv"),
        ("a.tsv.xz", "tsv"),
        ("a.conll.bz2", "conll"),
        ("a.parquet", "parquet"),
        ("a.txt", "text"),
        ("a.gz", ""),
        ("a", ""),
    ],
)
def test_the_ending_says_a_format(name, kind):
    assert format_of(name) == kind


@pytest.mark.parametrize("name", ["imdb", "owner/name", "owner/name-v1.5"])
def test_a_name_that_is_no_file_and_has_no_known_ending_is_a_hub_data_set(name, tmp_path):
    place = locate(name)
    assert (place.name, place.files, place.path) == (name, (), None)
    assert place.looked_at == (tmp_path / name,)


@pytest.mark.parametrize("name", ["owner/name.csv", "a/b/c", "../name", "/imdb"])
def test_a_name_that_cannot_be_a_hub_data_set_is_a_missing_file(name):
    with pytest.raises(DataError, match="There is no file"):
        locate(name)
