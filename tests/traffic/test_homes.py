"""Which replicas a request is offered first."""

from __future__ import annotations

from collections import Counter
from hashlib import blake2b

from adapterkit.traffic.homes import UNKNOWN_ROWS, Shares, homes_of, ranked

REPLICAS = [f"replica {n}" for n in range(4)]
TASKS = [f"task {n}" for n in range(2000)]


def draw(task: str, replica: str) -> bytes:
    """The order of rendezvous hashing, from the digest itself."""
    return blake2b(f"{task}\0{replica}".encode(), digest_size=8).digest()


def test_a_cold_task_has_the_home_that_draws_highest_and_homes_are_spread_evenly() -> None:
    found = {task: homes_of(task, REPLICAS, 0.0) for task in TASKS}
    assert found == {task: [max(REPLICAS, key=lambda replica: draw(task, replica))] for task in TASKS}
    counts = Counter(home for (home,) in found.values())
    assert all(abs(count - 500) < 4 * (2000 * 0.25 * 0.75) ** 0.5 for count in counts.values())


def test_a_replica_that_goes_moves_only_the_tasks_it_was_the_home_of() -> None:
    for task in TASKS:
        before, after = homes_of(task, REPLICAS, 0.0), homes_of(task, REPLICAS[1:], 0.0)
        assert before == after or before == [REPLICAS[0]]


def test_a_task_has_a_home_more_for_every_replica_that_it_would_fill() -> None:
    assert [len(homes_of("a", REPLICAS, share)) for share in (0.0, 0.24, 0.25, 0.5, 0.99, 1.0)] == [1, 1, 2, 3, 4, 4]


def test_a_request_is_offered_to_homes_then_to_holders_then_to_the_others() -> None:
    (home,) = homes_of("a", REPLICAS, 0.0)
    holder, *others = (replica for replica in REPLICAS if replica != home)
    held = {replica: {"a"} if replica == holder else {"b"} for replica in REPLICAS}
    assert ranked({"a": 1}, held, Shares()) == [[home], [holder], others]
    assert ranked({}, held, Shares()) == [REPLICAS, [], []]


def test_a_mixed_request_goes_whole_to_where_most_of_its_rows_are_at_home() -> None:
    one = TASKS[0]
    other = next(task for task in TASKS if homes_of(task, REPLICAS, 0.0) != homes_of(one, REPLICAS, 0.0))
    held = dict.fromkeys(REPLICAS, frozenset[str]())
    assert ranked({one: 3, other: 2}, held, Shares())[0] == homes_of(one, REPLICAS, 0.0)
    assert ranked({one: 2, other: 3}, held, Shares())[0] == homes_of(other, REPLICAS, 0.0)
    assert set(ranked({one: 2, other: 2}, held, Shares())[0]) == {
        *homes_of(one, REPLICAS, 0.0),
        *homes_of(other, REPLICAS, 0.0),
    }


def test_shares_are_of_late_and_begin_with_nobody() -> None:
    shares = Shares(memory_rows=1000)
    shares.add({"a": 100})
    assert shares.of("a") == 100 / (100 + UNKNOWN_ROWS)
    shares.add({"b": 901})
    assert shares.of("a") == 50 / (50 + 450 + UNKNOWN_ROWS)
    for _ in range(20):
        shares.add({"b": 1000})
    assert shares.of("a") == 0
