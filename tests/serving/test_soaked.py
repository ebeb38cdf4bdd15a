"""Seconds of the soak, beside the other processes that serve; `python -m tests.abuse.soak` runs for minutes."""

from __future__ import annotations

from pathlib import Path

from tests.abuse.soak import Soak


def test_under_everything_at_once_and_killed_no_receipt_is_wrong_and_no_row_is_lost(tmp_path: Path) -> None:
    soak = Soak(tmp_path, replicas=2)
    facts = soak.run(3.0, clients=2)
    assert soak.wrong == []
    assert facts["answers"] > 20
    assert min(facts[what] for what in ("bursts", "clients that went away", "killed", "promote")) > 0
    assert facts["audit whole"]
