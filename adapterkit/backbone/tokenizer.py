"""The tokenizer of a backbone: loaded, given a pad token where it has none, and told apart from others."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from adapterkit.errors import BackboneError

_SETTINGS_FILE = "tokenizer_config.json"
# Files that hold a vocabulary. Without any, transformers makes a tokenizer of a few special tokens and says nothing.
_VOCABULARY_FILES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
    "tekken.json",
)
# Tokens that some tokenizers reserve for padding without saying so.
_RESERVED_PADS = ("<pad>", "[PAD]", "<|pad|>", "<|finetune_right_pad_id|>", "<|finetune_right_pad|>", "<PAD>")
# What changes how a text is cut to a batch, not how it is read.
_TRANSIENT = ("truncation", "padding", "version")
# What a generation config says about how it was written, or how text is computed and handed out, and not which text.
_UNHEARD = (
    *("transformers_version", "_from_model_config", "use_cache", "return_dict_in_generate"),
    *("output_attentions", "output_hidden_states", "output_scores", "output_logits"),
)


def load_tokenizer(folder: Path, *, causal: bool, embedding_rows: int, config_pad: int | None, remote: bool) -> Any:
    """The checkpoint's tokenizer, with a pad token.

    A tokenizer without a fast version is taken as it is: it encodes and decodes, but gives no character offsets and no
    word numbers, so the tasks that need them refuse it (`is_fast` is False). A decoder's tokenizer without a pad token
    gets a token that is already in the vocabulary, so that no embedding has to grow; padding is masked anyway.

    Raises BackboneError: none in the folder, or one that does not load, has tokens without a row of the embedding, or
    none for padding.
    """
    if not has_tokenizer(folder):
        raise _no_tokenizer(folder)
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=remote)
    # tokenizers' own errors are bare Exceptions, so nothing narrower holds them all; the cause stays attached.
    except Exception as error:
        lines = str(error).strip().splitlines()
        raise BackboneError(
            f"the tokenizer in {folder} does not load",
            [f"{type(error).__name__}: {lines[0] if lines else ''}"],
            "Fetch the tokenizer's files again. Some need the sentencepiece or tiktoken package.",
        ) from error
    # A tokenizer in Python may need no file (ByT5's tokens are bytes), a fast one always does.
    if tokenizer.is_fast and not _has_any(folder, (*_VOCABULARY_FILES, *type(tokenizer).vocab_files_names.values())):
        raise _no_tokenizer(folder)
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    _check_rows(folder, vocabulary, embedding_rows)
    if tokenizer.pad_token_id is None:
        _set_pad(folder, tokenizer, vocabulary, config_pad, causal=causal)
    return tokenizer


def has_tokenizer(folder: Path) -> bool:
    """Whether files of a tokenizer lie in a folder."""
    return _has_any(folder, (_SETTINGS_FILE, *_VOCABULARY_FILES))


def _has_any(folder: Path, names: Iterable[str]) -> bool:
    return any((folder / name).is_file() for name in names)


def _no_tokenizer(folder: Path) -> BackboneError:
    return BackboneError(
        f"{folder} holds no tokenizer",
        [f"expected one of {', '.join(_VOCABULARY_FILES)}"],
        "Save it beside the weights: tokenizer.save_pretrained(folder).",
    )


def _check_rows(folder: Path, vocabulary: dict[str, int], embedding_rows: int) -> None:
    beyond = sorted((token for token, number in vocabulary.items() if number >= embedding_rows), key=vocabulary.get)  # type: ignore[arg-type]
    if not vocabulary or beyond:
        raise BackboneError(
            f"the tokenizer in {folder} does not fit the weights",
            [
                f"{token!r}: id {vocabulary[token]}, the embedding has rows 0 to {embedding_rows - 1}"
                for token in beyond[:8]
            ]
            or ["its vocabulary is empty"],
            "Put the tokenizer that the weights were trained with into the folder.",
        )


def _set_pad(folder: Path, tokenizer: Any, vocabulary: dict[str, int], config_pad: int | None, *, causal: bool) -> None:
    if not causal:
        raise BackboneError(
            f"the tokenizer in {folder} has no pad token",
            remedy='Name one of its tokens in tokenizer_config.json, as in "pad_token": "[PAD]".',
        )
    by_number = {number: token for token, number in vocabulary.items()}
    ends = {tokenizer.bos_token, tokenizer.eos_token}
    unknown = None if tokenizer.unk_token in ends else tokenizer.unk_token
    candidates = (
        by_number.get(config_pad) if config_pad is not None else None,
        *(token for token in _RESERVED_PADS if token in vocabulary),
        unknown,
        tokenizer.eos_token,
        tokenizer.bos_token,
    )
    pad = next((token for token in candidates if token is not None and token in vocabulary), None)
    if pad is None:
        raise BackboneError(
            f"the tokenizer in {folder} has no pad token, and no unknown, end or begin token to take for it",
            remedy='Name one of its tokens in tokenizer_config.json, as in "pad_token": "<pad>".',
        )
    tokenizer.pad_token = pad


def tokenizer_digest(tokenizer: Any) -> str:
    """SHA-256 over how the tokenizer reads and writes text: vocabulary, added tokens, normalisation, splitting, model,
    special tokens around a text, and what is cleaned up of a text that was decoded.

    Padding and truncation, which a tokenizer changes at every call, do not count, nor which token pads.
    """
    state: dict[str, Any] = {
        "cleaned_up": bool(getattr(tokenizer, "clean_up_tokenization_spaces", False)),
        "vocabulary": sorted(tokenizer.get_vocab().items()),
        "special": {
            name: str(token) for name, token in sorted(tokenizer.special_tokens_map.items()) if name != "pad_token"
        },
    }
    if tokenizer.is_fast:
        backend = json.loads(tokenizer.backend_tokenizer.to_str())
        state["backend"] = {key: value for key, value in backend.items() if key not in _TRANSIENT}
        state["backend"]["added_tokens"] = sorted(state["backend"].get("added_tokens") or [], key=lambda t: t["id"])
        model = state["backend"].get("model", {})
        if isinstance(model.get("vocab"), dict):  # Unigram's is a list that holds scores too, so that one stays
            model.pop("vocab")
    else:
        state["class"] = type(tokenizer).__name__
        state["added_tokens"] = sorted(
            (number, token.__getstate__()) for number, token in tokenizer.added_tokens_decoder.items()
        )
        # Whether it lowers letters, splits words, strips accents: settings of its class.
        state["settings"] = {
            name: value for name, value in tokenizer.init_kwargs.items() if isinstance(value, bool | int | float)
        }
    return _sha256(state)


def template_digest(tokenizer: Any) -> str:
    """SHA-256 of what the tokenizer makes of chats; "" where it has no template."""
    template = getattr(tokenizer, "chat_template", None)
    return _sha256(template) if template else ""


def generation_digest(settings: Mapping[str, Any]) -> str:
    """SHA-256 of a generation_config.json; "" where it says nothing."""
    said = {name: value for name, value in settings.items() if name not in _UNHEARD and value is not None}
    return _sha256(said) if said else ""


def _sha256(value: Any) -> str:
    text = json.dumps(_without_nulls(value), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", errors="surrogatepass")).hexdigest()


def _without_nulls(value: Any) -> Any:
    """The value without null fields, so that a library that begins to write a new optional field changes nothing."""
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_without_nulls(item) for item in value]
    return value
