"""Frozen weights in shards, one part in each process: torch's FSDP2 (Zhao et al. 2023, arXiv 2304.11277).

A layer's weights are gathered when it computes and dropped behind it, in the forward and again in the backward. No
forward can do without the other processes. What trains is small: it stays whole in every process, as in any run.
"""

from collections import Counter
from collections.abc import Mapping

from accelerate import Accelerator
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from adapterkit.adapted import Adapted
from adapterkit.backbone.pretrained import is_model
from adapterkit.errors import DeviceError
from adapterkit.recipe import Recipe
from adapterkit.recipe.formats import QUANTISED
from adapterkit.training.launch import is_sharded


class Sharded:
    """The processes of a run, each with its shard of the backbone."""

    def __init__(self, accelerator: Accelerator, recipe: Recipe, *, keep_gathered: bool = False) -> None:
        """`accelerator`: the processes. `recipe`: of the run. `keep_gathered`: whether a layer stays whole from its
        forward to its backward. Raises DeviceError: packed weights, which torch does not cut; the parts of a fusion;
        rows of a vocabulary."""
        self._accelerator, self._keep_gathered = accelerator, keep_gathered
        problems = []
        if recipe.backbone.dtype in QUANTISED:
            problems.append(f"backbone.dtype: {recipe.backbone.dtype} is not cut into shards; take bfloat16")
        if getattr(recipe.method, "parts", None):
            problems.append("method.kind: the parts of a fusion are not cut into shards; take lora or bottleneck")
        if recipe.head.tokens:
            problems.append("head.tokens: rows of a projection that is in shards are not trained; leave it out")
        if problems:
            raise DeviceError(
                "this run cannot be spread with FSDP", problems, "Or launch it with distributed_type MULTI_GPU."
            )

    def spread(self, adapted: Adapted) -> None:
        """Cut the frozen weights; each process keeps its part. The backbone that they came from stays whole.
        Raises DeviceError: a backbone whose layers are not known."""
        device = self._accelerator.device
        mesh = init_device_mesh(device.type, (self._accelerator.num_processes,))
        units = units_of(adapted)
        ignored = {parameter for parameter in adapted.module.parameters() if parameter.requires_grad}
        formats = adapted.backbone.formats

        def use(tensor: nn.Parameter | Tensor) -> None:
            tensor.data = tensor.data.to(dtype=formats.get(tensor.data_ptr()))

        for unit in units:
            # One unit at a time stands in memory as it is computed with.
            for parameter in unit.parameters():
                use(parameter)
            fully_shard(unit, mesh=mesh, reshard_after_forward=not self._keep_gathered, ignored_params=ignored)
        for tensor in (*adapted.module.parameters(), *adapted.module.buffers()):
            if not isinstance(tensor, DTensor):  # what is in no unit
                use(tensor)
                tensor.data = tensor.data.to(device)
        if device.type != "cpu":
            object.__setattr__(adapted.backbone, "device", device)
        vars(adapted.backbone).pop("plain_source", None)  # the whole weights
        # From here on answering keeps no graph by no_grad: a weight that is gathered in inference mode could not be
        # used in training later.
        adapted.sharded = True


def shards_of(environment: Mapping[str, str], accelerator: Accelerator, recipe: Recipe) -> Sharded | None:
    """Shards, where a launcher asks for them; None where each has the backbone whole, as one process has it."""
    if not is_sharded(environment) or accelerator.num_processes == 1:
        return None
    keep = environment.get("FSDP_RESHARD_AFTER_FORWARD", "true") == "false"
    return Sharded(accelerator, recipe, keep_gathered=keep)


def units_of(adapted: Adapted) -> list[nn.Module]:
    """What is gathered at once: each layer, and the embedding and the projection of the vocabulary.

    One that shares its weight with another place stays whole, as do norms and poolers outside the layers.

    Raises:
        DeviceError: the backbone's layers are not known.
    """
    module, trunk = adapted.module, adapted.backbone.trunk
    held = {id(inner) for inner in module.modules()}
    paths = dict.fromkeys(site.path for site in adapted.backbone.known_sites.sites if site.name == "layer.output")
    layers = [layer for path in paths if id(layer := trunk.get_submodule(path)) in held]
    if not layers:
        raise DeviceError(
            f"the layers of {adapted.backbone.contract.architecture} are not known, so it cannot be cut into shards",
            remedy="Launch with distributed_type MULTI_GPU.",
        )
    owners = Counter(id(weight) for inner in module.modules() for weight in inner.parameters(recurse=False))
    ends = [trunk.get_input_embeddings(), module.get_output_embeddings() if is_model(module) else None]  # type: ignore[operator]
    return [
        *layers,
        *(
            end
            for end in ends
            if isinstance(end, nn.Embedding | nn.Linear)
            and owners[id(end.weight)] == 1
            and not any(parameter.requires_grad for parameter in end.parameters())
        ),
    ]
