from __future__ import annotations

from tests.abuse import running
from tests.abuse.toy import Toy


def test_attempts_are_counted_and_what_is_broken_is_found_with_its_number(tmp_path, monkeypatch):
    monkeypatch.setattr(running, "MOST_SECONDS", 0.2)
    outcome = running.attempts(Toy(tmp_path), range(5), tmp_path)
    assert outcome.counts == {"well": 1, "refused": 1, "broken promise": 1, "raw error": 1, "hangs": 1}
    assert outcome.findings == ["2: broken promise: two is not one", "3: raw error: KeyError: 'three'", "4: hangs"]
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_dies_is_found_and_the_other_attempts_are_made(monkeypatch):
    monkeypatch.setattr(running, "CHUNK", 2)
    monkeypatch.setitem(running.SUBJECTS, "toy", ("tests.abuse.toy", "Toy", 3))
    outcome = running.run("toy", range(5, 9), processes=1)
    assert outcome.counts == {"well": 3, "kills the process": 1}
    assert outcome.findings == ["5: kills the process"]
