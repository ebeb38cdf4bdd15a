"""What a kind of head is to everybody else: one row of the table of heads."""

from abc import ABC, abstractmethod
from typing import Generic, TypeVar

from torch import nn

from adapterkit.backbone import Backbone
from adapterkit.heads.headed import Headed
from adapterkit.recipe import HeadSettings

S = TypeVar("S", bound=HeadSettings)


class Head(ABC, Generic[S]):
    """A kind of head. Those that stand on states and are not transformers' derive from `heads.own.OwnHead`."""

    @abstractmethod
    def build(self, backbone: Backbone, trunk: nn.Module, kind: str, classes: int, settings: S) -> Headed:
        """Put it on a trunk. `trunk`: the backbone's, or a view of it; its modules are shared, never copied. `kind`: of
        the task. `classes`: number of labels, 0 for language models. `settings`: nothing in them is left to `auto`.
        Raises HeadError: this head cannot serve this kind on this backbone."""
