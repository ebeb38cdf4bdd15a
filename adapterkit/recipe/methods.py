"""The methods that come with adapterkit: their settings, and which one a `method` block means."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from adapterkit.recipe.method import MethodSettings
from adapterkit.recipe.settings import Many, refuse, twice
from adapterkit.recipe.table import SettingsTable

MAX_RANK = 4096
MAX_WIDTH = 1 << 16
MAX_ALPHA = 1e6
"""What an artifact holds at most. A recipe that asks for more would train what cannot be saved."""

Share = Annotated[float, Field(ge=0, lt=1)]
Layer = Annotated[int, Field(ge=0)]

Rank = Annotated[int, Field(ge=1, le=MAX_RANK)]
Alpha = Annotated[float, Field(gt=0, le=MAX_ALPHA)]
Width = Annotated[int, Field(ge=1, le=MAX_WIDTH)]

DEFAULT_REDUCTION = {"houlsby": 16.0, "pfeiffer": 16.0, "parallel": 2.0}
DEFAULT_SCALE = {"houlsby": 1.0, "pfeiffer": 1.0, "parallel": 4.0}


class LoraMethod(MethodSettings):
    """Low-rank updates of linear sites (Hu et al. 2021), through PEFT."""

    kind: Literal["lora"] = "lora"
    """Low-rank updates beside the linear layers."""
    rank: Rank = 8
    """Rank of the update. Higher: more accurate on hard tasks, larger artifact."""
    alpha: Alpha = 16.0
    """The update is scaled by alpha / rank. Higher: works like a higher learning rate, less stable."""
    dropout: Share = 0.0
    """Dropout on the input of the update. Higher: less over-fitting on small data, slower learning."""
    sites: Many[Annotated[str, Field(min_length=1)]] | Literal["auto", "all-linear"] = "auto"
    """Where to attach, by name: attention.query, feedforward.output, … More sites: more accurate, larger and slower.
    auto: attention query and value. all-linear: every linear layer of the trunk."""
    layers: Many[Layer] | None = None
    """Layer numbers that are adapted, from 0. null: all. Fewer: smaller, faster, and the layers below can be cached."""
    top: Annotated[int, Field(ge=1)] | None = None
    """Adapt only this many top layers, instead of naming layers. Fewer: faster, less accurate."""
    rank_pattern: dict[Annotated[str, Field(min_length=1)], Rank] = Field(default={})
    """A rank of its own for a site, or for one layer of it: attention.query: 16, attention.query@5: 4."""
    alpha_pattern: dict[Annotated[str, Field(min_length=1)], Alpha] = Field(default={})
    """An alpha of its own for a site, or for one layer of it."""
    rslora: bool = False
    """Scale by alpha / √rank instead of alpha / rank. true: high ranks learn as fast as low ones."""
    dora: bool = False
    """Learn magnitude and direction apart (DoRA). true: better at low ranks, slower."""
    initialization: Literal["default", "gaussian", "pissa", "olora", "orthogonal"] = "default"
    """How the update starts. pissa and olora start from the weights themselves: they learn faster, and the artifact has
    twice the rank."""
    bias: Literal["none", "all", "lora_only"] = "none"
    """Which biases are trained too. all: slightly more accurate, a larger artifact that cannot share a batch."""

    @property
    def words(self) -> str:
        return f"rank-{self.rank} {'DoRA' if self.dora else 'LoRA'}"

    def size_at(self, hidden_size: int) -> int:
        return max([self.rank, *self.rank_pattern.values()])

    @property
    def moves_weight(self) -> bool:
        """Whether it starts with a part of the backbone's own weights, and is saved at twice the rank therefore."""
        return self.initialization in ("pissa", "olora")

    @property
    def reads_weights(self) -> bool:
        return self.moves_weight or self.dora or self.bias != "none"

    @model_validator(mode="after")
    def _together(self) -> Self:
        problems = [*_layer_problems(self.layers, self.top), *_site_problems(self.sites)]
        largest = self.size_at(0)
        if self.moves_weight and 2 * largest > MAX_RANK:
            which = f"with {self.initialization} is saved at twice {largest:,}"
            problems.append(("rank", f"{which}, expected at most {MAX_RANK:,} there"))
        refuse(problems)
        return self


