"""A bad row costs no other row its answer, and every way in reads the same rows."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

import adapterkit as ak
from adapterkit.artifact import open_artifact
from adapterkit.errors import AdapterkitError, BadRowError, DataError, NotMountedError
from adapterkit.recipe import KINDS
from tests import tiny
from tests.host.artifacts import WORDS, Recipe, row_of
from tests.host.conftest import FolderOf
from tests.laws import cases
from tests.tasks.conftest import FAMILY as FAMILY_OF

BAD: dict[str, list[Any]] = {
    "text-classification": [{}, {"text": None}, {"txt": "a fox"}, {"text": "a fox", "text_pair": 3}],
    "token-classification": [{"tokens": "Ada"}, {"tokens": [3]}, {"words": None}, {"tags": ["O"]}],
    "question-answering": ["a fox", {"question": "who?"}, {"question": "who?", "context": " "}],
    "multiple-choice": ["a fox", {"question": "a fox is", "choices": []}, {"question": "a fox is", "choices": [1]}],
    "masked-lm": [{"text": " "}, {"content": b"bytes"}],
    "causal-lm": [{}, {"messages": []}, {"prompt": 1}, {"messages": [{"role": "user", "content": "a fox"}]}],
    "seq2seq-lm": [{"target": "jump"}, {"source": ["jump"]}],
}
"""What no row of a kind is; beside what no kind can read."""

FOR_NO_KIND: list[Any] = [None, 3, ["a fox"], object(), {"text": "\ud800"}, {3: "a fox"}]


def good_rows(kind: str) -> list[Any]:
    return [row_of(kind, WORDS[: 1 + 3 * length]) for length in range(5)]


def mixed(good: list[Any], bad: list[Any], seed: int) -> list[tuple[bool, Any]]:
    """The good rows in their order with the bad ones among them, and which is which."""
    chance = random.Random(seed)
    rows = [(True, row) for row in good]
    for row in bad:
        rows.insert(chance.randint(0, len(rows)), (False, row))
    return rows


@pytest.mark.parametrize("kind", KINDS)
def test_good_rows_are_answered_to_the_bit_as_without_the_bad_ones(
    kind: str,
    tiny_backbones: Mapping[str, Any],
    folder_of: FolderOf,
) -> None:
    family = FAMILY_OF[kind]
    artifact = open_artifact(folder_of(family, Recipe(kind, "lora")))
    good, bad = good_rows(kind), [*BAD[kind], *FOR_NO_KIND]
    with ak.Host(tiny_backbones[family]) as host, artifact.adapted(tiny_backbones[family]) as adapted:
        host.mount("a", artifact)
        ways = {
            "adapted": lambda rows: adapted.predict(rows, errors="return", batch_size=4),
            "host": lambda rows: host.predict([("a", row) for row in rows], errors="return", batch_size=4),
            "all": lambda rows: [one["a"] for one in host.predict_all(rows, ["a"], errors="return", batch_size=4)],
        }
        for way, predict in ways.items():
            expected = predict(good)
            assert not any(isinstance(answer, AdapterkitError) for answer in expected)
            for seed in range(3):
                rows = mixed(good, bad, seed)
                found = predict([row for _, row in rows])
                assert [a for a, (fine, _) in zip(found, rows, strict=True) if fine] == expected, way
                errors = [answer for answer, (fine, _) in zip(found, rows, strict=True) if not fine]
                assert all(isinstance(error, DataError | ak.errors.BackboneError) for error in errors), way
                assert all(error.code and error.message for error in errors)
            assert all(isinstance(answer, AdapterkitError) for answer in predict(bad))


@pytest.fixture(scope="module")
def host(tiny_backbones: Mapping[str, Any], folder_of: FolderOf) -> Iterator[ak.Host]:
    with ak.Host(tiny_backbones["bert"], slots=2) as made:
        for kind in ("text-classification", "token-classification", "multiple-choice", "question-answering"):
            made.mount(kind, folder_of("bert", Recipe(kind, "lora")))
        yield made


@pytest.mark.parametrize("seed", range(5))
def test_in_a_mixed_batch_bad_rows_and_unknown_names_cost_nobody_an_answer(host: ak.Host, seed: int) -> None:
    chance = random.Random(seed)
    kinds = [status.name for status in host.status()]
    good = [(kind, row) for kind in kinds for row in good_rows(kind)]
    chance.shuffle(good)
    bad = [(kind, row) for kind in kinds for row in [*BAD[kind], *FOR_NO_KIND]]
    bad += [("nobody", "a fox"), ("text-classificatio", "a fox"), "a fox", {"text": "a fox"}, {"task": 3}, 3, (3, "a")]
    expected = host.predict(good, batch_size=7)
    rows = mixed(good, chance.sample(bad, 12) + bad[-7:], seed)

    found = host.predict([row for _, row in rows], errors="return", batch_size=7)

    assert [a for a, (fine, _) in zip(found, rows, strict=True) if fine] == expected
    by_row = [(row, a) for a, (fine, row) in zip(found, rows, strict=True) if not fine]
    assert all(isinstance(answer, AdapterkitError) for _, answer in by_row)
    codes = {answer.code for row, answer in by_row if row in (("nobody", "a fox"), ("text-classificatio", "a fox"))}
    assert codes == {"not_mounted"}
    near = next(answer for row, answer in by_row if row == ("text-classificatio", "a fox"))
    assert isinstance(near, NotMountedError)
    assert "did you mean 'text-classification'?" in near.message
    assert host.problems([row for _, row in rows]).keys() == {n for n, (fine, _) in enumerate(rows) if not fine}


def test_one_bad_row_for_one_of_many_tasks_leaves_the_answers_of_the_others(host: ak.Host) -> None:
    found = host.predict_all("a fox", errors="return")
    assert isinstance(found["multiple-choice"], BadRowError)
    assert found["multiple-choice"].as_json() == {
        "code": "bad_row",
        "message": "found a text, and multiple-choice reads several columns: give a dict of them. "
        "A row of multiple-choice has: question, choices, context.",
    }
    assert {"text-classification", "token-classification"} == {
        name for name, answer in found.items() if not isinstance(answer, AdapterkitError)
    }
    with pytest.raises(DataError, match="2 of 4 rows"):
        host.predict_all("a fox")


def test_an_adapter_that_is_lost_costs_its_own_rows_alone(
    tiny_backbones: Mapping[str, Any],
    folder_of: FolderOf,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kinds = ["text-classification", "token-classification"]
    with ak.Host(tiny_backbones["bert"]) as host:
        for kind in kinds:
            host.mount(kind, folder_of("bert", Recipe(kind, "lora")))
        rows = [(kind, row) for kind in kinds for row in good_rows(kind)]
        expected = host.predict(rows)
        take, lost = host._bank.take, host._mounted[kinds[0]].seat

        def losing(seats: Any, counts: Any) -> Any:
            if lost in seats:
                raise ak.errors.ArtifactError("it is gone")
            return take(seats, counts)

        monkeypatch.setattr(host._bank, "take", losing)
        found = host.predict(rows, errors="return")
        with pytest.raises(ak.errors.ArtifactError, match="it is gone"):
            host.predict(rows)
    assert found[5:] == expected[5:]
    assert [str(answer) for answer in found[:5]] == ["it is gone"] * 5


def test_prompts_that_cannot_be_continued_cost_no_other_prompt_its_text(
    tiny_backbones: Mapping[str, Any],
    folder_of: FolderOf,
) -> None:
    with ak.Host(tiny_backbones["gpt2"]) as host:
        host.mount("poet", folder_of("gpt2", Recipe("causal-lm", "lora")))
        host.mount("judge", folder_of("gpt2", Recipe("text-classification", "lora")))
        texts = ["a fox", "my card was lost", "the quick brown"]
        rows: list[Any] = [("poet", texts[0]), ("judge", "a"), ("poet", texts[1]), ("poet", {}), ("poet", texts[2])]
        lengths = [4, 4, 0, 4, 6]

        found = host.generate(rows, max_new_tokens=lengths, errors="return")

        assert [type(text).__name__ for text in found] == [
            "str", "GenerationError", "GenerationError", "BadRowError", "str",
        ]  # fmt: skip
        assert found[0] == host.generate([rows[0]], max_new_tokens=4)[0]
        assert found[4] == host.generate([rows[4]], max_new_tokens=6)[0]
        # What a row draws goes by its place in the call, whoever stands before it and whatever becomes of them.
        drawn = host.generate(rows, max_new_tokens=4, temperature=2.0, seed=5, errors="return")
        others: list[Any] = [("poet", texts[1])] * 4 + [rows[4]]
        assert drawn[4] == host.generate(others, max_new_tokens=4, temperature=2.0, seed=5)[4]
        with pytest.raises(ak.errors.GenerationError, match="judge does not generate"):
            host.generate(rows[:2])


@pytest.mark.parametrize("errors", ["ignore", "", None])
def test_what_becomes_of_errors_is_one_of_two_words(host: ak.Host, errors: Any) -> None:
    with pytest.raises(ValueError, match='errors is "raise" or "return"'):
        host.predict([], errors=errors)


def test_every_kind_and_family_has_bad_rows_here() -> None:
    assert set(BAD) == set(KINDS) == set(cases.KINDS)
    assert set(FAMILY_OF.values()) <= set(tiny.FAMILIES)
