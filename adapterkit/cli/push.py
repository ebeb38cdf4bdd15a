"""`adapterkit push`.

$ adapterkit push runs/banking77 me/banking77-lora
$ adapterkit push runs/banking77 me/banking77-lora --tag v1 --private
$ adapterkit push runs/banking77 s3://team/banking77 --tag v1
$ adapterkit push runs/banking77 me/banking77-lora --sign release.pem
"""

from pathlib import Path
from typing import Annotated

import typer

from adapterkit.cli import console
from adapterkit.cli.options import Json, Run, argument, option


def push(
    folder: Run,
    target: Annotated[
        str, argument(metavar="TARGET", help="OWNER/NAME on a hub, a URL as s3://team/intent, or a folder as ./intent.")
    ],
    sign: Annotated[
        Path | None, option(metavar="KEY", help="Sign it with this private key: adapterkit receipt make-key FILE.")
    ] = None,
    tag: Annotated[str | None, option("--tag", help="A name for this version; a tag never moves.")] = None,
    private: Annotated[
        bool | None,
        typer.Option("--private/--public", help="Of a repository that is made. Default: as its owner's settings say."),
    ] = None,
    message: Annotated[str | None, option("--message", help="Of the commit.")] = None,
    as_json: Json = False,
) -> None:
    from adapterkit.manifest import check_target

    check_target(target, tag, private=private, message=message)  # before torch is imported
    from adapterkit.artifact import push

    published = push(folder, target, sign=sign, tag=tag, private=private, message=message)
    facts = {name: getattr(published, name) for name in ("repository", "commit", "tag", "url", "name")}
    console.tell_done(as_json, facts, f"Published: {published.url}", f"adapterkit pull {published.name}")
