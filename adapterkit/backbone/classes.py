"""Which transformers classes belong to a backbone's config."""

from typing import Any

import transformers

from adapterkit.errors import BackboneError
from adapterkit.recipe.kinds import FACTS, KINDS

_OF_TRUNK = {facts.trunk: facts.mapping for facts in FACTS.values() if facts.trunk != "any"}
"""What a trunk is -> the table of its language models."""


def is_causal(config: Any) -> bool:
    """Whether every token of the trunk sees only the ones before it: GPT-2, Llama, not BERT, not T5.

    BERT's config maps to a causal class too, for use as a decoder; only `is_decoder` makes it one. And some decoders
    were turned into encoders, which their config says (EmbeddingGemma).
    """
    if getattr(config, "is_encoder_decoder", False) or getattr(config, "use_bidirectional_attention", False) is True:
        return False
    if getattr(config, "is_decoder", False):
        return True
    return type(config) in _models(_OF_TRUNK["decoder"]) and type(config) not in _models(_OF_TRUNK["encoder"])


def model_class(config: Any, kind: str) -> type[Any] | None:
    """The class that transformers has for this config and this kind of task, or None. Raises BackboneError: no such
    kind.

    Language modelling goes by what the trunk is: masked for encoders, causal for decoders, seq2seq for
    encoder-decoders, even where transformers has a class for another use (BART's decoder alone, BERT as a decoder).
    """
    if kind not in FACTS:
        raise BackboneError(f"{kind!r} is not a kind of task", remedy=f"Take one of {', '.join(KINDS)}.")
    facts = FACTS[kind]
    mapping = _models(facts.mapping)
    if facts.trunk not in ("any", _trunk(config)) or type(config) not in mapping:
        return None
    found: Any = mapping[type(config)]
    # A config may map to several classes; the first is the one that the auto class takes.
    first: type[Any] = found[0] if isinstance(found, list | tuple) else found
    return first


def _models(mapping: str) -> Any:
    """A table of transformers: configs and their classes."""
    return getattr(transformers, mapping)


def _trunk(config: Any) -> str:
    if getattr(config, "is_encoder_decoder", False):
        return "encoder-decoder"
    return "decoder" if is_causal(config) else "encoder"
