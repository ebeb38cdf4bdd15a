"""Read a module's first input, for the code that runs later in the same call."""

import threading
from typing import Any

from torch import Tensor, nn

from adapterkit.errors import SiteError


class Tap:
    """A forward pre-hook that keeps the first input of one module until it is taken, for every thread by itself. A
    sublayer that is skipped leaves nothing that matters: the next call of the module overwrites it."""

    def __init__(self, module: nn.Module, name: str) -> None:
        """Start to listen. `module`: its first positional input, or the first keyword one, is kept. `name`: the
        module's name, for messages."""
        self.name = name
        self._held = threading.local()
        self._handle = module.register_forward_pre_hook(self, with_kwargs=True)

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._held.value = args[0] if args else next(iter(kwargs.values()))

    def take(self) -> Tensor:
        """What the module was given last, once. Raises SiteError: the module was not called since."""
        value: Tensor | None = self._held.__dict__.pop("value", None)
        if value is None:
            raise SiteError(
                f"the residual of {self.name} is not there",
                [f"{self.name}: its sublayer ran without it"],
                "Attach the bottleneck to a family whose layers adapterkit knows, or use placement houlsby.",
            )
        return value

    def remove(self) -> None:
        """Stop to listen."""
        self._handle.remove()

    def __getstate__(self) -> dict[str, Any]:
        # A thread's tensors belong to a call in flight: copies and pickles begin empty.
        return {key: value for key, value in self.__dict__.items() if key != "_held"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._held = threading.local()
