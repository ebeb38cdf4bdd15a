"""A service under everything at once, for minutes, and whether it kept its word.

    OMP_NUM_THREADS=1 python -m tests.abuse.soak --seconds 240

One service on a registry, tiny adapters, real sockets. Meanwhile: promotions, roll backs and splits without a pause;
bad rows among good ones; clients that go away; bursts of more rows than may wait. Every answer is compared with the one
that the artifact named by its receipt gave when it was asked alone. Into benchmarks/results/soak.json.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import uvicorn

from adapterkit.backbone import Backbone
from adapterkit.host import Host
from adapterkit.registry import Registry
from adapterkit.serving.app import create_app
from adapterkit.serving.opening import registry_fleet
from adapterkit.serving.settings import Limits
from adapterkit.tasks.table import TASKS
from adapterkit.traffic import read_rules
from tests import tiny
from tests.host.artifacts import Recipe, differences, make

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results" / "soak.json"
KIND = "text-classification"
TEXTS = ("my card was lost", "where is the nearest station", "the quick brown fox", "a small boat", "Ada lived here")
NAMES = ("intent", "mood")
BURST = 12


class Judged:
    """A registry of tiny adapters, what each of them answers when it is asked alone, and clients who compare.

    Args:
        url: of the registry's database; None for a file in the folder.
    """

    def __init__(self, folder: Path, url: str | None = None) -> None:
        self.place = tiny.build("bert", folder / "bert")
        backbone = Backbone.load(str(self.place), dtype="float32", device="cpu")
        self.seen: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._lock, self._over = threading.Lock(), threading.Event()
        self._connections: list[http.client.HTTPConnection] = []
        self._expected: dict[tuple[str, str], dict[str, Any]] = {}
        self.registry = Registry(url or f"sqlite:///{folder}/registry.db", store=folder / "kept", actor="soak")
        for task in NAMES:
            for seed in range(3):
                recipe = Recipe(KIND, "lora", seed=seed + 10 * NAMES.index(task))
                made = make(folder / f"{task}{seed}", backbone, recipe, golden=TASKS[KIND].sample_rows())
                version = self.registry.add(task, made)
                with Host(backbone) as host:
                    host.mount("it", made)
                    answers = host.predict([("it", text) for text in TEXTS])
                self._expected[task, version.digest] = dict(zip(TEXTS, answers, strict=True))
            self.registry.promote(task, "1")
            self.registry.promote(task, "2", "candidate")

    def _connected(self, port: int) -> http.client.HTTPConnection:
        """A connection that is closed at the end."""
        made = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        with self._lock:
            self._connections.append(made)
        return made

    def _guarded(self, job: Any, number: int) -> None:
        try:
            job(random.Random(number))
        except Exception as error:  # noqa: BLE001 - of a thread, nobody else would hear of it
            self._note(f"{job.__name__}: {type(error).__name__}: {error}")

    def _note(self, wrong: str) -> None:
        with self._lock:
            self.wrong.append(wrong)

    def _count(self, what: str, number: int = 1) -> None:
        with self._lock:
            self.seen[what] += number

    def _started(self, *jobs: Any) -> list[threading.Thread]:
        threads = [threading.Thread(target=self._guarded, args=(job, n)) for n, job in enumerate(jobs)]
        for thread in threads:
            thread.start()
        return threads

    def _ended(self, threads: list[threading.Thread]) -> None:
        self._over.set()
        for thread in threads:
            thread.join(60)
            if thread.is_alive():
                self._note("a client hangs")
        for connection in self._connections:
            connection.close()

    def _rows(self, chance: random.Random) -> list[dict[str, Any]]:
        return [{"task": chance.choice(NAMES), "text": chance.choice(TEXTS)} for _ in range(chance.randint(1, 24))]

    def _judge(self, row: dict[str, Any], found: dict[str, Any], bad: bool = False) -> None:
        if bad:
            self._count("bad rows" if "error" in found else "bad rows that were answered")
            return
        if "error" in found:
            self._note(f"lost: {found['error']}")
            return
        whose = found["receipt"]
        expected = self._expected.get((row["task"], whose["artifact"]), {}).get(row["text"])
        if whose["task"] != row["task"] or differences(found["answer"], expected):
            self._note(f"wrong receipt: {whose} for {row}")
        self._count("answers")


class Soak(Judged):
    """A service in this process, its clients, whoever steers it, and what all of them saw."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        rules = read_rules({"tasks": {name: {"split": {"stable": 0.5, "candidate": 0.5}} for name in NAMES}})
        fleet, follower = registry_fleet(self.registry, rules, str(self.place), slots=4, dtype="float32")
        app = create_app(fleet, follower=follower, limits=Limits(queued_rows=600))
        self._fleet, self._server = fleet, uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))

    def run(self, seconds: float, clients: int = 4) -> dict[str, Any]:
        """Everything at once, for so long. What was seen, and the memory."""
        serving = threading.Thread(target=self._server.run)
        serving.start()
        while not self._server.started:
            time.sleep(0.01)
        self.port = self._server.servers[0].sockets[0].getsockname()[1]
        threads = self._started(*[self._client] * clients, self._steer, self._leave, self._burst)
        process, memory, until = psutil.Process(), [], time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(min(0.5, seconds / 40))
            memory.append((time.monotonic(), process.memory_info().rss / 2**20))
        self._ended(threads)
        self._server.should_exit = True
        serving.join(60)
        self._fleet.host.close()
        half = np.array(memory[len(memory) // 2 :])
        slope = float(np.polyfit(half[:, 0] - half[0, 0], half[:, 1], 1)[0]) if len(half) > 2 else 0.0
        grown = slope * (half[-1, 0] - half[0, 0]) / half[:, 1].mean()
        whole = bool(self.registry.audit(files=False))
        facts = {"seconds": round(seconds), **dict(sorted(self.seen.items())), "wrong": len(self.wrong)}
        return (
            facts
            | {"memory MiB": round(half[:, 1].mean()), "grown over the second half": round(grown, 4)}
            | {
                "audit entries": len(self.registry.entries()),
                "audit whole": whole,
            }
        )

    def _client(self, chance: random.Random) -> None:
        """Asks, and compares. An accepted request has to have every answer."""
        connection = self._connected(self.port)
        while not self._over.is_set():
            rows = self._rows(chance)
            bad = chance.randrange(len(rows)) if chance.random() < 0.2 else -1
            if bad >= 0:
                rows[bad] = chance.choice([{"task": NAMES[0]}, {"text": "x"}, {"task": "none", "text": "x"}])
            body = json.dumps({"rows": rows, "key": f"user {chance.randrange(1000)}"})
            connection.request("POST", "/v1/predict", body)
            reply = connection.getresponse()
            raw = reply.read()
            if reply.status == 429:
                self._count("turned away")
                time.sleep(0.02)
                continue
            if reply.status != 200:
                self._note(f"status {reply.status}: {raw[:200]!r}")
                continue
            for place, (row, found) in enumerate(zip(rows, json.loads(raw)["answers"], strict=True)):
                self._judge(row, found, place == bad)

    def _steer(self, chance: random.Random) -> None:
        """Promotes, rolls back and divides, one after the other."""
        connection = self._connected(self.port)
        while not self._over.is_set():
            task, channel, share = chance.choice(NAMES), chance.choice(["stable", "candidate"]), chance.random()
            promote = {"task": task, "version": str(chance.randint(1, 3)), "channel": channel}
            acts = [("promote", promote), ("roll-back", {"task": task, "channel": channel})]
            acts.append(("split", {"task": task, "split": {"stable": share, "candidate": 1 - share}}))
            act, body = chance.choice(acts)
            connection.request("POST", f"/v1/admin/{act}", json.dumps(body))
            reply = connection.getresponse()
            told = json.loads(reply.read())
            if reply.status == 200 and not told["problem"]:
                self._count(act)
            elif not (act == "roll-back" and reply.status == 422):  # nothing was there before
                self._note(f"{act}: {told}")

    def _leave(self, chance: random.Random) -> None:
        """Asks and goes away, with half of a body or without waiting for the answer."""
        body = json.dumps({"rows": [{"task": "intent", "text": "my card was lost"}] * 32}).encode()
        head = f"POST /v1/predict HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n".encode()
        while not self._over.wait(0.03):
            with socket.create_connection(("127.0.0.1", self.port), timeout=60) as leaving:
                leaving.sendall(head + body[: chance.choice([len(body), len(body) // 2])])
            self._count("clients that went away")

    def _burst(self, chance: random.Random) -> None:
        """Ten times what may wait, at once."""
        body = json.dumps({"rows": [{"task": chance.choice(NAMES), "text": text} for text in TEXTS * 50]})
        while not self._over.wait(3):
            statuses: list[int] = []

            def ask(into: list[int] = statuses) -> None:
                connection = self._connected(self.port)
                connection.request("POST", "/v1/predict", body)
                reply = connection.getresponse()
                if reply.status == 200 and b'"error"' in reply.read():
                    self._note("a row of a burst was lost")
                into.append(reply.status)

            asking = [threading.Thread(target=ask) for _ in range(BURST)]
            for thread in asking:
                thread.start()
            for thread in asking:
                thread.join()
            self._count("bursts")
            self._count("answers of bursts", 250 * statuses.count(200))
            self._count("turned away", statuses.count(429))
            if set(statuses) - {200, 429} or len(statuses) != BURST:
                self._note(f"a burst: {Counter(statuses)}")


def keep(facts: dict[str, Any]) -> None:
    """Add what was seen to the results."""
    before = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    RESULTS.write_text(json.dumps([*before, facts], indent=1) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.abuse.soak")
    parser.add_argument("--seconds", type=float, default=240)
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory() as folder:
        soak = Soak(Path(folder))
        facts = {"date": time.strftime("%Y-%m-%d"), **soak.run(seconds)}
    print(json.dumps(facts, indent=1))
    for each in soak.wrong[:20]:
        print(each, file=sys.stderr)
    if seconds >= 60:
        keep(facts)
    return min(len(soak.wrong), 1)


if __name__ == "__main__":
    sys.exit(main())
