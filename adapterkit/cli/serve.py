"""`adapterkit serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from adapterkit.cli import console
from adapterkit.cli.mounts import Mounts, Slots, sources_of
from adapterkit.cli.options import BackboneDtype, BackboneFormat, BackboneName


def serve(
    mount: Mounts = None,
    registry: Annotated[
        str | None,
        typer.Option(
            "--registry",
            metavar="URL",
            envvar="ADAPTERKIT_REGISTRY",
            help="Answer with what the channels of this registry point to, and follow them.",
            show_default=False,
        ),
    ] = None,
    rules: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Splits of a registry's tasks, as YAML.", show_default=False),
    ] = None,
    backbone: BackboneName = None,
    backbone_dtype: BackboneFormat = BackboneDtype.AUTO,
    slots: Slots = None,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port to listen on.")] = 8000,
    keys: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="API keys. Needed on any address but this machine's own.", show_default=False
        ),
    ] = None,
    new_key: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Make a key in the file of --keys, print it, and end.", show_default=False),
    ] = None,
    scope: Annotated[list[str] | None, typer.Option(help="Of a new key: predict, feedback. Default: predict.")] = None,
    certificate: Annotated[
        Path | None, typer.Option("--tls-certificate", metavar="FILE", help="For HTTPS.", show_default=False)
    ] = None,
    private_key: Annotated[
        Path | None, typer.Option("--tls-key", metavar="FILE", help="For HTTPS.", show_default=False)
    ] = None,
    every_s: Annotated[
        float, typer.Option("--follow-every", min=0.1, help="Seconds between looks at the registry.")
    ] = 2.0,
) -> None:
    """Answer over HTTP: mixed rows of many tasks in one batch, and a receipt with every answer.

    $ adapterkit serve --mount intent=runs/banking77 --mount ner=runs/wnut17
    $ adapterkit serve --registry sqlite:///registry.db --backbone sentence-transformers/all-MiniLM-L6-v2
    $ adapterkit serve --keys keys.json --new-key ada --scope predict --scope feedback
    $ curl -s localhost:8000/v1/predict -d '{"rows": [{"task": "intent", "text": "my card was lost"}]}'
    """
    if new_key is not None:
        _make_key(keys, new_key, scope)
        return
    sources = sources_of(mount or [])
    if bool(sources) == (registry is not None):
        raise typer.BadParameter("give one of the two, to say what answers", param_hint="--mount or --registry")
    _serve(
        sources,
        registry,
        rules,
        backbone,
        backbone_dtype.value,
        slots,
        host,
        port,
        keys,
        certificate,
        private_key,
        every_s,
    )


def _make_key(keys: Path | None, name: str, scopes: list[str] | None) -> None:
    from adapterkit.serving.keys import SCOPES, add_key

    if keys is None:
        raise typer.BadParameter("name the file that keeps it", param_hint="--keys")
    wrong = [scope for scope in scopes or () if scope not in SCOPES]
    if wrong:
        raise typer.BadParameter(f"{wrong[0]!r} is none of {', '.join(SCOPES)}", param_hint="--scope")
    typer.echo(add_key(keys, name, [scope for scope in SCOPES if scope in (scopes or ["predict"])]))
    console.say(f"{keys} keeps its digest; this is the only time that the key is shown.")


def _serve(
    sources: dict[str, str],
    registry: str | None,
    rules: Path | None,
    backbone: str | None,
    dtype: str,
    slots: int | None,
    address: str,
    port: int,
    keys: Path | None,
    certificate: Path | None,
    private_key: Path | None,
    every_s: float,
) -> None:
    from adapterkit.errors import ServingError
    from adapterkit.serving.settings import is_loopback

    if keys is None and not is_loopback(address):
        raise ServingError(
            f"{address} can be reached by others, and there are no keys",
            ["keys: expected a file"],
            "Make one: adapterkit serve --keys keys.json --new-key NAME; then serve with --keys keys.json.",
        )
    try:
        import uvicorn

        from adapterkit.serving.app import create_app
    except ImportError as error:
        raise ServingError("a service needs FastAPI and uvicorn", remedy="pip install 'adapterkit[serve]'") from error
    from adapterkit.serving.keys import read_keys
    from adapterkit.serving.opening import mounted_fleet, registry_fleet
    from adapterkit.traffic import read_rules

    known = None if keys is None else read_keys(keys)
    follower: Any = None
    if registry is None:
        fleet = mounted_fleet(sources, backbone, slots=slots, dtype=dtype)
    else:
        from adapterkit.registry import Registry

        if backbone is None:
            raise ServingError("a registry's tasks may be of many backbones", remedy="Name one: --backbone PATH_OR_ID.")
        found = read_rules(rules or {})
        fleet, follower = registry_fleet(Registry(registry), found, backbone, slots=slots, dtype=dtype)
        follower.run(every_s)
    scheme = "http" if certificate is None else "https"
    console.say(f"{len(fleet.routes)} tasks on {fleet.host.backbone.name}: {scheme}://{address}:{port}/v1/predict")
    if known is None:
        console.say("Without keys: whoever reaches this address may ask. That is this machine alone.", style="yellow")
    try:
        uvicorn.run(
            create_app(fleet, keys=known),
            host=address,
            port=port,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=30,
            ssl_certfile=None if certificate is None else str(certificate),
            ssl_keyfile=None if private_key is None else str(private_key),
        )
    finally:
        if follower is not None:
            follower.stop()
        fleet.host.close()
