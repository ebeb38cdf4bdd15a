"""The page of a stream: what each stage was worth after every other, and what was lost."""

from pathlib import Path

from adapterkit.manifest import write_file
from adapterkit.records.stream import StreamRecord, said
from adapterkit.report.page import render


def write_page(record: StreamRecord, file: str | Path, command: str = "") -> None:
    """Write every figure as one HTML page. Raises OutputError."""
    facts = [["made with", ", ".join(f"{name} {version}" for name, version in record.made_with.items())]]
    for way, found in record.ways.items():
        for stage, cells in found.after.items():
            shown = (f"{known} {cell.value:.4f} [{cell.low:.4f}, {cell.high:.4f}]" for known, cell in cells.items())
            facts.append([f"{way}, after {stage}", ", ".join(shown)])
        facts += [[f"{way}, lost of {stage}", said(one)] for stage, one in found.forgetting.items()]
        facts += [[f"{way}, answers for {stage}", answerer.sha256] for stage, answerer in found.answering.items()]
    for way, ends in record.against.items():
        facts += [[f"{way} less isolated, {stage}", said(one)] for stage, one in ends.items()]
    title = "stages, one after another"
    page = render({"title": title, "lead": " ".join(record.findings), "command": command, "facts": facts})
    write_file(Path(file), page.encode())
