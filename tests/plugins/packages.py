"""Packages with entry points, of the examples in the docs or of a few lines, found on sys.path while needed."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs" / "concepts"
_BLOCK = re.compile(r'^```(?:python|toml) title="(?P<name>[^"]+)"\n(?P<code>.*?)^```$', re.M | re.S)
_GROUP = re.compile(r'\[project\.entry-points\."(?P<group>[^"]+)"\]\n(?P<name>\w+) = "(?P<value>[^"]+)"')


def of_docs(page: str) -> tuple[dict[str, str], str]:
    """The files of a page's example, and its entry points as a distribution has them."""
    blocks = {found["name"]: found["code"] for found in _BLOCK.finditer((DOCS / page).read_text(encoding="utf-8"))}
    found = _GROUP.search(blocks.pop("pyproject.toml"))
    assert found is not None
    return blocks, f"[{found['group']}]\n{found['name']} = {found['value']}\n"


def write(folder: Path, name: str, files: Mapping[str, str], entry_points: str) -> Path:
    """A distribution as an installer leaves it. Returns what to put on sys.path."""
    info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(entry_points)
    for path, code in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(code)
    return folder


@contextmanager
def installed(*folders: Path) -> Iterator[None]:
    """Inside, the distributions of these folders are there."""
    before, path = set(sys.modules), list(sys.path)
    sys.path[:0] = map(str, folders)
    try:
        yield
    finally:
        sys.path[:] = path
        for name in set(sys.modules) - before:
            file = getattr(sys.modules[name], "__file__", None) or ""
            if file.startswith(tuple(map(str, folders))):
                del sys.modules[name]
