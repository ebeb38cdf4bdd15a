"""Starting points for a task: ranked without training, and compared with heads that were trained on each."""

# Axes: N items, W widths, C classes, G rows.

import contextlib
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from adapterkit.artifact.saving import package_versions
from adapterkit.data import as_rows
from adapterkit.errors import DataError
from adapterkit.evaluation.outcome import Question
from adapterkit.evaluation.probing.asked import Drawn, Looking
from adapterkit.evaluation.probing.measuring import chance, evidence, probe_rows, right_by_row
from adapterkit.evaluation.probing.side_by_side import Looked, knows, look_into
from adapterkit.evaluation.probing.subjects import Named, subjects_of
from adapterkit.metrics import Metric, bootstrap, ratio_of
from adapterkit.records import NearestRecord, StartRecord, StartsRecord, TransferRecord

TESTED = 0.3
"""Share of the rows that heads are tested on."""
CHOICES = (1, 3)
"""Of how many first ones the regret is said."""
RANKINGS = ("probe", "logme")
"""What is known of a start without training, the one that ranks first."""


def nearest(
    representations: Named | Sequence[Named] = (), data: Any = None, *, backbone: Named | None = None, **how: Any
) -> NearestRecord:
    """Rank artifacts, bare backbones and their layers as starting points for a new task, without training.

    They are ranked by a linear probe that is cross-validated in closed form; LogME stands beside it. Arguments and
    errors as those of `probe`.
    """
    asked = Looking(**how)
    looked = look_into(subjects_of(representations, backbone), data, asked)
    found = _starts(looked, "", asked.seed, train=False)
    best = found.starts[0]
    finding = "No layer of any tells these rows apart: their states are all alike."
    if best.probe is not None:
        said = looked.drawn.says.format(f"{best.probe:.1%}")
        finding = f"Start from {best.representation}, layer {best.layer}: a probe {said}."
    return NearestRecord(made_with=package_versions(), seed=asked.seed, found=found, findings=(finding,))


def transfer(
    representations: Named | Sequence[Named], data: Mapping[str, Any], *, backbone: Named | None = None, **how: Any
) -> TransferRecord:
    """Train a head for every set of rows on every layer of every representation, and say what a ranking had chosen.

    Heads are trained on states from the trunk cache, on 70 % of the rows; an adapter counts as a set's own where it was
    trained on the same file, or its folder has the set's name. One that knows all labels of a set answers it with its
    own head as well.

    Args:
        representations: as for `probe`.
        data: name -> a file, a hub data set, or rows in memory.
        backbone: as for `probe`, and so are all others.

    Raises:
        DataError: no set is named, or one has no classes to look for.
    """
    if not data:
        raise DataError("no rows are named to carry over to", remedy="Name sets: data={'name': …}, --data name=FILE.")
    asked, subjects = Looking(**how), subjects_of(representations, backbone)
    sets = {}
    for name, source in data.items():
        told = replace(asked, tell=lambda what, *n, name=name: asked.tell(f"{name}: {what}", *n))
        looked = look_into(subjects, source, told)
        if looked.drawn.targets is not None:
            problem = f"{name}: found {looked.asked.task.problem}"
            raise DataError("heads are tried on rows with a class each", [problem], "Rank starting points: nearest.")
        sets[name] = _starts(looked, name, asked.seed, train=True)
    findings = [_sentence(name, found) for name, found in sets.items()]
    for ranking in RANKINGS:
        for k in CHOICES:
            lost = [found.regret[ranking][k] for found in sets.values() if ranking in found.regret]
            if lost:
                findings.append(
                    f"Over {len(lost)} set{'s' * (len(lost) > 1)}, each left out once, the best of the first {k} by "
                    f"{ranking} lacks {100 * np.mean(lost):.1f} points on average, {100 * max(lost):.1f} at most."
                )
    return TransferRecord(made_with=package_versions(), seed=asked.seed, sets=sets, findings=tuple(findings))


def _answers_to(looked: Looked) -> dict[str, dict[str, Metric]]:
    """Adapter -> the main metric of its own head's answers to the rows, of those that know all of their labels."""
    asked, found = looked.asked, {}
    for subject in looked.subjects:
        artifact = subject.artifact
        if artifact is None:
            continue
        task = artifact.task
        same = (task.kind, task.problem) == (asked.task.kind, asked.task.problem)
        if not same or not set(asked.task.labels) <= set(task.labels):
            continue
        usable = as_rows(task.check_rows(asked.rows, "score").rows)
        metrics = Question(artifact, usable, looked.used, subject.backbone).answers().metrics()
        found[subject.name] = {task.main_metric: metrics[task.main_metric]}
    return found


