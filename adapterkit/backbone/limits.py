"""What a checkpoint says about its use: how long an input may be, and how to pool its states."""

from pathlib import Path
from typing import Any, Literal

from torch import nn

from adapterkit.backbone.files import read_json

Pooling = Literal["mean", "first", "last"]

# transformers' stand-in for "no limit" is 1e30.
_NO_LIMIT = 1_000_000_000
_POOLING_SWITCHES: dict[str, Pooling] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "first",
    "pooling_mode_lasttoken": "last",
}
_POOLING_NAMES: dict[str, Pooling] = {"mean": "mean", "cls": "first", "lasttoken": "last"}


def max_tokens(trunk: nn.Module, tokenizer: Any, config: Any) -> int | None:
    """The longest input, special tokens included, that both tokenizer and trunk take. None: nothing limits it.

    What a sentence-transformers file says (`sentence_bert_config.json`) is how that model was tuned, not a limit.
    """
    said = tokenizer.model_max_length
    limits = [int(said)] if isinstance(said, int | float) and said > 0 else []
    positions = getattr(config, "max_position_embeddings", None)
    if isinstance(positions, int) and positions > 0:
        limits.append(positions - _unused_positions(trunk))
    limits = [limit for limit in limits if limit < _NO_LIMIT]
    return min(limits) if limits else None


def _unused_positions(trunk: nn.Module) -> int:
    """RoBERTa's positions start after the pad token's number, so that many rows of the table are never used."""
    for path, module in trunk.named_modules():
        if path.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            return 0 if module.padding_idx is None else module.padding_idx + 1
    return 0


def pooling(folder: Path, *, causal: bool) -> Pooling:
    """How to make one vector of a text's states: what a sentence-transformers checkpoint says in its pooling module;
    else the last token of a decoder (the only one that has seen the whole text), the mean of everything else."""
    return said_pooling(folder) or ("last" if causal else "mean")


def said_pooling(folder: Path) -> Pooling | None:
    """What a sentence-transformers checkpoint says; None where it says nothing, or what is none of ours."""
    if not (folder / "modules.json").is_file():
        return None
    modules = read_json(folder / "modules.json")
    for module in modules if isinstance(modules, list) else ():
        if not isinstance(module, dict) or not str(module.get("type", "")).endswith("Pooling"):
            continue
        path = (folder / str(module.get("path", "")) / "config.json").resolve()
        if not path.is_relative_to(folder.resolve()) or not path.is_file():
            continue
        said = read_json(path)
        if isinstance(said, dict):
            on = [name for switch, name in _POOLING_SWITCHES.items() if said.get(switch) is True]
            named = _POOLING_NAMES.get(str(said.get("pooling_mode")))
            # Several at once mean that their vectors are joined, which is none of ours.
            return named or (on[0] if len(on) == 1 else None)
    return None
