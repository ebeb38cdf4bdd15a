"""Two replicas under Ray answer as one service does: the same answers, the same receipts, whoever is killed."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from adapterkit.serving.fleet import Fleet
from adapterkit.serving.receipts import check
from adapterkit.signing import read_public
from tests.serving.ray.conftest import Served

REPLICA = "x-adapterkit-replica"
MIXED = {
    "rows": [
        {"task": "intent", "text": "my card was lost"},
        {"task": "tags", "tokens": ["Ada", "lived"]},
        {"task": "nobody", "text": "a"},
        {"task": "other", "text": "my card was lost"},
        {"text": "no task"},
    ],
    "key": "ada",
}
ONE = {"rows": ["my card was lost"]}


def processes(served: Served) -> set[int]:
    """Let every replica look at the registry. The processes of those that live."""
    found = served.replicas.broadcast("follow").results(timeout_s=30, return_exceptions=True)
    return {one for one in found if isinstance(one, int)}


def near(found: Any, expected: Any) -> bool:
    """Alike, but for the last bits of numbers: replicas have other threads than this process."""
    if isinstance(expected, Mapping):
        return found.keys() == expected.keys() and all(near(found[name], expected[name]) for name in expected)
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(near, found, expected))
    return bool(found == (pytest.approx(expected, rel=1e-4) if isinstance(expected, float) else expected))


def test_mixed_rows_are_answered_as_by_a_service_of_one_process(served: Served, client: TestClient) -> None:
    status, found, headers = served.ask("/v1/predict", MIXED)
    expected = client.post("/v1/predict", json=MIXED).json()
    assert status == 200
    assert headers["x-content-type-options"] == "nosniff"
    for answer in (*found["answers"], *expected["answers"]):
        for own in ("version", "answer_sha256", "signature"):  # the registry's number; and only these are signed
            answer.get("receipt", {}).pop(own, None)
    assert near(found, expected)
    assert served.ask("/readyz")[1]["ready"]
    assert {task["task"] for task in served.ask("/v1/tasks")[1]["tasks"]} == {"intent", "tags", "other"}


def test_a_key_opens_its_scope_alone_and_every_receipt_is_signed(served: Served) -> None:
    reply = served.ask("/v1/predict", MIXED, served.predict_key)[1]
    assert [each.problem for each in check(json.dumps(reply).encode(), read_public(served.signed_by))] == [""] * 3
    promote = {"task": "intent", "version": "2"}
    refused = [served.ask("/v1/admin/promote", promote, key)[:2] for key in ("ak_wrong", served.predict_key)]
    assert [(status, found["error"]["code"]) for status, found in refused] == [(401, "no_key"), (403, "wrong_scope")]
    assert served.ask("/v1/tasks", None, "ak_wrong")[0] == 401
    assert served.ask("/metrics", None, "ak_wrong")[0] == 401


def test_a_task_stays_at_home_and_a_hot_one_is_spread(served: Served) -> None:
    homes = {
        task: Counter(served.ask(f"/v1/tasks/{task}/predict", ONE)[2][REPLICA] for _ in range(8))
        for task in ("intent", "other")
    }
    assert [len(found) for found in homes.values()] == [1, 1]
    hot = {"rows": [{"task": "intent", "text": "my card was lost"}] * 64}
    with ThreadPoolExecutor(8) as pool:
        found = Counter(pool.map(lambda _: served.ask("/v1/predict", hot)[2][REPLICA], range(32)))
    assert len(found) == 2


def test_what_one_replica_must_not_do_alone_is_refused_and_bad_requests_are_as_ever(served: Served) -> None:
    assert served.ask("/v1/admin/mount", {"task": "a", "source": "b"})[0] == 409
    assert served.ask("/v1/predict", b"{" * 100_000)[0] == 400
    assert served.ask("/v1/predict", b" " * ((1 << 20) + 1))[0] == 413
    assert served.ask("/v1/tasks/nobody/predict", ONE)[0] == 404
    assert served.ask("/nothing")[0] == 404


def test_figures_are_of_every_replica(served: Served) -> None:
    text = served.ask("/metrics")[1].decode()
    mounted = [line for line in text.splitlines() if line.startswith("adapterkit_mounted{")]
    assert [line.split()[-1] for line in mounted] == ["3.0", "3.0"]
    assert len(set(mounted)) == 2
    assert text.count("# TYPE adapterkit_answers_total counter") == 1


def test_a_promotion_and_a_way_back_reach_all_replicas_before_they_are_told(served: Served) -> None:
    first, second = served.versions
    named = {"task": "intent", "version": second.digest}
    for path, body, expected in (("promote", named, second), ("roll-back", {"task": "intent"}, first)):
        status, told, _ = served.ask(f"/v1/admin/{path}", body)
        assert (status, told["problem"]) == (200, "")
        with ThreadPoolExecutor(16) as pool:
            replies = list(pool.map(lambda _: served.ask("/v1/tasks/intent/predict", ONE), range(48)))
        receipts = [reply[1]["answers"][0]["receipt"] for reply in replies]
        assert {(one["artifact"], one["version"]) for one in receipts} == {(expected.digest, str(expected.number))}


def test_a_killed_replica_loses_no_request_and_gives_no_wrong_receipt(
    served: Served, fleet: Fleet, folders: Mapping[str, Path]
) -> None:
    texts = [f"my card {n}" for n in range(12)]
    alone = {
        task: [fleet.host.predict([(fleet.routes[task].arms["stable"].mounted, text)])[0] for text in texts]
        for task in ("intent", "other")
    }
    digests = {task: fleet.routes[task].arms["stable"].digest for task in alone}
    enough, replies = threading.Event(), list[Any]()

    def go_on(number: int) -> None:
        while not enough.is_set() or number < 40:
            text, task = number % 12, ("intent", "other")[number % 2]
            replies.append((task, text, served.ask(f"/v1/tasks/{task}/predict", {"rows": [texts[text]]})))
            number += 1

    before = processes(served)
    with ThreadPoolExecutor(4) as pool:
        going = [pool.submit(go_on, start) for start in range(4)]
        try:
            os.kill(min(before), signal.SIGKILL)
            until = time.monotonic() + 60
            while len(replies) < 200 or processes(served) == before:
                assert time.monotonic() < until, "nobody answers any more"
                enough.wait(0.2)
        finally:
            enough.set()
        for one in going:
            one.result()
    assert {status for _, _, (status, _, _) in replies} == {200}
    for task, text, (_, found, _) in replies:
        answer = found["answers"][0]
        assert answer["receipt"]["artifact"] == digests[task]
        assert near(answer["answer"], alone[task][text])
