"""Mixed batches: one forward of the trunk for rows of many adapters, and each head on its own rows.

Axes: B rows, T tokens, K choices, D hidden width.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput

from adapterkit.backbone import Backbone
from adapterkit.errors import DataError
from adapterkit.host.answers.sharing import Stretch, lowest_layer, run, stretches_of
from adapterkit.host.engine.engine import Engine
from adapterkit.host.engine.heads import AnsweringHead, States, logits_on_own_rows, logits_on_shared_rows
from adapterkit.host.engine.route import Carried

Inputs = Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class Piece:
    """Rows of one batch that one head answers: what each of them carries through the trunk, the head, and the inputs
    (B, T), or (B, K, T) for multiple choice, padded to the length of the batch."""

    carried: Carried
    head: AnsweringHead
    inputs: Inputs


class Forwards:
    """Runs batches on an engine. Holds nothing of a batch; any number of threads may share it."""

    def __init__(self, engine: Engine, backbone: Backbone) -> None:
        self._engine = engine
        self._backbone = backbone
        self._start = int(getattr(backbone.config, "decoder_start_token_id", None) or 0)
        self._cached = backbone.is_decoder or backbone.is_encoder_decoder

    def logits(self, pieces: Sequence[Piece]) -> list[Tensor]:
        """Logits of every piece, shaped as `Headed.logits` gives them. Pieces with the same inputs share a forward."""
        groups: dict[tuple[Any, ...], list[int]] = {}
        for place, piece in enumerate(pieces):
            inputs = piece.inputs
            shape = tuple((name, inputs[name].shape[-1]) for name in sorted(inputs))
            groups.setdefault((piece.head.template.reads, shape), []).append(place)
        found: dict[int, Tensor] = {}
        for (reads, _), places in groups.items():
            found.update(zip(places, self._together([pieces[place] for place in places], reads), strict=True))
        return [found[place] for place in range(len(pieces))]

    def states(self, carried: Carried, inputs: Inputs) -> States:
        """What the trunk computes for a batch (B, T) of rows that all carry this; of an encoder-decoder the encoder
        alone."""
        reads = "encoder" if self._backbone.is_encoder_decoder else "trunk"
        return self._run([carried] * len(inputs["input_ids"]), inputs, reads)

    def narrow(self) -> AbstractContextManager[Any]:
        """Above a trunk in a narrow format heads compute as they do in training: under autocast."""
        dtype = self._backbone.dtype
        return nullcontext() if dtype == torch.float32 else torch.autocast(self._backbone.device.type, dtype)

    def _together(self, pieces: Sequence[Piece], reads: str) -> list[Tensor]:
        rows = _Rows(pieces)
        order = self._engine.order(rows.carried)
        inputs = rows.inputs(order, self._backbone.device)
        carried = [rows.carried[row] for row in order]
        stretches = self._stretches([rows.texts[row] for row in order], carried)
        if len(stretches) > 1:
            states = self._share(stretches, carried, inputs, reads)
        else:
            states = self._run(carried, inputs, reads)
        with self.narrow():
            return _answered(pieces, rows.places(order), states, inputs)

    def _run(self, carried: Sequence[Carried], inputs: Inputs, reads: str, encoded: Tensor | None = None) -> States:
        """Every row by itself. `encoded`: what the encoder has computed already."""
        if not self._engine.mixes(carried):
            return self._one_by_one(carried, inputs, reads)
        device = self._backbone.device
        given: dict[str, Any] = {name: tensor.to(device) for name, tensor in inputs.items()}
        if reads == "encoder":
            given = _of_encoder(given)
        elif self._backbone.is_encoder_decoder and "decoder_input_ids" not in given:
            # What transformers' classes without a target give the decoder: the source, one to the right.
            ids_BT = given["input_ids"]
            starts_B1 = torch.full_like(ids_BT[:, :1], self._start)
            given["decoder_input_ids"] = torch.cat([starts_B1, ids_BT[:, :-1]], dim=1)
        if encoded is not None:
            given["encoder_outputs"] = BaseModelOutput(last_hidden_state=encoded)
        with self._engine.routed(carried) as trunk:
            model: nn.Module = trunk.get_submodule("encoder") if reads == "encoder" else trunk
            if self._cached and reads != "encoder":
                return States.of(model(**given, use_cache=False))
            return States.of(model(**given))

    def _one_by_one(self, carried: Sequence[Carried], inputs: Inputs, reads: str) -> States:
        """A forward for every adapter, whose rows stand together."""
        outputs, low = [], 0
        for own, same in groupby(carried):
            rows = slice(low, low + len(list(same)))
            outputs.append(self._run([own] * (rows.stop - low), {n: t[rows] for n, t in inputs.items()}, reads))
            low = rows.stop
        return States.joined(outputs)

    def _share(self, stretches: Sequence[Stretch], carried: Sequence[Carried], inputs: Inputs, reads: str) -> States:
        """Rows with one text share what no adapter has touched. The decoder above a shared encoder runs row by row."""
        if not self._backbone.is_encoder_decoder:
            more = {"use_cache": False} if self._cached else {}
            return run(self._engine, stretches, carried, inputs, "", **more)
        encoded = run(self._engine, stretches, carried, _of_encoder(inputs), "encoder")
        return encoded if reads == "encoder" else self._run(carried, inputs, reads, encoded.last)

    def _stretches(self, texts: Sequence[int], carried: Sequence[Carried]) -> list[Stretch]:
        """How the rows run; one stretch where no text is read twice, or the engine cannot split."""
        if len(set(texts)) == len(texts) or not self._engine.mixes(carried) or not self._engine.can_be_cut:
            return []
        return stretches_of(texts, [lowest_layer(self._engine, own) for own in carried])


def _of_encoder(inputs: Inputs) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in inputs.items() if not name.startswith("decoder_")}


class _Rows:
    """The rows that the trunk reads for some pieces: what each carries, and its text's number. Rows that are equal in
    everything are read once."""

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self.carried: list[Carried] = []
        self.texts: list[int] = []
        self._chunks: list[Inputs] = []
        self._of: list[list[int]] = []
        numbers: dict[bytes, int] = {}
        known: dict[tuple[Carried, int], int] = {}
        read: dict[int, tuple[Inputs, list[int]]] = {}
        for piece in pieces:
            # Pieces may share their tensors.
            if id(piece.inputs) not in read:
                flat: Inputs = {name: tensor.flatten(0, -2) for name, tensor in piece.inputs.items()}
                whole = torch.cat([flat[name] for name in sorted(flat)], dim=1).cpu().numpy()
                read[id(piece.inputs)] = flat, [numbers.setdefault(ids.tobytes(), len(numbers)) for ids in whole]
            flat, texts = read[id(piece.inputs)]
            fresh: list[int] = []
            found: list[int] = []
            for row, text in enumerate(texts):
                place = known.setdefault((piece.carried, text), len(self.carried))
                if place == len(self.carried):
                    fresh.append(row)
                    self.carried.append(piece.carried)
                    self.texts.append(text)
                found.append(place)
            self._of.append(found)
            if fresh:
                self._chunks.append(flat if len(fresh) == len(texts) else {n: t[fresh] for n, t in flat.items()})

    def inputs(self, order: Sequence[int], device: torch.device) -> dict[str, Tensor]:
        """The inputs of all rows in this order, on the device."""
        # One chunk is copied too: tensors of before inference mode would compile a forward of their own.
        whole = {name: torch.cat([chunk[name] for chunk in self._chunks]) for name in self._chunks[0]}
        if not _is_run(order):
            places = torch.tensor(order)
            whole = {name: tensor[places] for name, tensor in whole.items()}
        return {name: tensor.to(device) for name, tensor in whole.items()}

    def places(self, order: Sequence[int]) -> list[tuple[int, ...]]:
        """Where the rows of each piece stand once all rows are in this order."""
        moved = [0] * len(order)
        for place, row in enumerate(order):
            moved[row] = place
        return [tuple(moved[row] for row in of) for of in self._of]


def _answered(
    pieces: Sequence[Piece], places: Sequence[tuple[int, ...]], states: States, inputs: Inputs
) -> list[Tensor]:
    """Logits of every piece from the states of all rows. Heads of one template share what they can.
    `places`: where the rows of each piece stand."""
    alike: dict[Any, list[int]] = {}
    for number, piece in enumerate(pieces):
        template, shape = piece.head.template, piece.inputs["input_ids"].shape[1:]
        alike.setdefault((template, shape) if template.joins else number, []).append(number)
    found: dict[int, Tensor] = {}
    for numbers in alike.values():
        heads, first = [pieces[number].head for number in numbers], numbers[0]
        pooled_once = len(numbers) > 1 and heads[0].template.pools_alike and len({places[n] for n in numbers}) == 1
        at = places[first] if pooled_once else [place for number in numbers for place in places[number]]
        own = _of_rows(pieces[first], at, states, inputs)
        counts = [len(pieces[number].inputs["input_ids"]) for number in numbers]
        answers = logits_on_shared_rows(heads, *own) if pooled_once else logits_on_own_rows(heads, counts, *own)
        found.update(zip(numbers, answers, strict=True))
    return [found[number] for number in range(len(pieces))]


def _of_rows(like: Piece, places: Sequence[int], states: States, inputs: Inputs) -> tuple[States, Inputs]:
    """The states at some places, and the inputs there in the shape of a piece."""
    picked = slice(places[0], places[-1] + 1) if _is_run(places) else torch.tensor(places)
    shaped = {name: inputs[name][picked].view(-1, *given.shape[1:]) for name, given in like.inputs.items()}
    return states.rows(picked), shaped


def _is_run(numbers: Sequence[int]) -> bool:
    """Whether numbers count up by one."""
    return all(number == numbers[0] + step for step, number in enumerate(numbers))


def checked_batch(batch: Mapping[str, Any], rows: int, backbone: Backbone) -> dict[str, Tensor]:
    """The tensors of a batch, checked before a device sees them: a bad token id would spoil an accelerator's context.
    Raises DataError: with every problem found."""
    given = dict(batch.items())
    problems = [f"{name}: found {type(value).__name__}, expected a tensor" for name, value in given.items()
                if not isinstance(value, Tensor)]  # fmt: skip
    if "input_ids" not in given:
        problems.append("input_ids: missing")
    tensors: dict[str, Tensor] = {name: value for name, value in given.items() if isinstance(value, Tensor)}
    limit, vocabulary = backbone.max_tokens, int(backbone.config.vocab_size)
    for name, tensor in tensors.items():
        if tensor.dim() not in (2, 3):
            problems.append(f"{name}: {tensor.dim()} dimensions, expected 2, or 3 for multiple choice")
            continue
        if len(tensor) != rows:
            problems.append(f"{name}: {len(tensor)} rows, expected one per name, and there are {rows} names")
        if limit is not None and tensor.shape[-1] > limit:
            problems.append(f"{name}: {tensor.shape[-1]} tokens, and the backbone takes at most {limit}")
        if tensor.numel() == 0 and rows:
            problems.append(f"{name}: shape {tuple(tensor.shape)} has no tokens")
        elif name.endswith("input_ids") and rows:
            flat = tensor.flatten(1)
            bad = ((flat < 0) | (flat >= vocabulary)).any(1).nonzero().flatten().tolist()
            problems += [f"{name}: row {row} holds a token id outside 0 to {vocabulary - 1}" for row in bad[:10]]
    if problems:
        raise DataError("this batch cannot be answered", problems)
    ids = tensors["input_ids"]
    return {"attention_mask": torch.ones_like(ids), **tensors}
