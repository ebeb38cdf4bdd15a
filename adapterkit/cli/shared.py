"""Options that verbs have in common, as groups that a verb is given whole."""

import inspect
import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from adapterkit.cli import console, options


class OptionGroup:
    """Options as the fields of a dataclass. A verb that has a parameter of its type has all of them."""

    def given(self) -> Any:
        """What the verb is given for them; what has an end is open while the verb runs."""
        return self


def joined(verb: Callable[..., Any]) -> Callable[..., Any]:
    """A verb with the options of its groups as parameters of its own."""
    given = inspect.signature(verb, eval_str=True).parameters
    groups = {name: group for name, one in given.items() if (group := _group(one.annotation)) is not None}
    taken = {name: inspect.signature(group, eval_str=True).parameters for name, group in groups.items()}
    alike = {one.name: one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in given.values()}
    parameters = [one for name, one in alike.items() if name not in groups]
    parameters += [one for names in taken.values() for one in names.values()]

    @wraps(verb)
    def run(**words: Any) -> None:
        made = {name: groups[name](**{one: words.pop(one) for one in names}) for name, names in taken.items()}
        with ExitStack() as stack:
            for name, group in made.items():
                words[name] = value = group.given()
                if isinstance(value, AbstractContextManager):
                    stack.enter_context(value)
            verb(**words)

    told: Any = run
    told.__signature__ = inspect.Signature(parameters)
    told.__annotations__ = {one.name: one.annotation for one in parameters}
    return run


def _group(annotation: Any) -> type[OptionGroup] | None:
    """The group that a parameter is of, or that makes what it is of."""
    each = (annotation, *get_args(annotation))
    return next((one for one in each if isinstance(one, type) and issubclass(one, OptionGroup)), None)


@dataclass(frozen=True, kw_only=True)
class ReadingOptions(OptionGroup):
    """How rows are read, and which of their columns is which."""

    columns: options.Columns = None
    encoding: options.Encoding = None
    delimiter: options.Delimiter = None
    read_as: options.ReadAs = None
    data_root: options.DataRoot = None

    def as_read(self) -> dict[str, Any]:
        """`columns` and `reading`, as verbs of Python take them."""
        columns = options.named(self.columns, "--column", "NAME=COLUMN", "text=sentence")
        return {"columns": columns, "reading": options.reading(self.encoding, self.delimiter, self.read_as)}


@dataclass(frozen=True, kw_only=True)
class AnswerOptions(ReadingOptions):
    """How artifacts are to answer rows: what `evaluate` and its like take besides the artifact and the data."""

    backbone: options.BackboneName = None
    backbone_dtype: options.BackboneFormat = "auto"
    parts: options.Parts = None

    def of(self, folder: Any) -> dict[str, Any]:
        """The arguments for one artifact, whose backbone is loaded here where a number format is asked for."""
        return {
            **self.as_read(),
            "backbone": options.in_format(folder, self.backbone, self.backbone_dtype),
            "parts": options.named(self.parts, "--part", "NAME=FOLDER", "language=runs/language"),
        }


@dataclass(frozen=True, kw_only=True)
class LookOptions(ReadingOptions):
    """How representations are looked at, as the arguments of `probe` and its like."""

    backbone: options.BackboneName = None
    kind: options.KindName = None
    rows: Annotated[int, typer.Option(min=1, help="Rows that are drawn, at most.")] = 2000
    seed: Annotated[int, typer.Option(help="Of everything that is drawn.")] = 0
    pooling: Annotated[str, typer.Option(help="auto, mean, first or last: how a row becomes one vector.")] = "auto"
    cache: Annotated[bool, options.option("--cache/--no-cache", help="Whether states are kept on the disk.")] = True

    def given(self) -> dict[str, Any]:
        same = {name: getattr(self, name) for name in ("backbone", "kind", "rows", "seed", "pooling", "cache")}
        return {**same, **self.as_read()}


HowLooked = Annotated[dict[str, Any], LookOptions]


@dataclass(frozen=True, kw_only=True)
class TellOptions(OptionGroup):
    """Where a record goes, besides to whoever reads it here."""

    as_json: options.Json = False
    trackers: Annotated[
        list[str] | None,
        options.option("--track", metavar="NAME", help="Tell a tracker too: tensorboard, wandb, mlflow, …"),
    ] = None

    def __call__(self, record: Any, *runs: Any) -> None:
        """Hand a record to the trackers, which write into the first of some folders, and print it."""
        if self.trackers:
            from adapterkit.evaluation.tracking import track

            track(record, self.trackers, runs[0] if runs else None)
        show(record, runs, as_json=self.as_json)


def write_page(record: Any, page: Path | None) -> None:
    """The page of a record, where one is asked for."""
    if page is not None:
        from adapterkit.manifest import write_file
        from adapterkit.report.judged import record_page

        write_file(page, record_page(record, shlex.join(["adapterkit", *sys.argv[1:]])).encode())


def show(record: Any, runs: Sequence[Any], *, as_json: bool) -> None:
    """Print a record: as JSON, or what a page would say of it, in which artifacts are called as they were named."""
    if as_json:
        console.print_json(record.to_dict())
    elif console.is_main_process():
        from adapterkit.manifest import MANIFEST, open_manifest
        from adapterkit.report.judged import section_of

        artifacts = [run for run in runs if (Path(run) / MANIFEST).is_file()]
        console.print_section(section_of(record, {open_manifest(run).sha256: str(run) for run in artifacts}))