class BottleneckMethod(MethodSettings):
    """Small two-layer networks after or beside the sublayers (Houlsby 2019, Pfeiffer 2020, He 2021)."""

    reads_weights: ClassVar[bool] = False
    kind: Literal["bottleneck"] = "bottleneck"
    """A small network with a narrow middle."""
    placement: Literal["houlsby", "pfeiffer", "parallel"] = "pfeiffer"
    """houlsby: after attention and after feed-forward, the most parameters. pfeiffer: after feed-forward only.
    parallel: beside feed-forward, the strongest per parameter on generation."""
    cross_attention: bool = False
    """Whether to stand at the cross-attention of a decoder that reads an encoder (T5, BART) too, as LoRA does. true:
    more accurate where targets copy from sources, more parameters."""
    width: Width | None = None
    """Width of the middle. Higher: more accurate on hard tasks, larger artifact. null: hidden width /
    reduction_factor."""
    reduction_factor: Annotated[float, Field(gt=0)] | None = None
    """Hidden width divided by the width of the middle. Higher: smaller artifact. null: 16, or 2 for parallel."""
    activation: Literal["relu", "gelu", "gelu_tanh", "silu", "tanh", "sigmoid", "leaky_relu", "identity"] = "relu"
    """The function in the middle. gelu_tanh: GELU's approximation by tanh, as in GPT-2."""
    scale: Annotated[float, Field(gt=0)] = Field(
        default_factory=lambda block: DEFAULT_SCALE.get(block.get("placement"), 1.0)
    )
    """Factor on the output. Higher: works like a higher learning rate. Not given: 1, or 4 for parallel (He et al.
    2021)."""
    scale_learned: bool = False
    """Whether the factor is trained, from `scale` on. true: one parameter more per sublayer, slower to settle."""
    dropout: Share = 0.0
    """Dropout on the output. Higher: less over-fitting on small data, slower learning."""
    layers: Many[Layer] | None = None
    """Layer numbers that are adapted, from 0. null: all. Fewer: smaller, faster, and the layers below can be cached."""
    top: Annotated[int, Field(ge=1)] | None = None
    """Adapt only this many top layers, instead of naming layers. Fewer: faster, less accurate."""

    @property
    def words(self) -> str:
        return f"bottleneck ({self.placement})"

    @property
    def label(self) -> str:
        return self.placement

    @property
    def computes(self) -> str:
        return (
            f"{self.placement}, {self.activation}, {'a learned scale' if self.scale_learned else f'scale {self.scale}'}"
        )

    def size_at(self, hidden_size: int) -> int:
        return self.width_for(hidden_size)

    @property
    def sublayers(self) -> tuple[str, ...]:
        """The residual branches at whose ends it stands."""
        first = ("attention",) if self.placement == "houlsby" else ()
        return (*first, *(("cross_attention",) if self.cross_attention else ()), "feedforward")

    def width_for(self, hidden_size: int) -> int:
        """Width of the middle for a hidden width: `int(hidden // factor)`, at least 1, as AdapterHub has it."""
        if self.width is not None:
            return self.width
        factor = self.reduction_factor if self.reduction_factor is not None else DEFAULT_REDUCTION[self.placement]
        return max(1, int(hidden_size // factor))

    @model_validator(mode="after")
    def _together(self) -> Self:
        problems = _layer_problems(self.layers, self.top)
        if self.width is not None and self.reduction_factor is not None:
            problems.append(("reduction_factor", f"stands beside width ({self.width}); set one of the two"))
        refuse(problems)
        return self


class Ia3Method(MethodSettings):
    """Vectors that scale what linears give or read (IA3, Liu et al. 2022), through PEFT."""

    reads_weights: ClassVar[bool] = False
    kind: Literal["ia3"] = "ia3"
    """One factor for every channel: the smallest artifacts."""
    sites: Many[Annotated[str, Field(min_length=1)]] | Literal["auto"] = "auto"
    """Where to scale, by name. More sites: slightly more accurate, larger. auto: as in the paper, keys, values (or the
    fused qkv, as PEFT does on GPT-2) and the inner activations of the feed-forward (feedforward.output)."""
    inputs: Many[Annotated[str, Field(min_length=1)]] | Literal["auto"] = "auto"
    """Those of the sites whose input is scaled instead of the output. auto: feedforward.output."""
    layers: Many[Layer] | None = None
    """Layer numbers that are adapted, from 0. null: all. Fewer: smaller, faster, and the layers below can be cached."""
    top: Annotated[int, Field(ge=1)] | None = None
    """Adapt only this many top layers, instead of naming layers. Fewer: faster, less accurate."""

    @property
    def words(self) -> str:
        return "IA3"

    @model_validator(mode="after")
    def _together(self) -> Self:
        problems = [*_layer_problems(self.layers, self.top), *_site_problems(self.sites)]
        if isinstance(self.inputs, tuple):
            problems += twice("inputs", self.inputs)
            if isinstance(self.sites, tuple):
                problems += [
                    ("inputs", f"names {name!r}, which is not one of sites")
                    for name in self.inputs
                    if name not in self.sites
                ]
        refuse(problems)
        return self


class FusionMethod(MethodSettings):
    """Attention over the outputs of several frozen bottlenecks (AdapterFusion, Pfeiffer et al. 2021)."""

    kind: Literal["fusion"] = "fusion"
    """A mixture of bottlenecks that were trained before, weighed anew for every token."""
    parts: Many[Annotated[str, Field(min_length=1)]]
    """Folders of the bottleneck artifacts, at least two: one placement, the same layers, the same backbone. They stay
    as they are."""
    query_width: Width | None = None
    """Width in which queries and keys are compared. Lower: a smaller artifact, coarser choices. null: the hidden width,
    as in the paper."""
    value: bool = True
    """Whether the mixture goes through a matrix of its own, which starts as the identity. false: a third of the
    parameters less, the parts' outputs are only weighed."""
    dropout: Share = 0.0
    """Dropout on the scores, before the softmax. Higher: less over-fitting on small data, slower learning."""

    @property
    def words(self) -> str:
        return f"{len(self.parts)}-part fusion"

    def part_folders(self) -> tuple[str, ...]:
        return self.parts

    def portable(self) -> dict[str, Any]:
        return {**super().portable(), "parts": [part_name(folder) for folder in self.parts]}

    @model_validator(mode="after")
    def _together(self) -> Self:
        problems = twice("parts", self.parts)
        if len(self.parts) < 2:
            problems.append(("parts", f"names {len(self.parts)}; a fusion needs two or more"))
        names = [part_name(folder) for folder in self.parts]
        problems += [
            ("parts", f"calls several folders {name!r}; the last name of a path is the part's, so rename a folder")
            for name in sorted({name for name in names if names.count(name) > 1})
            if not twice("parts", self.parts)
        ]
        problems += [
            ("parts", f"found {folder!r}, expected a folder with a name of its own, which does not begin with a dot")
            for folder, name in zip(self.parts, names, strict=True)
            if not name or name.startswith(".")
        ]
        refuse(problems)
        return self


def part_name(folder: str) -> str:
    """What a part is called: the last name of its path."""
    return folder.replace("\\", "/").rstrip("/").rpartition("/")[2]


class NoMethod(MethodSettings):
    """Nothing is attached: the head alone is trained."""

    attaches: ClassVar[bool] = False

    reads_weights: ClassVar[bool] = False
    kind: Literal["none"] = "none"
    """Head only."""

    @property
    def words(self) -> str:
        return "head-only"


METHOD_SETTINGS: SettingsTable[MethodSettings] = SettingsTable(
    "method",
    MethodSettings,
    {"lora": LoraMethod, "bottleneck": BottleneckMethod, "ia3": Ia3Method, "fusion": FusionMethod, "none": NoMethod},
)
"""Kind -> settings: adapterkit's own, and those of installed packages."""


def _layer_problems(layers: tuple[int, ...] | None, top: int | None) -> list[tuple[str, str]]:
    problems: list[tuple[str, str]] = []
    if layers is not None:
        problems += twice("layers", layers)
        if not layers:
            problems.append(
                ("layers", "is empty; name at least one layer, or write null for all, or method.kind: none")
            )
        if top is not None:
            problems.append(("top", f"stands beside layers ({list(layers)}); set one of the two"))
    return problems


def _site_problems(sites: tuple[str, ...] | str) -> list[tuple[str, str]]:
    if isinstance(sites, str):
        return []
    empty = [("sites", 'is empty; name at least one site, or write "auto", or method.kind: none')]
    return twice("sites", sites) or empty * (not sites)
