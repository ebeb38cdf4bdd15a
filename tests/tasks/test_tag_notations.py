from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval.scheme import BILOU, IOB1, IOB2, IOBES, Entities

from adapterkit.data import Rows
from adapterkit.errors import DataError
from adapterkit.tasks.tag_notations import conversion_note, to_iob2
from tests.tasks.test_protocol import Make, Vocabularies

KIND = "token-classification"
SPANS = st.lists(st.tuples(st.sampled_from(["", "PER", "LOC", "B-I"]), st.integers(1, 4)), min_size=1, max_size=8)
LETTERS: dict[str, dict[str, str]] = {
    "iob2": {"first": "B", "inside": "I", "last": "I", "only": "B"},
    "bioes": {"first": "B", "inside": "I", "last": "E", "only": "S"},
    "bilou": {"first": "B", "inside": "I", "last": "L", "only": "U"},
}


def written(spans: list[tuple[str, int]], scheme: str) -> list[str]:
    """The tags of (type, words) one behind the other; "" is outside of any entity."""
    tags: list[str] = []
    before = ""
    for kind, words in spans:
        for place in range(words):
            if not kind:
                tags.append("O")
            elif scheme in ("iob1", "io"):
                tags.append(f"{'B' if scheme == 'iob1' and place == 0 and before == kind else 'I'}-{kind}")
            else:
                where = "only" if words == 1 else "first" if place == 0 else "last" if place == words - 1 else "inside"
                tags.append(f"{LETTERS[scheme][where]}-{kind}")
        before = kind
    return tags


def spans_of(tags: list[str], scheme: Any) -> list[tuple[str, int, int]]:
    found = Entities([tags], scheme=scheme).entities[0]
    return [(entity.tag, entity.start, entity.end) for entity in found]


@given(spans=SPANS)
@pytest.mark.parametrize(("name", "scheme"), [("iob2", IOB2), ("iob1", IOB1), ("bioes", IOBES), ("bilou", BILOU)])
def test_entities_are_those_that_seqeval_reads_in_the_scheme_itself(
    name: str, scheme: Any, spans: list[tuple[str, int]]
) -> None:
    tags = written(spans, name)
    assert spans_of(to_iob2(tags), IOB2) == spans_of(tags, scheme)


@given(spans=SPANS)
def test_what_is_iob2_stays_as_it_is(spans: list[tuple[str, int]]) -> None:
    tags = written(spans, "iob2")
    assert to_iob2(tags) == tags
    assert conversion_note([tags]) == ""


ROWS = [
    # iob2:         O    B-PER   I-PER    B-PER    O    B-LOC
    ("IOB1", ["O", "I-PER", "I-PER", "B-PER", "O", "I-LOC"], ["O", "B-PER", "I-PER", "B-PER", "O", "B-LOC"]),
    ("IO,", ["O", "I-PER", "I-PER", "O", "I-LOC"], ["O", "B-PER", "I-PER", "O", "B-LOC"]),
    ("BIOES", ["S-LOC", "B-PER", "E-PER", "O"], ["B-LOC", "B-PER", "I-PER", "O"]),
    ("BILOU", ["U-LOC", "B-PER", "L-PER", "O"], ["B-LOC", "B-PER", "I-PER", "O"]),
    ("BMES", ["S-LOC", "B-PER", "M-PER", "E-PER", "O"], ["B-LOC", "B-PER", "I-PER", "I-PER", "O"]),
    ("IOB2 written B_…", ["O", "B_PER", "I_PER", "B_LOC"], ["O", "B-PER", "I-PER", "B-LOC"]),
    ("IOB2 written …-B", ["O", "PER-B", "PER-I", "LOC-B"], ["O", "B-PER", "I-PER", "B-LOC"]),
    ("IOB2 written …_B", ["O", "PER_B", "PER_I", "LOC_B"], ["O", "B-PER", "I-PER", "B-LOC"]),
]


@pytest.mark.parametrize(("scheme", "tags", "iob2"), ROWS, ids=[scheme for scheme, _, _ in ROWS])
def test_every_notation_is_learned_as_iob2_and_said(
    scheme: str, tags: list[str], iob2: list[str], task_of: Make, vocabulary_of: Vocabularies
) -> None:
    rows = [{"tokens": ["a"] * len(tags), "tags": tags}]
    task = task_of(KIND, rows)
    assert task.metrics[0] == "entity_f1"
    assert task.labels == ("B-LOC", "B-PER", "I-LOC", "I-PER", "O")
    features = task.encode(rows, vocabulary_of("bert"), "score").features
    assert [task.labels[label] for label in features[0].labels if label >= 0] == iob2
    (note,) = task.notes(rows)
    assert scheme in note
    changed = sum(old != new for old, new in zip(tags, iob2, strict=True))
    assert f"{changed} of {len(tags)} changed" in note


