"""Look into representations, layer by layer, side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapterkit.artifact import Artifact
from adapterkit.artifact.saving import package_versions
from adapterkit.errors import DataError, HeadError
from adapterkit.evaluation.probing.asked import Drawn, ProbedRows, ask, draw, items_of
from adapterkit.evaluation.probing.measuring import Measured, chance, compared, measure_once
from adapterkit.evaluation.probing.states import LayerStates, see
from adapterkit.evaluation.probing.subjects import Named, Subject, subjects_of
from adapterkit.evaluation.probing.verdict import Standing, adapter_sentence, bare_sentence, gains, standing
from adapterkit.evaluation.rows import data_settings
from adapterkit.metrics.representations import debiased_cka
from adapterkit.own_folder import cache_folder
from adapterkit.recipe.kinds import FACTS
from adapterkit.records import LayerRecord, MetricRecord, ProbeRecord, RepresentationRecord, RowsUsed
from adapterkit.scoring import share_out
from adapterkit.tasks.protocol import Vocabulary
from adapterkit.training.trunk_cache import cache_root

if TYPE_CHECKING:
    from accelerate import Accelerator

POOLINGS = ("auto", "mean", "first", "last")
Tell = Callable[[str, int, int], None]
"""Is told what is going on, how much more of it is done, and how much there is."""


@dataclass(frozen=True)
class Looking:
    """How representations are looked at; see `probe`."""

    kind: str | None = None
    columns: Mapping[str, str] | None = None
    reading: Mapping[str, Any] | None = None
    data_root: str | Path | None = None
    rows: int = 2000
    seed: int = 0
    pooling: str = "auto"
    cache: bool = True
    tell: Tell = lambda what, done, total: None
    accelerator: Accelerator | None = None

    def __post_init__(self) -> None:
        if self.pooling not in POOLINGS:
            raise HeadError(
                f"rows cannot be pooled by {self.pooling!r} before anything was trained",
                [f"expected: {', '.join(POOLINGS)}"],
            )
        if self.rows < 1:
            raise DataError("no rows are left to look at", [f"rows: found {self.rows}, expected 1 or more"])


@dataclass(frozen=True, eq=False)
class Looked:
    """Representations of the same items: the rows, the items, whose states they are, and these, in the same order."""

    asked: ProbedRows
    drawn: Drawn
    subjects: Sequence[Subject]
    seen: Sequence[LayerStates]

    @property
    def used(self) -> RowsUsed:
        """The rows, for a record."""
        rows = self.asked.rows
        return RowsUsed(source=rows.source, rows=len(rows), unusable=self.asked.unusable, digest=rows.digest())

    @property
    def notes(self) -> tuple[str, ...]:
        """What was drawn and left out."""
        windows = (one.window.note for one in self.seen if one.window.note)
        return tuple(dict.fromkeys([*self.asked.notes, *self.drawn.notes, *windows]))


def probe(
    representations: Named | Sequence[Named] = (),
    data: Any = None,
    *,
    backbone: Named | None = None,
    kind: str | None = None,
    columns: Mapping[str, str] | None = None,
    reading: Mapping[str, Any] | None = None,
    data_root: str | Path | None = None,
    rows: int = 2000,
    seed: int = 0,
    pooling: str = "auto",
    cache: bool = True,
    tell: Tell = lambda what, done, total: None,
    accelerator: Accelerator | None = None,
) -> ProbeRecord:
    """What each layer knows of the classes of some rows, for bare backbones and for adapters on them, side by side.

    Nothing is trained. One forward pass over the rows gathers the states of all layers, and they are kept in the trunk
    cache, with what was measured of them.

    Args:
        representations: folders of artifacts, backbones, folders or ids of backbones; the bare backbone of an adapter
            is looked at too.
        data: a file, a hub data set, or rows in memory: of two classes or more, with several labels, or with numbers.
        backbone: what the artifacts stand on; None loads the one that each names.
        kind: of task that the rows are for; None tells by their columns.
        columns: canonical name -> the column of the data.
        reading: how a file is read, by the fields of a recipe's data: {"encoding": "cp1252", "delimiter": ";"}.
        data_root: where relative paths are looked for first.
        rows: how many are drawn, at most; of words, the items.
        seed: of everything that is drawn.
        pooling: how a row becomes one vector; "auto" takes the backbone's.
        cache: whether states and measures are kept on the disk, and read from there.
        tell: is told of the progress.
        accelerator: the processes that look at a share each, all of which call this; None for this one alone.

    Raises:
        ArtifactError, BackboneError: something cannot be read.
        ContractError: an artifact belongs to another backbone.
        DataError: the rows cannot be read, or have no classes to look for.
        HeadError: a pooling that a row cannot be pooled by without training.
    """
    how = Looking(kind, columns, reading, data_root, rows, seed, pooling, cache, tell, accelerator)
    looked = look_into(subjects_of(representations, backbone), data, how)
    pairs = zip(looked.subjects, looked.seen, strict=True)
    asked = [(subject, seen, place) for subject, seen in pairs for place in range(len(seen.window.layers))]
    found = iter(
        share_out(
            asked,
            lambda own: [_told(how, subject, seen, place, looked.drawn) for subject, seen, place in own],
            accelerator,
        )
    )
    measured = [list(islice(found, len(seen.window.layers))) for seen in looked.seen]
    return _record(looked, measured, seed)


def look_into(subjects: Sequence[Subject], data: Any, how: Looking) -> Looked:
    """The states of all layers of some representations. Errors as those of `probe`."""
    if data is None:
        raise DataError("no rows are named to look at", remedy="Name a file, a hub data set, or rows (data=…, --data).")
    how_read: Any = {"kind": how.kind, "columns": how.columns, "reading": how.reading, "root": how.data_root}
    asked = ask(data, **how_read, count=how.rows, seed=how.seed)
    read = {}
    for subject in subjects:
        frozen = subject.backbone
        if frozen.fingerprint not in read:
            start = getattr(frozen.config, "decoder_start_token_id", None)
            vocabulary = Vocabulary.of(frozen.tokenizer, frozen.max_tokens, start)
            read[frozen.fingerprint] = (vocabulary, *items_of(asked, vocabulary))
    drawn = draw(asked, [items for _, _, items in read.values()], how.rows, how.seed)
    pooled = FACTS[asked.task.kind].pooled
    seen = [
        see(
            subject,
            asked.task,
            *read[subject.backbone.fingerprint],
            drawn,
            pooling="" if not pooled else subject.backbone.pooling if how.pooling == "auto" else how.pooling,
            seed=how.seed,
            cache=cache_root() if how.cache else None,
            tell=partial(_tell, how, subject.name, len(drawn.keys)),
            accelerator=how.accelerator,
        )
        for subject in subjects
    ]
    return Looked(asked, drawn, subjects, seen)


def _tell(how: Looking, name: str, total: int, done: int) -> None:
    how.tell(f"computing {name}", done, total)


def _told(how: Looking, subject: Subject, seen: LayerStates, place: int, drawn: Drawn) -> Measured:
    found = measure_once(seen.states[:, place], drawn, how.seed, cache_folder() / "measures" if how.cache else None)
    how.tell(f"measuring {subject.name}", 1, len(seen.window.layers))
    return found


def _record(looked: Looked, measured: Sequence[Sequence[Measured]], seed: int) -> ProbeRecord:
    drawn, by_chance = looked.drawn, chance(looked.drawn)
    bare: dict[str, tuple[Subject, dict[int, Measured]]] = {}
    found: list[RepresentationRecord] = []
    findings = []
    for subject, seen, layers in zip(looked.subjects, looked.seen, measured, strict=True):
        numbers, frozen = seen.window.layers, subject.backbone
        stood = standing(numbers, layers, by_chance, seed)
        gained = {}
        if subject.artifact is None:
            bare[frozen.fingerprint] = (subject, dict(zip(numbers, layers, strict=True)))
            findings.append(bare_sentence(subject.name, stood, seen.window.of_layers - 1, by_chance, drawn.says))
        else:
            under, of_bare = bare[frozen.fingerprint]
            gained = gains(numbers, layers, of_bare, seed)
            findings.append(adapter_sentence(subject.name, gained, under.name))
        found.append(
            RepresentationRecord(
                name=subject.name,
                backbone=frozen.name,
                revision=frozen.revision,
                fingerprint=frozen.fingerprint,
                artifact=None if subject.artifact is None else subject.artifact.manifest.sha256,
                pooling=seen.pooling,
                stands=stood.stands,
                gains={layer: MetricRecord.of(gain) for layer, gain in gained.items()},
                layers=tuple(_layers(looked, seen, layers, stood, seed)),
            )
        )
    return ProbeRecord(
        made_with=package_versions(),
        seed=seed,
        data=looked.used,
        kind=looked.asked.task.kind,
        items=len(drawn.keys),
        labels=drawn.counts,
        chance=by_chance,
        representations=tuple(found),
        notes=(*looked.notes, *_trained_on(looked)),
        findings=tuple(findings),
    )


def _layers(
    looked: Looked, own: LayerStates, measured: Sequence[Measured], stood: Standing, seed: int
) -> list[LayerRecord]:
    few = compared(len(looked.drawn.keys), seed)
    found = []
    for number, (layer, of_layer) in enumerate(zip(own.window.layers, measured, strict=True)):
        similarity = {
            subject.name: _similarity(own.states[few, number], other.states[few, other.window.layers.index(layer)])
            for subject, other in zip(looked.subjects, looked.seen, strict=True)
            if other is not own and layer in other.window.layers
        }
        accuracy = None if layer not in stood.accuracy else MetricRecord.of(stood.accuracy[layer])
        figures = {name: value for name, value in of_layer.figures.items() if name != "accuracy"}
        found.append(
            LayerRecord(
                layer=layer, accuracy=accuracy, figures=figures, refused=of_layer.refused, similarity=similarity
            )
        )
    return found


def _similarity(one_NW: Any, other_NW: Any) -> float | None:
    try:
        return debiased_cka(one_NW, other_NW)
    except DataError:
        return None


def _trained_on(looked: Looked) -> list[str]:
    """Adapters that were trained on the very rows that are looked at: what they know of them says little of others."""
    return [
        f"{subject.name} was trained on {looked.asked.rows.source}: name other rows to see what it is worth"
        for subject in looked.subjects
        if subject.artifact is not None and knows(subject.artifact, looked.asked)
    ]


def knows(artifact: Artifact, asked: ProbedRows) -> bool:
    """Whether an artifact was trained on these rows."""
    settings = data_settings(artifact)
    named = settings is not None and settings.train == asked.rows.source
    return named or artifact.manifest.data.digests.get("train") == asked.digest
