"""Two replicas on one registry, one of which is killed again and again, and whether the other kept its word.

    OMP_NUM_THREADS=1 python -m tests.abuse.replicas --seconds 120 [--postgres]

Each replica is `adapterkit serve` in a process of its own. Meanwhile versions are promoted, taken back and withdrawn;
clients ask either replica, and the other one where theirs was killed. Into benchmarks/results/soak.json.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from adapterkit.errors import ConflictError, RegistryError
from tests.abuse.soak import NAMES, Judged, keep

PATIENCE_S = 120


class Replicas(Judged):
    """Two replicas, their clients, and whoever kills one of them."""

    def __init__(self, folder: Path, url: str | None = None) -> None:
        super().__init__(folder, url)
        self._rules = folder / "rules.yaml"
        self._rules.write_text(json.dumps({"tasks": {n: {"split": {"stable": 1, "candidate": 1}} for n in NAMES}}))
        self._log, self._processes, self._ports = folder / "log", dict[int, Any](), dict[int, int]()

    def run(self, seconds: float, clients: int = 3) -> dict[str, Any]:
        """Everything at once, for so long. What was seen."""
        try:
            for number in (0, 1):
                self._start(number)
            threads = self._started(*[self._client] * clients, self._steer)
            until, killed = time.monotonic() + seconds, 0
            while time.monotonic() < until:
                time.sleep(min(8.0, seconds / 4))
                self._kill(killed % 2)
                time.sleep(min(4.0, seconds / 4))
                self._start(killed % 2)
                killed += 1
            self._ended(threads)
        finally:
            for process in self._processes.values():
                process.kill()
                process.wait()
        facts = {"replicas": 2, "seconds": round(seconds), **dict(sorted(self.seen.items()))}
        whole = bool(self.registry.audit(files=False))
        return facts | {"killed": killed, "wrong": len(self.wrong), "audit whole": whole}

    def _start(self, number: int) -> None:
        """Start a replica, and let clients ask it once it is ready."""
        log = self._log.with_suffix(f".{number}.{time.monotonic_ns()}")
        asked = ["--registry", self.registry.url, "--backbone", str(self.place), "--backbone-dtype", "float32"]
        asked += ["--rules", str(self._rules), "--follow-every", "0.1", "--port", "0"]
        with log.open("wb") as written:
            command = [sys.executable, "-m", "adapterkit", "serve", *asked]
            self._processes[number] = process = subprocess.Popen(command, stderr=written)
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until and process.poll() is None:
            said = log.read_text(errors="replace")
            if "/v1/predict" in said:
                port = int(said.partition("http://127.0.0.1:")[2].partition("/")[0])
                try:
                    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
                    connection.request("GET", "/readyz")
                    if connection.getresponse().status == 200:
                        self._ports[number] = port
                        return
                except OSError:
                    pass
                finally:
                    connection.close()
            time.sleep(0.1)
        raise RuntimeError(f"a replica did not start: {log.read_text(errors='replace')[-2000:]}")

    def _kill(self, number: int) -> None:
        del self._ports[number]  # whatever it is asked from here on may be lost; what the other one is asked may not
        self._processes[number].kill()
        self._processes[number].wait()

    def _client(self, chance: random.Random) -> None:
        """Asks a replica, and compares. Only one that was killed may leave a request without its answers."""
        connections: dict[int, http.client.HTTPConnection] = {}
        while not self._over.is_set():
            rows = self._rows(chance)
            port = chance.choice(list(self._ports.values()))
            if port not in connections:
                connections[port] = self._connected(port)
            try:
                connections[port].request(
                    "POST", "/v1/predict", json.dumps({"rows": rows, "key": str(chance.random())})
                )
                reply = connections[port].getresponse()
                raw = reply.read()
            except (OSError, http.client.HTTPException) as error:
                connections.pop(port).close()
                self._count("cut off by a kill")
                if port in self._ports.values():
                    self._note(f"a replica that lives lost a request: {type(error).__name__}: {error}")
                continue
            if reply.status != 200:
                self._note(f"status {reply.status}: {raw[:200]!r}")
                continue
            for row, found in zip(rows, json.loads(raw)["answers"], strict=True):
                self._judge(row, found)

    def _steer(self, chance: random.Random) -> None:
        """Promotes and takes back; the replicas follow by themselves."""
        while not self._over.wait(0.05):
            task, channel = chance.choice(NAMES), chance.choice(["stable", "candidate"])
            try:
                if chance.random() < 0.3:
                    self.registry.roll_back(task, channel)
                else:
                    self.registry.promote(task, str(chance.randint(1, 3)), channel)
                self._count("moves")
            except ConflictError as error:
                self._note(f"nobody else moves channels: {error}")
            except RegistryError:
                self._count("ways back that were not there")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.abuse.replicas")
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--postgres", action="store_true", help="a real PostgreSQL server instead of SQLite")
    given = parser.parse_args()
    with ExitStack() as stack:
        folder, url = Path(stack.enter_context(tempfile.TemporaryDirectory())), None
        if given.postgres:
            import pgserver

            server = pgserver.get_server(folder / "postgres")
            stack.callback(server.cleanup)
            url = server.get_uri().replace("postgresql://", "postgresql+psycopg://")
        replicas = Replicas(folder, url)
        facts = {"date": time.strftime("%Y-%m-%d"), **replicas.run(given.seconds)}
    facts["database"] = "PostgreSQL" if given.postgres else "SQLite"
    print(json.dumps(facts, indent=1))
    for each in replicas.wrong[:20]:
        print(each, file=sys.stderr)
    if given.seconds >= 60:
        keep(facts)
    return min(len(replicas.wrong), 1)


if __name__ == "__main__":
    sys.exit(main())
