"""At which layer a task's information stands, and which layers an adapter is worth, in figures and in a sentence."""

# Axes: G rows, L layers, S statistics.

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from adapterkit.evaluation.probing.measuring import Measured
from adapterkit.metrics import Formula, Metric, bootstrap, ratio_of


@dataclass(frozen=True)
class Standing:
    """Where the information of one representation stands: the linear probe's accuracy in each layer, the `best` layer,
    the lowest of equals (None where nothing could be probed), and the lowest that is not shown to be worse (None where
    none beats chance)."""

    accuracy: Mapping[int, Metric]
    best: int | None
    stands: int | None


def standing(layers: Sequence[int], measured: Sequence[Measured], chance: float, seed: int) -> Standing:
    """Where the information stands. `layers`: their numbers, from the lowest. `measured`: of each. `chance`: accuracy
    of whoever does not look. `seed`: of the bootstrap."""
    probed = [(layer, found) for layer, found in zip(layers, measured, strict=True) if len(found.right)]
    if not probed:
        return Standing({}, None, None)
    items_G = probed[0][1].items
    top = int(np.argmax([found.right.sum() for _, found in probed]))
    formulas: dict[str, Formula] = {}
    for layer, one in probed:
        formulas[f"accuracy {layer}"] = ratio_of(one.right, items_G)
        formulas[f"behind {layer}"] = ratio_of(probed[top][1].right - one.right, items_G)
    found = bootstrap(len(items_G), formulas, dict.fromkeys(formulas, True), seed=seed)
    accuracy = {layer: found[f"accuracy {layer}"] for layer, _ in probed}
    best = probed[top][0]
    if accuracy[best].low <= chance:
        return Standing(accuracy, best, None)
    return Standing(accuracy, best, next(layer for layer, _ in probed if found[f"behind {layer}"].low <= 0))


def gains(
    layers: Sequence[int], adapted: Sequence[Measured], bare: Mapping[int, Measured], seed: int
) -> dict[int, Metric]:
    """Layer -> accuracy with the adapter less that of the bare backbone, on the same rows, with its interval."""
    found = {}
    for layer, with_adapter in zip(layers, adapted, strict=True):
        without = bare.get(layer)
        if without is not None and len(without.right) and len(without.right) == len(with_adapter.right):
            gain = ratio_of(with_adapter.right - without.right, without.items)
            found[layer] = bootstrap(len(without.items), {"gain": gain}, {"gain": True}, seed=seed)["gain"]
    return found


def bare_sentence(name: str, found: Standing, top: int, chance: float, says: str = "is right in {}") -> str:
    """Where the information of a bare backbone stands, and which layers up to its top one an adapter is worth. `says`:
    what a probe does, and how much of it in the place of {}."""
    if found.best is None:
        return f"{name}: no linear probe can be fitted on these rows."
    best = found.accuracy[found.best]
    if found.stands is None:
        return (
            f"{name}: no layer tells the labels apart beyond chance ({chance:.1%}; at best {_percent(best)}, layer "
            f"{found.best}). Frozen layers hold nothing to read here, so an adapter is worth every layer."
        )
    there = found.accuracy[found.stands]
    best_said = "" if found.stands == found.best else f", at best {best.value:.1%} (layer {found.best})"
    said = (
        f"{name}: the task's information stands at layer {found.stands} of {top}: a linear probe "
        f"{says.format(_percent(there))}{best_said}, by chance {chance:.1%}. "
    )
    if found.stands < top:
        above = f"layer {top}" if found.stands + 1 == top else f"layers {found.stands + 1} to {top}"
        return (
            f"{said}What lies above adds nothing that a probe can show, so an adapter is worth {above}; the layers "
            "below can stay frozen, and be computed once."
        )
    return (
        f"{said}It still rises up to the last layer, so none is spare: a head on top reads most of it, and an "
        "adapter is worth the top layers first; `adapterkit ablate layers` says what each more gives."
    )


def adapter_sentence(name: str, found: Mapping[int, Metric], bare: str) -> str:
    """What an adapter changes, and in which layers it is worth its place.
    `name`: of the adapter. `found`: its gains, by layer. `bare`: name of its backbone."""
    shown = [layer for layer, gain in found.items() if gain.low > 0]
    lost = [layer for layer, gain in found.items() if gain.high < 0]
    behind = f" It is behind at layer {', '.join(map(str, lost))}." if lost else ""
    if not shown:
        return f"{name}: at no layer is a gain over {bare} shown, so on these rows the adapter is worth none.{behind}"
    most = max(shown, key=lambda layer: found[layer].value)
    gain = found[most]
    points = f"{100 * gain.value:+.1f} points [{100 * gain.low:+.1f}, {100 * gain.high:+.1f}]"
    last = max(found)
    span = f"layer {shown[0]}" if shown[0] == last else f"layers {shown[0]} to {last}"
    return f"{name}: {points} over {bare} at layer {most}, where it gains most; it is worth {span}.{behind}"


def _percent(metric: Metric) -> str:
    return f"{metric.value:.1%} [{metric.low:.1%}, {metric.high:.1%}]"
