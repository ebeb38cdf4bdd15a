"""The `data` block: which rows train, validate and test, and how their files are read."""

import codecs
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from adapterkit.recipe.settings import Many, Settings, foreign, refuse, twice

Text = Annotated[str, Field(min_length=1)]
OF_FORMATS: dict[str, tuple[str, ...]] = {
    "delimiter": ("csv", "tsv"),
    "quotes": ("csv", "tsv"),
    "header": ("csv", "tsv", "conll"),
    "field": ("json",),
    "encoding": ("jsonl", "json", "csv", "tsv", "conll", "text"),
    "config": ("hub",),
    "revision": ("hub",),
}
"""Fields that belong to some formats."""


class DataSettings(Settings):
    """Which rows train, validate and test."""

    train: Text | None = None
    """Training rows: a file, a folder or a pattern (train-*.csv), relative to the data root, or a hub data set."""
    validation: Text | Annotated[float, Field(gt=0, lt=1)] | None = 0.1
    """Validation rows: a file, or the share of the training rows that is split off. Higher share: a surer choice of the
    best checkpoint, fewer rows to learn from. null: none, the last state is kept."""
    test: Text | None = None
    """Test rows, scored once at the end. null: none."""
    columns: dict[Text, Text] = Field(default={})
    """Names of the columns: what adapterkit calls it → what the file calls it (text: sentence)."""
    format: Literal["auto", "jsonl", "json", "csv", "tsv", "conll", "parquet", "text", "hub"] = "auto"
    """Format of the files. auto: by the ending of the name and what the file holds; no ending and no file is a hub data
    set."""
    encoding: Text = "auto"
    """Encoding of text files (utf-8, utf-16, cp1252, latin-1). auto: UTF-8, or UTF-16 where the file shows it."""
    delimiter: Literal["auto"] | Annotated[str, Field(min_length=1, max_length=1)] = "auto"
    """What stands between the cells of a CSV or TSV file: one character. auto: found in the file."""
    quotes: Literal["auto", True, False] = "auto"
    """Whether quotation marks enclose cells. false: they are text. auto: true for CSV, found in the file for TSV."""
    header: Many[Text] | None = None
    """Names of a CSV, TSV or CoNLL file's columns, in order, where no first line names them. null: the first line
    does (CSV, TSV)."""
    field: Text | None = None
    """Where the rows stand in a JSON document (data, result.rows). null: found in the file."""
    config: Text | None = None
    """Configuration of a hub data set (for instance sst2 of glue)."""
    revision: Text | None = None
    """Branch, tag or commit of a hub data set. A commit: the run can be repeated exactly."""
    splits: dict[Literal["train", "validation", "test"], Text] = Field(default={})
    """Names of the splits of a hub data set or a folder: what adapterkit calls it → what they call it (validation:
    dev)."""
    streaming: bool = False
    """Whether rows are read as they are needed. true: less memory and disk, slower."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """Use only this many rows of each split, drawn by the seed, for a trial. null: all."""
    show_rows: Literal["report", "card", "nowhere"] = "report"
    """Where rows may be read by others: report: in the run's own report.html. card: in the model card too, which is
    published. nowhere: in neither."""
    root: Text | None = None
    """Folder that relative paths start from. null: --data-root, ADAPTERKIT_DATA, or the working folder."""

    @model_validator(mode="after")
    def _together(self) -> Self:
        named = [name for name in OF_FORMATS if getattr(self, name) != type(self).model_fields[name].default]
        problems = foreign([] if self.format == "auto" else named, OF_FORMATS, self.format)
        problems += twice("columns", list(self.columns.values())) + twice("header", self.header or ())
        if self.encoding != "auto" and not _is_text_encoding(self.encoding):
            problems.append(("encoding", f"found {self.encoding!r:.40}, expected one that Python knows, like cp1252"))
        refuse(problems)
        return self


def _is_text_encoding(name: str) -> bool:
    try:
        "".encode(codecs.lookup(name).name)
    except (LookupError, ValueError):  # none of that name, or one of bytes (base64) or of half characters (idna)
        return False
    return True
