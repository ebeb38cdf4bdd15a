"""Look into representations, layer by layer, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

from adapterkit.artifact import Artifact
from adapterkit.artifact.saving import package_versions
from adapterkit.errors import DataError
from adapterkit.evaluation.probing.asked import Drawn, Looking, ProbedRows, ask, draw, items_of
from adapterkit.evaluation.probing.measuring import Measured, chance, compared, measure_once
from adapterkit.evaluation.probing.states import LayerStates, see
from adapterkit.evaluation.probing.subjects import Named, Subject, subjects_of
from adapterkit.evaluation.probing.verdict import Standing, adapter_sentence, bare_sentence, gains, standing
from adapterkit.evaluation.rows import data_settings
from adapterkit.metrics.representations import debiased_cka
from adapterkit.own_folder import cache_folder
from adapterkit.recipe.kinds import FACTS
from adapterkit.records import LayerRecord, ProbeRecord, RepresentationRecord, RowsUsed
from adapterkit.scoring import share_out
from adapterkit.tasks.protocol import Vocabulary
from adapterkit.training.trunk_cache import cache_root


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
    representations: Named | Sequence[Named] = (), data: Any = None, *, backbone: Named | None = None, **how: Any
) -> ProbeRecord:
    """What each layer knows of the classes of some rows, for bare backbones and for adapters on them, side by side.

    Nothing is trained. One forward pass over the rows gathers the states of all layers, and they are kept in the trunk
    cache, with what was measured of them.

    Args:
        representations: folders of artifacts, backbones, folders or ids of backbones; the bare backbone of an adapter
            is looked at too.
        data: a file, a hub data set, or rows in memory: of two classes or more, with several labels, or with numbers.
        backbone: what the artifacts stand on; None loads the one that each names.
        how: `kind`, `columns`, `reading`, `data_root`, `rows`, `seed`, `pooling`, `cache`, `tell`, `accelerator`; see
            `Looking`.

    Raises:
        ArtifactError, BackboneError: something cannot be read.
        ContractError: an artifact belongs to another backbone.
        DataError: the rows cannot be read, or have no classes to look for.
        HeadError: a pooling that a row cannot be pooled by without training.
    """
    asking = Looking(**how)
    looked = look_into(subjects_of(representations, backbone), data, asking)
    pairs = zip(looked.subjects, looked.seen, strict=True)
    asked = [(subject, seen, place) for subject, seen in pairs for place in range(len(seen.window.layers))]
    cache = cache_folder() / "measures" if asking.cache else None

    def measured_of(own: Sequence[tuple[Subject, LayerStates, int]]) -> list[Measured]:
        found = []
        for subject, seen, place in own:
            found.append(measure_once(seen.states[:, place], looked.drawn, asking.seed, cache))
            asking.told(f"measuring {subject.name}", len(seen.window.layers), 1)
        return found

    found = iter(share_out(asked, measured_of, asking.accelerator))
    measured = [list(islice(found, len(seen.window.layers))) for seen in looked.seen]
    return _record(looked, measured, asking.seed)


def look_into(subjects: Sequence[Subject], data: Any, how: Looking) -> Looked:
    """The states of all layers of some representations. Errors as those of `probe`."""
    if data is None:
        raise DataError("no rows are named to look at", remedy="Name a file, a hub data set, or rows (data=…, --data).")
    asked = ask(data, how)
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
            tell=partial(how.told, f"computing {subject.name}", len(drawn.keys)),
            accelerator=how.accelerator,
        )
        for subject in subjects
    ]
    return Looked(asked, drawn, subjects, seen)


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
                gains=gained,
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
        # What adapters know of the very rows that they were trained on says little of others.
        notes=(
            *looked.notes,
            *(
                f"{subject.name} was trained on {looked.asked.rows.source}: name other rows to see what it is worth"
                for subject in looked.subjects
                if subject.artifact is not None and knows(subject.artifact, looked.asked)
            ),
        ),
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
        figures = {name: value for name, value in of_layer.figures.items() if name != "accuracy"}
        found.append(
            LayerRecord(
                layer=layer,
                accuracy=stood.accuracy.get(layer),
                figures=figures,
                refused=of_layer.refused,
                similarity=similarity,
            )
        )
    return found


def _similarity(one_NW: Any, other_NW: Any) -> float | None:
    try:
        return debiased_cka(one_NW, other_NW)
    except DataError:
        return None


def knows(artifact: Artifact, asked: ProbedRows) -> bool:
    """Whether an artifact was trained on these rows."""
    settings = data_settings(artifact)
    named = settings is not None and settings.train == asked.rows.source
    return named or artifact.manifest.data.digests.get("train") == asked.digest
