"""One cluster of Ray: a file answered by a pool of hosts as without it, and two replicas that answer as one service.

They are of one file, so that the cluster ends with it: its processes are busy with themselves.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas
import pytest
import torch
from starlette.testclient import TestClient
from typer.testing import CliRunner

from adapterkit.cli import app
from adapterkit.errors import DataError, OutputError
from adapterkit.serving.fleet import Fleet
from adapterkit.serving.ray import files
from adapterkit.serving.ray.files import Hosting, answer_file
from adapterkit.serving.receipts import check
from adapterkit.signing import read_public
from tests.serving.ray.conftest import Served

CHUNK = 32
ROWS = [{"task": ("intent", "other")[n % 2], "text": f"my card {n}", "note": n} for n in range(2 * CHUNK + 10)]
BAD = (3, 2 * CHUNK + 1)
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


def here(hosting: Hosting, chunks: Any) -> Iterator[tuple[int, bytes]]:
    """What a pool does, by one host of this process with the one thread that each of a pool has."""
    from adapterkit.serving.ray.pool import PooledHost

    threads, host = torch.get_num_threads(), PooledHost(hosting)
    torch.set_num_threads(1)
    try:
        for table in chunks():
            columns = host(table).to_pydict()
            yield from zip(columns["number"], columns["lines"], strict=True)
    finally:
        torch.set_num_threads(threads)


@pytest.fixture
def hosting(tiny_folders: Any, folders: Mapping[str, Path]) -> Hosting:
    """Two adapters, which rows name."""
    settings = {"backbone": str(tiny_folders["bert"]), "dtype": "float32", "slots": None}
    return Hosting({task: str(folders[task]) for task in ("intent", "other")}, settings=settings, cpus=0.5)


def test_a_file_is_answered_in_order_and_on_from_where_it_was_stopped_with_the_same_bytes(
    cluster: None, hosting: Hosting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "CHUNK_ROWS", CHUNK)
    file, output, part = (tmp_path / name for name in ("rows.parquet", "answers.jsonl", "answers.jsonl.part"))
    rows = [{**row, "task": "nobody"} if n in BAD else row for n, row in enumerate(ROWS)]
    pandas.DataFrame(rows).to_parquet(file)
    told: list[int] = []
    with pytest.MonkeyPatch.context() as alone:
        alone.setattr("adapterkit.serving.ray.pool.answered", here)
        with pytest.raises(DataError) as bad:
            answer_file(hosting, file, output, progress=told.append)
    assert told == [0, CHUNK, CHUNK, 10]
    assert [problem.partition(":")[0] for problem in bad.value.problems] == [f"row {n + 1}" for n in BAD]
    assert not output.exists()
    whole = part.read_bytes()
    part.write_bytes(b"".join(whole.splitlines(keepends=True)[: CHUNK + 5]) + b'{"label": "half a li')  # as a kill does
    fewer = Hosting({"intent": hosting.sources["intent"]}, settings=hosting.settings)
    with pytest.raises(OutputError, match="begun otherwise") as refused:
        answer_file(fewer, file, output)
    assert refused.value.problems == ("sources: other than when it was begun",)
    told.clear()
    found = answer_file(hosting, file, output, skip=True, progress=told.append)
    assert told == [CHUNK, CHUNK, 10]
    assert (found.rows, found.bad) == (len(rows), 2)
    assert output.read_bytes() == whole
    assert {path.name for path in tmp_path.glob("answers*")} == {"answers.jsonl"}
    mounts = [word for name, folder in hosting.sources.items() for word in ("--mount", f"{name}={folder}")]
    own = ["--backbone", hosting.settings["backbone"], "--backbone-dtype", "float32", "--errors", "skip", "--json"]
    without_ray = CliRunner().invoke(app, ["predict", *mounts, str(file), *own])
    assert near(
        *([json.loads(line) for line in text.splitlines()] for text in (output.read_text(), without_ray.stdout))
    )


def test_what_cannot_be_begun_is_refused_before_ray_is_started(hosting: Hosting, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is an extra")
    there, rows = tmp_path / "there.jsonl", tmp_path / "rows.jsonl"
    there.touch()
    with pytest.raises(OutputError, match="exists"):
        answer_file(hosting, rows, there)
    with pytest.raises(DataError, match="is no file"):
        answer_file(hosting, rows, tmp_path / "new.jsonl")
    rows.write_text("{}\n")
    with pytest.raises(DataError, match="cannot be told how to read"):
        answer_file(hosting, rows, tmp_path / "new.jsonl", reading={"delimiters": ";"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.jsonl", "there.jsonl"]
    for words in (["--ray"], ["--ray-actors", "2"], ["--output", "a.jsonl"]):
        assert CliRunner().invoke(app, ["predict", hosting.sources["intent"], str(rows), *words]).exit_code == 2


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
