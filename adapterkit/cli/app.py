"""The application: the verbs together, and what happens when one of them fails."""

from __future__ import annotations

import sys
from collections.abc import Callable
from inspect import cleandoc
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from adapterkit.cli import console
from adapterkit.cli.cache import cache
from adapterkit.cli.compose import compose
from adapterkit.cli.evaluate import evaluate
from adapterkit.cli.export import export
from adapterkit.cli.host import host
from adapterkit.cli.import_ import import_
from adapterkit.cli.inspect import inspect
from adapterkit.cli.plan import plan
from adapterkit.cli.predict import predict
from adapterkit.cli.pull import pull
from adapterkit.cli.push import push
from adapterkit.cli.recipes import recipes
from adapterkit.cli.schema import schema
from adapterkit.cli.sweep import ManyWords, sweep
from adapterkit.cli.train import train
from adapterkit.cli.verify import verify
from adapterkit.errors import AdapterkitError

DEBUG = "--debug"
INTERRUPTED = 130  # 128 + SIGINT, as shells have it


class Verbs(TyperGroup):
    """Reports what adapterkit raises on purpose without a traceback, and takes --debug anywhere on the line."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        options = args[: args.index("--")] if "--" in args else args
        if DEBUG in options:
            args = [DEBUG, *(word for word in options if word != DEBUG), *args[len(options) :]]
        return list(super().parse_args(ctx, args))

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except AdapterkitError as error:
            if ctx.params.get("debug"):
                raise
            console.print_error(error)
            raise typer.Exit(1) from error
        except KeyboardInterrupt as error:
            if ctx.params.get("debug"):
                raise
            console.say("Stopped.")
            raise typer.Exit(INTERRUPTED) from error


app = typer.Typer(
    cls=Verbs,
    name="adapterkit",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(
    epilog=console.examples(
        "adapterkit recipes",
        "adapterkit train recipes/banking77.yaml --data-root data",
        "adapterkit train banking77 method.kind=bottleneck output=runs/b77",
        "adapterkit evaluate runs/banking77 --data banking77/test.jsonl",
        'echo "my card was lost" | adapterkit predict runs/banking77',
        "adapterkit verify runs/banking77",
    )
)
def adapterkit(
    ctx: typer.Context,
    debug: Annotated[bool, typer.Option(DEBUG, help="Show the traceback of an error. May stand anywhere.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=console.print_version, is_eager=True)
    ] = False,
) -> None:
    """One frozen backbone, many small adapters: train, verify and use them."""
    ctx.call_on_close(console.show_log())


VERBS: dict[str, Callable[..., None]] = {
    "train": train,
    "sweep": sweep,
    "plan": plan,
    "evaluate": evaluate,
    "predict": predict,
    "host": host,
    "inspect": inspect,
    "verify": verify,
    "compose": compose,
    "push": push,
    "pull": pull,
    "import": import_,
    "export": export,
    "recipes": recipes,
    "schema": schema,
    "cache": cache,
}

PARSED_BY: dict[str, type[TyperCommand]] = {"sweep": ManyWords}
"""Verbs whose words are read in a way of their own."""

for name, verb in VERBS.items():
    what, *commands = cleandoc(verb.__doc__ or "").split("\n$ ")
    app.command(name, help=what, epilog=console.examples(*commands), cls=PARSED_BY.get(name))(verb)


def main() -> None:
    """Run the command line and exit with its status."""
    sys.exit(app())
