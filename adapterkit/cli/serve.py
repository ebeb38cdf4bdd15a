"""`adapterkit serve`.

$ adapterkit serve --mount intent=runs/banking77 --mount ner=runs/wnut17
$ adapterkit serve --registry sqlite:///registry.db --backbone sentence-transformers/all-MiniLM-L6-v2
$ adapterkit serve --registry sqlite:///registry.db --backbone me/encoder --ray --replicas 2 --max-replicas 8
$ adapterkit serve --keys keys.json --new-key ada --scope predict --scope feedback
$ curl -s localhost:8000/v1/predict -d '{"rows": [{"task": "intent", "text": "my card was lost"}]}'
"""

import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from adapterkit.cli import console
from adapterkit.cli.options import BackboneFormat, Mounts, RequiredKeys, Slots, option, sources_of
from adapterkit.cli.shared import OptionGroup


@dataclass(frozen=True, kw_only=True)
class ServeOptions(OptionGroup):
    """What answers, and how: the service's settings under their names."""

    registry: Annotated[
        str | None,
        option(
            metavar="URL",
            envvar="ADAPTERKIT_REGISTRY",
            help="Answer with what the channels of this registry point to, and follow them.",
        ),
    ] = None
    rules: Annotated[Path | None, option(metavar="FILE", help="Splits, guards, shadows and alerts, as YAML.")] = None
    shadow_log: Annotated[
        Path | None,
        option(
            metavar="FILE", help="Rows that a shadow answers otherwise, as JSON lines; no text unless the rules say so."
        ),
    ] = None
    flags: Annotated[
        Path | None, option(metavar="FILE", help="Flags in flagd's format, for rules that let a flag choose the arm.")
    ] = None
    backbone: Annotated[
        list[str] | None,
        option(metavar="PATH_OR_ID", help="Where to load it from. Many times: side by side, to change over."),
    ] = None
    dtype: BackboneFormat = "auto"
    slots: Slots = None
    require_signature: RequiredKeys = None
    keys: Annotated[
        Path | None, option(metavar="FILE", help="API keys. Needed on any address but this machine's own.")
    ] = None
    sign_with: Annotated[
        Path | None, option(metavar="FILE", help="Sign receipts with this private key: adapterkit receipt make-key.")
    ] = None
    traces: Annotated[
        bool, typer.Option("--traces", help="Send OpenTelemetry traces, where its environment variables say.")
    ] = False
    follow_every_s: Annotated[
        float, typer.Option("--follow-every", min=0.1, help="Seconds between looks at the registry.")
    ] = 2.0


@dataclass(frozen=True, kw_only=True)
class ReplicaOptions(OptionGroup):
    """The settings of replicas that were given; None without --ray."""

    ray: Annotated[
        bool, typer.Option("--ray", help="Answer with replicas under Ray Serve, here or where RAY_ADDRESS says.")
    ] = False
    replicas: Annotated[int | None, option(min=1, help="With --ray: how many, at least. Default: 2.")] = None
    max_replicas: Annotated[
        int | None, option(min=1, help="With --ray: how many at most; the requests decide. Default: always as many.")
    ] = None
    cpus: Annotated[float | None, option("--cpus-per-replica", help="With --ray: processors of each. Default: 1.")] = (
        None
    )
    gpus: Annotated[
        float | None, option("--gpus-per-replica", help="With --ray: accelerators of each. Default: 0.")
    ] = None

    def given(self) -> dict[str, Any] | None:
        asked = {name: value for name, value in vars(self).items() if name != "ray" and value is not None}
        if asked and not self.ray:
            raise typer.BadParameter("they go with --ray", param_hint="--replicas and the like")
        least = self.replicas or 2
        if (self.max_replicas or least) < least:
            problem = f"found {self.max_replicas}, and there are {least}"
            raise typer.BadParameter(problem, param_hint="--max-replicas")
        return asked if self.ray else None


