"""The head of a SetFit folder: scikit-learn's logistic regressions as one linear, of which a softmax or a sigmoid makes
scikit-learn's own probabilities.

Axes: C classes, D hidden width, E estimators' rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adapterkit.artifact.convert.sentence.inert_pickle import REMEDY, Thing, array_of, read_inert
from adapterkit.errors import ArtifactError
from adapterkit.manifest import read_file

HEAD = "model_head.pkl"
MAX_HEAD_BYTES = 256 * 2**20

_ONE = frozenset(
    {"sklearn.linear_model._logistic.LogisticRegression", "sklearn.linear_model.logistic.LogisticRegression"}
)
_MANY = frozenset({"sklearn.multiclass.OneVsRestClassifier", "sklearn.multioutput.MultiOutputClassifier"})
_BESIDE = frozenset({"sklearn.preprocessing._label.LabelBinarizer", "sklearn.preprocessing.label.LabelBinarizer"})


@dataclass(frozen=True)
class LinearFacts:
    """A linear head: weight (C, D) and bias (C,) in float32, what scikit-learn calls each output (the number or name of
    a label), and "single-label" or "multi-label"."""

    weight: Tensor
    bias: Tensor
    classes: tuple[int | str, ...]
    problem: str


def read_logistic(folder: Path) -> LinearFacts:
    """Read `model_head.pkl` as numbers. Raises ArtifactError: it holds anything else than logistic regressions, or such
    ones that no linear head answers like."""
    raw = bytes(read_file((folder / HEAD).resolve(), MAX_HEAD_BYTES))
    found = read_inert(raw, HEAD, _ONE | _MANY | _BESIDE)
    if not isinstance(found, Thing) or found.of not in _ONE | _MANY:
        raise _refused("it holds no classifier")
    try:
        weight_CD, bias_C, classes = (_one if found.of in _ONE else _many)(found.state)
    except ArtifactError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise _refused(f"a field is missing or of another shape: {str(error)[:120]}") from error
    weight, bias = (torch.from_numpy(np.ascontiguousarray(each)).float() for each in (weight_CD, bias_C))
    if not (weight.isfinite().all() and bias.isfinite().all()):
        raise _refused("it holds numbers that are not finite in float32")
    return LinearFacts(weight, bias, classes, "single-label" if found.of in _ONE else "multi-label")


def labels_of(facts: LinearFacts, named: Sequence[str] | None) -> tuple[str, ...]:
    """The names of the outputs: those of SetFit's config by their numbers, else what scikit-learn calls them."""
    if named is None or any(isinstance(each, str) for each in facts.classes):
        return tuple(map(str, facts.classes))
    numbers = [int(each) for each in facts.classes]
    if not all(0 <= number < len(named) for number in numbers):
        raise _refused(f"its classes are numbered up to {max(numbers)}, and the config names {len(named)} labels")
    return tuple(named[number] for number in numbers)


def _one(state: Mapping[str, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], tuple[int | str, ...]]:
    weight_ED, bias_E = (array_of(state[name]) for name in ("coef_", "intercept_"))
    if {weight_ED.dtype.kind, bias_E.dtype.kind} != {"f"}:
        raise _refused("weights that are no floats")
    weight_ED, bias_E = weight_ED.astype(np.float64), bias_E.astype(np.float64)
    classes = tuple(array_of(state["classes_"]).tolist())
    rows, several = len(weight_ED), state.get("multi_class", "auto")
    if weight_ED.ndim != 2 or bias_E.shape != (rows,) or rows != (1 if len(classes) == 2 else len(classes) or -1):
        raise _refused(f"weights {weight_ED.shape} and bias {bias_E.shape} of {len(classes)} classes")
    if rows == 1:  # σ(z) is the second output of a softmax over (0, z); sklearn's multinomial takes (-z, z)
        low = -1.0 if several == "multinomial" else 0.0
        return np.concatenate([low * weight_ED, weight_ED]), np.concatenate([low * bias_E, bias_E]), classes
    if several == "ovr" or state.get("solver") == "liblinear":
        raise _refused(
            "one regression for each of several classes (liblinear, or multi_class='ovr'), whose probabilities no "
            "softmax gives"
        )
    return weight_ED, bias_E, classes


def _many(state: Mapping[str, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], tuple[int | str, ...]]:
    binarizer = state.get("label_binarizer_")
    if binarizer is not None and not binarizer.state["y_type_"].startswith("multilabel"):
        raise _refused("one regression for each class of a single-label task, whose probabilities no softmax gives")
    rows = []
    for estimator in state["estimators_"]:
        if estimator.of not in _ONE:
            raise _refused(f"an estimator is a {estimator.of[:80]}")
        weight_CD, bias_C, classes = _one(estimator.state)
        if classes not in ((0, 1), (False, True)):
            raise _refused(f"an estimator has {len(classes)} classes, expected 0 and 1 for each label")
        rows.append((weight_CD[1] - weight_CD[0], bias_C[1] - bias_C[0]))
    return np.stack([w for w, _ in rows]), np.array([b for _, b in rows]), tuple(range(len(rows)))


def _refused(problem: str) -> ArtifactError:
    return ArtifactError("its head is none of ours", [f"{HEAD}: {problem}"], REMEDY)