def _starts(looked: Looked, name: str, seed: int, *, train: bool) -> StartsRecord:
    drawn = looked.drawn
    fitted, tested = _halves(drawn, seed) if train else (np.arange(len(drawn.labels)), np.arange(0))
    learned = drawn.only(fitted)
    starts = []
    for subject, seen in zip(looked.subjects, looked.seen, strict=True):
        artifact = subject.artifact
        own = artifact is not None and (artifact.folder.name == name or knows(artifact, looked.asked))
        for place, layer in enumerate(seen.window.layers):
            states_NW = seen.states[:, place].astype(np.float64)
            known = probed = accuracy = None
            with contextlib.suppress(DataError):  # states that are all alike: nothing to start from
                known = evidence(states_NW[fitted], learned)
                right_G, items_G = probe_rows(states_NW[fitted], learned, seed)
                probed = float(right_G.sum() / items_G.sum())
                accuracy = _trained(states_NW, drawn, fitted, tested, seed) if train else None
            starts.append(
                StartRecord(
                    representation=subject.name,
                    artifact=None if artifact is None else artifact.manifest.sha256,
                    layer=layer,
                    logme=known,
                    probe=probed,
                    accuracy=accuracy,
                    own=own,
                )
            )
    starts.sort(key=lambda start: _ranked(start, "probe"), reverse=True)
    return StartsRecord(
        data=looked.used,
        kind=looked.asked.task.kind,
        chance=chance(drawn),
        starts=tuple(starts),
        rank_correlation={ranking: _correlation(starts, ranking) for ranking in RANKINGS} if train else {},
        regret={ranking: found for ranking in RANKINGS if (found := _regret(starts, ranking))},
        answers=_answers_to(looked) if train else {},
        notes=looked.notes,
    )


def _ranked(start: StartRecord, ranking: str) -> float:
    value = start.probe if ranking == "probe" else start.logme
    return -math.inf if value is None else value


def _correlation(starts: Sequence[StartRecord], ranking: str) -> float | None:
    """Spearman's, of a ranking with what trained heads are right in; None where nothing differs."""
    found = [(_ranked(start, ranking), _share(start)) for start in starts if start.accuracy is not None]
    differ = len({value for value, _ in found}) > 1 and len({share for _, share in found}) > 1
    return float(spearmanr(*zip(*found, strict=True)).statistic) if differ else None


def _regret(starts: Sequence[StartRecord], ranking: str) -> dict[int, float]:
    """k -> what the best of a ranking's k first lacks of the best of all; {} where none was tried."""
    foreign = [start for start in starts if start.accuracy is not None and not start.own]
    shares = [_share(start) for start in sorted(foreign, key=lambda start: -_ranked(start, ranking))]
    return {k: max(shares) - max(shares[:k]) for k in CHOICES} if shares else {}


def _halves(drawn: Drawn, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Items to train on and to test on, whole rows apart. Raises DataError where one of them has a single class."""
    rows = np.unique(drawn.groups)
    chosen = np.random.default_rng(seed).permutation(rows)[: max(1, round(TESTED * len(rows)))]
    is_tested = np.isin(drawn.groups, chosen)
    fitted, tested = np.flatnonzero(~is_tested), np.flatnonzero(is_tested)
    if len(np.unique(drawn.labels[fitted])) < 2:
        raise DataError("a head cannot be trained", ["classes to learn: found 1, expected 2"], "Draw more rows.")
    return fitted, tested


def _trained(
    states_NW: NDArray[np.float64], drawn: Drawn, fitted: NDArray[np.int64], tested: NDArray[np.int64], seed: int
) -> Metric:
    """Accuracy of a linear head, trained with the loss that heads are trained with, on rows that it has not seen."""
    from sklearn.linear_model import LogisticRegression

    mean_W, spread = states_NW[fitted].mean(axis=0), states_NW[fitted].std() or 1.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it was stopped before the last digit
        head = LogisticRegression(max_iter=200).fit((states_NW[fitted] - mean_W) / spread, drawn.labels[fitted])
    scores_NC = np.zeros((len(tested), len(drawn.names)))
    scores_NC[:, head.classes_] = head.predict_proba((states_NW[tested] - mean_W) / spread)
    of_tested = replace(drawn, labels=drawn.labels[tested], groups=drawn.groups[tested])  # classes keep their numbers
    right_G, items_G = right_by_row(scores_NC, of_tested)
    formulas = {"accuracy": ratio_of(right_G, items_G)}
    return bootstrap(len(items_G), formulas, {"accuracy": True}, seed=seed)["accuracy"]


def _sentence(name: str, found: StartsRecord) -> str:
    """What LogME chose for one set, and what would have been best."""
    others = [start for start in found.starts if start.accuracy is not None and not start.own]
    if not others:
        return f"{name}: nothing to start from could be tried."
    first, best = others[0], max(others, key=_share)
    said = ", ".join(f"{ranking} {found.rank_correlation[ranking] or 0.0:.2f}" for ranking in RANKINGS)
    return f"{name}: start from {_said(first)}; the best is {_said(best)}; rank correlation: {said}."


def _share(start: StartRecord) -> float:
    """What its head is right in; 0 where there is none."""
    return 0.0 if start.accuracy is None else start.accuracy.value or 0.0


def _said(start: StartRecord) -> str:
    return f"{start.representation}, layer {start.layer} ({_share(start):.1%})"
