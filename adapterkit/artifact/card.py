"""Cards: what people and the hub read of an artifact, or of what it was exported to.

Everything in them comes from the manifest. Text that people or data wrote (labels, names, rows) is escaped, so that it
can neither end the YAML block nor become HTML, a link or a heading.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

from huggingface_hub import EvalResult, ModelCardData
from markupsafe import Markup

from adapterkit.manifest import FINDINGS, MANIFEST, Manifest
from adapterkit.methods.table import method_of
from adapterkit.recipe.head import HEAD_SETTINGS
from adapterkit.recipe.kinds import FACTS
from adapterkit.recipe.methods import METHOD_SETTINGS
from adapterkit.tasks import TASKS

FEW_ROWS = 30
"""Of fewer rows of a label, an adapter has hardly seen it."""
FILES = (".json", ".csv", ".tsv", ".txt", ".parquet", ".conll", ".arrow", ".xls", ".gz")
"""How names of files end, which look like a hub's data sets otherwise."""
_SPECIAL = "\\`*_{}[]()#+-!|~$@:"
_OPTIONAL = {"parts": (), "calibration": None, "composition": None, "compaction": None}


def render_card(content: Mapping[str, Any], size_bytes: int) -> bytes:
    """The model card of an artifact: the hub's metadata, how to use it, and where it comes from.

    Args:
        content: the manifest's fields, as JSON has them, without files and digests.
        size_bytes: of the tensors' file.
    """
    content = {**_OPTIONAL, **content}
    data = {"length_tokens": {}, "shared": {}, "license": None, **content["data"]}
    method = METHOD_SETTINGS[content["method"]["kind"]].model_validate(content["method"])
    peft_import = method_of(method).peft_import
    measured = [(split, *one) for split, named in sorted(content["metrics"].items()) for one in named.items()]
    counts = (data.get("label_counts") or {}).get("train") or {}
    text: str = _template("card.md").render(
        content,
        data=data,
        backbone={"part": None, **content["backbone"]},
        metadata=Markup(_metadata(content, method.attaches, peft_import is not None)),
        title=_title(content),
        method=method,
        peft_import=peft_import,
        is_family=not HEAD_SETTINGS[content["head"]["kind"]].model_validate(content["head"]).is_own,
        facts=FACTS[content["task"]["kind"]],
        size_bytes=size_bytes,
        labels=content["task"].get("labels") or (),
        part_folders={part["name"]: f"path/to/{part['name']}" for part in content["parts"]},
        example=_example(content),
        measured=measured,
        splits=sorted(data["rows"], key=lambda name: (name != "train", name)),
        spread=sorted(counts.items(), key=lambda one: (-one[1], one[0])),
        total=max(1, sum(counts.values())),
        rare=sum(count < FEW_ROWS for count in counts.values()),
        few=FEW_ROWS,
        findings=FINDINGS,
        manifest=MANIFEST,
    )
    return text.encode("utf-8")


def export_card(manifest: Manifest, title: str, *sections: str, library: str = "", relation: str = "") -> bytes:
    """The card of what an artifact was exported to. `sections`: what follows the title, in markdown, of which all that
    is not ours was `escaped`. `library`, `relation`: the hub's words for what loads it, and how it relates to its base.
    """
    name, above = manifest.backbone.name, []
    if library:
        based = {} if Path(name).is_absolute() else {"base_model": flat(name), "base_model_relation": relation}
        above = [f"---\n{ModelCardData(**based, library_name=library).to_yaml()}\n---"]  # type: ignore[arg-type]
    return ("\n\n".join([*above, f"# {title}", *sections]) + "\n").encode("utf-8")


def fenced(language: str, *lines: str) -> str:
    """Lines of code as markdown shows them."""
    return "\n".join([f"```{language}", *lines, "```"])


