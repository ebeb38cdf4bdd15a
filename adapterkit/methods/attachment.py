"""A method on a model that shares a backbone's trunk, until it is taken off again without a trace."""

from collections.abc import Mapping
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from adapterkit.backbone import Site
from adapterkit.backbone.named_tensors import misfits
from adapterkit.backbone.quantisation import is_plain
from adapterkit.errors import ArtifactError, MergeError
from adapterkit.methods.adapter_name import ADAPTER
from adapterkit.methods.carrier import Before, own_modules
from adapterkit.recipe import MethodSettings

_NOT_OWN = ("base_layer.", "parts.")
"""What a layer holds and an artifact does not: the linear that it wraps, and the parts of a fusion."""


class Merge:
    """Layers folded into their weights and biases, and the untouched originals.

    PEFT's own unmerging subtracts or divides, which rounds; this puts the very tensors back.
    """

    def __init__(self, layers: Mapping[str, Any]) -> None:
        """Fold every layer into its weight.
        Raises MergeError: values that are not finite, or quantised weights; nothing is folded then."""
        narrow = [path for path, layer in layers.items() if not is_plain(layer.get_base_layer())]
        if narrow:
            raise MergeError(
                "the adapter cannot be merged into quantised weights, which would round it away",
                [f"{path}: quantised" for path in narrow[:4]],
                "Load the backbone in float32 or bfloat16.",
            )
        self._originals: list[tuple[Any, str, nn.Parameter, Tensor]] = []
        broken = []
        for path, layer in layers.items():
            for name, own in layer.get_base_layer().named_parameters(recurse=False):
                self._originals.append((layer, name, own, own.data))
            try:
                # The safe way works on a copy, so the original tensor stays as it is.
                layer.merge(safe_merge=True)
            except ValueError as error:
                broken.append(f"{path}: {error}")
        if broken:
            self.undo()
            raise MergeError("the adapter cannot be merged", broken, "Train it again, or load another artifact.")

    def undo(self) -> None:
        """Put the original weights back, bit for bit."""
        for layer, name, own, data in self._originals:
            if isinstance(layer, LoraLayer) and layer.merged:
                layer.unmerge()  # it lets go of what it has computed for DoRA
            layer.merged_adapters.clear()  # IA3's unmerging would divide, with a warning
            setattr(layer.get_base_layer(), name, own)
            own.data = data
        self._originals.clear()


