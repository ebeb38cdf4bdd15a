"""What MkDocs does beside its plugins: tables from the recipe's schema, pictures of benchmarks, notebooks as pages."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

from adapterkit.recipe import recipe_schema

ROOT = Path(__file__).resolve().parents[1]
PLACE = "<!-- every field of a recipe -->"


def on_files(files: Files, config: Any) -> Files:
    """Pictures stay where benchmarks write them, and notebooks where they run; the site has pages of both."""
    for picture in sorted((ROOT / "benchmarks" / "results").glob("*.svg")):
        files.append(File.generated(config, f"pictures/{picture.name}", abs_src_path=str(picture)))
    for notebook in sorted((ROOT / "notebooks").glob("*.ipynb")):
        files.append(File.generated(config, f"notebooks/{notebook.stem}.md", content=page_of(notebook)))
    return files


def page_of(notebook: Path) -> str:
    """The cells of a notebook as a page, with a line about where it is kept."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    texts = [("".join(cell["source"]), cell["cell_type"] == "code") for cell in cells]
    page = [f"```python\n{text}\n```" if is_code else text for text, is_code in texts]
    return "\n\n".join([page[0], f"A notebook to run: `notebooks/{notebook.name}` in the repository.", *page[1:]])


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """The tables stand where the page says so."""
    return markdown.replace(PLACE, fields_of_recipes()) if PLACE in markdown else markdown


def fields_of_recipes() -> str:
    """A section for every block of a recipe, a table of its fields in each: field, values, default, meaning."""
    schema = recipe_schema()
    blocks = schema["$defs"]
    sections = []
    for name, shown in schema["properties"].items():
        inner = [blocks[ref] for ref in _references(shown) if "properties" in blocks[ref]]
        if not inner:
            continue
        sections.append(f"## `{name}`\n\n{shown.get('description') or inner[0].get('description', '')}")
        for block in inner:
            fields = {k: v for k, v in block["properties"].items() if k != "kind" or len(inner) == 1}
            kind = block["properties"].get("kind", {}).get("const")
            if len(inner) > 1:
                sections.append(f"### `{name}.kind: {kind or block['title']}`\n\n{block.get('description', '')}")
            if fields:
                rows = "\n".join(_rows(fields, block.get("required", ()), blocks))
                sections.append(f"| field | values | default | meaning |\n|---|---|---|---|\n{rows}")
    return "\n\n".join(sections)


def _rows(fields: dict[str, Any], required: Any, blocks: dict[str, Any], above: str = "") -> Iterator[str]:
    """A line for each field, and behind it those of the block that it holds."""
    for name, field in fields.items():
        yield _row(above + name, field, [above + one for one in required])
        for block in (blocks[ref] for ref in _references(field) if "properties" in blocks[ref]):
            yield from _rows(block["properties"], block.get("required", ()), blocks, f"{above}{name}.")


def _references(shown: dict[str, Any]) -> list[str]:
    return list(dict.fromkeys(re.findall(r'"#/\$defs/(\w+)"', json.dumps(shown))))


def _row(name: str, field: dict[str, Any], required: Any) -> str:
    default = "must be given" if name in required else f"`{json.dumps(field.get('default'), ensure_ascii=False)}`"
    meaning = " ".join(str(field.get("description", "")).split())
    cells = [f"`{name}`", _values(field), default, meaning]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _values(field: dict[str, Any]) -> str:
    """What may stand there, in words."""
    found = []
    for one in field.get("anyOf") or field.get("oneOf") or [field]:
        if "const" in one or "enum" in one:
            found += [f"`{json.dumps(value).strip(chr(34))}`" for value in one.get("enum") or [one["const"]]]
        elif one.get("type") == "array":
            found.append("a list")
        elif one.get("type") == "object" or "$ref" in one:
            found.append("a mapping")
        elif one.get("type") in ("integer", "number"):
            found.append(" ".join([{"integer": "a whole number", "number": "a number"}[one["type"]], *_bounds(one)]))
        else:
            found.append({"string": "text", "boolean": "`true`, `false`", "null": "`null`"}[one["type"]])
    return ", ".join(dict.fromkeys(found))


def _bounds(one: dict[str, Any]) -> list[str]:
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    return [f"{sign} {one[name]:g}" for name, sign in signs.items() if name in one]
