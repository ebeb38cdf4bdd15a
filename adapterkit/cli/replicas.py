"""`--ray` and what goes with it: how many replicas answer, and what each may take."""

from typing import Annotated, Any

import typer

from adapterkit.cli.options import option


def replicated(
    *,
    ray: Annotated[
        bool, typer.Option("--ray", help="Answer with replicas under Ray Serve, here or where RAY_ADDRESS says.")
    ] = False,
    replicas: Annotated[int | None, option(min=1, help="With --ray: how many, at least. Default: 2.")] = None,
    max_replicas: Annotated[
        int | None, option(min=1, help="With --ray: how many at most; the requests decide. Default: always as many.")
    ] = None,
    cpus: Annotated[
        float | None, option("--cpus-per-replica", help="With --ray: processors of each. Default: 1.")
    ] = None,
    gpus: Annotated[
        float | None, option("--gpus-per-replica", help="With --ray: accelerators of each. Default: 0.")
    ] = None,
) -> dict[str, Any] | None:
    """The settings of replicas that were given; None without --ray."""
    found = {"replicas": replicas, "max_replicas": max_replicas, "cpus": cpus, "gpus": gpus}
    asked = {name: value for name, value in found.items() if value is not None}
    if asked and not ray:
        raise typer.BadParameter("they go with --ray", param_hint="--replicas and the like")
    if max_replicas is not None and max_replicas < (replicas or 2):
        raise typer.BadParameter(f"found {max_replicas}, and there are {replicas or 2}", param_hint="--max-replicas")
    return asked if ray else None