def test_a_few_entities_that_open_with_i_are_counted(task_of: Make) -> None:
    rows = [{"tokens": ["a"] * 4, "tags": ["B-x", "I-x", "O", "I-x"]}]
    assert task_of(KIND, rows).notes(rows) == ["1 of 4 tags open an entity with I, and are read as B"]


@pytest.mark.parametrize(
    "tags",
    [["O", "S_adv", "VERB"], ["S-adj", "S-dcl"], ["NN_S", "VB"], ["PER", "O"], ["DET", "NOUN"], ["O", "E-mail", "web"]],
)
def test_plain_names_that_look_like_entities_stay_plain(tags: list[str], task_of: Make) -> None:
    rows = [{"tokens": tags, "tags": tags}]
    assert task_of(KIND, rows).labels == tuple(sorted(tags))


def test_plain_names_beside_o_are_said_to_be_no_entities(task_of: Make) -> None:
    rows = [{"tokens": ["a", "b"], "tags": ["O", "PER"]}]
    assert "entities need B-… and I-…" in task_of(KIND, rows).notes(rows)[0]


def test_named_tags_of_another_notation_number_the_rows_tags(task_of: Make, vocabulary_of: Vocabularies) -> None:
    rows = [{"tokens": ["a"] * 4, "tags": [0, 1, 1, 2.0]}]
    task = task_of(KIND, rows, labels=("O", "I-PER", "I-LOC"))
    assert task.labels == ("O", "I-PER", "I-LOC", "B-PER", "B-LOC")
    features = task.encode(rows, vocabulary_of("bert"), "score").features
    assert [task.labels[label] for label in features[0].labels if label >= 0] == ["O", "B-PER", "I-PER", "B-LOC"]


def test_tags_that_are_numbers_only_need_names(task_of: Make) -> None:
    rows = [{"tokens": ["a", "b", "c"], "tags": [0, 7, 0]}]
    with pytest.raises(DataError, match=r"(?s)numbers without names.*found 0, 7.*task\.labels.*task\.tags: flat"):
        task_of(KIND, rows)
    assert task_of(KIND, rows, tags="flat").labels == ("0", "7")


def test_tag_numbers_mean_nothing_where_names_were_learned(task_of: Make, vocabulary_of: Vocabularies) -> None:
    task = task_of(KIND, [{"tokens": ["a", "b"], "tags": ["O", "B-x"]}])
    with pytest.raises(DataError, match=r"tag 0 is a number without a name; write names, or train with task\.labels"):
        task.encode([{"tokens": ["a", "b"], "tags": [0, 1]}], vocabulary_of("bert"), "score")


def test_words_without_a_tag_leave_their_row_out(task_of: Make) -> None:
    rows = Rows([{"tokens": ["a", "b"], "tags": tags} for tags in (["O", "B-x"], ["O", -100], [None, "O"], [])])
    reasons = [
        (2, "tag -100 stands for 'no label', unless task.labels names it"),
        (3, "tag None is not a tag"),
        (4, "2 tokens, but 0 tags"),
    ]
    assert task_of(KIND, rows.select([0])).check_rows(rows, "score").problems == reasons


def test_cells_of_tags_are_split_where_the_recipe_says(task_of: Make, vocabulary_of: Vocabularies) -> None:
    rows = [{"tokens": "Ada lived there", "tags": "B-x O O"}]
    task = task_of(KIND, rows, label_separator=" ")
    features = task.encode(rows, vocabulary_of("bert"), "score").features
    assert [task.labels[label] for label in features[0].labels if label >= 0] == ["B-x", "O", "O"]
    assert features[0].extras["words"] == [0, 1, 2]


def test_rows_without_an_entity_are_judged_by_the_loss(task_of: Make, vocabulary_of: Vocabularies) -> None:
    rows = [{"tokens": ["a", "b"], "tags": ["O", "B-x"]}, {"tokens": ["a"], "tags": ["O"]}]
    task = task_of(KIND, rows)
    assert task.telling_metric(rows) == ("entity_f1", "")
    metric, reason = task.telling_metric(rows[1:])
    assert metric == "loss"
    assert not task.higher_is_better(metric)
    assert "no entity" in reason
