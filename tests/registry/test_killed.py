"""Writers that are killed at any moment leave a whole history, in SQLite and in PostgreSQL."""

from __future__ import annotations

import multiprocessing
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from adapterkit.errors import RegistryError
from adapterkit.registry import Registry
from tests.registry.conftest import Make

KILLS = int(os.environ.get("ADAPTERKIT_ABUSE_KILLS", "3"))
"""How many of each database; the full run of abuse asks for more."""

WRITERS = """
import itertools, os, signal, sys
from adapterkit.errors import ConflictError
from adapterkit.registry import Registry

def write(actor):
    registry = Registry(sys.argv[1], actor=actor)
    written = 0
    for step in itertools.count(1):  # a way back comes behind three promotions, so that there always is one
        try:
            registry.promote("intent", str(step % 3 + 1)) if step % 4 else registry.roll_back("intent")
            written += 1
        except ConflictError:
            continue
        if written == 1:
            print(os.getpid(), flush=True)

signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # who is killed is gone at once
Registry(sys.argv[1]).close()  # all imports are made before the forks
for line in sys.stdin:
    if os.fork() == 0:
        write(line.strip())
"""
"""Forks a writer for every name that it reads, from a process without threads; each says its number once it wrote."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A real PostgreSQL server, of this module alone."""
    pgserver = pytest.importorskip("pgserver", reason="PostgreSQL comes with the package pgserver")
    pytest.importorskip("psycopg")
    try:
        started = pgserver.get_server(tmp_path_factory.mktemp("postgres"))
    except (OSError, RuntimeError, subprocess.CalledProcessError) as error:
        pytest.skip(f"PostgreSQL does not start here: {error}")
    yield started
    started.cleanup()


@pytest.fixture(params=["sqlite", "postgresql"])
def opened(request: pytest.FixtureRequest, tmp_path: Path, make: Make) -> Iterator[Registry]:
    """A registry with three versions of a task, all of them promoted once."""
    url = f"sqlite:///{tmp_path}/r.db"
    if request.param == "postgresql":
        name = f"r{time.monotonic_ns()}"
        server = request.getfixturevalue("server")
        server.psql(f"CREATE DATABASE {name}")
        url = server.get_uri(name).replace("postgresql://", "postgresql+psycopg://")
    with Registry(url, store=tmp_path / "kept", actor="ada") as registry:
        for number, name in enumerate("abc", 1):
            registry.add("intent", make(name))
            registry.promote("intent", str(number))
        yield registry


def test_writers_killed_at_any_moment_leave_a_whole_history(opened: Registry) -> None:
    generator = random.Random(0)
    command = [sys.executable, "-c", WRITERS, opened.url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as forking:
        assert forking.stdin is not None
        assert forking.stdout is not None
        for _ in range(KILLS):
            forking.stdin.write("bob\neve\n")
            writers = {int(forking.stdout.readline()) for _ in range(2)}
            assert len(writers) == 2
            time.sleep(generator.uniform(0.0, 0.2))
            for writer in writers:
                os.kill(writer, signal.SIGKILL)
            while any(Path(f"/proc/{writer}").exists() for writer in writers):
                time.sleep(0.001)
            report = opened.audit()
            assert report, report.problems
        forking.stdin.close()
    assert {entry.actor for entry in opened.entries()} == {"ada", "bob", "eve"}
    opened.promote("intent", "1")
    assert opened.version("intent", "stable").number == 1


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_process_opens_connections_of_its_own(opened: Registry) -> None:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            inherited = opened._engine.pool.checkedin()
            opened.promote("intent", "2")
            status = inherited
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert opened.version("intent", "stable").number == 2
    assert opened.audit()


def test_an_entry_is_neither_changed_nor_removed(opened: Registry) -> None:
    for statement in ("UPDATE audit SET actor = 'eve'", "DELETE FROM versions"):
        with pytest.raises(DBAPIError, match="only grows"), opened._engine.begin() as connection:
            connection.execute(text(statement))
    assert opened.audit()


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_full_disk_leaves_the_registry_as_it_was(tmp_path: Path, make: Make) -> None:
    with Registry(f"sqlite:///{tmp_path}/r.db", actor="ada") as registry:
        registry.add("intent", make("a"))
    forks = multiprocessing.get_context("fork")
    heard, saying = forks.Pipe(duplex=False)

    def fill() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        registry = Registry(f"sqlite:///{tmp_path}/r.db", actor="ada")
        resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))
        try:
            registry.promote("intent", "1", "x" * 150)
        except RegistryError as error:
            saying.send(str(error))

    filling = forks.Process(target=fill)
    filling.start()
    filling.join()
    assert heard.poll()
    assert "was not written; the registry is as it was" in heard.recv()
    with Registry(f"sqlite:///{tmp_path}/r.db") as registry:
        assert registry.audit()
        assert registry.channels("intent") == {}
