from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapterkit import compose
from adapterkit.compose import Average, Stack, Weighted, composition_schema, load_composition
from adapterkit.errors import CompositionError


def read(tmp_path, text):
    (tmp_path / "composition.yaml").write_text(text)
    return load_composition(tmp_path / "composition.yaml")


def problems(tmp_path, text):
    with pytest.raises(CompositionError) as caught:
        read(tmp_path, text)
    return list(caught.value.problems)


def test_a_weighted_plan(tmp_path):
    composition = read(
        tmp_path,
        """
        weighted:
          members: {a: runs/a, b: runs/b}
          weights: {b: 0.3, a: 0.7}
          how: ties
          rank: 8
          density: 0.5
          head: b
        """,
    )
    assert composition == Weighted(
        members={"a": "runs/a", "b": "runs/b"}, weights={"a": 0.7, "b": 0.3}, head="b", how="ties", rank=8, density=0.5
    )
    assert composition.chosen == ("b",)
    assert composition.names == ["a", "b"]


def test_names_alone_are_what_is_looked_for(tmp_path):
    text = "weighted: {members: [a, b], weights: {a: 1, b: -0.5}}"
    assert read(tmp_path, text) == compose.weighted({"a": 1.0, "b": -0.5})


def test_an_average_and_a_stack_inside_a_stack(tmp_path):
    assert read(tmp_path, "average: {members: [a, b], weights: {a: 2, b: 1}}") == compose.average(
        "a", "b", weights=[2, 1]
    )
    composition = read(
        tmp_path,
        """
        stack:
          members:
            languages: {average: {members: {x: runs/x, y: runs/y}}}
            task: runs/task
          heads: [task, x]
        """,
    )
    inner = Average(members={"x": "runs/x", "y": "runs/y"})
    assert isinstance(composition, Stack)
    assert composition.sources == (("languages", inner), ("task", "runs/task"))
    assert inner.shares == {"x": 0.5, "y": 0.5}
    assert composition.chosen == ("task", "x")


def test_the_last_member_of_a_stack_answers_unless_another_is_named(tmp_path):
    assert read(tmp_path, "stack: {members: [language, task]}") == compose.stack("language", "task")


def test_a_mapping_is_a_plan_too():
    assert load_composition({"stack": {"members": ["a", "b"]}}) == compose.stack("a", "b")


def test_every_mistake_is_reported_at_once_with_its_line_and_the_nearest_name(tmp_path):
    assert problems(
        tmp_path,
        "weighted:\n"
        "  members: {a: runs/a, bank: runs/b}\n"
        "  weights: {a: yes, bank: '0.3'}\n"
        "  hows: exact\n"
        "  how: tie\n"
        "  rank: 2.5\n",
    ) == [
        "weighted.weights.a (line 3): found 'yes', expected a number",
        "weighted.weights.bank (line 3): found '0.3', expected a number; remove the quotes",
        "weighted.hows (line 4): is not a known name; did you mean how?",
        "weighted.how (line 5): found 'tie', expected exact, svd, ties, dare or magnitude; did you mean ties?",
        "weighted.rank (line 6): found 2.5, expected a whole number",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{}", ["the composition: found none, expected exactly one of weighted, average, stack"]),
        (
            "average: {members: [a]}\nstack: {members: [a]}",
            ["the composition: found average and stack, expected exactly one of weighted, average, stack"],
        ),
        ("weigthed: {}", ["weigthed (line 1): is not a known name; did you mean weighted?"]),
        ("weighted: {members: [a]}", ["weighted.weights (line 1): is missing"]),
        (
            "weighted:\n  members: [bank, card]\n  weights: {bnak: 1, card: 1}",
            [
                "weighted.weights.bnak (line 3): is not a member; members are bank, card; did you mean bank?",
                "weighted.weights (line 3): lacks 'bank'; write 0 to leave a member out",
            ],
        ),
        (
            "weighted:\n  members: [a]\n  weights: {a: 1}\n  how: dare\n  seed: 1",
            ["weighted.density (line 1): missing; dare needs the share of the entries that it keeps"],
        ),
        (
            "stack:\n  members: [language, task]\n  head: tsak",
            ["stack.head (line 3): 'tsak' is not a member; members are language, task; did you mean task?"],
        ),
        (
            "stack: {members: [a], head: a, heads: [a]}",
            ["stack.heads (line 1): stands beside head; give one of the two"],
        ),
        ("stack: {members: [a], heads: []}", ["stack.heads (line 1): is empty; name at least one member"]),
        ("stack: {members: [a, a]}", ["stack.members (line 1): 'a' stands there twice"]),
        ("average: {members: {}}", ["average.members (line 1): none; name at least one"]),
        (
            "stack:\n  members:\n    x: {weighted: {members: [a], weights: {a: 1}, seed: 3}}\n    y: {average: 5}",
            [
                "stack.members.x.weighted.seed (line 3): given, and exact draws nothing; leave it out",
                "stack.members.y.average (line 4): found 5, expected a block of settings",
            ],
        ),
        (
            "stack:\n  members:\n    x: {weighted: {members: [a], weights: {a: 1}, rank: 3}}",
            ["stack.members.x.weighted.rank (line 3): given, and an exact sum has the sum of the ranks; leave it out"],
        ),
    ],
)
def test_mistakes_are_named_by_path(tmp_path, text, expected):
    found = problems(tmp_path, text)
    assert found[: len(expected)] == expected


def test_files_that_are_no_plan_are_refused(tmp_path):
    with pytest.raises(CompositionError, match="cannot be read"):
        load_composition(tmp_path / "absent.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(CompositionError, match="not UTF-8"):
        load_composition(tmp_path / "binary.yaml")
    with pytest.raises(CompositionError, match="not the YAML of a composition"):
        read(tmp_path, "a: *b")
    with pytest.raises(CompositionError, match="expected one of weighted, average, stack"):
        read(tmp_path, "- a")


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=3),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["weighted", "average", "stack", "members", "weights", "head", "rank", "a"]), inner
            )
        ),
        max_leaves=12,
    )
)
def test_whatever_a_plan_holds_it_is_read_or_refused(value):
    content = value if isinstance(value, dict) else {"weighted": value}
    with suppress(CompositionError):
        assert load_composition(content).words()


def test_the_schema_describes_every_field():
    schema = composition_schema()
    json.dumps(schema)
    assert schema["title"] == "adapterkit composition"
    for block in ("Weighted", "Average", "Stack"):
        fields = schema["$defs"][block]["properties"]
        assert all(field.get("description") for field in fields.values())
