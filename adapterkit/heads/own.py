"""Own heads: over pooled or token states, beside those of the families.

They exist for ablations, for kinds that a family lacks (multiple choice on Llama), and because mean pooling beats a
pretrained pooler on many encoders. On encoder-decoders they read the encoder.

Axes: B rows, T tokens, K choices, D hidden width, C classes, M width of the hidden layer.
"""

from abc import abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from adapterkit.backbone import Backbone
from adapterkit.backbone.trunk import without_pooler
from adapterkit.errors import HeadError
from adapterkit.heads.headed import Head, Headed, S, run_in_float32, without_cache
from adapterkit.heads.pooling import FixedPooling
from adapterkit.recipe.kinds import FACTS

HEAD_NAME = "adapterkit_head"
"""Where an own head stands in the module, and so in the artifact's keys."""


class EncoderOnly(nn.Module):
    """The encoder of an encoder-decoder, under the name that it has in the trunk.

    Without the decoder beside it no method attaches there, where it would be saved and never trained.
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, **inputs: Tensor) -> Any:
        return self.encoder(**inputs)


class OwnModel(nn.Module):
    """The shared trunk with an own head.

    The trunk stands under its family's usual name, so that method tensors have the same paths as in transformers'
    own classes.
    """

    def __init__(
        self, trunk: nn.Module, prefix: str, pools: bool, normalize: bool, pooling: nn.Module, output: nn.Module
    ) -> None:
        super().__init__()
        setattr(self, prefix, trunk)
        self.prefix = prefix
        self.pools = pools
        self.normalize = normalize
        self._settings = without_cache(trunk)
        self.add_module(HEAD_NAME, nn.ModuleDict({"pooling": pooling, "output": output}))

    def forward(self, **inputs: Tensor) -> Tensor:
        """Logits: (B, C) pooled, (B, T, C) per token, (B, K) for multiple choice."""
        if self.pools:
            return self.answer(self.vectors(inputs), inputs)
        head: Any = getattr(self, HEAD_NAME)
        logits: Tensor = head["output"](self._states(inputs))
        return logits

    def vectors(self, inputs: dict[str, Tensor]) -> Tensor:
        """What the head's pooling makes of every text, (B, D), or (B·K, D) for multiple choice."""
        flat = {name: value.flatten(0, -2) for name, value in inputs.items()}
        head: Any = getattr(self, HEAD_NAME)
        vectors_BD: Tensor = head["pooling"](self._states(flat), flat["attention_mask"])
        return vectors_BD

    def answer(self, vectors_BD: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        """Logits from pooled texts, (B, C), or (B, K) for multiple choice."""
        head: Any = getattr(self, HEAD_NAME)
        if self.normalize:
            vectors_BD = nn.functional.normalize(vectors_BD, dim=-1)
        logits: Tensor = head["output"](vectors_BD)
        ids = inputs["input_ids"]
        return logits.view(ids.shape[:2]) if ids.ndim == 3 else logits

    def _states(self, inputs: dict[str, Tensor]) -> Tensor:
        trunk: Any = getattr(self, self.prefix)
        states: Tensor = trunk(**inputs, **self._settings).last_hidden_state
        return states.float()


class OwnHead(Head[S]):
    """A head over pooled or token states. Its artifacts load the method alone in plain PEFT.

    Attributes:
        pooled_only: whether it has no answer for single tokens.
    """

    pooled_only: ClassVar[bool] = False

    @abstractmethod
    def output(self, width: int, classes: int, settings: S) -> nn.Module:
        """What makes logits (…, C) of states (…, D), in float32."""

    def pooling(self, width: int, settings: S) -> nn.Module:
        """What makes (B, D) of states (B, T, D) and a mask (B, T); not used where every token is answered."""
        return FixedPooling(settings.pooling)

    def build(self, backbone: Backbone, trunk: nn.Module, kind: str, classes: int, settings: S) -> Headed:
        facts = FACTS[kind]
        if facts.borrows_head:
            raise HeadError(
                f"A {settings.kind} head cannot serve {kind}: a language model's head belongs to its checkpoint",
                remedy="Use head.kind=family.",
            )
        if self.pooled_only and not facts.pooled:
            raise HeadError(
                f"A head of kind {settings.kind} pools a row to one state, and {kind} answers per token",
                remedy="Use head.kind=linear or head.kind=mlp.",
            )
        width = backbone.hidden_size
        pooling, output = self.pooling(width, settings), self.output(width, classes, settings)
        prefix = str(backbone.trunk.base_model_prefix)
        read = EncoderOnly(trunk.get_submodule("encoder")) if backbone.is_encoder_decoder else without_pooler(trunk)
        model = OwnModel(read, prefix, facts.pooled, settings.normalize, pooling, output)
        own = model.get_submodule(HEAD_NAME).to(backbone.device, torch.float32)
        run_in_float32(own)
        trained = {f"{HEAD_NAME}.{name}": parameter for name, parameter in own.named_parameters()}
        return Headed(model, trained)