def flat(text: object, longest: int = 500) -> str:
    """Text on one line, without what cannot be seen."""
    line = "".join(letter if letter.isprintable() else " " for letter in str(text))
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def escaped(text: object) -> str:
    """Text that markdown and HTML show as it is, on one line, at most 200 characters."""
    line = flat(text, 200).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    around = zip(" " + line, line, line[1:] + " ", strict=False)
    return "".join(
        f"&#{ord(letter)};" if letter in _SPECIAL and not _is_inside_word(before, letter, after) else letter
        for before, letter, after in around
    )


def _is_inside_word(before: str, letter: str, after: str) -> bool:
    """Whether a special letter stands inside a word or behind it, where markdown gives it no meaning."""
    return before.isalnum() and (after.isalnum() or (letter == ":" and after == " ")) and letter in "_-+:"


@cache
def _template(name: str) -> Any:
    """A card with its blanks, of which each is escaped that is no markup already."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        finalize=lambda value: value if isinstance(value, Markup) else escaped(value),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "code": _code,
        "figure": lambda value: Markup(f"{value:.4g}"),
        "grouped": lambda count: Markup(f"{count:,}"),
        "listed": lambda texts: Markup(", ".join(map(escaped, texts))),
        "share": lambda value: Markup(f"{value:.1%}"),
    }
    return environment.get_template(name)


def _metadata(content: Mapping[str, Any], attaches: bool, in_peft: bool) -> str:
    """The YAML block that the hub reads."""
    kind, name, data = content["task"]["kind"], content["backbone"]["name"], content["data"]
    source, pipeline = flat(data["source"]), FACTS[kind].pipeline
    on_hub = _is_hub_id(data["source"]) and not PurePosixPath(data["source"]).suffix.lower().startswith(FILES)
    results = [
        EvalResult(
            task_type=pipeline, dataset_type=source, dataset_name=source, dataset_split=flat(split),
            metric_type=flat(metric), metric_value=found["value"],
        )
        for split, named in sorted(content["metrics"].items())
        for metric, found in named.items()
    ]  # fmt: skip
    return ModelCardData(
        base_model=name if _is_hub_id(name) else None,
        base_model_relation="adapter" if attaches else None,
        library_name="adapterkit",
        pipeline_tag=pipeline,
        license=flat(data["license"]) if data.get("license") else None,
        datasets=[source] if on_hub else None,
        tags=[
            "adapterkit", *["peft"] * in_peft, content["method"]["kind"], kind,
            f"fingerprint:{content['backbone']['fingerprint']}",  # `search` finds by it what fits exactly
        ],
        metrics=sorted({result.metric_type for result in results}) or None,
        model_name=flat(_title(content)) if results else None,
        eval_results=results or None,
    ).to_yaml()  # fmt: skip


def _title(content: Mapping[str, Any]) -> str:
    path = PurePosixPath(str(content["data"]["source"]))
    named_by_folder = path.stem.lower() in ("train", "training", "data") and path.parent.name
    source = (path.parent.name if named_by_folder else path.name) or content["task"]["kind"]
    backbone = str(content["backbone"]["name"]).rstrip("/").rpartition("/")[2]
    return f"{source}: {content['task']['kind']} on {backbone}"


def _example(content: Mapping[str, Any]) -> Any:
    """A row to ask for: one of the data where the recipe lets the card show rows, else a made one."""
    task = TASKS[content["task"]["kind"]]
    rows = [golden["row"] for golden in content["golden"]["rows"]]
    shown = (content["recipe"].get("data") or {}).get("show_rows") == "card"
    row = rows[0] if rows and shown else task.sample_rows()[0]
    return {name: value for name, value in row.items() if name not in task.columns or not task.columns[name].target}


def _code(value: Any) -> Markup:
    """A Python literal that can neither end the fence nor be HTML: one line of ASCII without backticks and brackets."""
    text = ascii(value)
    for letter in "`<>":
        text = text.replace(letter, f"\\x{ord(letter):02x}")
    return Markup(text)


def _is_hub_id(name: object) -> bool:
    names = str(name).split("/")
    plain = all(one and one.replace("-", "").replace("_", "").replace(".", "").isalnum() for one in names)
    return len(names) <= 2 and plain and not str(name).startswith(".") and str(name).isascii()
