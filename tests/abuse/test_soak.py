"""Seconds of the soaks; `python -m tests.abuse.soak` and `tests.abuse.replicas` run for minutes."""

from __future__ import annotations

from pathlib import Path

from tests.abuse.replicas import Replicas
from tests.abuse.soak import Soak


def test_under_everything_at_once_no_receipt_is_wrong_and_no_row_is_lost(tmp_path: Path) -> None:
    soak = Soak(tmp_path)
    facts = soak.run(3.0, clients=2)
    assert soak.wrong == []
    assert facts["answers"] > 20
    assert facts["clients that went away"] > 0
    assert facts["audit whole"]


def test_a_killed_replica_costs_the_other_no_request_and_no_answer_its_receipt(tmp_path: Path) -> None:
    replicas = Replicas(tmp_path)
    facts = replicas.run(4.0, clients=2)
    assert replicas.wrong == []
    assert facts["killed"] >= 1
    assert facts["answers"] > 20
    assert facts["audit whole"]
