"""The application: the verbs together, and what happens when one of them fails."""

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from adapterkit.cli import console
from adapterkit.cli.verbs import VERBS, listed, load_verb
from adapterkit.errors import AdapterkitError

DEBUG = "--debug"
INTERRUPTED = 130  # 128 + SIGINT, as shells have it


class Verbs(TyperGroup):
    """Loads the verb that is used, reports what adapterkit raises on purpose without a traceback, and takes --debug
    anywhere on the line."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for name in VERBS:
            self.add_command(listed(name))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, _, rest = super().resolve_command(ctx, args)
        return name, name and load_verb(name), rest

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
            if not error.shared:
                console.wait_for_main_process()
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


def main() -> None:
    """Run the command line and exit with its status."""
    sys.exit(app())
