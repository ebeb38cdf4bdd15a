"""What the page about the service promises of time, keys, logs and TLS, each tried over HTTP."""

from __future__ import annotations

import base64
import ipaddress
import json
import logging
import ssl
import struct
import threading
import urllib.request
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("cryptography")
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from starlette.testclient import TestClient

from adapterkit.serving.app import create_app
from adapterkit.serving.fleet import Fleet
from adapterkit.serving.keys import SCOPES, add_key, read_keys
from adapterkit.serving.receipts import check
from adapterkit.serving.settings import Limits
from adapterkit.signing import make_key, read_private, read_public
from tests.board.conftest import served

GOOD = {"rows": [{"task": "intent", "text": "a card"}]}
NEEDS: Mapping[str, str] = {"/v1/feedback": "feedback", "/v1/admin": "admin", "/v1": "predict", "/metrics": "predict"}
"""Beginning of a path -> the scope that opens it; the longest counts."""


class Held:
    """A host that answers nothing until it is let go."""

    def __init__(self, fleet: Fleet) -> None:
        self.begun, self.go, answers = threading.Event(), threading.Event(), fleet.host.answers

        def waiting(rows: Any, **more: Any) -> Any:
            self.begun.set()
            self.go.wait(30)
            return answers(rows, **more)

        fleet.host.answers = waiting  # type: ignore[method-assign]


def test_a_key_of_another_scope_opens_no_path_of_the_schema(fleet: Fleet, tmp_path: Path) -> None:
    secrets = {scope: add_key(tmp_path / "keys.json", scope, [scope]) for scope in SCOPES}
    with TestClient(create_app(fleet, keys=read_keys(tmp_path / "keys.json"))) as client:
        paths = client.get("/openapi.json").json()["paths"]
        tried = 0
        for path, methods in paths.items():
            needed = [NEEDS[start] for start in sorted(NEEDS, key=len, reverse=True) if path.startswith(start)]
            for method in methods if needed else ():
                asked = path.format(task="intent", version="1", model="intent")
                for scope, secret in secrets.items():
                    headers = {"authorization": f"Bearer {secret}"}
                    reply = client.request(method, asked, headers=headers, content=b"{}")
                    assert (reply.status_code == 403) == (scope != needed[0]), (path, scope, reply.text)
                    tried += 1
        assert tried >= 3 * 20


def test_a_request_that_takes_too_long_is_given_up_and_so_are_its_rows(fleet: Fleet) -> None:
    held = Held(fleet)
    with TestClient(create_app(fleet, limits=Limits(deadline_s=0.2))) as client:
        late = client.post("/v1/predict", json={"rows": GOOD["rows"] * 3})
        assert (late.status_code, late.json()["error"]["code"]) == (504, "deadline")
        held.go.set()
        assert client.post("/v1/predict", json=GOOD).status_code == 200


def test_beyond_what_may_wait_a_request_is_told_when_to_come_back(fleet: Fleet) -> None:
    held, found = Held(fleet), list[int]()
    with TestClient(create_app(fleet, limits=Limits(queued_rows=3))) as client:

        def ask() -> None:
            found.append(client.post("/v1/predict", json={"rows": GOOD["rows"] * 2}).status_code)

        asking = [threading.Thread(target=ask) for _ in range(2)]
        asking[0].start()
        held.begun.wait(30)  # these two rows wait no more, and the next two will
        asking[1].start()
        while client.get("/v1/admin/fleet").json()["waiting"] < 2:
            pass
        full = client.post("/v1/predict", json={"rows": GOOD["rows"] * 2})
        assert (full.status_code, full.json()["error"]["code"]) == (429, "queue_full")
        assert int(full.headers["retry-after"]) >= 1
        held.go.set()
        for thread in asking:
            thread.join()
    assert found == [200, 200]


def test_neither_logs_nor_errors_hold_a_text(
    client: TestClient, fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    secret = "my pin is 4711"

    def failing(rows: Any, **more: Any) -> Any:
        raise ValueError(f"no answer to {rows}")

    with caplog.at_level(logging.DEBUG):
        rows = [{"task": "intent", "text": secret}, {"task": "intent", "x": secret}]
        replies = [client.post("/v1/predict", json={"rows": rows})]
        replies.append(client.post("/v1/predict", content=f'{{"rows": "{secret}"'.encode()))
        fleet.host.answers = failing  # type: ignore[method-assign]
        replies.append(client.post("/v1/predict", json={"rows": rows[:1]}))
    assert replies[-1].json()["answers"][0]["error"]["code"] == "serving"
    assert "ValueError" in caplog.text
    assert secret not in caplog.text + "".join(reply.text for reply in replies)


def test_over_tls_it_answers_whoever_trusts_its_certificate(fleet: Fleet, tmp_path: Path) -> None:
    certificate, key = certified(tmp_path)
    with served(create_app(fleet), ssl_certfile=str(certificate), ssl_keyfile=str(key)) as address:
        asked = urllib.request.Request(address.replace("http:", "https:") + "/v1/predict", json.dumps(GOOD).encode())
        with urllib.request.urlopen(asked, context=ssl.create_default_context(cafile=str(certificate))) as reply:
            assert json.load(reply)["answers"][0]["receipt"]["task"] == "intent"
        with pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):
            urllib.request.urlopen(asked)


def certified(folder: Path) -> tuple[Path, Path]:
    """A certificate of this machine by itself, and its key."""
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    day = datetime.now(UTC) - timedelta(hours=1)
    own = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(private.public_key())
    made = made.serial_number(x509.random_serial_number()).not_valid_before(day)
    made = made.not_valid_after(day + timedelta(days=2)).add_extension(own, critical=False)
    made = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    certificate, key = folder / "cert.pem", folder / "key.pem"
    certificate.write_bytes(made.sign(private, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    form = serialization.PrivateFormat.PKCS8
    key.write_bytes(private.private_bytes(serialization.Encoding.PEM, form, plain))
    return certificate, key


def test_embeddings_of_a_task_have_receipts_that_prove_them(fleet: Fleet, tmp_path: Path) -> None:
    make_key(tmp_path / "key.pem")
    app = create_app(fleet, signer=read_private(tmp_path / "key.pem"))
    with TestClient(app) as client:
        asked = {"model": "intent", "input": ["a card", "a train"]}
        plain = client.post("/v1/embeddings", json=asked).json()
        packed = client.post("/v1/embeddings", json={**asked, "encoding_format": "base64"}).json()
        key = read_public(tmp_path / "key.pem.pub")
        for reply in (plain, packed):
            assert [each.problem for each in check(json.dumps(reply).encode(), key)] == ["", ""]
            assert reply["adapterkit"]["receipts"][0]["artifact"] == fleet.routes["intent"].arms["stable"].digest
        raw = base64.b64decode(packed["data"][0]["embedding"])
        assert struct.unpack(f"<{len(raw) // 4}f", raw) == pytest.approx(plain["data"][0]["embedding"], abs=1e-6)
        plain["data"][0]["embedding"][0] += 1.0
        assert [bool(each.problem) for each in check(json.dumps(plain).encode(), key)] == [True, False]
        assert client.post("/v1/embeddings", json={"model": "backbone", "input": "a"}).json()["adapterkit"] == {
            "receipts": []
        }
        fleet.draining = True
        assert client.post("/v1/embeddings", json=asked).status_code == 503
