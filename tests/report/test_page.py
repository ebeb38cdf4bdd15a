"""The page: what it draws of plain values, what it escapes, and that it asks for nothing from elsewhere."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest

from adapterkit.report import figures
from adapterkit.report.page import confusion_matrix, most_confused, render

HOSTILE = '<script>alert(1)</script><img src="http://evil/x.png" onerror=x>&'
SPLIT: dict[str, Any] = {
    "split": HOSTILE,
    "rows": 3,
    "metrics": {HOSTILE: {"value": 0.5, "low": 0.25, "high": 0.75, "how": HOSTILE}},
    "labels": {HOSTILE: {"precision": 1.0, "recall": 0.5, "f1": 2 / 3, "items": 2}},
    "calibration": {
        "items": 3, "ece": 0.1, "brier": 0.2, "nll_nats": None, "confidence": 0.6, "accuracy": 0.5,
        "bins": [{"low": 0.5, "high": 0.7, "items": 3, "confidence": 0.6, "accuracy": 0.5}],
    },
    "confused": [[HOSTILE, "b", 2], ["b", "b", 1]],
    "groups": {"by": HOSTILE, "measure": HOSTILE, "rows": [[HOSTILE, 0.5, 3]]},
    "errors": [{"row": 4, "given": HOSTILE, "expected": HOSTILE, "answered": HOSTILE, "confidence": 0.9}],
    "hidden": "",
}  # fmt: skip
PAGE: Any = {
    "title": HOSTILE,
    "lead": HOSTILE,
    "command": HOSTILE,
    "facts": [[HOSTILE, HOSTILE]],
    "splits": [SPLIT],
    "curve": {
        "metric": HOSTILE,
        "losses": [[1, 2.0], [2, 1.0]],
        "validations": [{"step": 2, "value": 0.5, "low": 0.25, "high": 0.75, "kept": True}],
    },
    "data": {"rows": [["train", 3, 1]], "labels": {HOSTILE: {"train": 2}}, "lengths": [[1, 2, 3]], "notes": [HOSTILE]},
    "recipe": HOSTILE,
}


class Tags(HTMLParser):
    """The elements of a page, and the texts between them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_every_text_is_escaped_and_nothing_is_fetched() -> None:
    tags = Tags(render(PAGE))
    assert {tag for tag, _ in tags.found} & {"script", "img", "iframe", "link"} == set()
    assert not [
        name for _, attributes in tags.found for name in attributes if name in ("src", "href") or name[:2] == "on"
    ]
    policy = next(attributes for _, attributes in tags.found if attributes.get("http-equiv"))
    assert (policy["content"] or "").startswith("default-src 'none'")
    assert sum(HOSTILE in text for text in tags.texts) >= 15


def test_a_page_has_light_and_dark_and_every_picture() -> None:
    page = render(PAGE)
    assert "prefers-color-scheme:dark" in page
    assert page.count("<svg") == 4  # reliability, loss, validations, lengths


def test_a_page_needs_nothing_but_its_title() -> None:
    tags = Tags(render({"title": "alone"}))
    assert "alone" in tags.texts
    assert "h2" not in {tag for tag, _ in tags.found}


def test_texts_that_are_hidden_are_not_on_the_page() -> None:
    hidden = {**SPLIT, "errors": [{"row": 4, "confidence": 0.9}], "hidden": "Texts are left out"}
    tags = Tags(render({"title": "t", "splits": [hidden]}))
    assert "Texts are left out" in tags.texts
    assert "given" not in tags.texts


def test_a_matrix_has_right_labels_down_and_answers_across() -> None:
    # Of three rows with a, two were answered a and one b; nothing comes last.
    table = confusion_matrix([["a", "a", 2], ["a", "b", 1], ["–", "a", 4]])
    assert table == {
        "labels": ["a", "b", "–"],
        "rows": [("a", [(2, 67), (1, 33), (0, 0)]), ("b", [(0, 0)] * 3), ("–", [(4, 100), (0, 0), (0, 0)])],
    }
    many = [[str(n), str(n + 1), n] for n in range(60)]
    assert confusion_matrix(many) is None
    assert most_confused([*many, ["x", "x", 99]])[0] == ["59", "60", 59]


@pytest.mark.parametrize("values", [[0.5], [0.0, 0.0], [-3.0, 1e9], [1e-9, 2e-9]])
def test_an_axis_holds_its_values_and_its_ticks_are_round(values: list[float]) -> None:
    scale = figures.Scale.over(values, 0, 100)
    assert all(0 <= scale(value) <= 100 for value in (*values, *scale.ticks()))
    assert 2 <= len(scale.ticks()) <= 9


def test_a_long_run_is_drawn_with_few_points_and_its_last() -> None:
    drawn = figures.losses([(step, 1 / step) for step in range(1, 100_001)])
    assert len(drawn) < 40_000
    ends = re.findall(r"L([\d.]+) [\d.]+\"", drawn)
    assert len(set(ends)) == 1  # both lines end at the last step


def test_what_is_said_below_a_ranking_stays_inside_its_picture() -> None:
    line = {"name": "a=1", "value": 1.0, "low": 0.5, "high": 1.5, "dots": [], "mark": "best", "faint": False}
    said = "validation accuracy (higher is better); " + "sweep over training.learning_rate, training.seed " * 3
    picture = figures.ranking([line], said)
    width, height = map(float, re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', picture)[0])
    texts = re.findall(r'<text x="([\d.]+)" y="([\d.]+)" class="tick mid">([^<]+)<', picture)
    assert " ".join(text for _, _, text in texts if not text.replace(".", "").isdigit()) == said.strip()
    for x, y, text in texts:
        half = len(text) * 6.2 / 2
        assert half <= float(x) <= width - half
        assert float(y) < height


@pytest.mark.parametrize(
    ("value", "shown"), [(4.668e-5, "0.0000"), (0.0, "0"), (0.7548, "0.7548"), (123456.7, "123,457"), (1234, "1,234")]
)
def test_numbers_are_written_as_people_read_them(value: float, shown: str) -> None:
    metrics = {"loss": {"value": value, "low": None, "high": None}}
    page = render({"title": "t", "splits": [{**SPLIT, "metrics": metrics}]})
    assert f"<b>{shown}</b>loss" in page
