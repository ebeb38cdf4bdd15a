"""What the processes of a run do as one, where only the first of them writes."""

from __future__ import annotations

from collections.abc import Callable

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from adapterkit.errors import AdapterkitError


def by_first(accelerator: Accelerator, act: Callable[[], None]) -> None:
    """Let the first process act while the others wait. Where it fails, all of them raise its error.

    Raises:
        AdapterkitError: the first process's; in the others it is marked as `shared`, since one speaks for all.
    """
    error: AdapterkitError | None = None
    if accelerator.is_main_process:
        try:
            act()
        except AdapterkitError as raised:
            error = raised
    if accelerator.num_processes > 1:
        (error,) = broadcast_object_list([error])
        if error is not None:
            error.shared = not accelerator.is_main_process
    if error is not None:
        raise error
