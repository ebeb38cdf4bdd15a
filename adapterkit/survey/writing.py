"""A recipe with comments, whose values suit the size of the data."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adapterkit.recipe import COLUMNS, DataSettings
from adapterkit.recipe.kinds import FACTS
from adapterkit.survey.survey import Survey

PRETRAINED = {
    "any": ("sentence-transformers/all-MiniLM-L6-v2", "small and quick; a larger one is more accurate"),
    "encoder": ("answerdotai/ModernBERT-base", "any checkpoint that was made to fill in words"),
    "decoder": ("HuggingFaceTB/SmolLM2-135M", "small and quick; a larger one writes better"),
    "encoder-decoder": ("google/flan-t5-small", "small and quick; a larger one writes better"),
}
"""What a kind's backbone may be where none was named, by the sort of backbone that the kind belongs to."""

EPOCHS = ((300, 15), (1_000, 10), (5_000, 8), (20_000, 5), (100_000, 3))
"""Rows at most -> passes over them. Small sets need more passes for as many steps."""

BATCHES = ((500, 16), (5_000, 32))
"""Rows at most -> rows of a step; 64 beyond."""

LONG_WORDS = 200
WANTED_VALIDATION_ROWS = 500

_PLAIN = re.compile(r"[A-Za-z_][\w ./@-]*", re.ASCII)
_WORDS_OF_YAML = {"true", "false", "yes", "no", "on", "off", "null", "y", "n"}


def recipe_text(survey: Survey, output: str, command: str) -> str:
    """The recipe as a YAML file.

    Args:
        output: the artifact's folder.
        command: what trains it.
    """
    guess, rows = survey.guess, survey.rows["train"]
    name, about = (survey.backbone, "as it was named") if survey.backbone else PRETRAINED[FACTS[guess.kind].trunk]
    long = survey.lengths.words[1] > LONG_WORDS
    epochs = next((number for most, number in EPOCHS if rows <= most), 2)
    batch = next((size for most, size in BATCHES if rows <= most), 64)
    batch = max(8, batch // 2) if long else batch
    borrows = FACTS[guess.kind].borrows_head
    others = f"  # {' or '.join(guess.others)} would be possible too" if guess.others else ""
    counted = ", ".join(f"{count:,} {split}" for split, count in survey.rows.items())
    lines = [
        f"# {Path(output).name}: {guess.kind} on {counted} rows, told by {guess.why}",
        f"# {command}",
        "",
        "task:",
        f"  kind: {guess.kind}{others}",
        *_task(survey),
        "backbone:",
        f"  name: {scalar(name)}  # {about}",
        "method:",
        "  kind: lora",
        "  rank: 8  # higher: more accurate on hard tasks, larger artifact",
        "  alpha: 16  # the update is scaled by alpha / rank; higher acts like a higher learning rate",
        "data:",
        *(f"  {split}: {scalar(source)}" for split, source in survey.sources.items()),
        *_validation(survey),
        *_columns(survey),
        *_reading(survey.settings),
        "training:",
        f"  epochs: {epochs}  # {rows:,} rows; higher: more accurate up to a point, proportionally longer",
        f"  batch_size: {batch}  # rows per step; higher: smoother and fewer steps, more memory",
        f"  learning_rate: {'5.0e-4' if borrows else '1.0e-3'}  # higher: faster, less stable",
        "  seed: 0",
        f"output: {scalar(output)}",
    ]
    return "\n".join(lines) + "\n"


def scalar(text: str) -> str:
    """A text as YAML reads it back."""
    if _PLAIN.fullmatch(text) and text.strip() == text and text.lower() not in _WORDS_OF_YAML:
        return text
    return json.dumps(text, ensure_ascii=False)


def _task(survey: Survey) -> list[str]:
    """What the rows decide, where it should be seen."""
    lines = []
    if survey.problem in ("multi-label", "regression"):
        lines.append(f"  problem: {survey.problem}  # how labels are read")
    elif survey.problem and survey.labels and all(name.lstrip("-").isdecimal() for name in survey.labels):
        lines.append(
            f"  problem: single-label  # {len(survey.labels)} whole numbers as classes; regression: as numbers"
        )
    tokens = survey.lengths.tokens
    if tokens is not None and FACTS[survey.guess.kind].pooled and tokens[2] < 500:
        most = -(-(tokens[2] + 8) // 16) * 16
        lines.append(f"  max_tokens: {most}  # 99 % of the texts have at most {tokens[2]}; lower: faster, more is cut")
    return lines


def _validation(survey: Survey) -> list[str]:
    if "validation" in survey.sources:
        return []
    share = min(0.2, max(0.02, round(WANTED_VALIDATION_ROWS / survey.rows["train"], 2)))
    return [f"  validation: {share}  # share of the training rows; more: a surer choice, fewer rows to learn from"]


def _columns(survey: Survey) -> list[str]:
    columns: Mapping[str, str] = survey.guess.columns
    if all(name == column for name, column in columns.items()) and "text" in columns and len(columns) == 1:
        return []
    needs = COLUMNS[survey.guess.kind]
    shown = [f"    {name}: {scalar(column)}  # {needs[name].meaning}" for name, column in columns.items()]
    return ["  columns:", *shown]


def _reading(settings: DataSettings) -> list[str]:
    """How files are read, where it was said."""
    said: dict[str, Any] = settings.model_dump(mode="json", exclude_defaults=True)
    return [f"  {name}: {json.dumps(value, ensure_ascii=False)}" for name, value in said.items()]
