"""What a backbone gives, and what an adapter needs of it."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from adapterkit.errors import ContractError
from adapterkit.glance import in_short
from adapterkit.recipe.problems import readable, show_path

OF_GENERATION = ("generation", "chat_template")
"""What decides generated text alone."""

Count = Annotated[int, Field(gt=0, lt=2**40)]
TextSide = Literal["left", "right"]

_WORDS = {
    "hidden_size": "hidden width",
    "layers": "number of layers",
    "max_tokens": "longest input in tokens",
    "generation": "generation settings",
}
"""What a person calls a field, where that is not its name."""


class Contract(BaseModel):
    """What has to be equal for an adapter to fit a backbone."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    architecture: str
    """transformers' model type, as in "bert"."""
    hidden_size: Count
    """Width of the hidden states."""
    layers: Count
    """Of the encoder and the decoder together."""
    vocabulary_size: Count
    """Rows of the embedding."""
    tokenizer: str
    """SHA-256 of how text is read (see `tokenizer.tokenizer_digest`)."""
    max_tokens: Count | None
    """The longest input, special tokens included; None where nothing limits it."""
    padding_side: TextSide
    """The side that the tokenizer pads on by itself."""
    truncation_side: TextSide
    """The side on which it cuts what is too long."""
    generation: str
    """SHA-256 of the checkpoint's generation settings; "" where it has none of its own."""
    chat_template: str
    """SHA-256 of what its tokenizer makes of chats; "" where it has no template."""
    special_tokens: dict[str, int]
    """Role, as in "cls_token" -> id."""

    __repr__ = in_short("architecture", "layers", "hidden_size", "vocabulary_size", "max_tokens", "padding_side")

    def differences(self, other: Self, *, generates: bool = True) -> list[str]:
        """Every point on which an artifact that needs this differs from what the backbone at hand gives, naming both
        sides. Empty: they fit. Where no text is generated, generation settings and chat template do not count."""
        mine, theirs = "artifact needs", "this backbone gives"
        lines = []
        for name in type(self).model_fields:
            left, right = getattr(self, name), getattr(other, name)
            word = _WORDS.get(name, name.replace("_", " "))
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
        return self.model_dump() | {"special_tokens": dict(sorted(self.special_tokens.items()))}

    @classmethod
    def from_dict(cls, content: Any) -> Self:
        """The contract in those JSON values. Raises ContractError: fields that are missing, unknown or of another type;
        all of them are named."""
        if not isinstance(content, dict):
            raise ContractError(f"a contract is a JSON object, found {type(content).__name__}")
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            problems = readable(error, content, lambda *_: "unknown field", lambda _: "")
        raise ContractError("this is not a contract", [f"{show_path(path)}: {problem}" for path, problem in problems])


def _show(name: str, value: Any) -> str:
    if name not in ("tokenizer", *OF_GENERATION):
        return str(value)
    return f"{value[:12]}…" if value else "none of its own"
