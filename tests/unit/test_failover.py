"""Where a recipient goes on when its road fails."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatepost.domain.outcome import Category, Deferred, Delivered, Exchange, Failed, Reply, Unknown
from gatepost.domain.route import roads_of
from gatepost.policy.failover import MAY_WORK_LATER, UNSURE, Plan, Rules, plan

RULES = Rules(patience=3, unsure_attempts=4)


def exchange(route="a", tls_policy=None):
    return Exchange(route=route, started_at=1, finished_at=2, tls_policy=tls_policy)


def deferred(category, reply=None, counts=True, tls_policy=None):
    code, _, rest = (reply or "").partition(" ")
    enhanced, _, text = rest.partition(" ")
    said = Reply(code=int(code), enhanced=enhanced, text=text) if reply else None
    return Deferred(exchange=exchange(tls_policy=tls_policy), category=category, detail="", reply=said, counts=counts)


def failed(category, reply="550 5.0.0 no"):
    code, enhanced, text = reply.split(" ", 2)
    return Failed(exchange=exchange(), category=category, detail="", reply=Reply(code=int(code), enhanced=enhanced, text=text))


UNKNOWN = Unknown(exchange=exchange(), detail="broke")


def after(route, outcome, *, at=0, tried=0, retries=0, shut=(), blocked_by="breaker_open"):
    found = roads_of(route)
    return plan(found, at, tried, retries, outcome, is_shut=lambda road: str(road) in shut, rules=RULES, blocked_by=blocked_by)


TO_THE_NEXT = [
    ("a,b", deferred(Category.NETWORK), "network"),
    ("a,b", deferred(Category.NETWORK, counts=False), "network"),
    ("mx,b", deferred(Category.NETWORK), "network"),
    ("a,b", deferred(Category.AUTH_FAILURE, counts=False), "auth_failure"),
    ("a,b", deferred(Category.RATE_LIMITED, "450 4.7.1 too many messages"), "rate_limited"),
    ("mx,b", deferred(Category.RATE_LIMITED, "421 4.7.28 too fast"), "rate_limited"),
    ("mx,b", deferred(Category.REPUTATION_BLOCK, "421 4.7.1 your IP is blocked"), "reputation_block"),
    ("a,b", deferred(Category.REMOTE_SYSTEM, "451 4.3.0 disk full"), "remote_system"),
    ("a,b", failed(Category.RELAY_DENIED, "554 5.7.1 relay access denied"), "relay_denied"),
    ("mx,b", failed(Category.REPUTATION_BLOCK, "554 5.7.1 listed at spamhaus"), "reputation_block"),
    ("mx,b", deferred(Category.NETWORK, tls_policy="dane"), "tls_policy"),
    ("mx,b", deferred(Category.NETWORK, tls_policy="sts:enforce"), "tls_policy"),
]


@pytest.mark.parametrize(("route", "outcome", "cause"), TO_THE_NEXT)
def test_what_is_the_roads_fault_goes_to_the_next_road_now(route, outcome, cause):
    """Connection, quota, account, reputation and TLS policy are about the road, not about the mail."""
    found = after(route, outcome)
    assert found is not None
    assert (found.at, found.cause, found.is_later) == (1, cause, False)


STAYS = [
    ("a,b", failed(Category.INVALID_RECIPIENT, "550 5.1.1 no such user")),
    ("a,b", failed(Category.SPAM_CONTENT, "550 5.7.1 spam")),
    ("mx,b", failed(Category.RELAY_DENIED, "550 5.7.1 relaying denied")),
    ("mx,b", failed(Category.POLICY_REJECTED, "550 5.7.1 no")),
    ("mx,b", failed(Category.REPUTATION_BLOCK, "550 5.2.1 mailbox is blocked")),
    ("a,b", deferred(Category.MAILBOX_FULL, "452 4.2.2 full")),
    ("a,b", deferred(Category.RATE_LIMITED, "450 4.2.1 receiving mail too fast")),
    ("a,b", deferred(Category.SPAM_CONTENT, "451 4.7.1 spam")),
    ("mx,b", deferred(Category.RATE_LIMITED, "451 4.7.1 greylisted, try later")),
    ("mx,b", deferred(Category.REMOTE_SYSTEM, "451 4.3.0 try later")),
    ("mx,b", deferred(Category.POLICY_REJECTED, "451 4.7.1 try later")),
    ("a,b", deferred(Category.REMOTE_SYSTEM, counts=False)),
]


@pytest.mark.parametrize(("route", "outcome"), STAYS)
def test_what_is_about_the_recipient_the_content_or_ourselves_stays(route, outcome):
    """A refusal of the recipient is final, a full mailbox is full by every road, and greylisting remembers the road."""
    assert after(route, outcome) is None


def test_after_some_attempts_without_progress_the_next_road_gets_its_turn():
    """Greylisting ends after an attempt or two; what does not end may be about our address after all."""
    grey = deferred(Category.RATE_LIMITED, "451 4.7.1 greylisted")
    assert after("mx,b", grey, retries=1) is None
    found = after("mx,b", grey, retries=2)
    assert (found.at, found.cause) == (1, "no_progress")
    assert after("mx,b", deferred(Category.MAILBOX_FULL, "452 4.2.2 full"), retries=30) is None


def test_when_every_road_was_tried_it_waits_and_begins_with_the_best():
    """The round is over: the schedule's wait, nothing tried any more, the first road that is open."""
    network = deferred(Category.NETWORK)
    assert after("a,b,c", network, at=1, tried=1) == Plan(at=2, tried=0b11 | MAY_WORK_LATER, cause="network")
    assert after("a,b,c", network, at=2, tried=0b11) == Plan(at=0, tried=0, cause="network", is_later=True)
    assert after("a,b,c", network, at=2, tried=0b11, shut=("a",)) == Plan(at=1, tried=0, cause="network", is_later=True)


