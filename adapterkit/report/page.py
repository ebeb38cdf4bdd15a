"""One HTML page about a run or an evaluation: a renderer of plain JSON values that needs neither torch nor a network.

What it draws (`Page`), every part of it optional but the title:

    title, lead, command   what it is about, in one sentence, and the command that made it
    facts                  [name, value] pairs
    data                   {"rows": [[split, usable, unusable]], "labels": {label: {split: count}},
                            "lengths": [[low, high, rows]], "notes": [text]}
    curve                  {"metric", "losses": [[step, loss]], "validations": [one, …]}, each
                           {"step", "value", "low", "high", "kept"}
    splits                 {"split", "rows", "metrics", "labels", "calibration"} each, as in an evaluation record, and
                            "confused": [[right, answered, count]],
                            "groups": {"by", "measure", "rows": [[name, value, rows]]},
                            "errors": [{"row", "given", "expected", "answered", "confidence"}],
                            "hidden": why the rows' texts are not shown; "" where they are
    sections               {"heading", "sentences", "pictures": [[svg, caption]], "tables": [table]} each; a caption is
                            a text, or what is drawn and the names of its lines; a table {"title", "headings", "rows",
                            "closed": whether it is folded, "shares": what shades its cells, in percent}
    recipe                 YAML
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from adapterkit.report import figures

MOST_LABELS_IN_MATRIX = 24
MOST_PAIRS = 30
NOTHING = "–"
"""What stands for no label among labels; it comes last."""

TEMPLATE = "page.html"


class Page(TypedDict, total=False):
    """What a page draws; see the module."""

    title: str
    lead: str
    command: str
    facts: Sequence[Sequence[str]]
    data: Mapping[str, Any]
    curve: Mapping[str, Any]
    splits: Sequence[Mapping[str, Any]]
    sections: Sequence[Mapping[str, Any]]
    recipe: str


def render(page: Page) -> str:
    """The page as HTML: one file, light or dark as its reader's system is, every text escaped."""
    found = figures.templates()
    found.filters["figure"] = _figure
    told = {name: page.get(name) for name in Page.__annotations__}
    known = {"figures": figures, "matrix": confusion_matrix, "pairs": most_confused}
    return str(found.get_template(TEMPLATE).render(page=told, **known))


def confusion_matrix(counts: Sequence[Sequence[Any]]) -> dict[str, Any] | None:
    """A table of right labels down and answered ones across; None where there are too many labels to see anything.

    Args:
        counts: [right label, answered label, how often] each.
    """
    found_labels = {one[place] for one in counts for place in (0, 1)}
    labels = sorted(found_labels, key=lambda label: (label == NOTHING, label))
    if not 2 <= len(labels) <= MOST_LABELS_IN_MATRIX:
        return None
    found = {(right, answered): count for right, answered, count in counts}
    rows = []
    for right in labels:
        cells = [found.get((right, answered), 0) for answered in labels]
        total = sum(cells) or 1
        rows.append((right, [(cell, round(100 * cell / total)) for cell in cells]))
    return {"labels": labels, "rows": rows}


def most_confused(counts: Sequence[Sequence[Any]]) -> list[Sequence[Any]]:
    """Labels that were taken for another, the most frequent first."""
    wrong = [one for one in counts if one[0] != one[1]]
    return sorted(wrong, key=lambda one: -one[2])[:MOST_PAIRS]


def _figure(value: Any) -> str:
    """A number as people read it."""
    if value is None:
        return "–"
    if isinstance(value, int) or abs(value) >= 10_000:
        return f"{value:,.0f}"
    return f"{value:.4g}" if value == 0 or abs(value) >= 1e-4 else f"{value:.4f}"
