"""What a method is to everybody else: one row of the table of methods. What it does stands in its own folder.

No row imports PEFT before something is attached: files are read and adapters are mounted without it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from torch import Tensor

from adapterkit.backbone import Backbone, Site
from adapterkit.manifest import PartFacts
from adapterkit.methods.peft_fields import Field
from adapterkit.recipe import MethodSettings

if TYPE_CHECKING:
    from adapterkit.methods.attachment import Attachment
    from adapterkit.methods.carrier import Carrier

S = TypeVar("S", bound=MethodSettings)

Shape = tuple[int | None, ...]
"""Sizes of a tensor; None where only the backbone knows."""


class Method(ABC, Generic[S]):
    """A method, as everything outside its folder sees it. What is not abstract has the answer of a method that attaches
    something of its own, and of which nothing else is known.

    A question that begins with `why_not` is answered by "" where it can be done, else by the reason, as the end of a
    sentence.

    Attributes:
        peft_type: what `adapter_config.json` calls it.
        peft_import: the line after which plain PEFT loads its artifacts, "" where it needs none; None where it cannot.
        endings: how its tensors end, after the path of the module that they adapt, as PEFT's files have them.
        fields: what `adapter_config.json` holds of it beside what all methods have, and what fits there.
        required: those of the fields that its tensors cannot be checked without.
        still: endings of tensors -> the value of which all of them together, whatever the others are, change nothing.
        low_rank: whether it adds a ΔW = b·a to weights, which `update` and `update_in_peft` then give: both or neither.
        fuses: whether it can be a part of a fusion.
        not_merged: what `why_not_merged` answers, whatever the settings; so `not_summed` and `not_averaged`.
    """

    peft_type: ClassVar[str]
    peft_import: ClassVar[str | None] = None
    endings: ClassVar[tuple[str, ...]]
    fields: ClassVar[Mapping[str, Field]] = {}
    required: ClassVar[tuple[str, ...]] = ()
    still: ClassVar[Mapping[str, float]] = {}
    low_rank: ClassVar[bool]
    fuses: ClassVar[bool] = False
    not_merged: ClassVar[str] = "it says of no weight of the backbone what it becomes"
    not_summed: ClassVar[str] = "it is no ΔW that could be added"
    not_averaged: ClassVar[str] = "nothing is known of what the mean of its parameters does"

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        given = {cls.update is not Method.update, cls.update_in_peft is not Method.update_in_peft}
        if len(given) > 1:
            raise TypeError(f"{cls.__name__} gives one of update and update_in_peft; expected both or neither")
        (cls.low_rank,) = given

    # -- training

    @abstractmethod
    def attach(self, carrier: Carrier, settings: S) -> Attachment:
        """Put it on a model, untrained. Raises SiteError: sites that do not exist or cannot be reached; lists what
        exists; RecipeError: settings that do not go together with this backbone."""

    def compute_fused(self, layers: Mapping[str, Any], sites: Mapping[str, Site], on: bool) -> None:
        """Let its layers compute training steps with fused functions, or with plain operations. Both `layers` and their
        `sites` are by path in the model."""

    def why_not_joined(self, settings: S, backbone: Backbone) -> str:
        """Why several of its adapters cannot train in one batch, on the rows of each: the gradients of which are those
        of one alone."""
        return f"method {settings.kind}"

    def without_weights(self, settings: S) -> S:
        """The settings that attach the same on a backbone without weights: nothing that would read them."""
        return settings

    def saved_shape(self, settings: S, name: str, shape: Sequence[int]) -> tuple[int, ...]:
        """The shape in an artifact of what `without_weights` attaches as a tensor of this name and shape."""
        return tuple(shape)

    # -- files

    @abstractmethod
    def shapes(self, settings: S, config: Mapping[str, Any], target: str) -> Mapping[str, Shape]:
        """Its tensors at one module, exactly those: ending -> shape. `config` is `adapter_config.json`, with every
        required field, and `target` the path of the module in the adapter's model."""

    def config_problems(self, settings: S, config: Mapping[str, Any], parts: Sequence[PartFacts]) -> Iterable[str]:
        """What `adapter_config.json` says otherwise than the settings, or than the parts of a fusion."""
        return ()

    def trains(self, settings: S, path: str) -> bool:
        """Whether a tensor of the backbone itself is trained and saved too: its path in the model."""
        return False

    # -- combining

    def why_not_merged(self, settings: S) -> str:
        """Why it cannot be folded into the backbone's weights."""
        return self.not_merged

    def why_not_summed(self, settings: S) -> str:
        """Why it is not ΔW = b·a alone, to which others could be added."""
        return "" if self.low_rank else self.not_summed

    def update(self, settings: S, site: Site, tensors: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The factors a (R, I) and b (O, R) of its ΔW = b·a at one site, with its scaling inside b; `tensors` are those
        of this site, by ending."""
        raise NotImplementedError(f"{settings.kind} has no low-rank updates")

    def update_in_peft(
        self, config: Mapping[str, Any], target: str, tensors: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """The same factors as plain PEFT scales them by `adapter_config.json`, for which no backbone is needed;
        `target` is the path of the module in the adapter's model, `tensors` are those of this module, by ending."""
        raise NotImplementedError(f"{self.peft_type} has no low-rank updates")

    def why_not_averaged(self, settings: S) -> str:
        """Why the mean of its parameters means nothing, even between adapters that are built alike."""
        return self.not_averaged

    def build(self, settings: S, config: Mapping[str, Any]) -> dict[str, str]:
        """What must be the same between adapters whose parameters are averaged, beside the shapes: what -> value."""
        return {}

    def rescales(self, settings: S) -> str:
        """In a word, what of it rescales a whole weight, so that the order beside other changes of it would matter."""
        return settings.kind if not self.why_not_merged(settings) else ""
