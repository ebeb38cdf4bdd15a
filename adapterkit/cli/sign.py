"""`adapterkit sign`.

$ adapterkit sign runs/banking77 --key release.pem
$ adapterkit sign composition.yaml --key release.pem
"""

from pathlib import Path
from typing import Annotated

from adapterkit.cli import console
from adapterkit.cli.options import argument, option


def sign(
    what: Annotated[
        Path, argument(metavar="FOLDER_OR_FILE", help="An artifact's folder, or a composition's YAML file.")
    ],
    key: Annotated[Path, option("--key", metavar="KEY", help="A private key: adapterkit receipt make-key FILE.")],
) -> None:
    from adapterkit.manifest import open_manifest
    from adapterkit.manifest.signature import signature_for, write_signature

    if what.is_file():
        from adapterkit.compose.signing import sign_composition

        written = sign_composition(what, key)
    else:
        written = write_signature(what, signature_for(what, open_manifest(what), key) or b"")
    console.say(f"Signed: {written}", style="green")
