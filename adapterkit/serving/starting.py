"""A whole service from its settings, wherever it runs: in this process, or in a replica on another machine."""

import gc
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapterkit.errors import ServingError
from adapterkit.manifest.signature import read_trusted
from adapterkit.serving.app import create_app
from adapterkit.serving.fleet import Fleet
from adapterkit.serving.keys import read_keys
from adapterkit.serving.opening import Follower, mounted_fleet, registry_fleet
from adapterkit.serving.settings import ServiceSettings
from adapterkit.serving.traces import exported_traces
from adapterkit.serving.watch import Watch
from adapterkit.signing import read_private
from adapterkit.traffic import read_rules


@dataclass(frozen=True)
class Started:
    """A service that is ready to answer: its ASGI application, and what it answers with."""

    app: Any
    """Answers begin with the application's lifespan."""
    fleet: Fleet
    follow: Callable[[], None]
    """Looks at the registry at once; does nothing without one."""


@contextmanager
def started(settings: ServiceSettings) -> Iterator[Started]:
    """Load and mount everything, and let go of it in the end. Raises what keeps the service from starting."""
    with ExitStack() as closing:
        traced = None
        if settings.traces:
            traced, send_last = exported_traces()
            closing.callback(send_last)
        signer = None if settings.sign_with is None else read_private(settings.sign_with)
        keys, rules = read_keys(settings.keys), read_rules(settings.rules or {})
        follower: Follower | None = None
        trusted = read_trusted(settings.require_signature or None)
        loaded: Any = {"slots": settings.slots, "dtype": settings.dtype, "require_signature": trusted or None}
        if settings.registry is None:
            rules.check_without_channels()
            fleet = mounted_fleet(settings.mounts, settings.backbones, **loaded)
        else:
            from adapterkit.registry import Registry

            flagged = any(each.flag is not None for each in rules.tasks.values())
            if (settings.flags is not None) != flagged:
                raise ServingError("a file of flags goes with rules that name a flag", remedy="Give both or neither.")
            fleet, follower = registry_fleet(Registry(settings.registry), rules, *settings.backbones, **loaded)
        closing.callback(fleet.host.close)
        if settings.flags is not None:
            fleet.flags = open_feature(settings.flags)
        if follower is not None:
            closing.callback(follower.stop)
            follower.run(settings.follow_every_s)
        watch = Watch(fleet, rules, None if follower is None else follower.take_off, settings.shadow_log)
        gc.collect()
        gc.freeze()  # a full collection of what was loaded stops every thread for a third of a second
        app = create_app(
            fleet, keys=keys, limits=settings.limits, watch=watch, follower=follower, signer=signer, traces=traced
        )
        yield Started(app, fleet, follower.follow if follower is not None else lambda: None)


def open_feature(file: Path | None = None) -> Callable[[str, str, str], str]:
    """What `Fleet.flags` takes: flag, key and the arm of the split -> the arm that the flag of OpenFeature names.

    A flag that is not there, of another type, or whose provider fails gives the arm of the split. It is asked where
    answers wait: a provider that asks a network for every key delays them. `file`: in flagd's format; it is followed.
    None takes the provider that was set with `openfeature.api`. Raises ServingError: OpenFeature is not there, or the
    file is none."""
    try:
        from openfeature import api
        from openfeature.evaluation_context import EvaluationContext

        if file is not None:
            from openfeature.contrib.provider.flagd import FlagdProvider
            from openfeature.contrib.provider.flagd.config import ResolverType
    except ImportError as error:
        raise ServingError("flags come with OpenFeature", remedy="pip install 'adapterkit[flags]'") from error
    if file is not None:
        try:
            found = type(json.loads(file.read_text(encoding="utf-8"))["flags"]).__name__
        except (OSError, ValueError, KeyError, TypeError) as error:
            found = f"{type(error).__name__}: {error}"
        if found != "dict":
            raise ServingError("the flags cannot be read", [f"{file}: found {found}, expected an object with flags"])
        api.set_provider_and_wait(FlagdProvider(resolver_type=ResolverType.FILE, offline_flag_source_path=str(file)))
    client = api.get_client("adapterkit")

    def chosen(flag: str, key: str, arm: str) -> str:
        return str(client.get_string_value(flag, arm, EvaluationContext(targeting_key=key)))

    return chosen
