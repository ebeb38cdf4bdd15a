"""`adapterkit stream`.

$ adapterkit stream course.yaml
$ adapterkit stream course.yaml --resume --report stream.html
"""

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
    report: options.Report = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
    as_json: options.Json = False,
) -> None:
    from adapterkit.stages.course import read_course

    read_course(course)  # before torch is imported
    from adapterkit.evaluation import check_writable
    from adapterkit.stages.streaming import stream as follow

    check_writable(report)
    try:
        record = follow(course, resume=resume, overwrite=overwrite, quiet=quiet or as_json)
    except KeyboardInterrupt as interruption:
        console.say(f"Stopped. Go on with: adapterkit stream {course} --resume", style="yellow")
        raise typer.Exit(130) from interruption
    shared.write_page(record, report)
    shared.show(record, [], as_json=as_json)
