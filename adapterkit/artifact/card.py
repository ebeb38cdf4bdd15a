"""README.md, the model card: the hub's metadata, how to use the adapter, and where it comes from.

Everything in it comes from the manifest. Text that people or data wrote (labels, names, rows) is escaped, so that it
can neither end the YAML block nor become HTML, a link or a heading.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any

from adapterkit.artifact.card_data import data_section, use_section
from adapterkit.artifact.card_text import escaped, quoted
from adapterkit.manifest import FINDINGS, MANIFEST
from adapterkit.methods.table import method_of
from adapterkit.recipe import MethodSettings
from adapterkit.recipe.head import HEAD_SETTINGS
from adapterkit.recipe.kinds import FACTS
from adapterkit.recipe.methods import METHOD_SETTINGS
from adapterkit.tasks import TASKS

_SHOWN_LABELS = 100
FILES = (".json", ".csv", ".tsv", ".txt", ".parquet", ".conll", ".arrow", ".xls", ".gz")
"""How names of files end, which look like a hub's data sets otherwise."""


def render_card(content: Mapping[str, Any], size_bytes: int) -> bytes:
    """Write the card. `content`: the manifest's fields, as JSON has them, without files and digests. `size_bytes`: of
    the tensors' file."""
    sections = [_metadata(content), _head(content, size_bytes), _usage(content), use_section(content), _parts(content)]
    sections += [_labels(content), _metrics(content), data_section(content), _provenance(content), _limits(content)]
    return ("\n\n".join(section for section in sections if section) + "\n").encode("utf-8")


def _metadata(content: Mapping[str, Any]) -> str:
    """The YAML block that the hub reads."""
    task, backbone, data = content["task"], content["backbone"], content["data"]
    kind = task["kind"]
    lines = ["---"]
    if _is_hub_id(backbone["name"]):
        lines.append(f"base_model: {quoted(backbone['name'])}")
    method = _method(content)
    if method.attaches:
        lines.append("base_model_relation: adapter")
    lines += ["library_name: adapterkit", f"pipeline_tag: {FACTS[kind].pipeline}"]
    if data.get("license"):
        lines.append(f"license: {quoted(data['license'])}")
    if _is_hub_id(data["source"]) and not PurePosixPath(data["source"]).suffix.lower().startswith(FILES):
        lines += ["datasets:", f"- {quoted(data['source'])}"]
    peft = [] if method_of(method).peft_import is None else ["- peft"]
    lines += ["tags:", "- adapterkit", *peft, f"- {quoted(method.kind)}", f"- {quoted(kind)}"]
    lines.append(f"- {quoted('fingerprint:' + backbone['fingerprint'])}")  # `search` finds by it what fits exactly
    names = sorted({name for named in content["metrics"].values() for name in named})
    if names:
        lines += ["metrics:", *(f"- {quoted(name)}" for name in names), *_model_index(content)]
    return "\n".join([*lines, "---"])


def _model_index(content: Mapping[str, Any]) -> Iterable[str]:
    kind, source = content["task"]["kind"], content["data"]["source"]
    yield from ("model-index:", f"- name: {quoted(_title(content))}", "  results:")
    for split, named in sorted(content["metrics"].items()):
        if not named:
            continue
        yield from ("  - task:", f"      type: {FACTS[kind].pipeline}", "    dataset:")
        yield from (f"      name: {quoted(source)}", f"      type: {quoted(source)}", f"      split: {quoted(split)}")
        yield "    metrics:"
        for name, metric in named.items():
            yield from (f"    - type: {quoted(name)}", f"      value: {json.dumps(metric['value'])}")


def _head(content: Mapping[str, Any], size_bytes: int) -> str:
    counts = content["parameters"]
    own = not _has_family_head(content) and method_of(_method(content)).peft_import is not None
    warning = (
        "**Plain PEFT, AutoPeft and pipelines do not have this head. They would answer with a random one: load it with "
        "adapterkit.**\n\n"
    )
    return (
        f"# {escaped(_title(content))}\n\n{warning if own else ''}"
        f"A {escaped(_method(content).words)} adapter with a {escaped(content['head']['kind'])} head for "
        f"{content['task']['kind']}, "
        f"{'composed for' if 'composition' in content else 'trained on'} the frozen backbone "
        f"{escaped(content['backbone']['name'])}. "
        f"{counts['method']:,} parameters in the method, {counts['head']:,} in the head, "
        f"{size_bytes:,} bytes in {content['dtype']}."
    )


