"""The fenced blocks of a page, and how each is run: Python as Python, shell line by line in this process."""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

ROOT = Path(__file__).resolve().parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
BLOCK = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```", re.DOTALL | re.MULTILINE)
REASON = re.compile(r"<!-- not run: (.*?) -->\s*\Z", re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
        page: the file.
        line: of its first line of text.
        language: python, bash, yaml, …; "" for pictures.
        text: what stands in it.
        not_run: why it is not run, from the comment above it; "" where it is.
    """

    page: Path
    line: int
    language: str
    text: str
    not_run: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    """The blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in BLOCK.finditer(text):
        reason = REASON.search(text[: match.start()])
        line = text[: match.start()].count("\n") + 2
        found.append(Block(page, line, match[2], match[3], " ".join(reason[1].split()) if reason else ""))
    return found


def run_python(block: Block, names: dict[str, Any]) -> None:
    """Run a block in the names that the blocks before it have left."""
    exec(compile("\n" * (block.line - 1) + block.text, str(block.page), "exec"), names)


def run_shell(block: Block) -> None:
    """Run the commands of a block, one after the other: `adapterkit`, what is piped into it, and `export`.

    Raises:
        AssertionError: a command fails, or is none of these.
    """
    for line in block.text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words = list(lexer)
        if not words:
            continue
        if words[0] == "export":
            os.environ.update(word.split("=", 1) for word in words[1:])
            continue
        given = None
        if words[0] == "echo" and "|" in words:
            pipe = words.index("|")
            given, words = " ".join(words[1:pipe]) + "\n", words[pipe + 1 :]
        file = None
        if ">" in words:
            file, words = Path(words[words.index(">") + 1]), words[: words.index(">")]
        assert words[0] == "adapterkit", f"{block}: {line!r} is not run by this test: say so above the block"
        from adapterkit.cli.app import app

        done = CliRunner().invoke(app, words[1:], input=given)
        assert done.exit_code == 0, f"{block}: {line}\n{done.output}\n{done.exception!r}"
        if file is not None:
            file.write_text(done.stdout, encoding="utf-8")
