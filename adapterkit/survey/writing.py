"""A recipe with comments, whose values suit the size of the data; its text is `recipe.yaml.txt` beside this file."""

import json
import re
from functools import partial
from pathlib import Path

from adapterkit.recipe import COLUMNS
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
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    guess, rows, lengths = survey.guess, survey.rows["train"], survey.lengths
    facts = FACTS[guess.kind]
    backbone, about = (survey.backbone, "as it was named") if survey.backbone else PRETRAINED[facts.trunk]
    batch = next((size for most, size in BATCHES if rows <= most), 64)
    batch = max(8, batch // 2) if lengths.words[1] > LONG_WORDS else batch
    short = lengths.tokens is not None and facts.pooled and lengths.tokens[2] < 500
    numbers = bool(survey.problem and survey.labels) and all(name.lstrip("-").isdecimal() for name in survey.labels)
    found = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"scalar": scalar, "json": partial(json.dumps, ensure_ascii=False)}
    return found.get_template("recipe.yaml.txt").render(
        survey=survey,
        guess=guess,
        name=Path(output).name,
        output=output,
        command=command,
        counted=", ".join(f"{count:,} {split}" for split, count in survey.rows.items()),
        whole_numbers=numbers,
        max_tokens=-(-(lengths.tokens[2] + 8) // 16) * 16 if short and lengths.tokens else None,
        backbone=backbone,
        about=about,
        share=min(0.2, max(0.02, round(WANTED_VALIDATION_ROWS / rows, 2))),
        columns={} if dict(guess.columns) == {"text": "text"} else guess.columns,
        needs=COLUMNS[guess.kind],
        reading=survey.settings.model_dump(mode="json", exclude_defaults=True),
        rows=rows,
        epochs=next((number for most, number in EPOCHS if rows <= most), 2),
        batch=batch,
        rate="5.0e-4" if facts.borrows_head else "1.0e-3",
    )


def scalar(text: str) -> str:
    """A text as YAML reads it back."""
    if _PLAIN.fullmatch(text) and text.strip() == text and text.lower() not in _WORDS_OF_YAML:
        return text
    return json.dumps(text, ensure_ascii=False)
