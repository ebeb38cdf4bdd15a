"""`adapterkit pull`.

$ adapterkit pull me/banking77-lora@v1 runs/banking77
$ adapterkit pull s3://team/banking77@v1 runs/banking77
$ adapterkit pull me/banking77-lora runs/banking77 --require-signature release.pem.pub
$ adapterkit verify $(adapterkit pull me/banking77-lora --json | jq -r .folder)
"""

from pathlib import Path
from typing import Annotated

import typer

from adapterkit.cli import console
from adapterkit.cli.options import Json, RequiredKeys, argument


def pull(
    name: Annotated[
        str, argument(metavar="SOURCE[@REVISION]", help="OWNER/NAME on a hub, or the URL or folder of a store.")
    ],
    output: Annotated[
        Path | None, argument(metavar="[OUT]", help="The folder to write. Default: one in the cache.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what stands at OUT.")] = False,
    offline: Annotated[
        bool, typer.Option("--offline", help="Take the copy that was fetched before, and ask nobody.")
    ] = False,
    require_signature: RequiredKeys = None,
    as_json: Json = False,
) -> None:
    from adapterkit.manifest import check_output, is_address, parse_hub_name, parse_store_name
    from adapterkit.manifest.signature import read_trusted

    # Before torch is imported, so that a mistake is named at once.
    if not is_address(name) and parse_store_name(name) is None:
        parse_hub_name(name)
    if output is not None:
        check_output(output, overwrite=overwrite)
    keys = read_trusted(require_signature or None)
    from adapterkit.artifact import pull

    folder = pull(name, output, overwrite=overwrite, offline=offline, require_signature=keys or None)
    console.tell_done(as_json, {"folder": str(folder)}, f"Artifact: {folder}")
