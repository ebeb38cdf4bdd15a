"""What a backbone gives, and what an adapter needs of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

from adapterkit.errors import ContractError
from adapterkit.glance import in_short

OF_GENERATION = ("generation", "chat_template")
"""What decides generated text alone."""


@dataclass(frozen=True)
class Contract:
    """What has to be equal for an adapter to fit a backbone.

    Attributes:
        architecture: transformers' model type, as in "bert".
        hidden_size: width of the hidden states.
        layers: number of layers, of the encoder and the decoder together.
        vocabulary_size: number of rows of the embedding.
        tokenizer: SHA-256 of how text is read (see `tokenizer.tokenizer_digest`).
        max_tokens: the longest input, special tokens included; None where nothing limits it.
        padding_side: the side that the tokenizer pads on by itself.
        truncation_side: the side on which it cuts what is too long.
        generation: SHA-256 of the checkpoint's generation settings; "" where it has none of its own.
        chat_template: SHA-256 of what its tokenizer makes of chats; "" where it has no template.
        special_tokens: role, as in "cls_token" -> id.
    """

    architecture: str
    hidden_size: int
    layers: int
    vocabulary_size: int
    tokenizer: str
    max_tokens: int | None
    padding_side: str
    truncation_side: str
    generation: str
    chat_template: str
    special_tokens: Mapping[str, int] = field(default_factory=dict)

    __repr__ = in_short("architecture", "layers", "hidden_size", "vocabulary_size", "max_tokens", "padding_side")

    def differences(
        self, other: Self, mine: str = "artifact needs", theirs: str = "this backbone gives", *, generates: bool = True
    ) -> list[str]:
        """Every point on which the two differ, naming both sides. Empty: they fit.

        Args:
            other: what the backbone at hand gives.
            mine: how to call this contract's side.
            theirs: how to call the other's.
            generates: whether text is generated; where it is not, generation settings and chat template do not count.
        """
        lines = []
        for name, (word, _, _) in _FIELDS.items():
            left, right = getattr(self, name), getattr(other, name)
            if name in OF_GENERATION and not generates:
                continue
            if name == "special_tokens":
                lines += [
                    f"{word}, {role}: {mine} {left.get(role)}, {theirs} {right.get(role)}"
                    for role in sorted({*left, *right})
                    if left.get(role) != right.get(role)
                ]
            elif left != right:
                lines.append(f"{word}: {mine} {_show(name, left)}, {theirs} {_show(name, right)}")
        return lines

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, in the order of the fields; `from_dict` takes them back."""
        content = {item.name: getattr(self, item.name) for item in fields(self)}
        return content | {"special_tokens": dict(sorted(self.special_tokens.items()))}

    @classmethod
    def from_dict(cls, content: Any) -> Self:
        """The contract in those JSON values.

        Raises:
            ContractError: fields that are missing, unknown or of another type; all of them are named.
        """
        if not isinstance(content, dict):
            raise ContractError(f"a contract is a JSON object, found {type(content).__name__}")
        problems = [f"{name}: missing" for name in _FIELDS if name not in content]
        problems += [f"{name}: unknown field" for name in content if name not in _FIELDS]
        problems += [
            f"{name}: found {str(content[name])[:60]!r}, expected {expected}"
            for name, (_, fits, expected) in _FIELDS.items()
            if name in content and not fits(content[name])
        ]
        if problems:
            raise ContractError("this is not a contract", problems)
        return cls(**content)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**40


def _is_limit(value: Any) -> bool:
    return value is None or _is_count(value)


def _is_side(value: Any) -> bool:
    return value in ("left", "right")


def _is_table(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(role, str) and isinstance(number, int) and not isinstance(number, bool)
        for role, number in value.items()
    )


_FIELDS: Mapping[str, tuple[str, Callable[[Any], bool], str]] = {
    "architecture": ("architecture", _is_text, "a string"),
    "hidden_size": ("hidden width", _is_count, "a positive integer"),
    "layers": ("number of layers", _is_count, "a positive integer"),
    "vocabulary_size": ("vocabulary size", _is_count, "a positive integer"),
    "tokenizer": ("tokenizer", _is_text, "a string"),
    "max_tokens": ("longest input in tokens", _is_limit, "a positive integer or null"),
    "padding_side": ("padding side", _is_side, '"left" or "right"'),
    "truncation_side": ("truncation side", _is_side, '"left" or "right"'),
    "generation": ("generation settings", _is_text, "a string"),
    "chat_template": ("chat template", _is_text, "a string"),
    "special_tokens": ("special tokens", _is_table, "an object of integers"),
}
"""Field -> what a person calls it, whether a value fits, and what is expected."""


def _show(name: str, value: Any) -> str:
    if name not in ("tokenizer", *OF_GENERATION):
        return str(value)
    return f"{value[:12]}…" if value else "none of its own"
