"""What adapterkit uses of other libraries beyond what they promise, with a sentence for each.

`test_private_names.py` holds this list against the sources and against the libraries that are installed.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from peft import LoraConfig
from peft.tuners.tuners_utils import BaseTuner
from sacrebleu.metrics import BLEU
from torch import nn
from transformers import BertConfig, BertModel, T5ForConditionalGeneration, Trainer

PROMISED: dict[str, set[str]] = {
    "torch": {
        *("torch", "torch.amp", "torch.autograd", "torch.autograd.function", "torch.distributed", "torch.nn"),
        *("torch.nn.functional", "torch.optim", "torch.optim.lr_scheduler", "torch.utils.checkpoint"),
        *("torch.distributed.device_mesh", "torch.distributed.fsdp", "torch.distributed.tensor", "torch.overrides"),
    },
    "transformers": {"transformers", "transformers.generation.logits_process", "transformers.modeling_outputs"},
    # The packages of PEFT's methods list in `__all__` what they give.
    "peft": {"peft", "peft.functional", "peft.tuners.lora", "peft.tuners.ia3"},
    "accelerate": {"accelerate", "accelerate.utils"},
    "bitsandbytes": {"bitsandbytes", "bitsandbytes.nn", "bitsandbytes.functional"},
    "torchao": {"torchao", "torchao.quantization"},
    "datasets": {"datasets"},
    "safetensors": {"safetensors", "safetensors.torch"},
    "huggingface_hub": {"huggingface_hub", "huggingface_hub.errors"},
    "tokenizers": {"tokenizers"},
    "sacrebleu": {"sacrebleu", "sacrebleu.metrics"},
}
"""Library -> the modules that its reference documents."""

PROMISED_NAMES = {"peft.tuners.tuners_utils.BaseTuner", "peft.tuners.tuners_utils.BaseTunerLayer"}
"""Documented names of modules that are not documented as a whole."""


@dataclass(frozen=True)
class Private:
    """Names that their library does not promise, used for one purpose.

    Attributes:
        library: whose they are.
        what: what they are, and what adapterkit uses them for.
        owner: gives what has them as attributes, or a source that spells them; None for names that are imported.
        names: as they stand in adapterkit's sources: attributes, or dotted imports.
    """

    library: str
    what: str
    owner: Callable[[], Any] | None
    names: tuple[str, ...]


def _source(module: str) -> Callable[[], str]:
    return lambda: inspect.getsource(importlib.import_module(module))


def _module() -> nn.Module:
    return nn.Linear(1, 1)


def _bert() -> Any:
    return BertModel(BertConfig(vocab_size=4, hidden_size=4, num_hidden_layers=1, num_attention_heads=1))


def _gelu_node() -> Any:
    return nn.functional.gelu(torch.ones(1, requires_grad=True), approximate="tanh").grad_fn


_KINDS = (
    *("CAUSAL_LM", "MASKED_LM", "MULTIPLE_CHOICE", "QUESTION_ANSWERING", "SEQ_TO_SEQ_CAUSAL_LM"),
    *("SEQUENCE_CLASSIFICATION", "TOKEN_CLASSIFICATION"),
)

PRIVATE: tuple[Private, ...] = (
    Private(
        "transformers",
        "where Trainer places, writes and reads its model, so that an adapter's checkpoint holds no backbone",
        lambda: Trainer,
        ("_move_model_to_device", "_save", "_load_from_checkpoint", "_load_best_model"),
    ),
    Private(
        "torch",
        "tables that make up an nn.Module; a view of a trunk has its own around the same children",
        _module,
        ("_modules", "_parameters", "_buffers", "_forward_hooks", "_forward_pre_hooks"),
    ),
    Private(
        "torch",
        "tables of an nn.Module's hooks; a stand-in runs without the hooks of what it stands for",
        _module,
        (
            *("_forward_hooks_with_kwargs", "_forward_hooks_always_called", "_forward_pre_hooks_with_kwargs"),
            *("_backward_hooks", "_backward_pre_hooks"),
        ),
    ),
    Private("torch", "the tensor that a view was cut out of", lambda: torch.zeros(2)[:1], ("_base",)),
    Private(
        "torch",
        "the address of a storage's object in C; tells storages without content apart",
        lambda: torch.zeros(1).untyped_storage(),
        ("_cdata",),
    ),
    Private(
        "torch",
        "which GELU a node of the graph of gradients is; says whether the fused backward may compute it again",
        _gelu_node,
        ("_saved_approximate",),
    ),
    Private(
        "torch", "softmax's backward as one operation, for plain attention", lambda: torch, ("_softmax_backward_data",)
    ),
    Private(
        "torch",
        "the operation behind tensor.to; a trunk without weights is not copied",
        lambda: torch.ops.aten,
        ("_to_copy",),
    ),
    Private(
        "torch",
        "tensors without content, on which `plan` runs a step",
        None,
        ("torch._subclasses.fake_tensor.FakeTensor", "torch._subclasses.fake_tensor.FakeTensorMode"),
    ),
    Private(
        "torch",
        "modes that see every operation; `plan` counts bytes with them",
        None,
        (
            "torch.utils._python_dispatch.TorchDispatchMode",
            "torch.utils._python_dispatch._disable_current_modes",
        ),
    ),
    Private("torch", "the leaves of an operation's nested arguments", None, ("torch.utils._pytree.tree_leaves",)),
    Private(
        "torch", "counts what matrix products compute, for `plan`", None, ("torch.utils.flop_counter.FlopCounterMode",)
    ),
    Private(
        "torch",
        "a weak reference that lives as long as the tensor, whatever becomes of its Python object",
        None,
        ("torch.utils.weak.TensorWeakRef",),
    ),
    Private(
        "torch",
        "oneDNN's layout of a frozen weight, and the product that takes it; what torch's compiler freezes into",
        lambda: torch.ops.mkldnn,
        ("_reorder_linear_weight", "_linear_pointwise"),
    ),
    Private("transformers", "builds a class on the meta device from a config", lambda: BertModel, ("_from_config",)),
    Private("transformers", "how a class initialises one of its modules; heads begin so", _bert, ("_init_weights",)),
    Private(
        "transformers",
        "what T5's class makes its decoder's input with; called where the class is shown marks for the tokens",
        lambda: T5ForConditionalGeneration,
        ("_shift_right",),
    ),
    Private(
        "transformers",
        "the config's name of the attention that its model looks up",
        BertConfig,
        ("_attn_implementation",),
    ),
    Private(
        "transformers",
        "a config's keys of where it came from; no part of a fingerprint",
        _source("transformers.configuration_utils"),
        ("_name_or_path", "_commit_hash"),
    ),
    Private(
        "transformers",
        "a generation config's key of how it was made; no part of its digest",
        _source("transformers.generation.configuration_utils"),
        ("_from_model_config",),
    ),
    Private(
        "transformers",
        "what a layer is called through while it is checkpointed; set beside its flag",
        _source("transformers.modeling_layers"),
        ("_gradient_checkpointing_func",),
    ),
    Private(
        "transformers",
        "the class of all layers; a trunk is split at them, and they are computed again one by one",
        None,
        ("transformers.modeling_layers.GradientCheckpointingLayer",),
    ),
    Private(
        "transformers",
        "the note on a model that its layers hand out their states; a view answers for its trunk",
        _source("transformers.utils.output_capturing"),
        ("_output_capturing_hooks_installed",),
    ),
    Private(
        "transformers",
        "hooks the layers that are to hand out their states; called for the trunk and not for its views",
        None,
        ("transformers.utils.output_capturing.maybe_install_capturing_hooks",),
    ),
    Private(
        "transformers",
        "GELU in eight operations, which is trained as one",
        None,
        ("transformers.activations.NewGELUActivation",),
    ),
    Private(
        "transformers",
        "the attention for use, called as it is, and what it does before the product",
        None,
        (
            "transformers.integrations.sdpa_attention.repeat_kv",
            "transformers.integrations.sdpa_attention.sdpa_attention_forward",
        ),
    ),
    Private(
        "transformers",
        "where an attention and its mask are registered under a name, and the mask that goes with it",
        None,
        (
            "transformers.masking_utils.ALL_MASK_ATTENTION_FUNCTIONS",
            "transformers.masking_utils.sdpa_mask",
            "transformers.modeling_utils.ALL_ATTENTION_FUNCTIONS",
        ),
    ),
    Private("transformers", "the families that are known", None, ("transformers.CONFIG_MAPPING",)),
    Private(
        "transformers",
        "a kind's classes by config; says whether a family has the kind at all",
        None,
        tuple(f"transformers.MODEL_FOR_{kind}_MAPPING" for kind in _KINDS),
    ),
    Private(
        "peft",
        "methods of BaseTuner that PEFT calls while it injects; the bottleneck's tuner answers or calls them",
        lambda: BaseTuner,
        (
            *("_check_target_module_exists", "_create_and_replace", "_prepare_adapter_config", "_prepare_model"),
            *("_replace_module", "_unload_and_optionally_merge"),
        ),
    ),
    Private(
        "peft",
        "the context in which PeftModel calls its tuner; the bottleneck's routes rows by name in it",
        _source("peft.peft_model"),
        ("_enable_peft_forward_hooks",),
    ),
    Private(
        "peft",
        "lets LoRA's own layer stand on torchao's weights",
        lambda: LoraConfig,
        ("_register_custom_module",),
    ),
    Private(
        "peft",
        "where PEFT looks up a method by the type that a config names; the bottleneck is written into them",
        None,
        tuple(f"peft.mapping.PEFT_TYPE_TO_{name}_MAPPING" for name in ("CONFIG", "TUNER", "PREFIX")),
    ),
    Private(
        "peft",
        "how PEFT matches a config's targets with names; asked beforehand whether it would match others too",
        None,
        ("peft.tuners.tuners_utils.check_target_module_exists",),
    ),
    Private(
        "peft",
        "what PEFT makes of a config for models whose weights transformers converts; asked beforehand too",
        None,
        ("peft.utils.transformers_weight_conversion.convert_peft_config_for_transformers",),
    ),
    Private(
        "accelerate",
        "how many processes a launcher has started, before there is an Accelerator",
        None,
        ("accelerate.utils.environment.get_cpu_distributed_information",),
    ),
    Private(
        "accelerate",
        "what a launcher's command line and its configuration file ask for",
        None,
        (
            "accelerate.commands.config.default_config_file",
            "accelerate.commands.config.load_config_from_file",
            "accelerate.commands.launch.launch_command_parser",
        ),
    ),
    Private("accelerate", "which trackers are installed", None, ("accelerate.tracking.get_available_trackers",)),
    Private("datasets", "the base of what the library raises on purpose", None, ("datasets.exceptions.DatasetsError",)),
    Private(
        "sacrebleu",
        "the sums of every text, from which bootstrap samples are scored without reading the texts again",
        BLEU,
        ("_extract_corpus_statistics",),
    ),
)
