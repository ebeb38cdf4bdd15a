"""Family heads: the very head modules of the backbone's own `AutoModelFor…` class.

The class is built on the meta device, the shared trunk is put in its place, and what is left without weights is the
head. So there is no head code per architecture, and transformers itself is the specification.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForMultimodalLM

from adapterkit.backbone import Backbone
from adapterkit.backbone.checkpoint import silence
from adapterkit.backbone.generation_rules import generation_config
from adapterkit.backbone.pretrained import is_model
from adapterkit.backbone.trunk import without_pooler
from adapterkit.errors import HeadError
from adapterkit.heads.headed import Head, Headed, run_in_float32
from adapterkit.heads.row_ends import RowEnds
from adapterkit.heads.token_rows import ENDING, put_token_rows
from adapterkit.recipe import HeadSettings
from adapterkit.recipe.kinds import FACTS


class Family(Head[HeadSettings]):
    """The row of `family`."""

    def build(self, backbone: Backbone, trunk: nn.Module, kind: str, classes: int, settings: HeadSettings) -> Headed:
        headed = build_family(backbone, trunk, kind, classes)
        if settings.tokens:
            path, tokens = put_token_rows(headed.module, backbone.tokenizer, settings.tokens)
            headed.trained[f"{path}.{ENDING}"] = headed.module.get_parameter(f"{path}.{ENDING}")
            headed.token_rows = {path: tokens}
        return headed


def build_family(backbone: Backbone, trunk: nn.Module, kind: str, classes: int) -> Headed:
    """Assemble transformers' class of this kind around the shared trunk, whose modules are never copied, for so many
    labels, 0 for language models.

    Raises HeadError: transformers has no class of this kind for the family; BackboneError: it would generate, and the
    checkpoint's generation config asks for what cannot be honoured.
    """
    model_class = backbone.model_class(kind)
    if model_class is None:
        raise HeadError(
            f"transformers has no {kind} class for {backbone.contract.architecture}",
            remedy="Use head.kind=linear, or another backbone.",
        )
    config = copy.deepcopy(backbone.config)
    if classes:
        config.num_labels = classes
    if getattr(config, "pad_token_id", None) is None:
        config.pad_token_id = backbone.tokenizer.pad_token_id
    generation = None
    if model_class.can_generate():  # before transformers reads the file itself, whose errors name nothing
        generation = generation_config(backbone.generation, backbone.folder, config, backbone.tokenizer)
    with torch.device("meta"):
        module: Any = model_class._from_config(config)
    frozen = {id(tensor) for tensor in trunk.parameters()}
    _put_trunk(module, trunk, backbone)
    module.tie_weights()
    head_names = [name for name, tensor in _tensors(module) if tensor.is_meta]
    borrows = FACTS[kind].borrows_head  # unless the checkpoint has no such head
    loaded = _fill(module, head_names, backbone, model_class, config, borrow=borrows)
    module.tie_weights()
    borrowed = loaded if borrows else frozenset()
    trained: dict[str, nn.Parameter] = {}
    for name, parameter in module.named_parameters():
        if id(parameter) in frozen or name in borrowed:
            parameter.requires_grad_(False)
            continue
        parameter.data = parameter.data.float()
        trained[name] = parameter.requires_grad_(True)
    if backbone.dtype != torch.float32:
        _compute_trained_in_float32(module, trained)
    if generation is not None:
        module.generation_config = generation
    is_last_whole = backbone.is_decoder or backbone.is_encoder_decoder  # the last token alone has read all of a text
    ends = RowEnds.of(config) if FACTS[kind].pooled and is_last_whole else None
    return Headed(module.eval(), trained, loaded, ends=ends)


def _put_trunk(module: nn.Module, trunk: nn.Module, backbone: Backbone) -> None:
    """Replace the class's own trunk, or its pieces (T5 and BART keep theirs apart), by the shared one."""
    pieces = dict(trunk.named_children())
    for name, child in list(module.named_children()):
        if isinstance(trunk, type(child)):  # a view of a trunk is of a class below its own
            setattr(module, name, _view(trunk, getattr(child, "pooler", None) is not None, backbone))
        elif name in pieces and isinstance(pieces[name], type(child)):
            setattr(module, name, pieces[name])
        elif is_model(child):
            _put_trunk(child, trunk, backbone)


