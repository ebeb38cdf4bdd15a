"""`adapterkit receipt`.

$ adapterkit receipt make-key service.pem
$ adapterkit serve --sign-with service.pem --mount intent=runs/banking77
$ adapterkit receipt check reply.json --key service.pem.pub
"""

from pathlib import Path
from typing import Annotated

import typer

from adapterkit.cli import console
from adapterkit.cli.options import Json, argument, option

receipt = typer.Typer()


@receipt.command()
def check(
    file: Annotated[Path, argument(metavar="FILE", help="Replies of a service, as JSON or one a line.")],
    key: Annotated[Path, option(metavar="PUB", help="The service's public key.")],
    as_json: Json = False,
) -> None:
    """Check every receipt of a file. Nothing else is asked. Exit status 0 where all prove their answers, or 1."""
    from adapterkit.errors import SignatureError
    from adapterkit.serving import receipts
    from adapterkit.signing import read_public

    try:
        raw = file.read_bytes()
    except OSError as error:
        raise SignatureError(f"{file} cannot be read", [error.strerror or str(error)]) from error
    found = receipts.check(raw, read_public(key))
    names, rows = ("task", "version", "artifact", "arm"), []
    for number, each in enumerate(found, 1):
        told = [str(each.receipt.get(name, ""))[:12] for name in names]
        rows.append([str(number), *told, each.problem or "proven"])
    console.print_either(as_json, [*map(vars, found)], rows, ["receipt", *names, "found"])
    if any(each.problem for each in found):
        raise typer.Exit(1)


@receipt.command("make-key")
def make_key_(file: Annotated[Path, argument(metavar="FILE", help="Of the private key; FILE.pub is public.")]) -> None:
    """Make a key: FILE signs and stays with the service, FILE.pub checks and may be given to everybody."""
    from adapterkit.signing import make_key

    typer.echo(make_key(file))
