"""What a checkpoint's generation config asks for, kept for every row by itself.

transformers makes the rules of a batch from one limit and one padded length, so that a row's text would depend on what
stands beside it: BART's forced end token falls due at the longest row's limit, a least length counts the padding before
a prompt, and padding counts as repeated. Here every row has rules of its own: transformers' own classes, made as for a
batch of one and shown the row's own tokens. What cannot be had row by row is refused by name.

Axes: N rows times beams, T tokens, V vocabulary.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig
from transformers.generation import logits_process as rules

from adapterkit.errors import BackboneError

FILE = "generation_config.json"


@dataclass(frozen=True)
class RowFacts:
    """What the rules of one row are made from: the padding before its prompt, the prompt's tokens (1, the start token,
    where an encoder has read the text), the most tokens that it may go on by, the tokens that it read (1, T), and its
    end tokens (E,)."""

    padding_tokens: int
    prompt_tokens: int
    new_tokens: int
    read: Tensor
    ends: Tensor


Rule = Callable[[GenerationConfig, RowFacts], Any]

RULES: Mapping[str, Rule] = {
    "sequence_bias": lambda c, row: rules.SequenceBiasLogitsProcessor(c.sequence_bias),
    "encoder_repetition_penalty": lambda c, row: rules.EncoderRepetitionPenaltyLogitsProcessor(
        c.encoder_repetition_penalty, row.read
    ),
    "repetition_penalty": lambda c, row: rules.RepetitionPenaltyLogitsProcessor(c.repetition_penalty),
    "no_repeat_ngram_size": lambda c, row: rules.NoRepeatNGramLogitsProcessor(c.no_repeat_ngram_size),
    "encoder_no_repeat_ngram_size": lambda c, row: rules.EncoderNoRepeatNGramLogitsProcessor(
        c.encoder_no_repeat_ngram_size, row.read
    ),
    "bad_words_ids": lambda c, row: rules.NoBadWordsLogitsProcessor(c.bad_words_ids, row.ends),
    "min_length": lambda c, row: rules.MinLengthLogitsProcessor(c.min_length, row.ends, row.ends.device),
    "min_new_tokens": lambda c, row: rules.MinNewTokensLengthLogitsProcessor(
        row.prompt_tokens, c.min_new_tokens, row.ends, row.ends.device
    ),
    "forced_bos_token_id": lambda c, row: rules.ForcedBOSTokenLogitsProcessor(c.forced_bos_token_id),
    "forced_eos_token_id": lambda c, row: rules.ForcedEOSTokenLogitsProcessor(
        row.prompt_tokens + row.new_tokens, c.forced_eos_token_id, row.ends.device
    ),
    "remove_invalid_values": lambda c, row: rules.InfNanRemoveLogitsProcessor(),
    "exponential_decay_length_penalty": lambda c, row: rules.ExponentialDecayLengthPenalty(
        c.exponential_decay_length_penalty, row.ends, row.prompt_tokens
    ),
    "suppress_tokens": lambda c, row: rules.SuppressTokensLogitsProcessor(c.suppress_tokens, row.ends.device),
    "begin_suppress_tokens": lambda c, row: rules.SuppressTokensAtBeginLogitsProcessor(
        c.begin_suppress_tokens,
        # A forced first token stands before the one that begins.
        row.prompt_tokens + (row.prompt_tokens == 1 and c.forced_bos_token_id is not None),
        row.ends.device,
    ),
    "renormalize_logits": lambda c, row: rules.LogitNormalization(),
}
"""Field -> the rule of one row, in the order in which transformers applies them."""

SHARED = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id", "use_cache")
"""Fields that are handed to transformers as they are: they say the same to every row, in any batch."""

OF_BEAMS = ("length_penalty", "early_stopping")
"""The same, where beams are followed."""

REFUSED = (
    *("num_return_sequences", "guidance_scale", "token_healing", "watermarking_config", "max_time", "num_beam_groups"),
    *("diversity_penalty", "penalty_alpha", "dola_layers", "constraints", "force_words_ids"),
    *("prompt_lookup_num_tokens", "use_mtp", "speculation_type", "assistant_early_exit"),
)
"""Fields that change what is generated in ways that cannot be had row by row."""

_OFF: Mapping[str, Any] = {
    **dict.fromkeys(("repetition_penalty", "encoder_repetition_penalty", "guidance_scale"), 1),
    **dict.fromkeys(("num_return_sequences", "num_beam_groups"), 1),
    **dict.fromkeys(("no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "min_length", "min_new_tokens"), 0),
    **dict.fromkeys(("diversity_penalty", "penalty_alpha"), 0),
    **dict.fromkeys(("remove_invalid_values", "renormalize_logits", "token_healing", "use_mtp"), False),
}
"""The value with which a field asks for nothing, beside null."""


def generation_config(asked: Mapping[str, Any], folder: Path, config: Any, tokenizer: Any) -> GenerationConfig:
    """The settings that stand in the checkpoint's file (`asked`), else those that its config implies; they never sample
    by default. A row ends at the tokenizer's end token too, which is what an adapter learns to end with.

    Raises BackboneError: values that transformers refuses, or fields that cannot be honoured.
    """
    try:
        found = GenerationConfig.from_dict(dict(asked)) if asked else GenerationConfig.from_model_config(config)
    except (TypeError, ValueError) as error:
        told = [f"{type(error).__name__}: {str(error)[:200]}"]
        raise BackboneError(f"{folder / FILE} cannot be read", told, "Correct it or remove it.") from error
    refused = [name for name in REFUSED if _asks(found, name)]
    if refused:
        raise BackboneError(
            f"{folder / FILE} asks for what cannot be honoured for every row by itself",
            [f"{name}: found {getattr(found, name)!r:.60}, expected null" for name in refused],
            "Remove these fields from the file.",
        )
    if found.pad_token_id is None:
        found.pad_token_id = tokenizer.pad_token_id
    ends = ends_of(found)
    if tokenizer.eos_token_id not in (None, *ends):
        found.eos_token_id = [*ends, tokenizer.eos_token_id] if ends else tokenizer.eos_token_id
    return found


def ends_of(config: GenerationConfig) -> list[int]:
    """The tokens at which a row ends."""
    ends = config.eos_token_id
    return [] if ends is None else [ends] if isinstance(ends, int) else list(ends)


def stops_of(config: GenerationConfig) -> tuple[str, ...]:
    """The texts at which the checkpoint wants every row to end."""
    stops = config.stop_strings
    return () if stops is None else (stops,) if isinstance(stops, str) else tuple(stops)


def shared_settings(config: GenerationConfig, *, beams: int, new_tokens: int) -> GenerationConfig:
    """What transformers may be told for a whole batch."""
    names = (*SHARED, *OF_BEAMS) if beams > 1 else SHARED
    shared = {name: getattr(config, name) for name in names}
    return GenerationConfig(max_new_tokens=new_tokens, num_beams=beams, do_sample=False, **shared)


class RowRules(rules.LogitsProcessor):  # type: ignore[misc]
    """Applies every row's own rules to its own tokens."""

    def __init__(self, config: GenerationConfig, rows: Sequence[RowFacts]) -> None:
        asked = [rule for name, rule in RULES.items() if _asks(config, name)]
        self._rows = [(row.padding_tokens, [rule(config, row) for rule in asked]) for row in rows]
        self.are_there = bool(asked)

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        each = len(scores) // len(self._rows)  # every row has as many sequences as beams are followed
        done = []
        for place, (ids_1T, score_1V) in enumerate(zip(input_ids.split(1), scores.split(1), strict=True)):
            padding, own = self._rows[place // each]
            for rule in own:
                score_1V = rule(ids_1T[:, padding:], score_1V)
            done.append(score_1V)
        return torch.cat(done)


def _asks(config: GenerationConfig, name: str) -> bool:
    """Whether a field asks for something."""
    value = getattr(config, name, None)
    return value is not None and not (name in _OFF and value == _OFF[name])
