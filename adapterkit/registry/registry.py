"""The registry: versions of tasks, channels that point to them, and an audit of everything that was done."""

import getpass
import math
import os
import re
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

from adapterkit.errors import AdapterkitError, RegistryError
from adapterkit.manifest import MANIFEST, Manifest, Store, dump_json, open_manifest, parse_manifest, read_whole
from adapterkit.manifest.signature import signature_for, signers_of
from adapterkit.own_folder import cache_folder
from adapterkit.registry.audit import AuditReport, Entry
from adapterkit.registry.gates import Evidence, Gate, read_evidence, read_gate
from adapterkit.registry.history import history_of, moves_of, parse_time, way_back
from adapterkit.registry.records import SHORT, Served, Version, check_name, find_version

STABLE = "stable"
DEFAULT_URL = "sqlite:///registry.db"


class Registry:
    """A catalogue of versions: which artifact, on which channel, since when, on what evidence.

    Every change is one transaction together with its entry in the audit: it happens whole or not at all, whoever is
    killed and whichever disk is full. Writers come one after the other; readers see a state that was.

    Args:
        url: of the database: sqlite:///registry.db, postgresql+psycopg://user@host/name.
        store: where artifacts are kept: a folder or a URL of fsspec. It is named when the registry is made; None
            takes a folder beside a SQLite file.
        actor: who acts, for the audit; None takes ADAPTERKIT_ACTOR or the user of this process.
        cache: where artifacts of a store elsewhere are kept on this machine.

    Raises:
        RegistryError: there is no SQLAlchemy, or the database or the store cannot be used.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        store: str | Path | None = None,
        actor: str | None = None,
        cache: str | Path | None = None,
    ) -> None:
        self.url = url
        self.actor = check_name(actor or os.environ.get("ADAPTERKIT_ACTOR") or getpass.getuser(), "actor")
        try:
            from adapterkit.registry.book import Book
            from adapterkit.registry.database import open_database
        except ImportError as error:
            raise RegistryError(
                "a registry needs SQLAlchemy and Alembic", remedy="pip install 'adapterkit[registry]'"
            ) from error
        self._engine = open_database(url)
        self._book = Book(self._engine, self.actor)
        cached = Path(cache) if cache is not None else cache_folder() / "registry"
        self._store = Store(self._book.kept_in(url, None if store is None else str(store)), cached)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Registry({self._engine.url.render_as_string(hide_password=True)})"

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()

    def acting(self, actor: str) -> Self:
        """This registry, on the same connections, for the acts of somebody else. Raises RegistryError for no name."""
        other = copy(self)
        other.actor = check_name(actor, "actor")
        other._book = type(self._book)(self._engine, actor)
        return other

    def add(self, task: str, source: str | Path) -> Version:
        """Keep an artifact as a version of a task, with its signature. The same content again gives the same version.

        Args:
            task: the task's name in the registry; it is made with its first version.
            source: the artifact's folder.

        Raises:
            ArtifactError: it is not whole.
            SignatureError: the signature beside it is of something else.
            HubError: the store refuses; nothing has changed then.
            RegistryError: the database refuses; nothing has changed then.
        """
        check_name(task, "task")
        manifest, files = read_whole(source)
        digest, signature = manifest.sha256, signature_for(source, manifest)
        known = {version.digest: version for version in self.versions(task)}
        if digest in known and signature is None:
            return known[digest]
        location = self._store.put(digest, files, signature)
        if digest in known:
            return known[digest]
        self._book.add(
            task,
            digest,
            kind=manifest.kind,
            method=manifest.method.kind,
            backbone=manifest.backbone.name,
            fingerprint=manifest.backbone.fingerprint,
            data=manifest.data.digests.get("train"),
            recipe=sha256(dump_json(manifest.recipe)).hexdigest(),
            parent=manifest.parent,
            size_bytes=manifest.size_bytes,
            source=str(source),
            location=location,
            manifest=bytes(files.content[MANIFEST]).decode(),
        )
        return self.version(task, digest)

    def tasks(self) -> tuple[str, ...]:
        """The names of all tasks, in order."""
        return self._book.tasks()

    def versions(
        self,
        task: str | None = None,
        *,
        fingerprint: str | None = None,
        data: str | None = None,
        recipe: str | None = None,
        parent: str | None = None,
    ) -> tuple[Version, ...]:
        """Versions by task and number; of one task, one backbone, one set of training rows, one recipe, one parent.

        Args:
            fingerprint: of the backbone.
            data: digest of the training rows.
            recipe: digest of the recipe.
            parent: the version that they were made from.
        """
        asked = {"task": task, "fingerprint": fingerprint, "data": data, "recipe": recipe, "parent": parent}
        return self._book.versions(**{name: value for name, value in asked.items() if value is not None})

    def version(self, task: str, named: str) -> Version:
        """One version: by its digest, a prefix of it, its number, or a channel that points to it.
        Raises RegistryError: none, or more than one; says which there are."""
        return find_version(task, named, self.versions(task), self.tasks)

    def manifest(self, version: Version) -> Manifest:
        """The version's manifest, as it was added."""
        return parse_manifest(self._book.manifest(version))

    def lineage(self, task: str, named: str) -> tuple[Version, ...]:
        """A version and those that it was made from, as far as the registry has them; the newest first."""
        line = [self.version(task, named)]
        known = {version.digest: version for version in self.versions()}
        while (parent := line[-1].parent) in known and known[parent] not in line:
            line.append(known[parent])
        return tuple(line)

    def channels(self, task: str) -> Mapping[str, Version]:
        """Channel -> the version that it points to."""
        return self._book.channels(task)

    def fetch(self, task: str, named: str = STABLE) -> Path:
        """The artifact of a version as a folder on this machine, checked against its digest.
        Raises RegistryError: no such version, or the store does not give it; ArtifactError: the store gives
        something else."""
        version = self.version(task, named)
        return self._store.get(version.digest, version.location)

    def gate(self, task: str, channel: str = STABLE) -> Gate:
        """What a promotion to this channel must pass: the task's own gate, that of all tasks, or the plain one."""
        settings = self._book.gates(channel)
        own = settings.get(task, settings.get(""))
        return Gate() if own is None else read_gate(own)

    def set_gate(self, gate: Gate | Mapping[str, Any], *, task: str = "", channel: str = STABLE) -> None:
        """Say what a promotion to a channel must pass. `task`: one task; "" for all that have no gate of their own."""
        found = gate if isinstance(gate, Gate) else read_gate(gate)
        self._book.set_gate(task, channel, found.model_dump(mode="json"))

    def promote(
        self,
        task: str,
        version: str,
        channel: str = STABLE,
        *,
        evidence: Mapping[str, Any] | None = None,
        force: str = "",
    ) -> Version:
        """Let a channel point to a version.

        Args:
            version: its digest or a prefix, its number, or another channel that points to it.
            channel: `stable`, `candidate`, `shadow`, or any name.
            evidence: check -> what it found, see `registry.gates`. Files and signature are looked at here.
            force: the reason for going past the gate; the audit keeps it.

        Raises:
            GateError: the evidence is not enough, with every reason.
            ConflictError: somebody moved the channel meanwhile.
            RegistryError: no such version, or the database refuses. Nothing has changed then.
        """
        check_name(channel, "channel")
        wanted = self.version(task, version)
        before = self._book.revision(task, channel)
        gate, today = self.gate(task, channel), {name: one.digest for name, one in self.channels(task).items()}
        judged = read_evidence(evidence or {}, wanted.digest, today.get(channel), gate.most_ece)
        found = {**judged, **self.own_evidence(wanted, gate)}
        if not force:
            gate.check(f"{task} {wanted.short}", found)
        details: dict[str, Any] = {"evidence": {name: each.model_dump(mode="json") for name, each in found.items()}}
        if force:
            details["forced"] = force
        self._book.move("promote", task, channel, wanted.digest, before, details)
        return self.version(task, wanted.digest)

    def own_evidence(self, version: Version, gate: Gate) -> dict[str, Evidence]:
        """What the registry finds of its own copy: that it is whole and, where a gate asks, whether it is signed."""
        whole = {"files": self._looked_at(version)}
        if "signature" not in gate.require:
            return whole
        if not gate.signers:
            told = "no key is trusted: adapterkit registry gate --signer PUB"
            return whole | {"signature": Evidence(passed=False, detail=told)}
        return whole | {"signature": self._looked_at(version, gate.signers)}

    def _looked_at(self, version: Version, keys: Sequence[str] = ()) -> Evidence:
        """Whether the files are those that were added, and one of these keys, if any, has signed them."""
        try:
            folder = self._store.get(version.digest, version.location)
            if not keys:
                return Evidence(passed=True, detail="the files are those that were added")
            found = signers_of(folder, open_manifest(folder), keys)
        except AdapterkitError as error:
            return Evidence(passed=False, detail="; ".join([error.summary, *error.problems])[:4096])
        return Evidence(passed=True, detail=f"signed by {', '.join(found)}", facts={"signed_by": found})

    def roll_back(
        self, task: str, channel: str = STABLE, *, expected: str | None = None, why: Mapping[str, Any] | None = None
    ) -> Version:
        """Let a channel point to the version that it had before; again, to the one before that.

        It moves a pointer in the database and asks nothing else: no gate, no artifact, no network.

        Args:
            expected: digest of the version that is to be left; None takes whichever the channel points to.
            why: what the audit keeps as the reason.

        Raises:
            RegistryError: there was none before.
            ConflictError: somebody moved the channel meanwhile.
        """
        before = self._book.revision(task, channel)
        stack = way_back(self._book.moves(task, channel))
        if len(stack) < 2:
            known = f"found {len(stack)} version{'' if len(stack) == 1 else 's'} on {channel}"
            raise RegistryError(f"{task} cannot be rolled back", [f"history: {known}, expected two or more"])
        wanted = self.version(task, stack[-2])
        details = {"why": dict(why)} if why else {}
        self._book.move("roll-back", task, channel, wanted.digest, before, details, expected)
        return self.version(task, wanted.digest)

    def withdraw(
        self, task: str, channel: str, *, expected: str | None = None, why: Mapping[str, Any] | None = None
    ) -> None:
        """Let a channel point to nothing. Arguments and errors as those of `roll_back`, which undoes it."""
        before = self._book.revision(task, channel)
        if channel not in self.channels(task):
            raise RegistryError(
                f"{channel} of {task} points to nothing", [f"channels: {', '.join(self.channels(task))}"]
            )
        self._book.move("withdraw", task, channel, "", before, {"why": dict(why)} if why else {}, expected)

    def shares(self, task: str) -> Mapping[str, float] | None:
        """Channel -> share, as it was set last; None where rules alone decide."""
        found = self._book.last(task, "split")
        return None if found is None else found["split"]

    def set_shares(self, task: str, split: Mapping[str, float]) -> None:
        """Say how the traffic of a task is divided; services that follow this registry do so.
        `split`: channel -> share; shares count relative to their sum. Raises RegistryError: no such channel, or no
        shares."""
        known = self.channels(task)
        wrong = [f"{name}: points to nothing" for name, share in split.items() if share and name not in known]
        wrong += [f"{name}: {share}, expected 0 or more" for name, share in split.items() if not 0 <= share < math.inf]
        if wrong or not any(split.values()):
            raise RegistryError(f"the traffic of {task} cannot be divided so", wrong or ["no share is above 0"])
        with self._book.turn(f"the split of {task}") as turn:
            turn.note("split", task, "", "", {"split": {**split}})

    def history(self, task: str, channel: str = STABLE) -> tuple[Served, ...]:
        """Everything that a channel answered with, the oldest first."""
        versions = {version.digest: version for version in self.versions(task)}
        return history_of(moves_of(self.entries(task), channel), versions)

    def served(self, task: str, at: str | datetime, channel: str = STABLE) -> Served | None:
        """What a channel answered with at a time; None where nothing did yet.
        `at`: ISO 8601 or a datetime; without a zone it is UTC."""
        moment = parse_time(at)
        answered = (
            move
            for move in self.history(task, channel)
            if move.since <= moment and (move.until is None or moment < move.until)
        )
        return next(answered, None)

    def entries(self, task: str | None = None, last: int | None = None) -> tuple[Entry, ...]:
        """The audit's entries, the oldest first; of one task, or all; the last so many, or all."""
        return self._book.entries(task, last)

    def audit(self, *, head: str | None = None, files: bool = True) -> AuditReport:
        """Prove that the history is the one that was written, and that channels and artifacts agree with it.
        `head`: hash of an entry that was noted elsewhere, which must still be there; its beginning is enough.
        `files`: whether the artifacts' bytes are read too. Raises RegistryError: the head is no hash."""
        if head is not None and not re.fullmatch(f"[0-9a-f]{{{SHORT},64}}", head):
            raise RegistryError(f"{head[:64]!r} is no hash", [f"head: expected {SHORT} to 64 hexadecimal digits"])
        report, versions = self._book.proven(head)
        problems = [*report.problems]
        if files:
            looked = [(version, self._looked_at(version)) for version in versions]
            problems += [f"{each.task} {each.short}: {found.detail}" for each, found in looked if not found.passed]
        return replace(report, problems=tuple(problems))
