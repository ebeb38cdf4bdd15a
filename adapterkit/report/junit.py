"""Checks of artifacts as JUnit's XML, which pipelines read and show."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from adapterkit.manifest import write_file

UNWRITABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 has no way to write, not even escaped."""


def write_junit(path: str | Path, suites: Iterable[Mapping[str, Any]]) -> None:
    """Write one suite for each artifact and one case for each check.

    Args:
        suites: {"folder": …, "checks": [{"name": …, "ok": …, "detail": …}, …]}.

    Raises:
        OutputError: the file cannot be written; one that stood there is as it was.
    """
    root = ElementTree.Element("testsuites", name="adapterkit verify")
    for suite in suites:
        checks, name = suite["checks"], _written(str(suite["folder"]))
        failures = str(sum(not check["ok"] for check in checks))
        top = ElementTree.SubElement(root, "testsuite", name=name, tests=str(len(checks)), failures=failures)
        for check in checks:
            case = ElementTree.SubElement(top, "testcase", classname=name, name=_written(check["name"]))
            if not check["ok"]:
                ElementTree.SubElement(case, "failure", message=_written(check["detail"]))
    ElementTree.indent(root)
    write_file(Path(path), ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))


def _written(text: str) -> str:
    return UNWRITABLE.sub("\ufffd", text)