def serve(
    how: ServeOptions,
    replicas: Annotated[dict[str, Any] | None, ReplicaOptions],
    mount: Mounts = None,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port to listen on.")] = 8000,
    new_key: Annotated[
        str | None, option(metavar="NAME", help="Make a key in the file of --keys, print it, and end.")
    ] = None,
    scope: Annotated[
        list[str] | None, typer.Option(help="Of a new key: predict, feedback, admin. Default: predict.")
    ] = None,
    certificate: Annotated[Path | None, option("--tls-certificate", metavar="FILE", help="For HTTPS.")] = None,
    private_key: Annotated[Path | None, option("--tls-key", metavar="FILE", help="For HTTPS.")] = None,
    board: Annotated[
        bool, typer.Option("--board", help="Give people a page at /board on which they see and steer.")
    ] = False,
) -> None:
    if new_key is not None:
        _make_key(how.keys, new_key, scope)
        return
    sources = sources_of(mount or [])
    if bool(sources) == (how.registry is not None):
        raise typer.BadParameter("give one of the two, to say what answers", param_hint="--mount or --registry")
    if how.registry is None and (how.shadow_log is not None or how.flags is not None):
        raise typer.BadParameter("they are about the channels of a registry", param_hint="--shadow-log, --flags")
    if replicas is not None and how.shadow_log is not None:
        raise typer.BadParameter("replicas would write into one another's", param_hint="--shadow-log with --ray")
    from adapterkit.errors import ServingError
    from adapterkit.serving.settings import ServiceSettings, is_loopback

    if how.registry is not None and not how.backbone:
        raise ServingError("a registry's tasks may be of many backbones", remedy="Name one: --backbone PATH_OR_ID.")
    if how.keys is None and not is_loopback(host):
        raise ServingError(
            f"{host} can be reached by others, and there are no keys",
            ["keys: expected a file"],
            "Make one: adapterkit serve --keys keys.json --new-key NAME; then serve with --keys keys.json.",
        )
    _check_certificate(certificate, private_key)
    asked = {name: value for name, value in vars(how).items() if value is not None}
    settings = ServiceSettings.model_validate({"mounts": sources, **asked})
    try:
        import uvicorn

        from adapterkit.serving.starting import started
    except ImportError as error:
        raise ServingError("a service needs FastAPI and uvicorn", remedy="pip install 'adapterkit[serve]'") from error
    from adapterkit.board.pages import PATH, with_board

    listening = _bound(host, port)
    address = f"{'http' if certificate is None else 'https'}://{host}:{listening.getsockname()[1]}"
    told = [f"The board: {address}{PATH}/"] if board else []
    if how.keys is None:
        told.append("Without keys: whoever reaches this address may ask. That is this machine alone.")
    if replicas is not None:
        from adapterkit.serving.ray.deploying import run
        from adapterkit.serving.ray.settings import RaySettings

        port = listening.getsockname()[1]
        listening.close()
        many = RaySettings.model_validate({**settings.model_dump(), **replicas})
        _say(f"{many.replicas} replicas, once they are ready: {address}/v1/predict", told)
        run(many, host, port, certificate, private_key, with_board if board else None)
        return
    with started(settings) as service:
        listening.listen()  # whoever reads the address may ask at once
        under = " and ".join(each.backbone.name for each in service.fleet.hosts)
        count = len(service.fleet.routes)
        _say(f"{count} task{'' if count == 1 else 's'} on {under}: {address}/v1/predict", told)
        if not service.fleet.routes:
            console.say("No channel points to a version yet; what is promoted will be answered.", style="yellow")
        config = uvicorn.Config(
            with_board(service.app) if board else service.app,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=30,
            ssl_certfile=None if certificate is None else str(certificate),
            ssl_keyfile=None if private_key is None else str(private_key),
        )
        uvicorn.Server(config).run(sockets=[listening])


def _say(first: str, others: Sequence[str]) -> None:
    console.say(first)
    for line in others:
        console.say(line, style="yellow")


def _check_certificate(certificate: Path | None, private_key: Path | None) -> None:
    """Raise ServingError, before anything is loaded, where HTTPS cannot be spoken with these."""
    from adapterkit.errors import ServingError

    if certificate is None:
        if private_key is not None:
            raise typer.BadParameter("it goes with a certificate", param_hint="--tls-key without --tls-certificate")
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, private_key, password="")
    except OSError as error:  # of OpenSSL too
        problems = [f"{file}: it is not there" for file in (certificate, private_key) if file and not file.is_file()]
        problems = problems or [f"{certificate}, {private_key or 'and no key beside it'}: {error}"]
        remedy = "Give a certificate and its private key as PEM, without a password."
        raise ServingError("HTTPS cannot be spoken with these files", problems, remedy) from error


def _bound(host: str, port: int) -> socket.socket:
    """The address, taken before anything is loaded. Nobody can connect until the service answers."""
    from adapterkit.errors import ServingError

    found = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((host, port))
    except OSError as error:
        found.close()
        reason = error.strerror or str(error)
        raise ServingError(f"{host}:{port} cannot be listened on", [reason], "Choose another --port.") from error
    return found


def _make_key(keys: Path | None, name: str, scopes: list[str] | None) -> None:
    from adapterkit.serving.keys import SCOPES, add_key

    if keys is None:
        raise typer.BadParameter("name the file that keeps it", param_hint="--keys")
    wrong = [scope for scope in scopes or () if scope not in SCOPES]
    if wrong:
        raise typer.BadParameter(f"{wrong[0]!r} is none of {', '.join(SCOPES)}", param_hint="--scope")
    typer.echo(add_key(keys, name, [scope for scope in SCOPES if scope in (scopes or ["predict"])]))
    console.say(f"{keys} keeps its digest; this is the only time that the key is shown.")
