"""`adapterkit serve` as a user starts it, in a process of its own: HTTPS, keys, two backbones, a board, and Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from adapterkit.cli import app, main
from adapterkit.manifest import open_manifest
from adapterkit.serving.keys import add_key
from adapterkit.serving.receipts import check
from adapterkit.signing import make_key, read_public
from tests.serving.own_process import begun
from tests.serving.test_promises import certified


def typed(words: list[str], log: str) -> None:
    """What the shell would do."""
    written = os.open(log, os.O_WRONLY | os.O_CREAT)
    os.dup2(written, 1)
    os.dup2(written, 2)
    sys.argv = ["adapterkit", *words]
    sys.exit(main())


def test_files_that_are_no_certificate_and_key_are_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    certificate, private = certified(tmp_path)
    (tmp_path / "other").mkdir()
    _, foreign = certified(tmp_path / "other")
    (tmp_path / "text").write_text("no certificate")
    for words, status in (
        ([f"--tls-certificate={tmp_path}/none"], 1),
        ([f"--tls-certificate={tmp_path}/text", f"--tls-key={private}"], 1),
        ([f"--tls-certificate={certificate}", f"--tls-key={foreign}"], 1),
        ([f"--tls-certificate={certificate}"], 1),
        ([f"--tls-key={private}"], 2),
    ):
        done = CliRunner().invoke(app, ["serve", "--mount", "intent=nowhere", *words])
        assert (done.exit_code, type(done.exception)) == (status, SystemExit), done.output


def test_a_service_on_two_backbones_answers_over_https_and_ends_on_ctrl_c(
    tiny_folders: Any, folders: Mapping[str, Path], moved: Mapping[str, Path], tmp_path: Path
) -> None:
    certificate, private = certified(tmp_path)
    make_key(tmp_path / "sign.pem")
    secret = add_key(tmp_path / "keys.json", "ada", ["predict"])
    words = ["serve", "--mount", f"old={folders['intent']}", "--mount", f"new={moved['intent']}", "--port", "0"]
    for name, value in (("backbone", "bert"), ("backbone", "distilbert")):
        words += [f"--{name}", str(tiny_folders[value])]
    words += ["--backbone-dtype", "float32", "--keys", str(tmp_path / "keys.json"), "--board"]
    words += [
        "--sign-with",
        str(tmp_path / "sign.pem"),
        "--tls-certificate",
        str(certificate),
        "--tls-key",
        str(private),
    ]
    log = tmp_path / "log"
    process = begun(typed, words, str(log))
    try:
        while not (log.exists() and "/board/" in log.read_text()):
            assert process.exitcode is None, log.read_text()
            time.sleep(0.02)
        said = log.read_text()
        address = said[said.index("https://") :].partition("/v1/predict")[0]
        trusting = ssl.create_default_context(cafile=str(certificate))

        def asked(path: str, body: Any, key: str) -> Any:
            raw = None if body is None else json.dumps(body).encode()
            request = urllib.request.Request(address + path, raw, {"authorization": f"Bearer {key}"})
            with urllib.request.urlopen(request, context=trusting, timeout=60) as reply:
                return reply.read()

        reply = asked("/v1/predict_all", {"row": "my card was lost"}, secret)
        receipts = {task: each["receipt"] for task, each in json.loads(reply)["answers"].items()}
        expected = {"old": open_manifest(folders["intent"]), "new": open_manifest(moved["intent"])}
        assert {task: each["artifact"] for task, each in receipts.items()} == {t: m.sha256 for t, m in expected.items()}
        assert {t: each["backbone"] for t, each in receipts.items()} == {
            t: m.backbone.fingerprint for t, m in expected.items()
        }
        assert [each.problem for each in check(reply, read_public(tmp_path / "sign.pem.pub"))] == ["", ""]
        assert b"adapterkit board" in asked("/board/", None, "")
        with pytest.raises(urllib.error.HTTPError, match="401"):
            asked("/v1/tasks", None, "ak_wrong")
    finally:
        os.kill(process.pid or 0, signal.SIGINT)
        process.join(60)
    assert process.exitcode == 130, log.read_text()
    assert "Traceback" not in log.read_text()
