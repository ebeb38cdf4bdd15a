"""`adapterkit data`.

$ adapterkit data tickets.csv
$ adapterkit data train.jsonl test.jsonl --kind seq2seq-lm --column source=dialogue
$ adapterkit data reviews/ --backbone models/all-MiniLM-L6-v2 --json
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

from adapterkit.cli import console, options, shared

if TYPE_CHECKING:
    from adapterkit.survey import Survey

LABELS_SHOWN = 10

Files = Annotated[
    list[str], options.argument(metavar="FILE…", help="Files, a pattern or a folder; test.csv is for the test.")
]


@dataclass(frozen=True, kw_only=True)
class SurveyOptions(shared.ReadingOptions):
    """How files are looked at, as the arguments of `survey.look`."""

    kind: options.KindName = None
    backbone: options.BackboneName = None

    def given(self) -> dict[str, Any]:
        from adapterkit.errors import DataError
        from adapterkit.recipe import KINDS
        from adapterkit.recipe.reading import reading_settings
        from adapterkit.recipe.suggestions import did_you_mean

        if self.kind is not None and self.kind not in KINDS:
            expected = f"expected one of {', '.join(KINDS)}{did_you_mean(self.kind, KINDS)}"
            raise DataError("There is no such kind of task", [f"--kind: found {self.kind!r:.40}, {expected}"])
        read = self.as_read()
        settings = reading_settings(read["reading"])
        return {"kind": self.kind, "columns": read["columns"], "settings": settings, "backbone": self.backbone}


HowSurveyed = Annotated[dict[str, Any], SurveyOptions]


def data(files: Files, how: HowSurveyed, as_json: options.Json = False) -> None:
    from adapterkit.survey import look

    survey = look(files, **how)
    if as_json:
        console.print_json(facts(survey))
        return
    show(survey)


def facts(survey: Survey) -> dict[str, Any]:
    """A survey for machines."""
    seen = {name: {**asdict(column), "keys": sorted(column.keys)} for name, column in survey.columns.items()}
    return {
        "sources": survey.sources,
        "rows": survey.rows,
        "columns": seen,
        "kind": survey.guess.kind,
        "reads": survey.guess.columns,
        "why": survey.guess.why,
        "other_kinds": list(survey.guess.others),
        "problem": survey.problem,
        "labels": survey.labels,
        "lengths": asdict(survey.lengths),
        "repeats": {"equal": survey.repeats.equal, "conflicts": [list(one) for one in survey.repeats.conflicts]},
        "shared_with_training": survey.shared,
        "notes": list(survey.notes),
    }


def show(survey: Survey) -> None:
    """A survey for people."""
    for note in (*survey.notes, *filter(None, [survey.lacking])):
        console.say(f"Note: {note}", style="yellow")
    guess = survey.guess
    for split, source in survey.sources.items():
        console.print_table([[split, f"{survey.rows[split]:,} rows", source]])
    reads = {column: name for name, column in guess.columns.items()}
    table = []
    for seen in survey.columns.values():
        counts = [f"{seen.filled:,}", f"{seen.distinct:,}", f"{seen.words:.1f}"]
        table.append([seen.name, seen.holds, *counts, reads.get(seen.name, "–")])
    looked = next(iter(survey.columns.values())).rows
    headings = ("column", "holds", f"filled of {looked:,}", "distinct", "words", "read as")
    console.print_table(table, headings)
    console.print_table(_about(survey), title=f"\n{guess.kind}: {guess.why}")


def _about(survey: Survey) -> list[list[str]]:
    from adapterkit.recipe.kinds import FACTS

    about: list[list[str]] = []
    if survey.guess.others:
        about.append(["or", f"{', '.join(survey.guess.others)} (--kind)"])
    if survey.problem:
        about.append(["problem", survey.problem])
    if survey.labels and survey.problem != "regression":
        count = len(survey.labels)
        shown = [f"{name} {rows:,}" for name, rows in list(survey.labels.items())[:LABELS_SHOWN]]
        shown += [f"{count - LABELS_SHOWN:,} more"] if count > LABELS_SHOWN else []
        about.append([f"{count:,} label" + ("s" if count != 1 else ""), ", ".join(shown)])
    lengths = survey.lengths
    for unit, values in (("characters", lengths.characters), ("words", lengths.words), ("tokens", lengths.tokens)):
        if values is not None:
            half, most, nearly, longest = (f"{value:,}" for value in values)
            about.append([unit, f"median {half}, 95 % have at most {most}, 99 % {nearly}, the longest {longest}"])
    repeats = survey.repeats
    about.append(["repeats", f"{repeats.equal:,} rows say what another says"])
    if repeats.conflicts and not FACTS[survey.guess.kind].borrows_head:  # a text may be answered in several ways
        lines = "; ".join(" and ".join(map(str, group[:4])) for group in repeats.conflicts[:3])
        about.append(["conflicts", f"{len(repeats.conflicts):,} inputs are answered differently (rows {lines})"])
    for split, count in survey.shared.items():
        about.append([split, f"{count:,} of {survey.rows[split]:,} rows stand in training too"])
    return about
