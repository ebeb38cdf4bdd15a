"""What an objective is to a step: a term that is added to its mean loss, `settings.weight` times.

Axes: B rows, T tokens, D hidden width, P width of the projection.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adapterkit.adapted import Adapted
from adapterkit.backbone import Backbone
from adapterkit.data import Rows
from adapterkit.errors import DeviceError, RecipeError
from adapterkit.heads.headed import run_in_float32
from adapterkit.heads.own import OwnModel
from adapterkit.recipe import TrainingSettings
from adapterkit.recipe.training import TEMPERATURES, WIDTH
from adapterkit.tasks.protocol import Batch


class Objective:
    """The method's weights near those that it began with, ½ Σ (w - w₀)²; and what all objectives have in common."""

    def __init__(self, settings: TrainingSettings, adapted: Adapted, backbone: Backbone) -> None:
        """On an adapter that stands where the run begins, and the bare backbone under it."""
        if settings.objective is None:
            raise ValueError("the recipe has no objective")
        self.settings, self._adapted = settings.objective, adapted
        self._pairs = [(now, now.detach().clone()) for now in adapted.method_parameters().values()]

    def parameters(self) -> dict[str, nn.Parameter]:
        """What learns beside the adapter, by a name of its own; a checkpoint holds it, and no artifact does."""
        return {}

    def answered(self, batch: Batch) -> tuple[Tensor, Tensor] | None:
        """Logits of a batch and the term, () in fp32, from one look at its rows; None where it needs none."""
        return None

    def penalty(self) -> Tensor:
        """The term, (), where no rows are looked at (L2-SP, Li et al. 2018)."""
        return 0.5 * torch.stack([(now - start).square().sum() for now, start in self._pairs]).sum()


