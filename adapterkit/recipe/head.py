"""The `head` block: what turns the backbone's output into the task's output."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from adapterkit.recipe.kinds import FACTS
from adapterkit.recipe.methods import Share, Width
from adapterkit.recipe.settings import Many, Settings, refuse, twice
from adapterkit.recipe.suggestions import did_you_mean
from adapterkit.recipe.table import SettingsTable

KINDS: Mapping[str, frozenset[str]] = {
    "auto": frozenset({"pooling", "normalize", "dropout", "tokens"}),
    "family": frozenset({"tokens"}),
    "linear": frozenset({"pooling", "normalize", "dropout"}),
    "mlp": frozenset({"pooling", "normalize", "dropout", "hidden"}),
    "attention": frozenset({"normalize", "dropout"}),
}
"""Kind of a head that comes with adapterkit -> which of the other settings have an effect on it."""


class HeadSettings(Settings):
    """What turns the backbone's output into the task's output. Heads of other packages derive their settings from this.

    Attributes:
        implementation: of a head that another package brings: "package.module:name" of its `heads.headed.Head`.
        uses: of such a head, which of pooling, normalize, dropout and hidden have an effect on it.
    """

    implementation: ClassVar[str] = ""
    uses: ClassVar[frozenset[str]] = frozenset()

    kind: Annotated[str, Field(json_schema_extra={"enum": list(KINDS)})] = "auto"
    """family: the head of the backbone's own AutoModelFor… class. linear, mlp, attention: adapterkit's, from small to
    large. auto: what wins without tuning for the kind."""
    pooling: Literal["auto", "mean", "first", "last"] = "auto"
    """How token states become one vector. auto: what the checkpoint says, or what suits its family."""
    normalize: bool = False
    """Whether that vector is brought to length 1, as sentence-transformers' Normalize and SetFit's normalize_embeddings
    do. true: only its direction counts, and a linear head needs larger weights: a higher head_learning_rate."""
    dropout: Share = 0.0
    """Dropout before the head. Higher: less over-fitting on small data, slower learning."""
    hidden: Width | None = None
    """Width of the mlp head. Higher: more accurate on hard tasks, larger artifact. null: the backbone's width."""

    tokens: Many[Annotated[str, Field(min_length=1, max_length=200)]] = Field(default=(), max_length=64)
    """Tokens of a language model whose rows of the projection to the vocabulary are trained, as in ["</s>"], where the
    checkpoint cannot learn to end. More: a larger artifact."""

    @property
    def is_chosen(self) -> bool:
        """Whether the kind is not left to `auto`."""
        return self.kind != "auto"

    @property
    def is_own(self) -> bool:
        """Whether it is a head that the family's classes lack: one of adapterkit's, or of another package's."""
        return self.is_chosen and self.kind != "family"

    @property
    def pools(self) -> bool:
        """Whether it pools by `pooling`, where one vector per sequence is read."""
        return "pooling" in self.effective

    @property
    def effective(self) -> frozenset[str]:
        """Which of pooling, normalize, dropout, hidden and tokens have an effect."""
        return KINDS.get(self.kind, self.uses)

    @model_validator(mode="after")
    def _together(self) -> Self:
        if type(self) is HeadSettings and self.kind not in KINDS:
            hint = did_you_mean(self.kind, KINDS)
            refuse([("kind", f"found {self.kind!r}, expected one of {', '.join(KINDS)}{hint}")])
        reasons = {
            "pooling": (self.pooling != "auto", "pools by itself"),
            "normalize": (self.normalize, "takes the family's states as they are"),
            "dropout": (self.dropout > 0, "takes it from the backbone"),
            "hidden": (self.hidden is not None, "has no hidden layer"),
            "tokens": (bool(self.tokens), "has no projection to the vocabulary"),
        }
        problems = [
            (name, f"has no effect on a head of kind {self.kind}, which {reason}; remove it")
            for name, (is_given, reason) in reasons.items()
            if is_given and name not in self.effective
        ]
        refuse(problems + twice("tokens", self.tokens))
        return self


def head_problems(kind: str, head: HeadSettings) -> list[tuple[str, str]]:
    """Settings of a head, as paths in its block, that have no meaning for a kind of task."""
    facts = FACTS[kind]
    problems = []
    if not facts.pooled:
        given = {"pooling": head.pooling != "auto", "normalize": head.normalize}
        reason = f"has no meaning for {kind}, which reads every token; remove it"
        problems += [(name, reason) for name, is_given in given.items() if is_given]
    if head.tokens and not facts.borrows_head:
        problems.append(("tokens", f"has no meaning for {kind}, which is no language model; remove it"))
    return problems


HEAD_SETTINGS: SettingsTable[HeadSettings] = SettingsTable("head", HeadSettings, dict.fromkeys(KINDS, HeadSettings))
"""Kind -> settings: adapterkit's own, and those of installed packages."""
