"""Versions, channels and roll backs, as somebody sees them who runs a fleet."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import IntegrityError

from adapterkit.errors import ArtifactError, ConflictError, GateError, RegistryError
from adapterkit.registry import Gate, Registry, book, history
from tests.registry.conftest import Make

PASSED = {"contract": {"passed": True}, "golden rows": {"passed": True, "detail": "8 rows"}}


def test_a_version_is_named_by_its_content(registry: Registry, make: Make) -> None:
    version = registry.add("intent", make("a"))
    manifest = json.loads((Path(version.location) / "adapterkit.json").read_text())
    assert version.digest == manifest["sha256"]
    assert (version.number, version.kind, version.method, version.data) == (1, "text-classification", "lora", "2" * 64)
    assert version.metrics["test"]["accuracy"]["value"] == 0.9
    assert registry.manifest(version).backbone.name == "tiny"


def test_the_same_content_is_the_same_version(registry: Registry, make: Make) -> None:
    source = make("a")
    assert registry.add("intent", source) == registry.add("intent", source)
    assert len(registry.versions("intent")) == 1
    assert [entry.action for entry in registry.entries()] == ["add"]


def test_a_version_is_found_by_number_digest_and_channel(registry: Registry, make: Make) -> None:
    one, two = registry.add("intent", make("a")), registry.add("intent", make("b"))
    registry.promote("intent", "2", "candidate")
    assert registry.version("intent", "1").digest == one.digest
    assert registry.version("intent", two.digest[:8]).digest == two.digest
    assert registry.version("intent", "candidate").channels == ("candidate",)


@pytest.mark.parametrize(
    ("task", "named", "said"),
    [("intnet", "1", "did you mean 'intent'"), ("intent", "7", "no version '7'"), ("intent", "stable", "no version")],
)
def test_what_is_not_there_is_named(registry: Registry, make: Make, task: str, named: str, said: str) -> None:
    registry.add("intent", make("a"))
    with pytest.raises(RegistryError, match=said):
        registry.version(task, named)


def test_a_channel_moves_and_comes_back(registry: Registry, make: Make) -> None:
    digests = [registry.add("intent", make(name)).digest for name in "abc"]
    for digest in digests:
        registry.promote("intent", digest)
    assert registry.roll_back("intent").digest == digests[1]
    assert registry.roll_back("intent").digest == digests[0]
    with pytest.raises(RegistryError, match="cannot be rolled back"):
        registry.roll_back("intent")
    registry.promote("intent", digests[2])
    assert registry.roll_back("intent").digest == digests[0]
    assert [move.action for move in registry.history("intent")] == ["promote"] * 3 + ["roll-back"] * 2 + [
        "promote",
        "roll-back",
    ]


def test_what_answered_at_a_time_can_be_said(registry: Registry, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    hours = iter(["2026-01-01T08:00", "2026-01-01T09:00", "2026-01-01T10:00", "2026-01-01T11:00"])
    monkeypatch.setattr(book, "later_than", lambda previous: history.parse_time(next(hours)))
    first, second = registry.add("intent", make("a")), registry.add("intent", make("b"))
    registry.promote("intent", "1")
    registry.promote("intent", "2")
    assert registry.served("intent", "2026-01-01T09:59") is None
    assert registry.served("intent", "2026-01-01T10:00").version.digest == first.digest
    assert registry.served("intent", "2026-01-01T11:59+01:00").version.digest == first.digest
    assert registry.served("intent", "2026-01-01T12:00+01:00").version.digest == second.digest
    assert registry.served("intent", "2026-01-02").until is None
    with pytest.raises(RegistryError, match="is no time"):
        registry.served("intent", "yesterday")


def test_a_gate_says_everything_that_is_missing_or_failed(registry: Registry, make: Make) -> None:
    registry.add("intent", make("a"))
    registry.set_gate(Gate(require=("contract", "golden rows", "signature")))
    failed = {"golden rows": {"passed": False, "detail": "row 3: found 0.1, expected 0.9"}}
    with pytest.raises(GateError) as refused:
        registry.promote("intent", "1", evidence=failed)
    assert list(refused.value.problems) == [
        "contract: no evidence, expected some",
        "golden rows: row 3: found 0.1, expected 0.9",
        "signature: no key is trusted: adapterkit registry gate --signer PUB",
    ]
    assert registry.channels("intent") == {}
    registry.promote("intent", "1", "candidate")  # the gate is that of the stable channel
    registry.set_gate({"require": ["contract", "golden rows"]}, task="intent")
    assert registry.promote("intent", "1", evidence=PASSED).channels == ("candidate", "stable")
    kept = registry.history("intent")[0].evidence
    assert kept["golden rows"]["detail"] == "8 rows"
    assert kept["files"]["passed"]


def test_going_past_a_gate_is_kept_with_its_reason(registry: Registry, make: Make) -> None:
    registry.add("intent", make("a"))
    registry.set_gate({"require": ["compare"]})
    registry.promote("intent", "1", force="the old one is down")
    assert registry.history("intent")[0].forced == "the old one is down"


@pytest.mark.parametrize("evidence", [{"vibes": {"passed": True}}, {"compare": {"passed": "yes"}}, {"compare": None}])
def test_evidence_that_is_none_is_refused(registry: Registry, make: Make, evidence: dict[str, object]) -> None:
    registry.add("intent", make("a"))
    with pytest.raises(RegistryError, match="cannot be used"):
        registry.promote("intent", "1", evidence=evidence)


def test_a_damaged_copy_is_not_promoted_and_the_audit_names_it(registry: Registry, make: Make) -> None:
    version = registry.add("intent", make("a"))
    (Path(version.location) / "adapter_model.safetensors").write_bytes(b"b")
    with pytest.raises(GateError, match="does not pass"):
        registry.promote("intent", "1")
    assert [problem.split(":")[0] for problem in registry.audit().problems] == [f"intent {version.short}"]
    assert registry.audit(files=False)
    assert registry.add("intent", make("b")).number == 2


def test_an_artifact_that_is_not_whole_is_not_added(registry: Registry, make: Make) -> None:
    source = make("a")
    (source / "adapter_config.json").write_text("{ }")
    with pytest.raises(ArtifactError, match="refused"):
        registry.add("intent", source)
    assert registry.tasks() == ()
    assert registry.entries() == ()


def test_of_two_who_promote_one_wins_and_the_other_is_told(registry: Registry, make: Make) -> None:
    for name in "ab":
        registry.add("intent", make(name))
    other, meet, told = Registry(registry.url, actor="bob"), threading.Barrier(2), []

    class Waits(Gate):
        def problems(self, evidence: object) -> list[str]:
            meet.wait(10)
            return []

    def promote(each: Registry, version: str) -> None:
        each.gate = lambda task, channel: Waits()  # type: ignore[method-assign]
        try:
            each.promote("intent", version)
        except ConflictError as error:
            told.append(error)

    threads = [threading.Thread(target=promote, args=pair) for pair in ((registry, "1"), (other, "2"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    other.close()
    assert len(told) == 1
    assert "moved by somebody else" in str(told[0])
    assert len(registry.history("intent")) == 1
    assert registry.audit()


@pytest.mark.parametrize(
    "statement",
    ["UPDATE audit SET actor = 'eve'", "DELETE FROM audit", "UPDATE versions SET source = 'x'", "DELETE FROM versions"],
)
def test_the_database_refuses_to_change_what_was_written(registry: Registry, make: Make, statement: str) -> None:
    registry.add("intent", make("a"))
    with create_engine(registry.url).begin() as connection, pytest.raises(IntegrityError, match="only grows"):
        connection.execute(text(statement))
    assert registry.audit()


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE audit SET actor = 'eve' WHERE number = 2", "entry 2: its content is not what was written"),
        ("DELETE FROM audit WHERE number = 2", "entry 2: missing, found 3"),
        ("DELETE FROM audit WHERE number = 3", "the end: found"),
        ("UPDATE channels SET digest = (SELECT digest FROM versions WHERE number = 2)", "which no entry says"),
    ],
)
def test_whoever_gets_past_that_is_found_out(registry: Registry, make: Make, statement: str, said: str) -> None:
    for name in "ab":
        registry.add("intent", make(name))
    registry.promote("intent", "1")
    with create_engine(registry.url).begin() as connection:
        for what in ("update", "delete"):
            connection.execute(text(f"DROP TRIGGER audit_keeps_{what}"))
        connection.execute(text(statement))
    report = registry.audit()
    assert not report
    assert any(said in problem for problem in report.problems)


def test_a_whole_new_history_is_found_out_by_a_hash_kept_elsewhere(registry: Registry, make: Make) -> None:
    registry.add("intent", make("a"))
    assert registry.audit(head=registry.audit().head)
    assert any("written anew" in problem for problem in registry.audit(head="f" * 64).problems)


def test_lineage_goes_to_the_first_that_is_known(registry: Registry, make: Make) -> None:
    one = registry.add("intent", make("a"))
    ancestor = {"version": 1, "sha256": one.digest}
    two = registry.add("intent", make("b", version=2, parent=one.digest, history=[ancestor]))
    assert [version.digest for version in registry.lineage("intent", "2")] == [two.digest, one.digest]
    assert [version.digest for version in registry.versions(parent=one.digest)] == [two.digest]
    assert registry.versions(fingerprint="1" * 64, data="2" * 64, recipe=one.recipe) == registry.versions()
    assert registry.versions(recipe="0" * 64) == ()


def test_a_channel_is_withdrawn_and_comes_back(registry: Registry, make: Make) -> None:
    first, second = (registry.add("intent", make(name)) for name in "ab")
    registry.promote("intent", first.digest, "candidate")
    registry.promote("intent", second.digest, "candidate")
    registry.withdraw("intent", "candidate", expected=second.digest, why={"detail": "errors 0.5"})
    assert registry.channels("intent") == {}
    assert registry.served("intent", "2999-01-01", "candidate") is None
    assert [move.version.digest for move in registry.history("intent", "candidate")] == [first.digest, second.digest]
    assert registry.entries("intent")[-1].details == {"before": second.digest, "why": {"detail": "errors 0.5"}}
    with pytest.raises(RegistryError, match="points to nothing"):
        registry.withdraw("intent", "candidate")
    assert registry.roll_back("intent", "candidate") == registry.version("intent", second.digest)
    assert registry.roll_back("intent", "candidate").digest == first.digest
    registry.withdraw("intent", "candidate")
    registry.promote("intent", second.digest, "candidate")
    assert registry.roll_back("intent", "candidate").digest == first.digest
    assert registry.audit()


def test_two_that_roll_one_version_back_go_back_once(registry: Registry, make: Make) -> None:
    versions = [registry.add("intent", make(name)) for name in "abc"]
    for version in versions:
        registry.promote("intent", version.digest)
    why = {"guard": "errors", "detail": "errors 0.5"}
    registry.roll_back("intent", expected=versions[2].digest, why=why)
    with pytest.raises(ConflictError, match="somebody else"):
        registry.roll_back("intent", expected=versions[2].digest, why=why)
    assert registry.channels("intent")["stable"].digest == versions[1].digest
    history = registry.history("intent")
    assert [(move.version.number, dict(move.why), dict(move.ended)) for move in history] == [
        (1, {}, {}),
        (2, {}, {}),
        (3, {}, why),
        (2, why, {}),
    ]


def test_a_store_elsewhere_is_named_once(tmp_path: Path, make: Make) -> None:
    url, place = f"sqlite:///{tmp_path}/r.db", "memory://artifacts"
    with Registry(url, store=place, cache=tmp_path / "cache") as registry:
        version = registry.add("intent", make("a"))
        assert version.location == f"{place}/{version.digest}"
        registry.promote("intent", "1")
    with Registry(url, cache=tmp_path / "cache") as again:
        assert (again.fetch("intent") / "README.md").read_text() == "a card"
    with pytest.raises(RegistryError, match="elsewhere"):
        Registry(url, store=tmp_path / "other")


@pytest.mark.parametrize("url", ["nonsense", "nosuch://x", "sqlite:////proc/none/registry.db"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(RegistryError):
        Registry(url)


def test_a_file_that_is_no_database_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "notes.db").write_text("my notes, at some length, so that it is no header either" * 20)
    with pytest.raises(RegistryError, match="cannot be used as a registry"):
        Registry(f"sqlite:///{tmp_path}/notes.db")
    assert (tmp_path / "notes.db").read_text().startswith("my notes")


def test_a_newer_schema_is_refused(registry: Registry) -> None:
    with create_engine(registry.url).begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(RegistryError, match="Upgrade adapterkit"):
        Registry(registry.url)


@pytest.mark.parametrize("name", ["", " x", "a/b", "a@b", "a\nb", "x" * 201])
def test_names_are_checked(registry: Registry, make: Make, name: str) -> None:
    with pytest.raises(RegistryError, match="cannot be the name"):
        registry.add(name, make("a"))


def test_the_registry_needs_no_torch(tmp_path: Path, make: Make) -> None:
    code = (
        "import sys, adapterkit as ak; r = ak.Registry(sys.argv[1]); r.add('t', sys.argv[2]); r.promote('t', '1');"
        "r.history('t'); r.audit(); print(*{'torch', 'transformers', 'peft'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code, f"sqlite:///{tmp_path}/r.db", str(make("a"))]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() == []