class Contrastive(Objective):
    """Rows of one label near each other, or each row near its own second look under another dropout."""

    def __init__(self, settings: TrainingSettings, adapted: Adapted, backbone: Backbone) -> None:
        super().__init__(settings, adapted, backbone)
        kind, problems = self.settings.kind, []
        if kind == "supervised-contrastive" and adapted.task.problem != "single-label":
            problems.append(f"task.problem: the rows are {adapted.task.problem}, expected one label each")
        if not isinstance(adapted.module, OwnModel):
            problems.append(f"head.kind: found {adapted.head.kind}, expected one that pools rows itself: linear")
        if problems or not isinstance(adapted.module, OwnModel):
            raise RecipeError(f"training.objective {kind} cannot shape this adapter", problems)
        self._model = adapted.module
        self._temperature = self.settings.temperature or TEMPERATURES[kind]
        width = backbone.hidden_size
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            layers = nn.Linear(width, width), nn.ReLU(), nn.Linear(width, self.settings.width or WIDTH)
        self._projection = nn.Sequential(*layers).to(backbone.device, torch.float32)
        run_in_float32(self._projection)

    def parameters(self) -> dict[str, nn.Parameter]:
        """The projection's."""
        return {f"objective.projection.{name}": tensor for name, tensor in self._projection.named_parameters()}

    def answered(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """See `Objective.answered`."""
        with self._adapted.autocast():
            vectors_BD = self._model.vectors(batch.inputs)
            logits = self._model.answer(vectors_BD.detach() if self.settings.alone else vectors_BD, batch.inputs)
            z_BP = self._projected(vectors_BD)
            if self.settings.kind == "simcse":
                return logits, simcse(z_BP, self._projected(self._model.vectors(batch.inputs)), self._temperature)
            return logits, supervised_contrastive(z_BP, batch.labels, self._temperature)

    def _projected(self, vectors_BD: Tensor) -> Tensor:
        return F.normalize(self._projection(vectors_BD).float(), dim=1)

    def check_dropout(self, rows: Rows) -> None:
        """Raise RecipeError where two looks at a row are alike: then there is nothing to find."""
        adapted = self._adapted
        features = adapted.task.encode(rows, adapted.vocabulary).features
        inputs = adapted.task.collate(features, adapted.vocabulary).to(adapted.backbone.device).inputs
        adapted.train()
        with torch.random.fork_rng(devices=[]), torch.no_grad(), adapted.autocast():
            one, other = self._model.vectors(inputs), self._model.vectors(inputs)
        adapted.eval()
        if torch.equal(one, other):
            raise RecipeError(
                "training.objective simcse looks at each row twice, under two draws of dropout",
                ["dropout: found none above the lowest adapted layer, so that both looks are the same"],
                "Set method.dropout=0.1, or adapt more layers of a backbone that has dropout.",
            )


class NearBackbone(Objective):
    """The last states of the adapted trunk near those of the bare one, which reads the same rows beside it."""

    def __init__(self, settings: TrainingSettings, adapted: Adapted, backbone: Backbone) -> None:
        super().__init__(settings, adapted, backbone)
        if backbone.is_encoder_decoder:
            told = f"backbone: {backbone.contract.architecture} has an encoder and a decoder"
            raise RecipeError("training.objective near-backbone needs one list of layers", [told])
        self._trunk = adapted.module.get_submodule(str(backbone.trunk.base_model_prefix))
        self._frozen = backbone.trunk

    def answered(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """See `Objective.answered`."""
        seen: list[tuple[Mapping[str, Any], Tensor]] = []

        def look(module: Any, given: Any, inputs: Mapping[str, Any], output: Any) -> None:
            seen.append((inputs, output.last_hidden_state))

        adapted, at_BT = self._adapted, self._adapted.task.answered(batch)
        handle = self._trunk.register_forward_hook(look, with_kwargs=True)
        try:
            with adapted.autocast():
                logits = adapted.headed.logits(batch.inputs, None if at_BT is None else at_BT.flatten().nonzero()[:, 0])
        finally:
            handle.remove()
        ((inputs, states_BTD),) = seen
        with torch.no_grad(), adapted.autocast():
            frozen_BTD = self._frozen(**inputs).last_hidden_state
        mask_BT = batch.inputs["attention_mask"].flatten(0, -2)
        return logits, distance(states_BTD, frozen_BTD, mask_BT, self.settings.distance or "squares")


def make_objective(
    settings: TrainingSettings, adapted: Adapted, backbone: Backbone, rows: Rows, processes: int
) -> Objective | None:
    """The objective of a run, on an adapter that stands where the run begins; None where there is none.

    Args:
        settings: of the recipe.
        adapted: what learns.
        backbone: the bare one under it.
        rows: training rows, of which a few are looked at.
        processes: that take part.

    Raises:
        RecipeError: the task, the head or the rows are none that it can shape.
        DeviceError: several processes, where it looks at all rows of a step.
    """
    wanted = settings.objective
    if wanted is None:
        return None
    if wanted.reads_rows and processes > 1:
        raise DeviceError(
            f"training.objective {wanted.kind} looks at all rows of a step at once",
            [f"found {processes} processes, of which each has its share of the rows; expected 1"],
            "Start one process.",
        )
    kind = Contrastive if wanted.contrasts else NearBackbone if wanted.reads_rows else Objective
    objective = kind(settings, adapted, backbone)
    if isinstance(objective, Contrastive) and wanted.kind == "simcse":
        objective.check_dropout(rows.select(range(min(2, len(rows)))))
    return objective


def supervised_contrastive(z_BP: Tensor, class_B: Tensor, temperature: float) -> Tensor:
    """L_out of Khosla et al. 2020 (eq. 2), over the anchors that have a positive; 0 where none has.

    L_i = -1/|P(i)| Σ_{p∈P(i)} log( exp(z_i·z_p / τ) / Σ_{a≠i} exp(z_i·z_a / τ) ), P(i) the other rows of i's class.

    Args:
        z_BP: unit vectors.
        class_B: their classes.
        temperature: τ.
    """
    itself_BB = torch.eye(len(z_BP), dtype=torch.bool, device=z_BP.device)
    logits_BB = (z_BP @ z_BP.T / temperature).masked_fill(itself_BB, float("-inf"))
    positive_BB = (class_B[:, None] == class_B[None]) & ~itself_BB
    count_B = positive_BB.sum(1)
    log_share_BB = F.log_softmax(logits_BB, dim=1).masked_fill(~positive_BB, 0.0)
    loss_B = -log_share_BB.sum(1) / count_B.clamp(min=1)
    return loss_B.sum() / (count_B > 0).sum().clamp(min=1)


def simcse(one_BP: Tensor, other_BP: Tensor, temperature: float) -> Tensor:
    """Each row finds its own second look among those of all (Gao et al. 2021, eq. 1): unit vectors, (B, P) each."""
    return F.cross_entropy(one_BP @ other_BP.T / temperature, torch.arange(len(one_BP), device=one_BP.device))


def distance(states_BTD: Tensor, frozen_BTD: Tensor, mask_BT: Tensor, measure: str) -> Tensor:
    """How far states are from the backbone's: the mean over a row's tokens, then over rows; padding never counts.
    `states_BTD`: of the adapted trunk. `frozen_BTD`: of the bare one. `mask_BT`: 1 for tokens, 0 for padding.
    `measure`: "squares": mean over D of (x - y)². "cosine": 1 - x·y / (‖x‖ ‖y‖)."""
    states_BTD, frozen_BTD = states_BTD.float(), frozen_BTD.float()
    if measure == "cosine":
        away_BT = 1 - F.cosine_similarity(states_BTD, frozen_BTD, dim=-1)
    else:
        away_BT = (states_BTD - frozen_BTD).square().mean(-1)
    weight_BT = mask_BT.to(away_BT.dtype)
    return ((away_BT * weight_BT).sum(1) / weight_BT.sum(1).clamp(min=1)).mean()
