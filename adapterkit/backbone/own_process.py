"""What a process has made is tidied up by that process: one that was forked from it leaves it alone."""

import os
import weakref
from collections.abc import Callable
from typing import Any


def finalize_here(owner: Any, function: Callable[..., Any], *arguments: Any, **named: Any) -> None:
    """As `weakref.finalize`, in the process that asks for it alone.

    A forked child has the parent's finalizers too, and runs them when it drops its copy of the owner or ends.
    """
    weakref.finalize(owner, _if_mine, os.getpid(), function, arguments, named)


def _if_mine(pid: int, function: Callable[..., Any], arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
    if os.getpid() == pid:
        function(*arguments, **named)
