"""Arguments and options that several verbs share, so that they are spelled and explained alike."""

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

option = partial(typer.Option, show_default=False)
argument = partial(typer.Argument, show_default=False)
"""For what shows nothing as its default: that it was not given."""

RecipeName = Annotated[str, argument(metavar="RECIPE", help="A YAML file, or the name of a shipped recipe.")]
Overrides = Annotated[list[str] | None, argument(metavar="KEY=VALUE", help="Fields to set on top of the recipe.")]


def _located(text: str | None) -> Path | None:
    """An artifact's folder: the one that is named, or what a store or a hub gives for a URL or a name."""
    from adapterkit.manifest import meant_as_folder

    if text is None or meant_as_folder(text):
        return None if text is None else Path(text)
    from adapterkit.artifact.sharing import find_folder

    return find_folder(text)


def _opened(text: str) -> Path | None:
    """The same, and its manifest is read before torch is imported, so that what is no artifact is named at once."""
    from adapterkit.manifest import open_manifest

    if (folder := _located(text)) is not None:
        open_manifest(folder)
    return folder


a_folder = partial(argument, metavar="FOLDER", parser=str, callback=_located)
"""An artifact, named by its folder, or by where others keep it. Not found by `parser`, which would hide the errors."""
a_run = partial(a_folder, callback=_opened)
"""The same of one whose manifest can be read."""

FOLDER = "The artifact's folder, or URL, or name on a hub, as in me/intent@v1."
Folder = Annotated[Path, a_folder(help=FOLDER)]
Run = Annotated[Path, a_run(help=FOLDER)]

RequiredKeys = Annotated[
    list[str] | None,
    option(
        "--require-signature",
        metavar="KEY",
        help="Refuse what this public key (a file, or ed25519:…) has not signed. Many times: one of them has to.",
    ),
]

Report = Annotated[Path | None, option("--report", metavar="HTML", help="A page about what was found, to write.")]

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]

BackboneName = Annotated[
    str | None, option("--backbone", metavar="PATH_OR_ID", help="Another place to load the backbone from.")
]


BackboneDtype = Literal["auto", "float32", "bfloat16", "float16", "int8", "nf4"]
"""The number format of the frozen weights."""
WrittenDtype = Literal["float32", "bfloat16", "float16"]
"""The number format of the tensors that are written."""

BackboneFormat = Annotated[
    BackboneDtype,
    typer.Option("--backbone-dtype", help="Number format of the frozen weights; int8 needs torchao, nf4 bitsandbytes."),
]

Parts = Annotated[
    list[str] | None,
    option(
        "--part",
        metavar="NAME=FOLDER",
        help="Where a part of a fusion is. Default: beside the artifact, under its name.",
    ),
]

Mounts = Annotated[
    list[str] | None,
    option(
        "--mount",
        metavar="NAME=FOLDER",
        help="Mount an artifact (a folder, URL or hub id) or a composition under a name. May be given many times.",
    ),
]
Slots = Annotated[int | None, option(min=1, help="Adapters in memory at once; the others wait on disk. Default: 64.")]

Columns = Annotated[list[str] | None, option("--column", metavar="NAME=COLUMN", help="What the file calls a column.")]


def _set_root(root: Path | None) -> Path | None:
    """Say it where paths are read, to every process that is started too."""
    if root is not None:
        os.environ["ADAPTERKIT_DATA"] = str(root)
    return root


DataRoot = Annotated[
    Path | None,
    option(
        "--data-root", envvar="ADAPTERKIT_DATA", callback=_set_root, help="Folder that relative data paths start from."
    ),
]
"""Every verb that reads data has it, and is done with it: paths are found there, whoever reads them."""

KindName = Annotated[
    str | None, typer.Option("--kind", metavar="KIND", help="The kind of task. Default: guessed.", show_default=False)
]


def _checked(names: list[str] | None) -> list[str] | None:
    """Names whose artifacts are checked before torch is imported. Raises ArtifactError for one that is damaged."""
    from adapterkit.manifest import MANIFEST, open_manifest

    for name in names or ():
        if (Path(name) / MANIFEST).is_file():
            open_manifest(name)
    return names


Representations = Annotated[
    list[str] | None, argument(metavar="BACKBONE_OR_RUN…", callback=_checked, help="Backbones, and artifacts on them.")
]


Encoding = Annotated[str | None, option("--encoding", help="Of text files, as in cp1252. Default: found.")]
Delimiter = Annotated[
    str | None, option("--delimiter", help="What stands between the cells of a CSV file, or tab. Default: found.")
]
ReadAs = Annotated[
    list[str] | None,
    option(
        "--read",
        metavar="FIELD=VALUE",
        help="A field of a recipe's data on how files are read: header=[text, label], field=rows, quotes=false.",
    ),
]


def reading(encoding: str | None, delimiter: str | None, read_as: list[str] | None) -> dict[str, Any]:
    """What the options above say of how files are read, by the names of a recipe's data.

    Raises DataError: an option that is not FIELD=VALUE.
    """
    from adapterkit.errors import DataError
    from adapterkit.recipe.overrides import override

    asked = override({}, read_as or ())
    if asked.problems:
        raise DataError("--read cannot be read", asked.problems, "As in --read header=[text, label]")
    said = {"encoding": encoding, "delimiter": {"tab": "\t", "\\t": "\t"}.get(delimiter or "", delimiter)}
    return {**{name: value for name, value in said.items() if value is not None}, **asked.raw}


def in_format(folder: Path, backbone: str | None, dtype: BackboneDtype) -> Any:
    """The backbone as it was named; loaded where a format is asked for."""
    if dtype == "auto":
        return backbone
    from adapterkit.artifact import open_artifact
    from adapterkit.artifact.loading import find_backbone

    return find_backbone(open_artifact(folder), backbone, dtype)


def named(pairs: list[str] | None, option: str, form: str, example: str) -> dict[str, str]:
    """Options of the form NAME=VALUE as a mapping. Raises DataError: one of them is not NAME=VALUE."""
    from adapterkit.errors import DataError

    found = [pair.partition("=") for pair in pairs or ()]
    wrong = [f"{option} {''.join(one)}: expected {form}" for one in found if not (one[0] and one[2])]
    if wrong:
        raise DataError(f"{option} cannot be read", wrong, f"As in {option} {example}")
    return {name: value for name, _, value in found}


def sources_of(mounts: Sequence[str]) -> dict[str, str]:
    """Name -> artifact or composition. Raises DataError for what is not NAME=FOLDER, or a name given twice."""
    from adapterkit.errors import DataError

    sources = named(list(mounts), "--mount", "NAME=FOLDER", "intent=runs/banking77")
    if len(sources) < len(mounts):
        names = [mount.partition("=")[0] for mount in mounts]
        twice = sorted({name for name in names if names.count(name) > 1})
        raise DataError("--mount names the same adapter twice", [f"{name}: given more than once" for name in twice])
    return sources
