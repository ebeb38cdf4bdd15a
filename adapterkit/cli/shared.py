"""Options that verbs have in common, as groups that a verb is given whole."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

from adapterkit.cli import console, options


def given(**groups: Callable[..., Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A verb with the options of each group, whose parameter of the group's name is what the group makes of them."""

    def join(verb: Callable[..., Any]) -> Callable[..., Any]:
        taken = {name: inspect.signature(group, eval_str=True).parameters for name, group in groups.items()}
        own = [one for one in inspect.signature(verb, eval_str=True).parameters.values() if one.name not in groups]
        parameters = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own]
        parameters += [one for names in taken.values() for one in names.values()]

        @wraps(verb)
        def run(**words: Any) -> None:
            made = {name: groups[name](**{one: words.pop(one) for one in names}) for name, names in taken.items()}
            verb(**words, **made)

        told: Any = run
        told.__signature__ = inspect.Signature(parameters)
        told.__annotations__ = {one.name: one.annotation for one in parameters}
        return run

    return join


@dataclass(frozen=True)
class HowAnswered:
    """How artifacts are to answer rows: what `evaluate` and its like take besides the artifact and the data."""

    backbone: str | None
    dtype: options.BackboneDtype
    others: Mapping[str, Any]

    def of(self, folder: Any) -> dict[str, Any]:
        """The arguments for one artifact, whose backbone is loaded here where a number format is asked for."""
        return {**self.others, "backbone": options.in_format(folder, self.backbone, self.dtype)}


def answering(
    *,
    backbone: options.BackboneName = None,
    backbone_dtype: options.BackboneFormat = "auto",
    columns: options.Columns = None,
    encoding: options.Encoding = None,
    delimiter: options.Delimiter = None,
    read_as: options.ReadAs = None,
    data_root: options.DataRoot = None,
    parts: options.Parts = None,
) -> HowAnswered:
    """How rows are read and answered."""
    others = {
        "columns": options.named(columns, "--column", "NAME=COLUMN", "text=sentence"),
        "reading": options.reading(encoding, delimiter, read_as),
        "data_root": data_root,
        "parts": options.named(parts, "--part", "NAME=FOLDER", "language=runs/language"),
    }
    return HowAnswered(backbone, backbone_dtype, others)


def looking(
    *,
    backbone: options.BackboneName = None,
    kind: options.KindName = None,
    columns: options.Columns = None,
    encoding: options.Encoding = None,
    delimiter: options.Delimiter = None,
    read_as: options.ReadAs = None,
    data_root: options.DataRoot = None,
    rows: options.ProbedRows = 2000,
    seed: options.Seed = 0,
    pooling: options.Pooling = "auto",
    cache: Annotated[bool, options.option("--cache/--no-cache", help="Whether states are kept on the disk.")] = True,
) -> dict[str, Any]:
    """How representations are looked at: the arguments of `probe` and its like."""
    return {
        "backbone": backbone,
        "kind": kind,
        "columns": options.named(columns, "--column", "NAME=COLUMN", "text=sentence"),
        "reading": options.reading(encoding, delimiter, read_as),
        "data_root": data_root,
        "rows": rows,
        "seed": seed,
        "pooling": pooling,
        "cache": cache,
    }


@dataclass(frozen=True)
class Telling:
    """Where a record goes, besides to whoever reads it here."""

    as_json: bool
    trackers: tuple[str, ...]

    def __call__(self, record: Any, *runs: Any) -> None:
        """Hand a record to the trackers, which write into the first of some folders, and print it."""
        if self.trackers:
            from adapterkit.evaluation.tracking import track

            track(record, self.trackers, runs[0] if runs else None)
        show(record, runs, as_json=self.as_json)


def show(record: Any, runs: Sequence[Any], *, as_json: bool) -> None:
    """Print a record: as JSON, or what a page would say of it, in which artifacts are called as they were named."""
    if as_json:
        console.print_json(record.to_dict())
    elif console.is_main_process():
        from adapterkit.manifest import MANIFEST, open_manifest
        from adapterkit.report.judged import section_of

        artifacts = [run for run in runs if (Path(run) / MANIFEST).is_file()]
        console.print_section(section_of(record, {open_manifest(run).sha256: str(run) for run in artifacts}))


def telling(
    *,
    as_json: options.Json = False,
    trackers: Annotated[
        list[str] | None,
        options.option("--track", metavar="NAME", help="Tell a tracker too: tensorboard, wandb, mlflow, …"),
    ] = None,
) -> Telling:
    """Where a record goes."""
    return Telling(as_json, tuple(trackers or ()))
