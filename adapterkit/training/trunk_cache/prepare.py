"""Decide whether a run keeps states, compute those that are not kept yet, and let the adapter use them."""

import math
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate.utils import gather_object
from torch import Tensor

from adapterkit.backbone.cut import can_be_cut, layers_of
from adapterkit.backbone.quantisation import parameter_count
from adapterkit.data import RowStream
from adapterkit.glance import readable_bytes
from adapterkit.own_folder import cache_folder
from adapterkit.tasks.protocol import Feature
from adapterkit.training.batches import Batches
from adapterkit.training.job import Job
from adapterkit.training.trunk_cache.cut import Cut, NoCutError, Shortcut, answers_alike, cut_of
from adapterkit.training.trunk_cache.estimate import Estimate
from adapterkit.training.trunk_cache.keys import flat_inputs, keyed_batches, keys_of
from adapterkit.training.trunk_cache.space import space_of
from adapterkit.training.trunk_cache.store import MISSING, StateStore

PROBED_ROWS = 4
TOLD_GAIN = 50.0


@dataclass(frozen=True)
class Wanted:
    """What a run reads."""

    batches: list[list[Feature]]
    """Features, longest first."""
    read: dict[str, tuple[int, int]]
    """Split -> tokens and rows that are read of it at a time."""
    tokens: dict[bytes, int]
    """Key -> tokens of every distinct row, of all splits."""


def cache_root(setting: str = "auto") -> Path:
    """Where states are kept: the folder of the recipe, else one in adapterkit's cache folder."""
    return cache_folder() / "trunk" if setting in ("auto", "off") else Path(setting).expanduser()


def use_cache(job: Job, batches: Batches) -> str:
    """Let a run's adapter answer from kept states, if the recipe allows it and it pays. Returns what was decided; that
    it is not used is said where the recipe asks for it."""
    if job.recipe.training.cache == "off":
        return "off"
    try:
        job.adapted.shortcut, decision = _shortcut(job, batches)
    except NoCutError as error:
        decision = f"not used, {error}"
        if job.recipe.training.cache != "auto":
            job.display.say(f"trunk cache: {decision}")
    return decision


def _shortcut(job: Job, batches: Batches) -> tuple[Shortcut, str]:
    adapted = job.adapted
    objective = job.recipe.training.objective
    if objective is not None and objective.reads_rows:
        raise NoCutError(f"training.objective {objective.kind} reads the states of all layers")
    if isinstance(job.rows.train, RowStream):
        raise NoCutError("streamed rows are not known before they are read")
    if adapted.sharded:
        raise NoCutError("the backbone is in shards")
    cut, objection = cut_of(adapted), ""
    try:
        store, wanted, decision = _open(job, cut, batches)
    except NoCutError as error:
        objection = str(error)
    # The disk may look otherwise to every process, and all of them have to fill or none.
    if job.accelerator.num_processes > 1:
        objection = next(filter(None, gather_object([objection])), "")
    if objection:
        raise NoCutError(objection)
    job.display.say(f"trunk cache: {decision}")
    _fill(job, cut, store, wanted)
    found = sum(row != MISSING for row in store.find(list(wanted.tokens)))
    if store.refusal:
        job.display.warn(f"the trunk cache cannot be written, {store.refusal}")
    if not found:
        raise NoCutError("nothing could be kept")
    if found < len(wanted.tokens):
        job.display.warn(f"{len(wanted.tokens) - found:,} texts are not kept and will be computed each time")
    return Shortcut(cut, store, adapted.backbone.device), decision


def _open(job: Job, cut: Cut, batches: Batches) -> tuple[StateStore, Wanted, str]:
    """The states that there are, as this process sees them, those that are wanted, and what is decided by the recipe's
    setting."""
    setting = job.recipe.training.cache
    store = StateStore(cache_root(setting), space_of(job.adapted, cut.layer, cut.pooling, _probe(job, cut)))
    wanted = _wanted(job)
    missing = {key for key, row in zip(wanted.tokens, store.find(list(wanted.tokens)), strict=True) if row == MISSING}
    if len(missing) < len(wanted.tokens) and not _still_right(job, cut, store, wanted):
        raise NoCutError(f"{store.folder} holds other states than this backbone gives: was it changed in memory?")
    estimate = _estimate(job, cut, store, wanted, missing, batches)
    if setting == "auto" and (objection := estimate.objection()):
        raise NoCutError(objection)
    where = f"above {cut.pooling} pooling" if cut.pooling else f"below layer {cut.layer} of {estimate.layers}"
    new = f"{len(missing):,} of them new ({readable_bytes(estimate.new_bytes)})"
    gain = f"{TOLD_GAIN:.0f} times or more" if estimate.gain > TOLD_GAIN else f"{estimate.gain:.1f} times"
    told = f"{len(wanted.tokens):,} texts {where}, {new}, an epoch {gain} faster; in {store.folder}"
    return store, wanted, told


def _wanted(job: Job) -> Wanted:
    tokens: dict[bytes, int] = {}
    read: dict[str, tuple[int, int]] = {}
    batches: list[list[Feature]] = []
    for split, features in job.features.items():
        for batch, keyed in keyed_batches(job.adapted, features):
            batches.append(batch)
            if keyed is None:
                continue
            tokens.update(zip(keyed.keys, keyed.lengths, strict=True))
            before = read.get(split, (0, 0))
            read[split] = (before[0] + sum(keyed.lengths), before[1] + len(keyed.keys))
    return Wanted(batches, read, tokens)


