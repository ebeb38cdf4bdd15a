"""A signed receipt proves its answer to somebody who has the public key and nothing else."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

pytest.importorskip("cryptography")
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from typer.testing import CliRunner

from adapterkit.cli.app import app
from adapterkit.errors import SignatureError
from adapterkit.serving.app import create_app
from adapterkit.serving.receipts import check
from adapterkit.serving.receipts import signed as signed_receipt
from adapterkit.signing import make_key, read_private, read_public
from tests.serving.conftest import standing_fleet

ROWS = [{"task": "intent", "text": "a card"}, {"task": "tags", "text": "the quick brown fox"}]


@pytest.fixture(scope="module")
def signed(
    tiny_backbones: Any, folders: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, bytes]:
    """A key, and what a service with it answers."""
    file = tmp_path_factory.mktemp("signed") / "key.pem"
    make_key(file)
    signer = read_private(file)
    with standing_fleet(tiny_backbones, folders) as fleet, TestClient(create_app(fleet, signer=signer)) as client:
        return file, client.post("/v1/predict", json={"rows": [*ROWS, {"task": "none"}]}).content


@pytest.fixture
def reply(signed: tuple[Path, bytes], tmp_path: Path) -> Mapping[str, Any]:
    """That answer, beside its key."""
    for name in ("key.pem", "key.pem.pub"):
        shutil.copy(signed[0].with_name(name), tmp_path)
    given: Mapping[str, Any] = json.loads(signed[1])
    return given


def test_what_is_signed_can_be_checked_by_hand(reply: Mapping[str, Any], tmp_path: Path) -> None:
    def form(value: Any) -> bytes:
        return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()

    key: Any = load_pem_public_key((tmp_path / "key.pem.pub").read_bytes())
    for given in reply["answers"][:2]:
        receipt = dict(given["receipt"])
        signature = base64.b64decode(receipt.pop("signature"))
        key.verify(signature, form(receipt))
        assert receipt["answer_sha256"] == sha256(form(given["answer"])).hexdigest()


@pytest.mark.parametrize("change", ["answer", "version", "signature", "swapped", "unsigned"])
def test_whatever_was_changed_proves_nothing(reply: Mapping[str, Any], tmp_path: Path, change: str) -> None:
    key = read_public(tmp_path / "key.pem.pub")
    assert [each.problem for each in check(json.dumps(reply).encode(), key)] == ["", ""]
    first, second = reply["answers"][:2]
    match change:
        case "answer":
            first["answer"]["score"] += 1e-9
        case "version":
            first["receipt"]["version"] = "2"
        case "signature":
            first["receipt"]["signature"] = second["receipt"]["signature"]
        case "swapped":
            first["receipt"] = second["receipt"]
        case "unsigned":
            del first["receipt"]["signature"]
    found = [bool(each.problem) for each in check(json.dumps(reply).encode(), key)]
    assert found == [True, False]


def test_another_key_proves_nothing(reply: Mapping[str, Any], tmp_path: Path) -> None:
    other = make_key(tmp_path / "other.pem")
    assert all(each.problem for each in check(json.dumps(reply).encode(), read_public(other)))


def test_the_command_checks_replies_line_by_line(reply: Mapping[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "replies.jsonl"
    file.write_text("\n".join(json.dumps(each) for each in reply["answers"]))
    asked = ["receipt", "check", str(file), "--key", str(tmp_path / "key.pem.pub")]
    assert CliRunner().invoke(app, asked).exit_code == 0
    file.write_text(file.read_text().replace('"version": "1"', '"version": "7"'))
    assert CliRunner().invoke(app, asked).exit_code == 1


def test_checking_needs_no_torch(tmp_path: Path) -> None:
    make_key(tmp_path / "key.pem")
    receipt = signed_receipt(read_private(tmp_path / "key.pem"), {"task": "intent"}, {"label": "yes"})
    (tmp_path / "reply.json").write_text(json.dumps({"answer": {"label": "yes"}, "receipt": receipt}))
    code = (
        "import sys; from adapterkit.cli.app import app; "
        f"app(['receipt', 'check', {str(tmp_path / 'reply.json')!r}, '--key', {str(tmp_path / 'key.pem.pub')!r}], "
        "standalone_mode=False); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_key_is_written_once_for_its_owner_and_refused_by_name(tmp_path: Path) -> None:
    make_key(tmp_path / "key.pem")
    assert (tmp_path / "key.pem").stat().st_mode & 0o777 == 0o600
    with pytest.raises(SignatureError, match="cannot be written"):
        make_key(tmp_path / "key.pem")
    with pytest.raises(SignatureError, match="is not a private key"):
        read_private(tmp_path / "key.pem.pub")
    with pytest.raises(SignatureError, match="cannot be read"):
        read_public(tmp_path / "none")
    with pytest.raises(SignatureError, match="no receipt"):
        check(b"{}", read_public(tmp_path / "key.pem.pub"))
