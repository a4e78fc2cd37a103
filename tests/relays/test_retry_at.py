"""When a provider, or a limit of ours, names a time, the recipient comes back then."""

from gatepost.clock import MINUTE
from gatepost.domain.outcome import Category, Deferred, Exchange
from gatepost.policy.retry import RetrySchedule
from gatepost.settle import decide
from gatepost.store.queue import Due

NOW = 1_764_000_000_000
END = NOW + 600 * MINUTE
DUE = Due(
    shard=1, lane=1, due_at=NOW, message_id="m", n=0, tenant_id="t", pool="default", site="relay:main", attempt=1, retries=3, expires_at=END
)  # fmt: skip
SCHEDULE = RetrySchedule(waits_s=[60, 300, 900, 1800], jitter=0)


def next_at(retry_at: int | None, *, counts: bool) -> tuple[int | None, int]:
    exchange = Exchange(route="main", started_at=NOW, finished_at=NOW)
    outcome = Deferred(exchange=exchange, category=Category.RATE_LIMITED, detail="busy", counts=counts, retry_at=retry_at)
    decision = decide(DUE, outcome, SCHEDULE, NOW, 0.5)
    return decision.due_at, decision.retries


def test_a_limit_that_has_room_again_is_not_waited_for_longer():
    """Seconds where the limit says seconds; no retry is used up."""
    assert next_at(NOW + 7_000, counts=False) == (NOW + 7_000, 3)
    assert next_at(NOW + 120 * MINUTE, counts=False) == (NOW + 120 * MINUTE, 3)
    assert next_at(NOW - 5_000, counts=False) == (NOW + 100, 3)


def test_trouble_waits_for_the_later_of_schedule_and_provider():
    """A provider may ask for more patience than the schedule has, not for less."""
    assert next_at(NOW + 1_000, counts=True) == (NOW + 30 * MINUTE, 4)
    assert next_at(NOW + 40 * MINUTE, counts=True) == (NOW + 40 * MINUTE, 4)


def test_nobody_waits_beyond_the_messages_end():
    """Then it expires, with its event."""
    assert next_at(END + MINUTE, counts=False) == (END, 3)
    assert next_at(END + MINUTE, counts=True) == (END, 4)
