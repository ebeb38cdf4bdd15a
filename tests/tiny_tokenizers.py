"""The tokenizers of the tiny checkpoints, made here from a few sentences."""

from __future__ import annotations

import math
import re
import string
from collections.abc import Callable
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

MAX_TOKENS = 128
SENTENCES = (
    "the quick brown fox jumps over the lazy dog",
    "my card was lost and the bank will send a new one",
    "Ada lived in London and wrote the first program",
    "where is the nearest station, and when does the train leave?",
    "seven small boats sailed past the old harbour at dawn",
    "please play some quiet music in the kitchen tonight",
    "the committee met on Tuesday; nobody took notes.",
    "add 12 eggs, 3 lemons & a bag of sugar to my list",
    "Grace found a moth in the relay and taped it into the log",
    "we walk , run and jump twice after turning left",
)
CHARACTERS = string.ascii_letters + string.digits + string.punctuation
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tokenizer_of(family: str) -> Any:
    """The tokenizer that the family's checkpoint brings."""
    return _TOKENIZERS[family.split("-")[0]]()


def _words() -> list[str]:
    return [word for sentence in SENTENCES for word in re.findall(r"\w+", sentence)]


def _wordpiece(token_types: bool) -> Any:
    """Whole words of the sentences, and single characters. Not trained: the trainer's ids differ between runs."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    characters = sorted(set(CHARACTERS.lower()))
    words = sorted({word.lower() for word in _words()} - set(characters))
    tokens = [*special, *characters, *(f"##{character}" for character in characters), *words]
    core = Tokenizer(models.WordPiece({token: i for i, token in enumerate(tokens)}, unk_token="[UNK]"))
    core.normalizer = normalizers.BertNormalizer(lowercase=True)
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.decoder = decoders.WordPiece()
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = ["input_ids", "token_type_ids", "attention_mask"] if token_types else ["input_ids", "attention_mask"]
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        model_max_length=MAX_TOKENS,
        model_input_names=names,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


def _byte_level(special: list[str], *, prefix_space: bool = False) -> Any:
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=360, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    core.train_from_iterator(SENTENCES, trainer)
    return core


def _roberta_like(model_max_length: int | None) -> Any:
    core = _byte_level(["<s>", "<pad>", "</s>", "<unk>", "<mask>"], prefix_space=True)
    core.post_processor = processors.RobertaProcessing(
        ("</s>", 2), ("<s>", 0), trim_offsets=True, add_prefix_space=True
    )
    limit = {} if model_max_length is None else {"model_max_length": model_max_length}
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        model_input_names=["input_ids", "attention_mask"],
        bos_token="<s>",
        eos_token="</s>",
        cls_token="<s>",
        sep_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
        mask_token="<mask>",
        **limit,
    )


def _modernbert() -> Any:
    core = _byte_level(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        model_max_length=MAX_TOKENS,
        model_input_names=["input_ids", "attention_mask"],
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


def _gpt2() -> Any:
    """One special token for everything and no pad token, as in the real one."""
    end = "<|endoftext|>"
    return PreTrainedTokenizerFast(
        tokenizer_object=_byte_level([end]),
        model_max_length=MAX_TOKENS,
        model_input_names=["input_ids", "attention_mask"],
        bos_token=end,
        eos_token=end,
        unk_token=end,
    )


def _llama() -> Any:
    """Begins every text with <s>, pads left and has no pad token."""
    core = _byte_level(["<unk>", "<s>", "</s>"], prefix_space=True)
    core.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        model_input_names=["input_ids", "attention_mask"],
        padding_side="left",
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
    )


def _qwen2() -> Any:
    """A chat tokenizer: no begin token, a pad token that is not the end token, and a chat template."""
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=_byte_level(special),
        model_max_length=MAX_TOKENS,
        model_input_names=["input_ids", "attention_mask"],
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>", "<|im_end|>"],
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def _t5() -> Any:
    """Whole words by their frequency, and single characters. Not trained: the trainer's ids differ between runs."""
    sentinels = [f"<extra_id_{number}>" for number in range(8)]
    words = _words()
    pieces = [
        *((token, 0.0) for token in ["<pad>", "</s>", "<unk>", *sentinels]),
        *((f"▁{word}", math.log(words.count(word) / len(words))) for word in sorted(set(words))),
        *((character, -8.0) for character in ["▁", *sorted(set(CHARACTERS))]),
    ]
    core = Tokenizer(models.Unigram(pieces, unk_id=2, byte_fallback=False))
    core.normalizer = normalizers.NFKC()
    core.pre_tokenizer = pre_tokenizers.Metaspace()
    core.decoder = decoders.Metaspace()
    core.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        model_max_length=MAX_TOKENS,
        model_input_names=["input_ids", "attention_mask"],
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
        additional_special_tokens=sentinels,
    )


_TOKENIZERS: dict[str, Callable[[], Any]] = {
    "bert": lambda: _wordpiece(token_types=True),
    "distilbert": lambda: _wordpiece(token_types=False),
    # No limit in the tokenizer: the config has to say it.
    "roberta": lambda: _roberta_like(None),
    "bart": lambda: _roberta_like(MAX_TOKENS),
    "modernbert": _modernbert,
    "gpt2": _gpt2,
    "llama": _llama,
    "mistral": _llama,
    "qwen2": _qwen2,
    "t5": _t5,
    "mpnet": lambda: _roberta_like(MAX_TOKENS),
    "deberta": lambda: _wordpiece(token_types=False),
    "electra": lambda: _wordpiece(token_types=True),
    "albert": lambda: _wordpiece(token_types=True),
    "bloom": _gpt2,
    "falcon": _gpt2,
    "gpt": _gpt2,
    "gemma": _llama,
    "mixtral": _llama,
    "deepseek": _llama,
    "lfm2": _llama,
    "qwen3.5": _qwen2,
}
