"""What a model card says of the data: rows, lengths, labels, what splits share, and what the adapter is for."""

from collections.abc import Mapping
from typing import Any

from adapterkit.artifact.card_text import escaped

SHOWN_LABELS = 30
FEW_ROWS = 30
"""Of fewer rows of a label, an adapter has hardly seen it."""


def use_section(content: Mapping[str, Any]) -> str:
    """What it was made to do, and what nobody has tried."""
    task, data = content["task"], content["data"]
    labels = len(task.get("labels") or [])
    does = f"chooses among {labels:,} labels" if labels else f"answers as a {task['kind']} model"
    licence = escaped(data["license"]) if data.get("license") else "not known: ask whoever published them"
    return (
        f"## Intended use\n\nIt {does}, for inputs like those of {escaped(data['source'])}. Nothing is known of other "
        "languages, domains or lengths: evaluate it on rows of yours first "
        "(`adapterkit evaluate path/to/this/folder --data rows.csv`). "
        f"Licence of the data: {licence}. The backbone has a licence of its own."
    )


def data_section(content: Mapping[str, Any]) -> str:
    """Rows of each split, their lengths, what they share with training, and how labels are spread."""
    data = content["data"]
    rows, lengths, shared = data["rows"], data.get("length_tokens") or {}, data.get("shared") or {}
    if not rows:
        return ""
    lines = [
        "| split | rows | left out | tokens: median, 95 %, longest | rows that training has too |",
        "|---|---|---|---|---|",
    ]
    for split in sorted(rows, key=lambda name: (name != "train", name)):
        tokens = ", ".join(f"{count:,}" for count in lengths.get(split, ())) or "–"
        both = f"{shared[split]:,}" if split in shared else "–"
        left = data["unusable"].get(split, 0)
        lines.append(f"| {escaped(split)} | {rows[split]:,} | {left:,} | {tokens} | {both} |")
    told = [f"From {escaped(data['source'])}.", "\n".join(lines)]
    if counts := (data.get("label_counts") or {}).get("train"):
        told.append(_spread(counts))
    return "## Data\n\n" + "\n\n".join(told)


def _spread(counts: Mapping[str, int]) -> str:
    total, ordered = sum(counts.values()), sorted(counts.items(), key=lambda one: (-one[1], one[0]))
    shown = ", ".join(
        f"{escaped(label)} {count:,} ({count / max(1, total):.1%})" for label, count in ordered[:SHOWN_LABELS]
    )
    more = f", and {len(ordered) - SHOWN_LABELS} more" if len(ordered) > SHOWN_LABELS else ""
    few = [label for label, count in ordered if count < FEW_ROWS]
    rare = f" {len(few)} of {len(ordered)} labels have fewer than {FEW_ROWS} rows." if few else ""
    return f"Labels of the training rows: {shown}{more}.{rare}"
