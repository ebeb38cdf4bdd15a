"""The table of heads: what everybody asks of a kind of head is asked here, by its settings."""

from collections.abc import Mapping
from typing import Any

from adapterkit.heads.attention import Attention
from adapterkit.heads.family import Family
from adapterkit.heads.linear import Linear
from adapterkit.heads.mlp import Mlp
from adapterkit.heads.protocol import Head
from adapterkit.recipe import HeadSettings
from adapterkit.recipe.head import HEAD_SETTINGS

HEADS: Mapping[str, Head[Any]] = {"family": Family(), "linear": Linear(), "mlp": Mlp(), "attention": Attention()}
"""Kind -> the head, of those that come with adapterkit."""


def head_of(settings: HeadSettings) -> Head[Any]:
    """The head that settings are of. Raises PluginError: another package brings it, and it cannot be used."""
    own = HEADS.get(settings.kind)
    found: Head[Any] = HEAD_SETTINGS.load(settings, Head) if own is None else own
    return found
