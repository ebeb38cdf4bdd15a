"""Every path of the schema under a fuzzer, and bodies that no schema knows: slow, half, huge and none."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from adapterkit.serving.app import create_app
from adapterkit.serving.fleet import Fleet
from adapterkit.serving.guarded import REFUSALS
from adapterkit.serving.keys import add_key, read_keys
from adapterkit.serving.settings import Limits
from tests.board.conftest import served
from tests.serving.conftest import standing_fleet

schemathesis = pytest.importorskip("schemathesis", reason="the fuzzer over the schema needs schemathesis")


SENT = {name: name for name in ("method", "url", "json", "headers", "params")} | {"data": "content"}
"""What the fuzzer calls a part of a request -> what the client calls it."""


@pytest.fixture
def schema(client: TestClient) -> Any:
    """What the service says of itself."""
    return schemathesis.openapi.from_dict(client.get("/openapi.json").json())


def test_no_path_of_the_schema_fails_whatever_it_is_sent(
    client: TestClient, fleet: Fleet, schema: Any, folders: Mapping[str, Path]
) -> None:
    operations = [found.ok() for found in schema.get_all_operations()]
    assert {"/v1/predict", "/v1/admin/promote", "/v1/embeddings", "/metrics"} <= {each.path for each in operations}
    home = str(folders["intent"].parent)

    for operation in operations:
        cases = operation.as_strategy()
        if operation.body:
            cases = st.one_of(cases, operation.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE))

        @settings(max_examples=8, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(case=cases)
        def fuzz(case: Any) -> None:
            sent = case.as_transport_kwargs(base_url="http://testserver")
            asked = {SENT[name]: value for name, value in sent.items() if name in SENT}
            reply = client.request(**asked)
            fleet.draining = False
            assert reply.status_code in {200, 405, *REFUSALS}, reply.text
            assert reply.status_code < 500, reply.text
            if reply.status_code != 200:
                assert set(reply.json()["error"]) == {"code", "message"}
            assert home not in reply.text
            assert "Traceback" not in reply.text

        fuzz()


def test_every_path_but_the_signs_of_life_needs_a_key(fleet: Fleet, schema: Any, tmp_path: Path) -> None:
    add_key(tmp_path / "keys.json", "ada", ["predict"])
    with TestClient(create_app(fleet, keys=read_keys(tmp_path / "keys.json"))) as client:
        open_ = set()
        for operation in (found.ok() for found in schema.get_all_operations()):
            path = operation.path.format(task="intent", version="1", model="intent")
            if client.request(operation.method, path, content=b"{}").status_code != 401:
                open_.add(operation.path)
    assert open_ == {"/healthz", "/readyz"}


@pytest.fixture(scope="module")
def listening(tiny_backbones: Any, folders: Mapping[str, Path]) -> Iterator[int]:
    """The port of a service that waits for bodies for a moment only."""
    limits = Limits(body_s=0.3)
    with standing_fleet(tiny_backbones, folders) as fleet, served(create_app(fleet, limits=limits)) as address:
        yield int(address.rpartition(":")[2])


HEAD = b"POST /v1/predict HTTP/1.1\r\nhost: localhost\r\n"
GOOD = json.dumps({"rows": [{"task": "intent", "text": "a card"}]}).encode()


@pytest.mark.parametrize(
    ("sent", "closed", "status"),
    [
        (HEAD + b"content-length: 500\r\n\r\n" + GOOD, False, b"408"),  # slow: the rest never comes
        (HEAD + b"content-length: 2000000\r\n\r\n", False, b"413"),  # huge, before it is sent
        (HEAD + b"transfer-encoding: chunked\r\n\r\nZZ\r\n", False, b"400"),
        (HEAD + b"content-length: -1\r\n\r\n", False, b"400"),
        (HEAD + b"x: " + b"a" * 100_000 + b"\r\n\r\n", False, b"4"),
        (b"\x16\x03\x01 not HTTP\r\n\r\n", False, b"400"),
        (HEAD + b"content-length: 500\r\n\r\n" + GOOD, True, b""),  # half closed: who has gone is told nothing
    ],
    ids=["slow", "huge", "chunk", "length", "header", "tls", "half"],
)
def test_bodies_that_no_client_sends_cost_nobody_else_anything(
    listening: int, sent: bytes, closed: bool, status: bytes
) -> None:
    with socket.create_connection(("127.0.0.1", listening), timeout=10) as odd:
        odd.sendall(sent)
        if closed:
            odd.shutdown(socket.SHUT_WR)
        reply = odd.recv(4096)
        assert reply == b"" if not status else reply.startswith(b"HTTP/1.1 " + status), reply
    with socket.create_connection(("127.0.0.1", listening), timeout=10) as other:
        other.sendall(HEAD + f"content-length: {len(GOOD)}\r\n\r\n".encode() + GOOD)
        assert other.recv(4096).startswith(b"HTTP/1.1 200")
