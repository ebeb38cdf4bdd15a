"""The host: one backbone that answers with many adapters, each row of a batch with its own."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Any, Self

import torch
from torch import Tensor

from adapterkit.backbone import Backbone
from adapterkit.backbone.packed_weights import Packing
from adapterkit.data import group_by_length
from adapterkit.errors import AdapterkitError, HostClosedError, HostForkedError, MountError
from adapterkit.glance import in_short
from adapterkit.host.answers.asked_rows import Answered, Call, not_mounted, taken
from adapterkit.host.answers.batching import Forwards, Piece, checked_batch
from adapterkit.host.answers.computed import Computing
from adapterkit.host.answers.decoding import Decoding
from adapterkit.host.answers.generation import Generation, New, Stop
from adapterkit.host.bank.mounted import Mounted, Status, Statuses
from adapterkit.host.bank.mounting import Mounting
from adapterkit.host.bank.residency import Bank, Loaded
from adapterkit.host.bank.sources import Source
from adapterkit.host.engine.engine import Engine
from adapterkit.host.engine.route import Carried
from adapterkit.manifest.signature import TrustedKeys, read_trusted
from adapterkit.tasks.asked import Errors
from adapterkit.tasks.encoding import encode_texts, pad_inputs
from adapterkit.tasks.protocol import Row, Vocabulary
from adapterkit.tasks.values import DEFAULT_MAX_TOKENS

Asking = tuple[str, Row | str] | Row | str | AdapterkitError
"""One row of a call: see `Host.predict`."""


class Host:
    """One backbone with many adapters mounted. All methods may be called from many threads at once.

    A call answers with what was mounted when it began, whatever is mounted, swapped or unmounted meanwhile. A host
    belongs to the process that made it: in a forked one it refuses, and closing it there leaves the parent's alone.

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
        packed: Packing = "auto",
        exact: bool = False,
        folder: str | Path | None = None,
        require_signature: TrustedKeys | None = None,
    ) -> None:
        """
        Args:
            backbone: a bare backbone.
            slots: how many adapters are in memory at most, at least 1.
            compile: let torch compile the forward.
            merge: fold the LoRA of an adapter that owns a batch into copies of the weights, where the batch is so large
                that this is cheaper. It rounds otherwise: by some 1e-6 of an answer in fp32, by some 1e-2 in bf16.
            packed: "auto" lays out the backbone's frozen weights for this CPU where that is faster (measured once per
                machine), in the place of torch's layout: fp32 answers change by some 1e-6 of their size, bf16 ones by
                nothing. Not with `compile` or `merge`. "off" leaves them as they are.
            exact: compute every row alone: its answer is the same in every bit, whatever stands beside it. Slower.
            folder: where adapters wait that left RAM; None for the system's folder of temporary files.
            require_signature: public keys, of which one must have signed whatever is mounted, see `pull`. None: nobody.

        Raises:
            SignatureError: a key is none.
            SiteError: an adapter is attached to the backbone.
            ValueError: no slot at all, or `merge` with `compile`.
        """
        keys = read_trusted(require_signature)
        self.backbone = backbone
        self.slots = slots
        self._exact = exact
        self._engine = Engine(backbone, compile=compile, merge=merge, packed=packed)
        self._forwards = Forwards(self._engine, backbone)
        self._bank = Bank(slots, backbone.device, folder)
        self._vocabulary = Vocabulary.of(
            backbone.tokenizer, backbone.max_tokens, getattr(backbone.config, "decoder_start_token_id", None)
        )
        self._computing = Computing(self._forwards, self._bank, self._vocabulary, backbone.device)
        self._generation = Generation(self._engine, self._forwards, self._bank, self._vocabulary)
        self._mounted: dict[str, Mounted] = {}
        self._mounting = Mounting(backbone, self._bank, self._mounted, keys)
        self._changing = Lock()
        self._closed, self._pid = False, os.getpid()

    # -- what is mounted
    __repr__ = in_short("backbone.name", "mounted=_mounted", "slots")

    def mount(self, name: str, source: Source) -> Status:
        """Mount an adapter under a name.

        Args:
            name: what rows are addressed to; any text that is not empty.
            source: an artifact's folder, URL or hub id (both may end in @revision), an opened one, a training result,
                or a composition of `adapterkit.compose`.

        Raises:
            MountError: the name is taken.
            ContractError: the artifact was trained on another backbone.
            ArtifactError: there is no such artifact, or it is refused.
            SignatureError: signatures are required, and none of their keys has signed it.
            HeadError: the backbone's family does not have its head.
        """
        if not isinstance(name, str) or not name:
            raise ValueError(f"an adapter is mounted under a name, which is a text that is not empty, not {name!r}")
        self._check_open()
        if name in self._mounted:
            raise taken(name)
        fresh = self._mounting.prepare(name, source, version=1)
        with self._changing:
            if name not in self._mounted and not self._closed:
                self._mounted[name] = fresh
                return Status.of(fresh)
        self._bank.release(fresh.seat)
        self._check_open()
        raise taken(name)

    def swap(self, name: str, source: Source) -> Status:
        """Put another version in the place of what is mounted under a name. Raises as `mount`, and where nothing is.

        Calls that have begun are answered by the version that they began with.
        """
        self._find(name)
        fresh = self._mounting.prepare(name, source, version=0)
        with self._changing:
            old = self._mounted.get(name)
            if old is not None:
                fresh = replace(fresh, version=old.version + 1)
                self._mounted[name] = fresh
        self._bank.release(fresh.seat if old is None else old.seat)
        if old is None:
            raise not_mounted([name], sorted(self._mounted))
        return Status.of(fresh)

    def unmount(self, name: str) -> None:
        """Take an adapter off. Calls that use it finish with it. Raises MountError where nothing is mounted there."""
        self._check_open()
        with self._changing:
            old = self._mounted.pop(name, None)
        if old is None:
            raise not_mounted([name], sorted(self._mounted))
        self._bank.release(old.seat)

    def status(self) -> Statuses:
        """What is mounted: one entry per name, sorted; prints as a table."""
        return Statuses(Status.of(mounted) for _, mounted in sorted(self._mounted.items()))

    def __contains__(self, name: object) -> bool:
        return name in self._mounted

    def __len__(self) -> int:
        return len(self._mounted)

    def close(self) -> None:
        """Forget every adapter and give back memory and disk. The backbone stays."""
        if os.getpid() != self._pid:
            return  # a lock may have been held at the fork, and files are the parent's
        with self._changing:
            self._closed = True
            self._mounted.clear()
        self._bank.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # -- answering

    def predict(self, rows: Iterable[Asking], *, errors: Errors = "raise", batch_size: int = 64) -> list[Any]:
        """Answer rows of any mounted adapters, mixed.

        Args:
            rows: (name, row) pairs; a row is a dict with the task's columns, under its names, training's or an alias,
                or text where one column is enough. A dict by itself names its adapter in a column `task`, unless only
                one is mounted. An error in the place of a row is a row that could not even be read.
            errors: "return" gives an error with `code` and `message` in the place of every row that cannot be
                answered: a bad row, a name that is not mounted, an adapter that is lost. A bad row changes no
                other's answer.
            batch_size: rows per forward.

        Returns:
            One JSON-able answer per row, in row order, as `Adapted.predict` gives it. Of an adapter with several heads
            {head: answer}.

        Raises:
            NotMountedError: names that are not mounted; all of them are named.
            DataError: rows that their tasks cannot use; all of them are named.
        """
        return [found.answer for found in self.answers(rows, errors=errors, batch_size=batch_size)]

    def answers(self, rows: Iterable[Asking], *, errors: Errors = "raise", batch_size: int = 64) -> list[Answered]:
        """Answer rows as `predict` does, and say of each which version answered: what a receipt is made of."""
        call = self._call(rows, errors)
        call.encode(self._vocabulary)
        self._computing.fill(call, batch_size=1 if self._exact else batch_size)
        self._generation.fill(call, Decoding(), batch_size=1 if self._exact else batch_size)
        return call.answered()

    def predict_all(
        self,
        row: Row | str | Sequence[Row | str],
        tasks: Sequence[str] | None = None,
        *,
        errors: Errors = "raise",
        batch_size: int = 64,
    ) -> Any:
        """Ask many adapters about one row, or about each of a list of rows.

        Args:
            tasks: mounted names; None for all that are mounted.
            errors: "return" gives an error in the place of every answer that there is not, as `predict` does.

        Returns:
            {name: answer}, or a list of them for a list of rows.

        Raises:
            NotMountedError, DataError: as `predict`.
        """
        names = sorted(self._mounted) if tasks is None else list(tasks)
        one = isinstance(row, str | Mapping)
        rows: list[Any] = [row] if one else list(row)
        pairs = [(name, item) for item in rows for name in names]
        answers = iter(self.predict(pairs, errors=errors, batch_size=batch_size))
        found = [{name: next(answers) for name in names} for _ in rows]
        return found[0] if one else found

    def problems(self, rows: Iterable[Asking]) -> dict[int, AdapterkitError]:
        """Which rows of a call cannot be answered, and why: by place from 0. Nothing is computed."""
        return dict(self._call(rows, "return").bad)

    def generate(
        self,
        rows: Iterable[Asking],
        *,
        max_new_tokens: New = None,
        stop: Stop = None,
        num_beams: int | None = None,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        errors: Errors = "raise",
        batch_size: int = 64,
    ) -> list[Any]:
        """Continue prompts, another adapter in every row.

        Args:
            rows: (name, prompt) pairs; as in `predict`, of kinds that generate.
            max_new_tokens: the most new tokens, for every row or one number per row. None: what each task says. Less
                where the backbone is full.
            stop: texts at which a row ends, one or several for all rows, or a list of them per row. None: what each
                task says; []: none. They are sought in the answer alone, and are no part of it.
            num_beams: sequences that are followed per row. None: what each task says.
            temperature: 0 takes the likeliest token; higher draws more evenly.
            top_k: draw among so many likeliest tokens only.
            top_p: draw among the likeliest tokens that together have this probability.
            seed: of the draws; a row draws the same whatever stands beside it. None: new draws every time.
            errors: "return" gives an error in the place of every row that cannot be continued, as `predict` does.
            batch_size: rows per forward.

        Returns:
            One text per row, in row order, without the prompt.

        Raises:
            NotMountedError, DataError: as `predict`.
            GenerationError: settings that cannot be honoured, or an adapter that does not generate.
        """
        decoding = Decoding(num_beams, temperature, top_k, top_p, seed)
        found = self.texts(rows, decoding, max_new_tokens, stop, errors=errors, batch_size=batch_size)
        return [each.answer for each in found]

    def texts(
        self,
        rows: Iterable[Asking],
        decoding: Decoding | None = None,
        max_new_tokens: New = None,
        stop: Stop = None,
        *,
        errors: Errors = "raise",
        batch_size: int = 64,
    ) -> list[Answered]:
        """Continue prompts as `generate` does, and say of each text which version wrote it."""
        call = self._call(rows, errors)
        self._generation.refuse_others(call)
        call.encode(self._vocabulary)
        size = 1 if self._exact else batch_size
        self._generation.fill(call, decoding or Decoding(), max_new_tokens, stop, batch_size=size)
        return call.answered(texts=True)

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
        if self._exact and len(tasks) > 1:
            return [self.logits({n: t[i : i + 1] for n, t in given.items()}, [task])[0] for i, task in enumerate(tasks)]
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
                Piece(held.carried, next(iter(held.heads.values())), {key: t[rows] for key, t in given.items()})
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
        self._check_open()
        if isinstance(texts, str):
            raise TypeError("features takes a list of texts, found one text: write features([text])")
        carried: Carried = ()
        if adapter is not None:
            carried = self._take([(self._find(adapter), len(texts))])[0].carried
        limit = self._vocabulary.max_tokens or DEFAULT_MAX_TOKENS
        encoded = [tokens for tokens, _ in encode_texts(self._vocabulary, list(texts), None, limit)]
        found: dict[int, Tensor] = {}
        lengths = [len(tokens["input_ids"]) for tokens in encoded]
        for chosen in group_by_length(lengths, batch_size=1 if self._exact else batch_size, shuffle=False):
            inputs = pad_inputs([encoded[index] for index in chosen], self._vocabulary)
            with torch.inference_mode():
                states = self._forwards.states(carried, inputs)
            for row, index in enumerate(chosen):
                found[index] = states.last[row, : lengths[index]].clone()
        return [found[index] for index in range(len(texts))]

    # -- inside

    def _call(self, rows: Iterable[Asking], errors: Errors) -> Call:
        self._check_open()
        return Call(rows, self._mounted, errors)

    def _take(self, asked: Sequence[tuple[Mounted, int]]) -> list[Loaded]:
        return self._bank.take([mounted.seat for mounted, _ in asked], [rows for _, rows in asked])

    def _find(self, name: str) -> Mounted:
        return self._snapshot([name])[name]

    def _snapshot(self, names: Iterable[str]) -> dict[str, Mounted]:
        self._check_open()
        wanted = dict.fromkeys(names)
        found = {name: mounted for name in wanted if (mounted := self._mounted.get(name)) is not None}
        if len(found) < len(wanted):
            raise not_mounted([name for name in wanted if name not in found], sorted(self._mounted))
        return found

    def _check_open(self) -> None:
        if os.getpid() != self._pid:
            raise HostForkedError(
                f"this host was made by process {self._pid}, and process {os.getpid()} was forked from it",
                ["locks, threads of computation and accelerators do not outlive a fork"],
                "Make a host in every process, after the fork: of gunicorn without --preload, or in post_fork.",
            )
        if self._closed:
            raise HostClosedError("this host was closed", remedy="Make a new one: Host(backbone).")
