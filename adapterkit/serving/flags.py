"""Flags of OpenFeature that choose the arm of a key, of whichever provider is set."""

from collections.abc import Callable
from pathlib import Path

from adapterkit.errors import ServingError

ABOUT = "flags come with OpenFeature"
REMEDY = "pip install 'adapterkit[flags]'"


def open_feature(file: Path | None = None) -> Callable[[str, str, str], str]:
    """What `Fleet.flags` takes: flag, key and the arm of the split -> the arm that the flag names.

    A flag that is not there, of another type, or whose provider fails gives the arm of the split. It is asked where
    answers wait: a provider that asks a network for every key delays them.
    `file`: in flagd's format; it is followed. None takes the provider that was set with `openfeature.api`. Raises
    ServingError: OpenFeature is not there, or the file is none."""
    try:
        from openfeature import api
        from openfeature.evaluation_context import EvaluationContext
    except ImportError as error:
        raise ServingError(ABOUT, remedy=REMEDY) from error
    if file is not None:
        _read(file)
    client = api.get_client("adapterkit")

    def chosen(flag: str, key: str, arm: str) -> str:
        return str(client.get_string_value(flag, arm, EvaluationContext(targeting_key=key)))

    return chosen


def _read(file: Path) -> None:
    """Set flagd's provider for a file. Raises ServingError where it cannot be used."""
    import json

    from openfeature import api

    try:
        from openfeature.contrib.provider.flagd import FlagdProvider
        from openfeature.contrib.provider.flagd.config import ResolverType
    except ImportError as error:
        raise ServingError(ABOUT, remedy=REMEDY) from error
    try:
        flags = json.loads(file.read_text(encoding="utf-8"))["flags"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        problem = f"{file}: {type(error).__name__}: {error}, expected an object with flags"
        raise ServingError("the flags cannot be read", [problem]) from error
    if not isinstance(flags, dict):
        raise ServingError("the flags cannot be read", [f"{file}: flags: found {type(flags).__name__}"])
    api.set_provider_and_wait(FlagdProvider(resolver_type=ResolverType.FILE, offline_flag_source_path=str(file)))
