"""The host: one backbone that answers with many adapters, each row of a batch with its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from torch import Tensor

from adapterkit.backbone import Backbone
from adapterkit.data import group_by_length
from adapterkit.errors import HostClosedError, MountError
from adapterkit.host.answers.asked_rows import HeadRows, answers_of, collate, encode, problem_of, rows_by_head
from adapterkit.host.answers.batching import Forwards, Piece, checked_batch
from adapterkit.host.answers.generation import Decoding
from adapterkit.host.answers.prompts import Generation, New, Stop
from adapterkit.host.bank.mounted import Mounted, Status, Statuses
from adapterkit.host.bank.mounting import Mounting
from adapterkit.host.bank.residency import Bank, Loaded
from adapterkit.host.bank.sources import Source
from adapterkit.host.engine.engine import Engine
from adapterkit.host.engine.route import Layers
from adapterkit.recipe.columns import Column
from adapterkit.recipe.nearest import nearest
from adapterkit.tasks.encoding import encode_texts, pad_inputs
from adapterkit.tasks.protocol import Row, Vocabulary
from adapterkit.tasks.values import DEFAULT_MAX_TOKENS


class Host:
    """One backbone with many adapters mounted. All methods may be called from many threads at once.

    A call answers with what was mounted when it began, whatever is mounted, swapped or unmounted meanwhile.

    Attributes:
        backbone: the backbone; nothing is ever attached to it, and it may be trained on meanwhile.
        slots: how many adapters are in memory at most; the others wait on disk, or in RAM beside an accelerator.
    """

    def __init__(
        self,
        backbone: Backbone,
        slots: int = 64,
        *,
        compile: bool = False,  # noqa: A002
        merge: bool = False,
        folder: str | Path | None = None,
    ) -> None:
        """
        Args:
            backbone: a bare backbone.
            slots: how many adapters are in memory at most, at least 1.
            compile: let torch compile the forward.
            merge: fold the LoRA of an adapter that owns a batch into copies of the weights, where the batch is so large
                that this is cheaper. It rounds otherwise: by some 1e-6 of an answer in fp32, by some 1e-2 in bf16.
            folder: where adapters wait that left RAM; None for the system's folder of temporary files.

        Raises:
            SiteError: an adapter is attached to the backbone.
            ValueError: no slot at all, or `merge` with `compile`.
        """
        self.backbone = backbone
        self.slots = slots
        self._engine = Engine(backbone, compile=compile, merge=merge)
        self._forwards = Forwards(self._engine, backbone)
        self._bank = Bank(slots, backbone.device, folder)
        self._vocabulary = Vocabulary.of(
            backbone.tokenizer, backbone.max_tokens, getattr(backbone.config, "decoder_start_token_id", None)
        )
        self._generation = Generation(self._engine, self._forwards, self._bank, self._vocabulary)
        self._table: dict[str, Mounted] = {}
        self._mounting = Mounting(backbone, self._bank, self._table)
        self._changing = Lock()
        self._closed = False

    # -- what is mounted

    def mount(self, name: str, source: Source) -> Status:
        """Mount an adapter under a name.

        Args:
            name: what rows are addressed to; any text that is not empty.
            source: an artifact's folder, a hub id (owner/name, or owner/name@revision), an opened artifact, a training
                result, or a plan of `adapterkit.compose`.

        Raises:
            MountError: the name is taken.
            ContractError: the artifact was trained on another backbone.
            ArtifactError: there is no such artifact, or it is refused.
            HeadError: the backbone's family does not have its head.
        """
        if not isinstance(name, str) or not name:
            raise ValueError(f"an adapter is mounted under a name, which is a text that is not empty, not {name!r}")
        self._check_open()
        if name in self._table:
            raise _taken(name)
        fresh = self._mounting.prepare(name, source, version=1)
        with self._changing:
            if name not in self._table and not self._closed:
                self._table[name] = fresh
                return Status.of(fresh)
        self._bank.release(fresh.seat)
        self._check_open()
        raise _taken(name)

    def swap(self, name: str, source: Source) -> Status:
        """Put another version in the place of what is mounted under a name. Raises as `mount`, and where nothing is.

        Calls that have begun are answered by the version that they began with.
        """
        self._find(name)
        fresh = self._mounting.prepare(name, source, version=0)
        with self._changing:
            old = self._table.get(name)
            if old is not None:
                fresh = replace(fresh, version=old.version + 1)
                self._table[name] = fresh
        self._bank.release(fresh.seat if old is None else old.seat)
        if old is None:
            raise self._unknown([name])
        return Status.of(fresh)

    def unmount(self, name: str) -> None:
        """Take an adapter off. Calls that use it finish with it. Raises MountError where nothing is mounted there."""
        with self._changing:
            old = self._table.pop(name, None)
        if old is None:
            raise self._unknown([name])
        self._bank.release(old.seat)

    def status(self) -> Statuses:
        """What is mounted: one entry per name, sorted; prints as a table."""
        return Statuses(Status.of(mounted) for _, mounted in sorted(self._table.items()))

    def __contains__(self, name: object) -> bool:
        return name in self._table

    def __len__(self) -> int:
        return len(self._table)

    def close(self) -> None:
        """Forget every adapter and give back memory and disk. The backbone stays."""
        with self._changing:
            self._closed = True
            self._table.clear()
        self._bank.close()

    def __enter__(self) -> Host:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # -- answering

    def predict(self, rows: Iterable[tuple[str, Row | str]], *, batch_size: int = 64) -> list[Any]:
        """Answer rows of any mounted adapters, mixed.

        Args:
            rows: (name, row) pairs; a row is a dict with the task's columns, or text where one column is enough.
            batch_size: rows per forward.

        Returns:
            One JSON-able answer per row, in row order, as `Adapted.predict` gives it. Of an adapter with several heads
            {head: answer}.

        Raises:
            MountError: a name that is not mounted; all of them are named.
            DataError: rows that their tasks cannot use; all of them are named.
        """
        given = [_pair(number, item) for number, item in enumerate(rows, 1)]
        table = self._snapshot([name for name, _ in given])
        groups = rows_by_head([(table[name], row) for name, row in given])
        encode(groups, self._vocabulary)
        with torch.inference_mode():
            self._answer([group for group in groups if not group.generates], batch_size)
            generating = [group for group in groups if group.generates]
            if generating:
                self._generation.fill(generating, Decoding(), batch_size=batch_size)
        return answers_of(groups, len(given))

    def predict_all(
        self, row: Row | str | Sequence[Row | str], tasks: Sequence[str] | None = None, *, batch_size: int = 64
    ) -> Any:
        """Ask many adapters about one row, or about each of a list of rows.

        Args:
            tasks: mounted names; None for all that are mounted.

        Returns:
            {name: answer}, or a list of them for a list of rows.

        Raises:
            MountError, DataError: as `predict`.
        """
        names = sorted(self._table) if tasks is None else list(tasks)
        one = isinstance(row, str | Mapping)
        rows: list[Any] = [row] if one else list(row)
        answers = iter(self.predict([(name, item) for item in rows for name in names], batch_size=batch_size))
        found = [{name: next(answers) for name in names} for _ in rows]
        return found[0] if one else found

    def generate(
        self,
        rows: Iterable[tuple[str, Row | str]],
        *,
        max_new_tokens: New = None,
        stop: Stop = None,
        num_beams: int | None = None,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        batch_size: int = 64,
    ) -> list[str]:
        """Continue prompts, another adapter in every row.

        Args:
            rows: (name, prompt) pairs; as in `predict`, of kinds that generate.
            max_new_tokens: the most new tokens, for every row or one number per row. None: what each task says. Less
                where the backbone is full.
            stop: texts at which a row ends, one or several for all rows, or a list of them per row.
            num_beams: sequences that are followed per row. None: what each task says.
            temperature: 0 takes the likeliest token; higher draws more evenly.
            top_k: draw among so many likeliest tokens only.
            top_p: draw among the likeliest tokens that together have this probability.
            seed: of the draws; a row draws the same whatever stands beside it. None: new draws every time.
            batch_size: rows per forward.

        Returns:
            One text per row, in row order, without the prompt.

        Raises:
            MountError, DataError: as `predict`.
            GenerationError: settings that cannot be honoured, or an adapter that does not generate.
        """
        decoding = Decoding(num_beams, temperature, top_k, top_p, seed)
        given = [_pair(number, item) for number, item in enumerate(rows, 1)]
        table = self._snapshot([name for name, _ in given])
        groups = rows_by_head([(table[name], row) for name, row in given])
        encode(groups, self._vocabulary)
        self._generation.fill(groups, decoding, max_new_tokens, stop, batch_size=batch_size)
        texts: dict[int, str] = {}
        for group in groups:
            texts.update(zip(group.places, group.outputs, strict=True))
        return [texts[place] for place in range(len(given))]

    def columns(self, name: str) -> dict[str, Column]:
        """The columns that an adapter reads to answer. Raises MountError where nothing is mounted under the name."""
        heads = self._find(name).heads.values()
        return {key: column for head in heads for key, column in head.task.columns.items() if not column.target}

    def problem_of(self, name: str, row: Row | str) -> str | None:
        """Why an adapter cannot answer a row; None where it can. Raises MountError where nothing is mounted there."""
        return problem_of(self._find(name), row)

    def logits(self, batch: Mapping[str, Tensor], tasks: Sequence[str]) -> list[Tensor]:
        """Logits of a batch of tensors, each row by its own adapter.

        Args:
            batch: as the tokenizer gives it: input_ids, attention_mask, …, each (B, T); (B, K, T) for multiple choice.
            tasks: one mounted name per row.

        Returns:
            One tensor per row: (C,), (T, C), (T, 2), (K,) or (T, V) by the kind of its task.

        Raises:
            MountError: names that are not mounted, or adapters with several heads.
            DataError: tensors that do not fit the names or the backbone.
        """
        table = self._snapshot(tasks)
        given = checked_batch(batch, len(tasks), self.backbone)
        places: dict[str, list[int]] = {}
        for place, name in enumerate(tasks):
            places.setdefault(name, []).append(place)
        several = [name for name in places if len(table[name].heads) > 1]
        if several:
            raise MountError(
                "an adapter with several heads has no one tensor of logits", [f"{name!r}" for name in several]
            )
        with torch.inference_mode():
            loaded = self._take([(table[name], len(rows)) for name, rows in places.items()])
            pieces = [
                Piece(held.layers, next(iter(held.heads.values())), {key: t[rows] for key, t in given.items()})
                for rows, held in zip(places.values(), loaded, strict=True)
            ]
            computed = self._forwards.logits(pieces)
        found: dict[int, Tensor] = {}
        for rows, logits in zip(places.values(), computed, strict=True):
            found.update(zip(rows, logits.clone(), strict=True))  # tensors that autograd may use
        return [found[place] for place in range(len(tasks))]

    def features(self, texts: Sequence[str], adapter: str | None = None, *, batch_size: int = 64) -> list[Tensor]:
        """Last hidden states of texts, (T, D) each without padding; of an encoder-decoder the encoder's.

        Args:
            texts: cut to what the backbone takes.
            adapter: a mounted name; None for the bare backbone.

        Raises:
            MountError: nothing is mounted under that name.
        """
        if isinstance(texts, str):
            raise TypeError("features takes a list of texts, found one text: write features([text])")
        layers: Layers = ()
        if adapter is not None:
            layers = self._take([(self._find(adapter), len(texts))])[0].layers
        limit = self._vocabulary.max_tokens or DEFAULT_MAX_TOKENS
        encoded = [tokens for tokens, _ in encode_texts(self._vocabulary, list(texts), None, limit)]
        found: dict[int, Tensor] = {}
        lengths = [len(tokens["input_ids"]) for tokens in encoded]
        for part in group_by_length(lengths, batch_size=batch_size, shuffle=False):
            inputs = pad_inputs([encoded[index] for index in part], self._vocabulary)
            with torch.inference_mode():
                states = self._forwards.states([layers] * len(part), inputs)
            for row, index in enumerate(part):
                found[index] = states.last[row, : lengths[index]].clone()
        return [found[index] for index in range(len(texts))]

    # -- inside

    def _answer(self, groups: Sequence[HeadRows], batch_size: int) -> None:
        """Fill in the outputs of groups that do not generate."""
        asked = [(group, index) for group in groups for index in range(len(group.features))]
        lengths = [group.features[index].length_tokens for group, index in asked]
        batches = [
            _by_head([asked[place] for place in sorted(part)])
            for part in group_by_length(lengths, batch_size=batch_size, shuffle=False)
        ]
        for number, batch in enumerate(batches):
            loaded = self._take([(group.mounted, len(indices)) for group, indices in batch.items()])
            if number + 1 < len(batches):
                self._bank.prefetch(dict.fromkeys(group.mounted.seat for group in batches[number + 1]))
            collated = collate(batch, self._vocabulary)
            pieces = [
                Piece(held.layers, held.heads[group.name], part.inputs)
                for group, held, part in zip(batch, loaded, collated, strict=True)
            ]
            computed = self._forwards.logits(pieces)
            for (group, indices), part, logits in zip(batch.items(), collated, computed, strict=True):
                part = part.to(self.backbone.device)
                for index, output in zip(indices, group.head.task.outputs(logits, part), strict=True):
                    group.outputs[index] = output

    def _take(self, asked: Sequence[tuple[Mounted, int]]) -> list[Loaded]:
        return self._bank.take([mounted.seat for mounted, _ in asked], [rows for _, rows in asked])

    def _find(self, name: str) -> Mounted:
        return self._snapshot([name])[name]

    def _snapshot(self, names: Iterable[str]) -> dict[str, Mounted]:
        self._check_open()
        wanted = dict.fromkeys(names)
        found = {name: mounted for name in wanted if (mounted := self._table.get(name)) is not None}
        if len(found) < len(wanted):
            raise self._unknown([name for name in wanted if name not in found])
        return found

    def _unknown(self, names: Sequence[str]) -> MountError:
        mounted = sorted(self._table)
        problems = []
        for name in names:
            near = nearest(name, mounted) if isinstance(name, str) else None
            problems.append(f"{name!r} is not mounted" + (f"; did you mean {near!r}?" if near else ""))
        shown = ", ".join(map(repr, mounted[:20])) + (f" and {len(mounted) - 20} more" if len(mounted) > 20 else "")
        return MountError(
            f"{len(names)} name{'s are' if len(names) > 1 else ' is'} not mounted on this host",
            problems,
            f"Mounted: {shown or 'nothing yet'}. Mount an adapter with host.mount(name, folder).",
        )

    def _check_open(self) -> None:
        if self._closed:
            raise HostClosedError("this host was closed", remedy="Make a new one: Host(backbone).")


def _taken(name: str) -> MountError:
    return MountError(
        f"{name!r} is mounted already", remedy=f"Take its place with host.swap({name!r}, …), or unmount it first."
    )


def _pair(number: int, item: Any) -> tuple[str, Any]:
    if isinstance(item, str | Mapping) or not isinstance(item, Sequence) or len(item) != 2:
        raise TypeError(f"row {number}: expected (name, row), found {type(item).__name__}")
    name, row = item
    return name, row


def _by_head(asked: Sequence[tuple[HeadRows, int]]) -> dict[HeadRows, list[int]]:
    found: dict[HeadRows, list[int]] = {}
    for group, index in asked:
        found.setdefault(group, []).append(index)
    return found