def test_a_shut_road_is_passed_over():
    """Nobody waits for a breaker while another road is open; when all are shut, they wait where they are."""
    assert after("a,b,c", deferred(Category.NETWORK), shut=("b",)).at == 2
    assert after("a,b", None, shut=("a",)) == Plan(at=1, tried=1 | MAY_WORK_LATER, cause="breaker_open")
    assert after("a,b", None, shut=("a", "b")) is None
    assert after("a,b", None, at=1, tried=1, shut=("b",)) == Plan(at=0, tried=0b10 | MAY_WORK_LATER, cause="breaker_open")


def test_a_bounce_is_one_only_when_no_road_may_work_later():
    """All relays deny us: it bounces. One denies us and one is away: it waits."""
    denied = failed(Category.RELAY_DENIED, "554 5.7.1 relay access denied")
    assert after("a,b", denied, at=1, tried=1) is None
    assert after("a,b", denied, at=1, tried=1 | MAY_WORK_LATER).is_later
    assert after("a,b", denied, at=0, shut=("b",)).is_later


def test_what_may_have_been_delivered_stays_on_its_road():
    """Never silently elsewhere: only after unsure_attempts, and then the plan says that it may be a duplicate."""
    assert after("a,b", UNKNOWN) == Plan(at=0, tried=UNSURE, cause="possible_duplicate", is_later=True)
    assert after("a,b", deferred(Category.NETWORK), tried=UNSURE, retries=1) == Plan(
        at=0, tried=UNSURE, cause="possible_duplicate", is_later=True
    )
    assert after("a,b", None, tried=UNSURE, retries=1, shut=("a",)) is None
    released = after("a,b", deferred(Category.NETWORK), tried=UNSURE, retries=3)
    assert (released.at, released.is_unsure) == (1, True)
    assert plan(
        roads_of("a,b"), 0, UNSURE, 50, deferred(Category.NETWORK), is_shut=lambda _: False, rules=Rules(unsure_attempts=0)
    ).at == 0  # fmt: skip


OUTCOMES = [
    UNKNOWN, failed(Category.INVALID_RECIPIENT), failed(Category.RELAY_DENIED), deferred(Category.NETWORK), deferred(Category.MAILBOX_FULL, "452 4.2.2 full"),
    deferred(Category.RATE_LIMITED, "451 4.7.1 greylisted"), deferred(Category.AUTH_FAILURE, counts=False),
    Delivered(exchange=exchange(), reply=Reply(code=250, enhanced=None, text="ok")),
]  # fmt: skip


@given(
    count=st.integers(2, 12),
    steps=st.lists(st.tuples(st.sampled_from(OUTCOMES), st.integers(0, 2**12 - 1)), max_size=60),
)
def test_a_round_ends_whatever_happens(count, steps):
    """From any answers and any breakers: at most one attempt on each road between two waits, and never from an unsure road unsaid."""
    route = ",".join(f"r{n}" for n in range(count))
    at, tried, retries, seen, is_unsure = 0, 0, 0, set(), False
    for outcome, mask in steps:
        assert at not in seen
        seen.add(at)
        shut = {f"r{n}" for n in range(count) if mask >> n & 1}
        found = after(route, outcome, at=at, tried=tried, retries=retries, shut=shut)
        is_unsure = is_unsure or isinstance(outcome, Unknown)
        if found is None:
            if isinstance(outcome, Delivered | Failed):
                return
            assert not is_unsure or retries + 1 >= RULES.unsure_attempts
            tried, retries, seen = 0, retries + 1, set()
            continue
        assert 0 <= found.at < count
        if is_unsure and found.at != at:
            assert found.is_unsure
            is_unsure = False
        if found.is_later:
            seen, retries = set(), retries + 1
        else:
            assert f"r{found.at}" not in shut
        at, tried = found.at, found.tried


def test_who_stays_on_an_unsure_road_stays_unsure():
    """While no other road is open the doubt is kept: leaving later is still counted as a possible duplicate."""
    kept = after("a,b", deferred(Category.NETWORK), at=0, tried=UNSURE, retries=RULES.unsure_attempts, shut={"b"})
    assert (kept.at, kept.tried, kept.is_later, kept.is_unsure) == (0, UNSURE, True, False)
    left = after("a,b", deferred(Category.NETWORK), at=0, tried=kept.tried, retries=RULES.unsure_attempts + 1)
    assert (left.at, left.is_unsure) == (1, True)
