"""Whether keeping states pays: arithmetic over layers, epochs and bytes.

A layer's forward takes 2 operations per parameter and token. Going back through a frozen layer takes as many, since
only its input has a gradient. So an epoch costs L + (L - a) passes through a layer per token, and with the states below
layer a kept 2·(L - a), or nothing where only a head learns, and the reading. Scored rows take L passes, or L - a.
"""

from dataclasses import dataclass

from adapterkit.glance import readable_bytes

OPERATIONS_PER_SECOND = {"cpu": 1e11, "mps": 2e12, "cuda": 2e13}
"""Roughly, of one device; only the balance of computing and reading depends on it."""
READ_BYTES_PER_SECOND = 1e9
LEAST_GAIN = 1.05
MOST_OF_FREE_SPACE = 0.5


@dataclass(frozen=True)
class Estimate:
    """What keeping states would cost and save: tokens and bytes that an epoch reads, that scoring reads in a whole run,
    and that are not kept yet."""

    layer: int
    """That they enter."""
    layers: int
    """How many there are, a decoder's included."""
    adapted: bool
    """Whether a method trains in the layers above."""
    layer_parameters: int
    device: str
    """ "cpu", "cuda", "mps"."""
    epoch_tokens: int
    epoch_bytes: int
    scored_tokens: int
    scored_bytes: int
    new_tokens: int
    new_bytes: int
    free_bytes: int
    epochs: float
    runs: int = 1
    """How many read these states."""

    @property
    def plain_seconds(self) -> float:
        """An epoch without kept states."""
        back = self.layers - self.layer if self.adapted else 0
        return self._pass_seconds(self.epoch_tokens) * (self.layers + back)

    @property
    def kept_seconds(self) -> float:
        """An epoch with them."""
        passes = (self.layers - self.layer) * (2 if self.adapted else 1)
        return self._pass_seconds(self.epoch_tokens) * passes + self.epoch_bytes / READ_BYTES_PER_SECOND

    @property
    def filling_seconds(self) -> float:
        """Computing and writing what is not kept yet."""
        return self._pass_seconds(self.new_tokens) * self.layer + self.new_bytes / READ_BYTES_PER_SECOND

    @property
    def gain(self) -> float:
        """How much shorter an epoch gets, as a factor."""
        return self.plain_seconds / max(self.kept_seconds, 1e-9)

    def objection(self) -> str:
        """Why not to keep states; "" where it pays."""
        if self.new_bytes > MOST_OF_FREE_SPACE * self.free_bytes:
            wanted, free = readable_bytes(self.new_bytes), readable_bytes(self.free_bytes)
            return f"it would take {wanted} of {free} that are free on the disk"
        one_layer = self._pass_seconds(self.scored_tokens)
        reading = self.scored_bytes / READ_BYTES_PER_SECOND
        plain = self.runs * (self.epochs * self.plain_seconds + one_layer * self.layers)
        kept = self.runs * (self.epochs * self.kept_seconds + one_layer * (self.layers - self.layer) + reading)
        if plain < LEAST_GAIN * (kept + self.filling_seconds):
            of = f" of {self.runs} runs" if self.runs > 1 else ""
            return f"over {self.epochs:.3g} epochs{of} it would not pay: {self.layer} of {self.layers} layers are below"
        return ""

    def _pass_seconds(self, tokens: int) -> float:
        return tokens * 2.0 * self.layer_parameters / OPERATIONS_PER_SECOND.get(self.device, 1e11)