def _inputs(job: Job, features: Sequence[Feature]) -> dict[str, Tensor]:
    """The encoder's inputs, on the CPU."""
    return flat_inputs(job.adapted.task.collate(features, job.adapted.vocabulary).inputs)


def _lower(job: Job, cut: Cut, inputs: dict[str, Tensor]) -> Tensor:
    device = job.adapted.backbone.device
    with torch.inference_mode(), job.adapted.autocast():
        return cut.lower({name: value.to(device) for name, value in inputs.items()})


def _probe(job: Job, cut: Cut) -> torch.dtype:
    """The type of the states, once both halves were seen to answer as the whole does."""
    adapted = job.adapted
    device = adapted.backbone.device
    otherwise = NoCutError(f"{adapted.backbone.contract.architecture} answers otherwise when it is split")
    if not cut.pooling and not can_be_cut(adapted.backbone.trunk):
        raise otherwise
    shortest = sorted(job.features["train"], key=lambda feature: feature.length_tokens)[:PROBED_ROWS]
    if not shortest:
        raise NoCutError("there are no rows")
    inputs = adapted.task.collate(shortest, adapted.vocabulary).to(device).inputs
    if keys_of(flat_inputs(inputs)) is None:
        several = "several documents share a row"
        raise NoCutError(several if "position_ids" in inputs else "its rows are not padded right")
    with torch.inference_mode(), adapted.autocast():
        kept = cut.lower(flat_inputs(inputs))
        # Both leave out padding, or neither does: its logits are nobody's.
        if not answers_alike(cut.upper(inputs, kept, None), adapted(inputs)):
            raise otherwise
    return kept.dtype


def _still_right(job: Job, cut: Cut, store: StateStore, wanted: Wanted) -> bool:
    """Compute a few kept rows again, in case the backbone in memory is not the one on the disk."""
    for batch in reversed(wanted.batches):  # the shortest first
        inputs = _inputs(job, batch[:PROBED_ROWS])
        keyed = keys_of(inputs)
        rows = [] if keyed is None else store.find(keyed.keys)
        known = [place for place, row in enumerate(rows) if row != MISSING]
        if keyed is None or not known:
            continue
        tokens = 1 if cut.pooling else inputs["input_ids"].shape[1]
        kept, _ = store.gather([rows[place] for place in known], tokens)
        fresh = _lower(job, cut, {name: value[known] for name, value in inputs.items()}).cpu()
        for place, (one, other) in enumerate(zip(kept, fresh, strict=True)):
            length = 1 if cut.pooling else keyed.lengths[known[place]]
            scale = max(1.0, float(other[:length].abs().max()))
            tolerance = scale * (1e-3 if other.dtype == torch.float32 else 0.1)
            if not torch.allclose(one[:length], other[:length], rtol=0.0, atol=tolerance):
                return False
        return True
    return True


def _estimate(job: Job, cut: Cut, store: StateStore, wanted: Wanted, missing: set[bytes], batches: Batches) -> Estimate:
    adapted = job.adapted
    _, layers = layers_of(adapted.module)
    row_bytes = store.space.width * store.space.itemsize
    new_tokens = sum(wanted.tokens[key] for key in missing)
    others = adapted.backbone.contract.layers - len(layers) if not adapted.head.is_own else 0
    every = job.recipe.training.evaluate_every
    between = (batches.steps_per_epoch or batches.total_steps) if every == "epoch" else every
    times = {"validation": math.ceil(batches.total_steps / between) + 1, "test": 1}  # once more at the end
    epoch_tokens, epoch_rows = wanted.read.get("train", (0, 0))
    scored_tokens, scored_rows = (
        sum(count * wanted.read.get(split, (0, 0))[place] for split, count in times.items()) for place in (0, 1)
    )
    return Estimate(
        layer=cut.layer,
        layers=len(layers) + others,
        adapted=bool(adapted.attachment.lowest_layer),
        layer_parameters=parameter_count(layers) // len(layers),
        device=adapted.backbone.device.type,
        epoch_tokens=epoch_tokens,
        epoch_bytes=row_bytes * (epoch_rows if cut.pooling else epoch_tokens),
        scored_tokens=scored_tokens,
        scored_bytes=row_bytes * (scored_rows if cut.pooling else scored_tokens),
        new_tokens=new_tokens,
        new_bytes=row_bytes * (len(missing) if cut.pooling else new_tokens),
        free_bytes=shutil.disk_usage(next(at for at in (store.folder, *store.folder.parents) if at.exists())).free,
        epochs=batches.total_steps / max(1, batches.steps_per_epoch or 1),
        runs=job.runs,
    )


def _fill(job: Job, cut: Cut, store: StateStore, wanted: Wanted) -> None:
    """Compute the rows that are not kept, each process its share."""
    accelerator, started = job.accelerator, time.perf_counter()
    done: set[bytes] = set()
    for batch in wanted.batches[accelerator.process_index :: accelerator.num_processes]:
        if store.refusal:
            break
        inputs = _inputs(job, batch)
        keyed = keys_of(inputs)
        if keyed is None:
            continue
        rows = store.find(keyed.keys)
        places = {key: place for place, key in enumerate(keyed.keys) if rows[place] == MISSING and key not in done}
        if not places:
            continue
        chosen = list(places.values())
        states = _lower(job, cut, {name: value[chosen] for name, value in inputs.items()})
        for place, (key, index) in enumerate(places.items()):
            store.add(key, states[place, : 1 if cut.pooling else keyed.lengths[index]])
        done.update(places)
    store.flush()
    accelerator.wait_for_everyone()
    store.refresh()
    if done:
        job.display.say(f"trunk cache: filled in {time.perf_counter() - started:.1f} s")