class Attachment:
    """A method on a model. `lowest_layer` is, for each adapted side, the lowest layer that the method touches: what
    lies below depends on the input alone. -1 where the embeddings are touched too (bias="all"); empty for the method
    `none`."""

    def __init__(
        self,
        method: Any,
        settings: MethodSettings,
        layers: Mapping[str, Any],
        config: Mapping[str, Any],
        lowest_layer: Mapping[str, int],
        before: Before | None,
        sites: Mapping[str, Site] | None = None,
        biases: Mapping[str, nn.Parameter] | None = None,
    ) -> None:
        """Made by this method's `attach`: the layers that hold its parameters, by path in the model, with what
        `adapter_config.json` says of it, and the way back, None where nothing was changed. `sites`, by the same paths,
        are for fused functions that want to know them; `biases`, by path in the model, the trunk's own that are trained
        too."""
        self.lowest_layer = dict(lowest_layer)
        self._method = method
        self._settings = settings
        self._sites = dict(sites or {})
        self._layers = dict(layers)
        self._biases = dict(biases or {})
        self._config = dict(config)
        self._before = before
        self._moved_weight = before.moved if before is not None else None
        self._merge: Merge | None = None
        self.fuse()

    def parameters(self) -> dict[str, nn.Parameter]:
        """What is trained, by path in the model without the adapter's name, as PEFT's files have it."""
        return {path: parameter for path, parameter in self._saved().items() if parameter.requires_grad}

    def biases(self) -> dict[str, nn.Parameter]:
        """The trunk's own biases that are trained too, by path in the model."""
        return dict(self._biases)

    def state(self) -> dict[str, Tensor]:
        """Copies of everything that makes the adapter, by path in the model as PEFT's files have it."""
        own: dict[str, Tensor] = {path: parameter.detach().clone() for path, parameter in self._saved().items()}
        return own if self._moved_weight is None else self._moved_weight.exported(own)

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take over values; they are cast to the dtype and moved to the device that the adapter has.
        Raises ArtifactError: missing or unknown names, other shapes, values that are not finite; nothing is changed
        then; MergeError: the adapter is merged."""
        if self._merge is not None:
            raise MergeError("a merged adapter cannot be loaded into", remedy="Unmerge it first.")
        own = self.state()
        problems = misfits(state, {path: tuple(tensor.shape) for path, tensor in own.items()})
        problems += [f"{path}: not of this adapter" for path in set(state) - set(own)]
        if problems:
            raise ArtifactError("these tensors do not fit the adapter", sorted(problems))
        values = state if self._moved_weight is None else self._moved_weight.imported(state)
        with torch.no_grad():
            for path, parameter in self._saved().items():
                parameter.copy_(values[path])

    def config(self) -> dict[str, Any]:
        """The content of PEFT's adapter_config.json, whatever the hash seed; the caller sets task_type and
        base_model_name_or_path."""
        content = self._config if self._moved_weight is None else self._moved_weight.config(self._config)
        copied: dict[str, Any] = _jsonable(content)
        return copied

    def train(self, mode: bool = True) -> None:
        """Switch the adapter's own dropout on or off; the trunk's stays as it is."""
        for layer in self._layers.values():
            for module in own_modules(layer):
                module.train(mode)

    def fuse(self, on: bool = True) -> None:
        """Let training steps compute with fused functions, as they do from the start, or with plain operations. Both
        learn the same. Where the fused ones do not apply the plain ones run anyway (see `methods.fused`)."""
        self._method.compute_fused(self._layers, self._sites, on)

    def merge(self) -> None:
        """Fold the adapter into the backbone's weights.
        Raises MergeError: a method that no weights can hold, or values that are not finite; nothing is changed then."""
        if reason := self._method.why_not_merged(self._settings):
            raise MergeError(
                f"a {self._settings.words} adapter cannot be merged into weights",
                [reason],
                "Keep it attached, or train LoRA where a merged model is needed.",
            )
        if self._merge is None:
            self._merge = Merge(self._layers)

    def unmerge(self) -> None:
        """Put the backbone's weights back, bit for bit."""
        if self._merge is not None:
            self._merge.undo()
            self._merge = None

    def detach(self) -> None:
        """Take the method off: the trunk has its own modules, bytes and flags again. The adapter is gone."""
        self.unmerge()
        if self._before is not None:
            self._before.restore()
        self._layers, self._biases, self._moved_weight, self._before = {}, {}, None, None

    def _saved(self) -> dict[str, nn.Parameter]:
        found = dict(self._biases)
        for path, layer in self._layers.items():
            for name, parameter in layer.named_parameters():
                if not name.startswith(_NOT_OWN):
                    short = ".".join(one for one in name.split(".") if one != ADAPTER)
                    if short.startswith("lora_magnitude_vector"):  # which PEFT keeps in a module, and not in its files
                        short = short.removesuffix(".weight")
                    found[f"{path}.{short}"] = parameter
        return dict(sorted(found.items()))


def _jsonable(value: Any) -> Any:
    """A configuration's values as JSON has them, the same whatever the hash seed."""
    if isinstance(value, dict):
        return {str(key): _jsonable(item) for key, item in sorted(value.items())}
    if isinstance(value, set | frozenset):
        return sorted(_jsonable(item) for item in value)
    if isinstance(value, list | tuple):
        return [_jsonable(item) for item in value]
    return value.value if hasattr(value, "value") else value
