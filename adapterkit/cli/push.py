"""`adapterkit push`."""

from __future__ import annotations

from typing import Annotated

import typer

from adapterkit.cli import console
from adapterkit.cli.options import Folder, Json, argument, option


def push(
    folder: Folder,
    repository: Annotated[str, argument(metavar="OWNER/NAME", help="Where to publish it.")],
    tag: Annotated[str | None, option("--tag", help="A name for this version; a tag never moves.")] = None,
    private: Annotated[
        bool | None,
        typer.Option("--private/--public", help="Of a repository that is made. Default: as its owner's settings say."),
    ] = None,
    message: Annotated[str | None, option("--message", help="Of the commit.")] = None,
    as_json: Json = False,
) -> None:
    """Publish an artifact on a model hub: its four files, in one commit. The golden rows of its data are among them.

    $ adapterkit push runs/banking77 me/banking77-lora
    $ adapterkit push runs/banking77 me/banking77-lora --tag v1 --private
    """
    from adapterkit.manifest import check_publishable, open_manifest

    check_publishable(repository, tag)  # before torch is imported, as is what follows
    open_manifest(folder)
    from adapterkit.artifact import push

    published = push(folder, repository, tag=tag, private=private, message=message)
    if as_json:
        facts = {name: getattr(published, name) for name in ("repository", "commit", "tag", "url", "name")}
        console.print_json(facts)
        return
    console.say(f"Published: {published.url}", style="green")
    console.say(f"adapterkit pull {published.name}")