def _view(trunk: nn.Module, with_pooler: bool, backbone: Backbone) -> nn.Module:
    """The trunk as the class wants it: without its pooler, or with a pooler of its own where the checkpoint has none.

    A view shares every child with the trunk. Classes for tokens have no pooler; one that stayed there would be
    computed for nothing, and would get no gradient.
    """
    if getattr(trunk, "pooler", None) is None:
        return trunk
    untrained = any(name.startswith("pooler.") for name in backbone.uninitialized)
    if with_pooler and not untrained:
        return trunk
    view = without_pooler(trunk)
    if with_pooler:
        pooler = copy.deepcopy(trunk.get_submodule("pooler")).to("meta")
        view.register_module("pooler", pooler.requires_grad_(True))
    return view


def _tensors(module: nn.Module) -> list[tuple[str, Tensor]]:
    return [*module.named_parameters(), *module.named_buffers()]


def _fill(
    module: Any, names: list[str], backbone: Backbone, model_class: Any, config: Any, *, borrow: bool
) -> frozenset[str]:
    """Give the head's tensors memory and values. Returns the names whose values the checkpoint holds.
    `borrow`: whether the checkpoint's values stay what they are, so that all heads may share them."""
    for path in sorted({name.rpartition(".")[0] for name in names}):
        _initialise(module, module.get_submodule(path), backbone.device)
    # Without keys that the trunk has no place for, the checkpoint holds nothing of a head.
    if not backbone.unused_keys or (backbone.part and not borrow):
        return frozenset()
    held = _from_checkpoint(names, backbone, model_class, config)
    target = dict(_tensors(module))
    for name, tensor in held.items():
        target[name].data = tensor if borrow else tensor.clone()
    return frozenset(held)


def _initialise(module: Any, owner: nn.Module, device: torch.device) -> None:
    """Initialise one head module as its own class would; zeros where the class says nothing.

    A projection that is tied to the trunk's embedding holds a head's bias beside a trunk's weight. The weight is
    kept out of the way, or initialising the bias would overwrite the backbone.
    """
    own = owner.named_parameters(recurse=False, remove_duplicate=False)
    shared = {name: parameter for name, parameter in own if not parameter.is_meta}
    for name, parameter in shared.items():
        owner.register_parameter(name, nn.Parameter(torch.empty_like(parameter, device="meta")))
    for name, parameter in list(owner.named_parameters(recurse=False)):
        if name not in shared:
            setattr(owner, name, nn.Parameter(torch.zeros_like(parameter, device=device)))
    for name, buffer in list(owner.named_buffers(recurse=False)):
        setattr(owner, name, torch.zeros_like(buffer, device=device))
    if isinstance(owner, nn.Linear | nn.Embedding | nn.LayerNorm):
        owner.reset_parameters()
    with torch.no_grad():
        module._init_weights(owner)
    for name, parameter in shared.items():
        owner.register_parameter(name, parameter)


def _from_checkpoint(names: list[str], backbone: Backbone, model_class: Any, config: Any) -> dict[str, Tensor]:
    """The head's values where the checkpoint holds them, through transformers' own loader, which knows every renamed
    key of every old checkpoint; read once for a backbone, and the second trunk that it builds is dropped at once.
    Raises BackboneError: the checkpoint's files are not those that the backbone was loaded from."""
    key = model_class, config.num_labels, *names
    if key not in backbone.heads:
        if backbone.part:  # whose names only the class of the whole knows
            model_class, config = AutoModelForMultimodalLM, None
        backbone.check_files()
        with silence():
            donor, info = model_class.from_pretrained(
                backbone.folder,
                config=copy.deepcopy(config),
                dtype=backbone.dtype,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
            )
        absent = set(info["missing_keys"]) | {
            key if isinstance(key, str) else key[0] for key in info["mismatched_keys"]
        }
        values = dict(_tensors(donor))
        backbone.check_files()
        backbone.heads[key] = {
            # Copies: what needs no other number format is the mapped file itself.
            name: values[name].detach().clone().to(backbone.device)
            for name in names
            if name in values and name not in absent
        }
    return backbone.heads[key]


def _compute_trained_in_float32(module: nn.Module, trained: dict[str, nn.Parameter]) -> None:
    """Leaf modules whose every parameter is trained compute in fp32; a tied projection stays in the trunk's dtype."""
    ids = {id(parameter) for parameter in trained.values()}
    for path in sorted({name.rpartition(".")[0] for name in trained}):
        leaf = module.get_submodule(path)
        parameters = list(leaf.parameters())
        if parameters and all(id(parameter) in ids for parameter in parameters):
            run_in_float32(leaf)
