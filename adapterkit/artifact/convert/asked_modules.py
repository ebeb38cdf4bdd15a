"""Which modules a PEFT config asks for, and with which rank: to compare with the tensors, which alone are imported.

The rules are PEFT's (`tuners_utils.check_target_module_exists`, `get_pattern_key`). Its patterns come from a file of
somebody else, so each is given a moment and no more.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import regex

from adapterkit.artifact.contents import Shapes
from adapterkit.errors import ArtifactError
from adapterkit.manifest import CONFIG, TENSORS

MOST_CHARACTERS, MOST_SECONDS = 4096, 0.5
"""Of a pattern, and for it on one name. Those that people write take microseconds."""


def asked_problems(config: Mapping[str, Any], at: Mapping[str, Shapes], linears: Iterable[str]) -> list[str]:
    """Where the config asks for other modules than have tensors, or for other ranks. `config`: PEFT's. `at`: the
    modules that are adapted -> their tensors' shapes by ending. `linears`: paths of all modules that could be, without
    the heads that are saved whole. Raises ArtifactError: a pattern that takes too long, or is none."""
    problems = [
        f"{TENSORS}: {path[:200]}: no tensors, and target_modules asks for it"
        for path in linears
        if path not in at and _is_asked_for(config, path)
    ]
    for target, shapes in sorted(at.items()):
        if config.get("target_modules") is not None and not _is_asked_for(config, target):
            problems.append(f"{TENSORS}: {target[:200]}: tensors, and target_modules does not ask for it")
        if "lora_A.weight" in shapes:
            stated, found = _rank(config, target), next(iter(shapes["lora_A.weight"]), 0)
            if found != stated:
                problems.append(f"{TENSORS}: {target[:200]}: rank {found}, and the config says {stated!r:.20}")
    return problems


def _is_asked_for(config: Mapping[str, Any], path: str) -> bool:
    if _matches(config.get("exclude_modules"), path) or not _matches(config.get("target_modules"), path):
        return False
    layers = config.get("layers_to_transform")
    if isinstance(config["target_modules"], str) or path in config["target_modules"] or layers in (None, []):
        return True
    patterns = config.get("layers_pattern") or [r"[^.]*"]
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        found = _match(rf"(?:.*?\.)??(?:{pattern})\.(?P<layer>\d+)\..*", path)
        if found is not None:
            return int(found["layer"]) in ([layers] if isinstance(layers, int) else layers)
    return False


def _matches(wanted: Any, path: str) -> bool:
    """By a pattern for the whole name; or by a list of names, or of their ends."""
    if not wanted:
        return False
    if isinstance(wanted, str):
        return wanted == "all-linear" or _match(wanted, path) is not None
    return any(path == name or path.endswith(f".{name}") for name in wanted)


def _rank(config: Mapping[str, Any], target: str) -> Any:
    for pattern, rank in (config.get("rank_pattern") or {}).items():
        if _match(rf"(?:.*\.)?(?:{pattern})", target) is not None:
            return rank
    return config.get("r", 8)


def _match(pattern: str, path: str) -> Any:
    try:
        if len(pattern) <= MOST_CHARACTERS:
            return regex.fullmatch(pattern, path, timeout=MOST_SECONDS)
        reason = f"a pattern of {len(pattern):,} characters, expected at most {MOST_CHARACTERS:,}"
    except TimeoutError:
        reason = f"the pattern {pattern!r:.80} takes longer than {MOST_SECONDS:g} s on the name {path[:200]!r}"
    except (regex.error, OverflowError, RecursionError, MemoryError) as error:
        reason = f"the pattern {pattern!r:.80}: {str(error)[:80]}"
    raise ArtifactError(
        "a PEFT config cannot be read", [f"{CONFIG}: {reason}"], "Name the modules one by one instead of by a pattern."
    )
