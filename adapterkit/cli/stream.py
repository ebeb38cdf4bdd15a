"""`adapterkit stream`."""

import os
from pathlib import Path
from typing import Annotated

import typer

from adapterkit.cli import console, options, shared


def stream(
    course: Annotated[
        str, typer.Argument(metavar="COURSE", help="A YAML file with recipe and stages.", show_default=False)
    ],
    data_root: options.DataRoot = None,
    resume: Annotated[bool, typer.Option("--resume/--no-resume", help="Keep stages that have ended; go on.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace artifacts that exist.")] = False,
    report: Annotated[Path | None, options.option("--report", help="Write a page there.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
    as_json: options.Json = False,
) -> None:
    """Learn tasks or domains in order, and measure what is forgotten: by isolated adapters, and by one trained on.

    $ adapterkit stream course.yaml
    $ adapterkit stream course.yaml --resume --report stream.html
    """
    from adapterkit.stages.course import read_course

    read_course(course)  # before torch is imported
    if data_root is not None:
        os.environ["ADAPTERKIT_DATA"] = str(data_root)
    from adapterkit.evaluation.pages import check_writable
    from adapterkit.manifest import write_file
    from adapterkit.report.judged import record_page
    from adapterkit.stages.streaming import stream as follow

    if report is not None:
        check_writable(report)
    try:
        record = follow(course, resume=resume, overwrite=overwrite, quiet=quiet or as_json)
    except KeyboardInterrupt as interruption:
        console.say(f"Stopped. Go on with: adapterkit stream {course} --resume", style="yellow")
        raise typer.Exit(130) from interruption
    if report is not None:
        write_file(report, record_page(record, f"adapterkit stream {course}").encode())
    shared.show(record, [], as_json=as_json)