def _usage(content: Mapping[str, Any]) -> str:
    kind, name, method = content["task"]["kind"], content["backbone"]["name"], _method(content)
    code = [
        "import adapterkit as ak",
        "",
        f"backbone = ak.Backbone.load({_code(name)})",
        f'adapter = ak.load("path/to/this/folder", backbone{_parts_argument(content)})',
        f"print(adapter.predict([{_code(_example(content))}]))",
    ]
    text = "## Use\n\n```python\n" + "\n".join(code) + "\n```"
    peft_import = method_of(method).peft_import
    if peft_import is None or not method.attaches:
        return text
    if part := content["backbone"].get("part"):
        return (
            f"{text}\n\nPlain PEFT does not find its modules: they are those of `{part}`, the checkpoint's text model."
        )
    family = _has_family_head(content)
    peft = [
        "from peft import PeftModel",
        f"from transformers import {FACTS[kind].auto_class}",
        "",
        *([peft_import, ""] if peft_import else []),
        f"model = {FACTS[kind].auto_class}.from_pretrained({_code(name)}{_labels_argument(content)})",
        'model = PeftModel.from_pretrained(model, "path/to/this/folder")',
    ]
    auto = ""
    if family and FACTS[kind].peft_type:  # AutoPeft counts two labels unless it is told
        name = FACTS[kind].auto_class.replace("AutoModel", "AutoPeftModel")
        auto = f', or by `{name}.from_pretrained("path/to/this/folder"{_labels_argument(content)})`'
    note = f"With plain PEFT{auto}:" if family else "With plain PEFT, which loads the method and leaves out the head:"
    return f"{text}\n\n{note}\n\n```python\n" + "\n".join(peft) + "\n```"


def _parts(content: Mapping[str, Any]) -> str:
    """What a fusion is made of, and cannot answer without."""
    parts = content.get("parts") or ()
    if not parts:
        return ""
    rows = [
        f"| {escaped(part['name'])} | {part['method']['placement']}, {escaped(part['method']['activation'])} "
        f"| `{part['sha256']}` |"
        for part in parts
    ]
    return (
        "## Parts\n\nIt mixes what these bottleneck adapters add, and answers only together with them. They are found "
        "beside this folder under their names, or where `parts` says; their tensors must have these digests.\n\n"
        + "\n".join(["| part | bottleneck | SHA-256 of its tensors |", "|---|---|---|", *rows])
    )


def _parts_argument(content: Mapping[str, Any]) -> str:
    folders = {part["name"]: f"path/to/{part['name']}" for part in content.get("parts") or ()}
    return f", parts={_code(folders)}" if folders else ""


def _labels(content: Mapping[str, Any]) -> str:
    labels = content["task"].get("labels") or []
    if not labels:
        return ""
    shown = ", ".join(escaped(label) for label in labels[:_SHOWN_LABELS])
    more = f", and {len(labels) - _SHOWN_LABELS} more" if len(labels) > _SHOWN_LABELS else ""
    return f"## Labels\n\n{len(labels)}, in class order: {shown}{more}."


def _metrics(content: Mapping[str, Any]) -> str:
    rows = [
        f"| {escaped(split)} | {_measured(name, m)} | {m['value']:.4g} | {m['low']:.4g} to {m['high']:.4g} |"
        for split, named in sorted(content["metrics"].items())
        for name, m in named.items()
    ]
    if not rows:
        return ""
    head = "| split | metric | value | 95 % interval |\n|---|---|---|---|"
    errors = content.get("calibration") or {}
    told = ", ".join(f"{error:.1%} on {escaped(split)}" for split, error in sorted(errors.items()))
    more = f"\n\nExpected calibration error (bins of equal mass): {told}." if told else ""
    more += f"\n\n`adapterkit report` gathers what was found since, in {FINDINGS}."
    return "## Metrics\n\nMeasured with the saved weights.\n\n" + "\n".join([head, *rows]) + more


def _measured(name: str, metric: Mapping[str, Any]) -> str:
    return f"{escaped(name)} ({escaped(metric['how'])})" if metric.get("how") else escaped(name)


