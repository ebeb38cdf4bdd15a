"""Who may ask, and what is refused: by its size, its pace, its form and its key, without a word about the machine."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from adapterkit.errors import ServingError
from adapterkit.serving.app import create_app
from adapterkit.serving.fleet import Fleet
from adapterkit.serving.keys import add_key, read_keys
from adapterkit.serving.requests import QueueFullError
from adapterkit.serving.settings import Limits, is_loopback
from adapterkit.serving.work import Item, Work

PATHS = ("/v1/predict", "/v1/tasks/intent/predict", "/v1/predict_all", "/v1/completions", "/v1/chat/completions")
GOOD = {"rows": [{"task": "intent", "text": "a card"}]}


@pytest.fixture
def guarded(fleet: Fleet, tmp_path: Path) -> Iterator[tuple[TestClient, dict[str, str]]]:
    """A service with two keys, and the keys by name."""
    file = tmp_path / "keys.json"
    known = {"ada": add_key(file, "ada", ["predict"]), "bob": add_key(file, "bob", ["feedback"])}
    assert all(secret not in file.read_text() for secret in known.values())
    assert file.stat().st_mode & 0o777 == 0o600
    with TestClient(create_app(fleet, keys=read_keys(file))) as client:
        yield client, known


def test_without_a_key_nothing_is_answered(guarded: tuple[TestClient, dict[str, str]]) -> None:
    client, _ = guarded
    for path in (*PATHS, "/v1/feedback", "/v1/embeddings"):
        for headers in ({}, {"authorization": "Bearer ak_wrong"}, {"authorization": "Basic x"}):
            reply = client.post(path, json=GOOD, headers=headers)
            assert (reply.status_code, reply.json()["error"]["code"]) == (401, "no_key")
    assert client.get("/v1/tasks").status_code == client.get("/v1/models").status_code == 401
    assert client.get("/healthz").status_code == 200


def test_a_key_opens_its_scopes_alone(guarded: tuple[TestClient, dict[str, str]]) -> None:
    client, known = guarded
    by = {name: {"authorization": f"Bearer {secret}"} for name, secret in known.items()}
    told = {"task": "intent", "version": "1", "right": True}
    assert client.post("/v1/predict", json=GOOD, headers=by["ada"]).status_code == 200
    assert client.post("/v1/predict", json=GOOD, headers=by["bob"]).status_code == 403
    assert client.post("/v1/feedback", json=told, headers=by["bob"]).status_code == 200
    assert client.post("/v1/feedback", json=told, headers=by["ada"]).json()["error"]["code"] == "wrong_scope"


def test_a_name_has_one_key(tmp_path: Path) -> None:
    add_key(tmp_path / "k.json", "ada", ["predict"])
    with pytest.raises(ServingError, match="has a key"):
        add_key(tmp_path / "k.json", "ada", ["feedback"])
    (tmp_path / "k.json").write_text('[{"name": "eve"}]')
    with pytest.raises(ServingError, match="cannot be read as keys"):
        read_keys(tmp_path / "k.json")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "bad_json"),
        (b"\xff\xfe", 400, "bad_json"),
        (b"[" * 100_000, 400, "bad_json"),
        (b'{"rows": [{"task": "intent", "text": NaN}]}', 400, "bad_json"),
        (b'{"rows": [], "rows": []}', 400, "bad_json"),
        (b"[]", 422, "bad_request"),
        (b'{"rows": []}', 422, "bad_request"),
        (b'{"rows": "all"}', 422, "bad_request"),
        (b'{"rows": [{"task": "intent"}], "kye": "x"}', 422, "bad_request"),
        (json.dumps({"rows": [{"task": "intent", "text": "a"}] * 300}).encode(), 422, "bad_request"),
        (json.dumps({"rows": [{"task": "intent", "text": "a" * 250_000}]}).encode(), 422, "bad_request"),
        (b" " * (1 << 20) + b"{}", 413, "too_large"),
    ],
    ids=["empty", "no text", "deep", "nan", "twice", "list", "no rows", "type", "unknown", "rows", "long", "large"],
)
def test_a_body_that_cannot_be_used_is_refused(standing: TestClient, body: bytes, status: int, code: str) -> None:
    reply = standing.post("/v1/predict", content=body)
    assert (reply.status_code, reply.json()["error"]["code"]) == (status, code)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    path=st.sampled_from((*PATHS, "/v1/feedback", "/v1/embeddings")),
    body=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["rows", "row", "task", "text", "model", "prompt", "messages", "input"]), inner
            )
        ),
        max_leaves=12,
    ),
)
def test_no_body_makes_the_service_fail(standing: TestClient, path: str, body: Any) -> None:
    reply = standing.post(path, content=json.dumps(body), headers={"content-type": "application/json"})
    assert reply.status_code in (200, 400, 404, 422)
    assert "/home" not in reply.text
    assert "Traceback" not in reply.text


def test_every_answer_has_the_headers_that_close_doors(standing: TestClient) -> None:
    for reply in (standing.get("/healthz"), standing.get("/none"), standing.post("/v1/predict", content=b"")):
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["cache-control"] == "no-store"
        assert "access-control-allow-origin" not in reply.headers
    assert standing.get("/v1/predict").status_code == 405


def test_more_rows_than_may_wait_are_turned_away_with_a_time_to_come_back(fleet: Fleet) -> None:
    loop = asyncio.new_event_loop()
    work = Work(fleet, Limits(queued_rows=2))  # not started: what comes, waits

    def items(count: int) -> list[Item]:
        return [Item("intent", "a", "", "ada", None, loop.create_future()) for _ in range(count)]

    work.submit(items(2))
    with pytest.raises(QueueFullError) as full:
        work.submit(items(1))
    assert full.value.retry_after_s >= 1
    assert work.waiting == 2
    loop.close()


def test_owners_take_turns_and_rows_that_nobody_awaits_are_given_up(fleet: Fleet) -> None:
    loop = asyncio.new_event_loop()
    work = Work(fleet, Limits(batch_rows=4))

    def items(owner: str, count: int) -> list[Item]:
        return [Item("intent", f"{owner}{n}", "", owner, None, loop.create_future()) for n in range(count)]

    many, few, gone = items("many", 6), items("few", 1), items("gone", 2)
    for each in gone:
        each.future.cancel()
    work.submit([*many, *gone, *few])
    assert [each.row for each in work._take(False)] == ["many0", "few0", "many1", "many2"]
    assert work.waiting == 3
    loop.close()


@pytest.mark.parametrize(
    ("address", "own"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("example.org", False),
    ],
)
def test_loopback_is_told_from_what_others_reach(address: str, own: bool) -> None:
    assert is_loopback(address) is own


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"host": "127.0.0.1:8000", "origin": "http://127.0.0.1:8000"}, 200),
        ({"host": "127.0.0.1:8000", "origin": "https://example.org"}, 403),
        ({"host": "127.0.0.1:8000", "origin": "null"}, 403),
        ({"host": "rebound.example.org:8000", "origin": "http://rebound.example.org:8000"}, 403),
        ({"host": "rebound.example.org:8000", "sec-fetch-site": "same-origin"}, 403),
        ({"host": "[broken", "origin": "http://[broken"}, 403),
    ],
)
def test_no_page_of_another_origin_asks_or_steers(standing: TestClient, headers: dict[str, str], status: int) -> None:
    assert standing.post("/v1/predict", json=GOOD, headers=headers).status_code == status
    assert standing.get("/v1/admin/fleet", headers=headers).status_code == status
