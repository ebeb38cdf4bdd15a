"""Services under everything at once, for minutes, and whether they kept their word.

    OMP_NUM_THREADS=1 python -m tests.abuse.soak --seconds 240
    OMP_NUM_THREADS=1 python -m tests.abuse.soak --seconds 120 --replicas 2 [--postgres]

Tiny adapters of a registry, real sockets, every service in a process of its own, whose memory is looked at where it is
the only one. Meanwhile: promotions, roll backs and splits without a pause; bad rows among good ones; clients that go
away; bursts of more rows than may wait; of two services one is killed again and again. Every answer is compared with
the one that the artifact named by its receipt gave when it was asked alone. Into benchmarks/results/soak.json.
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
from contextlib import ExitStack
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from adapterkit.backbone import Backbone
from adapterkit.host import Host
from adapterkit.registry import Registry
from adapterkit.serving.settings import Limits, ServiceSettings
from adapterkit.tasks.table import TASKS
from tests import tiny
from tests.host.artifacts import Recipe, differences, make
from tests.serving.own_process import serving

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results" / "soak.json"
KIND = "text-classification"
TEXTS = ("my card was lost", "where is the nearest station", "the quick brown fox", "a small boat", "Ada lived here")
NAMES = ("intent", "mood")
WAITING, BURST = 600, 24
"""Rows that may wait, and requests of 250 rows that come at once."""


class Soak:
    """Services on one registry, their clients, whoever steers and kills them, and what all of them saw.

    Args:
        url: of the registry's database; None for a file in the folder.
    """

    def __init__(self, folder: Path, replicas: int = 1, url: str | None = None) -> None:
        place = tiny.build("bert", folder / "bert")
        backbone = Backbone.load(str(place), dtype="float32", device="cpu")
        self.seen: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._lock, self._over = threading.Lock(), threading.Event()
        self._processes, self._ports = dict[int, BaseProcess](), dict[int, int]()
        self._replicas, self._slowest_s = replicas, 0.0
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
        rules = folder / "rules.yaml"
        rules.write_text(json.dumps({"tasks": {n: {"split": {"stable": 1, "candidate": 1}} for n in NAMES}}))
        self._settings = ServiceSettings(
            registry=self.registry.url,
            rules=rules,
            backbone=str(place),
            dtype="float32",
            slots=4,
            follow_every_s=0.1,
            limits=Limits(queued_rows=WAITING),
        )

    def run(self, seconds: float, clients: int = 4) -> dict[str, Any]:
        """Everything at once, for so long. What was seen, and the memory."""
        memory, pause_s, until = [], 0.0, 0.0
        try:
            for number in range(self._replicas):
                self._start(number)
            watched, each_s = psutil.Process(self._processes[0].pid), min(0.5, seconds / 40)
            jobs = [self._client] * clients + [self._steer, self._leave, self._burst]
            if self._replicas > 1:
                jobs.append(self._kill)
            self._seconds, until = seconds, time.monotonic() + seconds
            threads = [threading.Thread(target=self._guarded, args=(job, n)) for n, job in enumerate(jobs)]
            for thread in threads:
                thread.start()
            while (began := time.monotonic()) < until:
                time.sleep(each_s)
                pause_s = max(pause_s, time.monotonic() - began - each_s)
                if self._replicas == 1:
                    memory.append((time.monotonic(), watched.memory_info().rss / 2**20))
            self._over.set()
            for thread in threads:
                thread.join(60)
                if thread.is_alive():
                    self._note("a client hangs")
        finally:
            for process in self._processes.values():
                process.kill()
                process.join()
        facts = {"services": self._replicas, "seconds": round(seconds), **dict(sorted(self.seen.items()))}
        facts |= {"wrong": len(self.wrong), "slowest request, s": round(self._slowest_s, 1)}
        facts["longest pause of the machine, s"] = round(pause_s, 1)
        if memory:
            half = np.array(memory[len(memory) // 2 :])
            slope = float(np.polyfit(half[:, 0] - half[0, 0], half[:, 1], 1)[0]) if len(half) > 2 else 0.0
            grown = slope * (half[-1, 0] - half[0, 0]) / half[:, 1].mean()
            facts |= {"memory MiB": round(half[:, 1].mean()), "grown over the second half": round(grown, 4)}
        report = self.registry.audit(files=False)
        return facts | {"audit entries": report.entries, "audit whole": bool(report)}

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

    def _start(self, number: int) -> None:
        self._processes[number], self._ports[number] = serving(self._settings)

    def _kill(self, chance: random.Random) -> None:
        """Kills one service after the other, and starts it again."""
        number = 0
        while not self._over.wait(min(8.0, self._seconds / 4)):
            del self._ports[
                number
            ]  # whatever it is asked from here on may be lost; what the other one is asked may not
            self._processes[number].kill()
            self._processes[number].join()
            self._count("killed")
            self._over.wait(min(4.0, self._seconds / 4))
            self._start(number)
            number = (number + 1) % self._replicas

    def _ask(self, port: int, kept: dict[int, http.client.HTTPConnection], path: str, body: Any) -> tuple[int, Any]:
        """Status and answer of a service; status 0 of one that was killed over it."""
        if port not in kept:
            kept[port] = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        began = time.monotonic()
        try:
            kept[port].request("POST", path, json.dumps(body))
            reply = kept[port].getresponse()
            status, found = reply.status, json.loads(reply.read())
        except (OSError, http.client.HTTPException) as error:
            kept.pop(port).close()
            self._count("cut off by a kill")
            if port in self._ports.values():
                self._note(f"a service that lives lost a request: {type(error).__name__}: {error}")
            return 0, None
        self._slowest_s = max(self._slowest_s, time.monotonic() - began)
        return status, found

    def _port(self, chance: random.Random) -> int:
        return chance.choice(list(self._ports.values()))

    def _client(self, chance: random.Random) -> None:
        """Asks, and compares. An accepted request has to have every answer."""
        kept: dict[int, http.client.HTTPConnection] = {}
        while not self._over.is_set():
            rows = [{"task": chance.choice(NAMES), "text": chance.choice(TEXTS)} for _ in range(chance.randint(1, 24))]
            bad = chance.randrange(len(rows)) if chance.random() < 0.2 else -1
            if bad >= 0:
                rows[bad] = chance.choice([{"task": NAMES[0]}, {"text": "x"}, {"task": "none", "text": "x"}])
            asked = {"rows": rows, "key": f"user {chance.randrange(1000)}"}
            status, found = self._ask(self._port(chance), kept, "/v1/predict", asked)
            if status == 200:
                for place, (row, each) in enumerate(zip(rows, found["answers"], strict=True)):
                    self._judge(row, each, place == bad)
            elif status == 429:
                self._count("turned away")
                time.sleep(0.02)
            elif status:
                self._note(f"status {status}: {found}")
        for connection in kept.values():
            connection.close()

    def _judge(self, row: dict[str, Any], found: dict[str, Any], bad: bool) -> None:
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

    def _steer(self, chance: random.Random) -> None:
        """Promotes, rolls back and divides, one after the other."""
        kept: dict[int, http.client.HTTPConnection] = {}
        while not self._over.is_set():
            task, channel, share = chance.choice(NAMES), chance.choice(["stable", "candidate"]), chance.random()
            promote = {"task": task, "version": str(chance.randint(1, 3)), "channel": channel}
            acts = [("promote", promote), ("roll-back", {"task": task, "channel": channel})]
            acts.append(("split", {"task": task, "split": {"stable": share, "candidate": 1 - share}}))
            act, body = chance.choice(acts)
            status, told = self._ask(self._port(chance), kept, f"/v1/admin/{act}", body)
            if status == 200 and not told["problem"]:
                self._count(act)
            elif status and not (act == "roll-back" and status == 422):  # nothing was there before
                self._note(f"{act}: {told}")
        for connection in kept.values():
            connection.close()

    def _leave(self, chance: random.Random) -> None:
        """Asks and goes away, with half of a body or without waiting for the answer."""
        body = json.dumps({"rows": [{"task": "intent", "text": "my card was lost"}] * 32}).encode()
        head = f"POST /v1/predict HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n".encode()
        while not self._over.wait(0.03):
            port = self._port(chance)
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=60) as leaving:
                    leaving.sendall(head + body[: chance.choice([len(body), len(body) // 2])])
                self._count("clients that went away")
            except OSError as error:
                if port in self._ports.values():
                    self._note(f"a service that lives takes nobody: {error}")

    def _burst(self, chance: random.Random) -> None:
        """Ten times what may wait, at once."""
        while not self._over.wait(min(3.0, self._seconds / 4)):
            body = {"rows": [{"task": chance.choice(NAMES), "text": text} for text in TEXTS * 50]}
            port, statuses = self._port(chance), list[int]()

            def ask(port: int = port, body: Any = body, into: list[int] = statuses) -> None:
                kept: dict[int, http.client.HTTPConnection] = {}
                status, found = self._ask(port, kept, "/v1/predict", body)
                if status == 200 and any("error" in each for each in found["answers"]):
                    self._note("a row of a burst was lost")
                into.append(status)
                for connection in kept.values():
                    connection.close()

            asking = [threading.Thread(target=ask) for _ in range(BURST)]
            for thread in asking:
                thread.start()
            for thread in asking:
                thread.join()
            self._count("bursts")
            self._count("answers of bursts", 250 * statuses.count(200))
            self._count("turned away", statuses.count(429))
            if set(statuses) - {0, 200, 429} or len(statuses) != BURST:
                self._note(f"a burst: {Counter(statuses)}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.abuse.soak")
    parser.add_argument("--seconds", type=float, default=240)
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument("--postgres", action="store_true", help="a real PostgreSQL server instead of SQLite")
    given = parser.parse_args()
    with ExitStack() as stack:
        folder, url = Path(stack.enter_context(tempfile.TemporaryDirectory())), None
        if given.postgres:
            import pgserver

            server = pgserver.get_server(folder / "postgres")
            stack.callback(server.cleanup)
            url = server.get_uri().replace("postgresql://", "postgresql+psycopg://")
        soak = Soak(folder, given.replicas, url)
        facts = {"date": time.strftime("%Y-%m-%d"), **soak.run(given.seconds)}
    facts["database"] = "PostgreSQL" if given.postgres else "SQLite"
    print(json.dumps(facts, indent=1))
    for each in soak.wrong[:20]:
        print(each, file=sys.stderr)
    if given.seconds >= 60:
        before = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
        RESULTS.write_text(json.dumps([*before, facts], indent=1) + "\n")
    return min(len(soak.wrong), 1)


if __name__ == "__main__":
    sys.exit(main())
