"""A few attempts at every subject; `make abuse` makes all of them."""

from __future__ import annotations

import pytest

from tests.abuse.running import SUBJECTS, attempts, make

SAMPLES = {
    "artifacts": 120,
    "imports": 24,
    "pickles": 140,
    "checkpoints": 40,
    "caches": 30,
    "kills": 5,
    "swaps": 2,
    "registry-kills": 2,
}
"""How many fit into the suite."""


# Python 3.12 warns of forks beside threads; a child here waits for no lock.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


@pytest.fixture(scope="module", params=SAMPLES)
def outcome(request, tmp_path_factory):
    root = tmp_path_factory.mktemp("abuse")
    return attempts(make(SUBJECTS[request.param], root), range(SAMPLES[request.param]), root)


def test_nothing_is_broken(outcome):
    assert outcome.findings == []


def test_damage_is_refused_and_named_and_sometimes_nothing(outcome):
    if "refused" not in outcome.counts:
        return  # nothing was damaged, only stopped
    total = sum(outcome.counts.values())
    assert 0.3 * total < outcome.counts["refused"] < total
    assert len(outcome.counts) > 1