def _provenance(content: Mapping[str, Any]) -> str:
    backbone, data = content["backbone"], content["data"]
    revision = f", revision {escaped(backbone['revision'])}" if backbone["revision"] else ""
    lines = [
        *_composition(content),
        *_compaction(content),
        f"- Backbone: {escaped(backbone['name'])}{revision}, fingerprint `{backbone['fingerprint']}`",
        f"- Data: {escaped(data['source'])}"
        + "".join(f", {count:,} {escaped(split)} rows" for split, count in sorted(data["rows"].items())),
        f"- Seed: {content['seed']}",
        f"- Version: {content['version']}" + (f", after `{content['parent']}`" if content["parent"] else ""),
        *(f"- Version {one['version']} was `{one['sha256']}`" for one in reversed(content["history"][-10:])),
        "- Packages: " + ", ".join(f"{escaped(k)} {escaped(v)}" for k, v in sorted(content["packages"].items())),
    ]
    return (
        "## Where it comes from\n\n"
        + "\n".join(lines)
        + f"\n\nThe whole recipe, the digests of data and files, and golden rows stand in `{MANIFEST}`."
    )


def _composition(content: Mapping[str, Any]) -> list[str]:
    """What a composed adapter was made of."""
    composition = content.get("composition")
    if composition is None:
        return []
    members = ", ".join(
        f"{member['weight']:g} × {escaped(member['name'])} (`{member['sha256'][:12]}`)"
        for member in composition["members"]
    )
    error = composition["error"]
    missed = f"; relative error {error:.3g}" if error is not None else ""
    return [f"- Composed ({composition['how']}): {members}; the head is that of {escaped(composition['head'])}{missed}"]


def _compaction(content: Mapping[str, Any]) -> list[str]:
    """What it lost when it was made smaller."""
    found = content.get("compaction")
    if found is None:
        return []
    change = f"{found['before']:.4f} → {found['after']:.4f}, a change of {found['low']:+.4f} to {found['high']:+.4f}"
    where = f"on {found['rows']:,} rows (95 % paired interval)"
    return [f"- Compacted to {found['to']}: {escaped(found['metric'])} {change} {where}"]


def _limits(content: Mapping[str, Any]) -> str:
    return (
        "## Limits\n\n"
        "- It works with the backbone named above and with no other: adapterkit compares fingerprints and refuses "
        "another one.\n"
        "- It was measured on the rows above only. Whatever bias the backbone and the data have, it has too.\n"
        "- To prove that it still answers as it did: `adapterkit verify path/to/this/folder`."
    )


def _title(content: Mapping[str, Any]) -> str:
    path = PurePosixPath(str(content["data"]["source"]))
    named_by_folder = path.stem.lower() in ("train", "training", "data") and path.parent.name
    source = (path.parent.name if named_by_folder else path.name) or content["task"]["kind"]
    backbone = str(content["backbone"]["name"]).rstrip("/").rpartition("/")[2]
    return f"{source}: {content['task']['kind']} on {backbone}"


def _method(content: Mapping[str, Any]) -> MethodSettings:
    return METHOD_SETTINGS[content["method"]["kind"]].model_validate(content["method"])


def _example(content: Mapping[str, Any]) -> Any:
    """A row to ask for: one of the data where the recipe lets the card show rows, else a made one."""
    task = TASKS[content["task"]["kind"]]
    rows = [golden["row"] for golden in content["golden"]["rows"]]
    shown = (content["recipe"].get("data") or {}).get("show_rows") == "card"
    row = rows[0] if rows and shown else task.sample_rows()[0]
    return {name: value for name, value in row.items() if name not in task.columns or not task.columns[name].target}


def _has_family_head(content: Mapping[str, Any]) -> bool:
    return not HEAD_SETTINGS[content["head"]["kind"]].model_validate(content["head"]).is_own


def _labels_argument(content: Mapping[str, Any]) -> str:
    count = len(content["task"].get("labels") or [])
    return f", num_labels={count}" if count else ""


def _code(value: Any) -> str:
    """A Python literal that can neither end the fence nor be HTML: one line of ASCII without backticks and brackets."""
    text = ascii(value)
    for letter in "`<>":
        text = text.replace(letter, f"\\x{ord(letter):02x}")
    return text


def _is_hub_id(name: object) -> bool:
    names = str(name).split("/")
    plain = all(one and one.replace("-", "").replace("_", "").replace(".", "").isalnum() for one in names)
    return len(names) <= 2 and plain and not str(name).startswith(".") and str(name).isascii()
