"""The breaker of a road, and its score."""

import pytest

from gatepost.domain.outcome import Category, Deferred, Delivered, Exchange, Failed, Reply, Unknown
from gatepost.domain.route import RoadKind
from gatepost.policy.health import BreakerRules, Health, Sign, State, sign_of

RULES = BreakerRules(failures=3, share=0.5, least=10, window_ms=60_000, open_ms=10_000, longest_ms=40_000)
T = 1_000_000


def failing(health, times, now=T, site=""):
    return [health.record(Sign.BAD, now, cause="network", site=site) for _ in range(times)]


def test_failures_in_a_row_open_it_and_time_makes_it_half_open():
    """Three in a row shut the road; after its wait one message may try it."""
    health = Health(RULES)
    assert failing(health, 3) == [False, False, True]
    assert (health.state, health.retry_at, health.reason) == (State.OPEN, T + 10_000, "network: 3 failures in a row")
    assert not health.may_start(T + 9_999)
    assert health.may_start(T + 10_000)
    assert not health.may_start(T + 10_001), "one trial at a time"
    assert health.is_shut(T + 10_001)
    assert health.record(Sign.GOOD, T + 10_500)
    assert health.state is State.CLOSED
    assert all(health.may_start(T + 10_600) for _ in range(5))


def test_each_failed_trial_doubles_the_wait_up_to_the_longest():
    """10, 20, 40, 40 seconds; a road that was well for long begins anew."""
    health, now, waits = Health(RULES), T, []
    failing(health, 3, now)
    for _ in range(4):
        waits.append(health.retry_at - now)
        now = health.retry_at
        assert health.may_start(now)
        health.record(Sign.BAD, now, cause="network")
    assert waits == [10_000, 20_000, 40_000, 40_000]
    now = health.retry_at
    health.may_start(now)
    health.record(Sign.GOOD, now)
    failing(health, 3, now + 40_001)
    assert health.retry_at == now + 50_001


def test_a_trial_that_told_nothing_may_be_repeated():
    """Its message found no connection slot, or is still on its way: after ten seconds the next one may try."""
    health = Health(RULES)
    failing(health, 3)
    assert health.may_start(T + 10_000)
    assert not health.may_start(T + 19_999)
    assert health.may_start(T + 20_000)


def test_a_share_of_failures_opens_it_once_there_were_enough():
    """Every second transaction fails, never three in a row: the tenth opens it."""
    health = Health(RULES)
    changes = [health.record(Sign.BAD if n % 2 else Sign.GOOD, T, cause="rate_limited") for n in range(10)]
    assert changes == [False] * 9 + [True]


def test_what_is_long_ago_counts_no_more():
    """The window moves on."""
    health = Health(RULES)
    for n in range(8):
        health.record(Sign.BAD if n % 2 else Sign.GOOD, T)
    assert not health.record(Sign.BAD, T + 70_000)
    assert health.counts(T + 70_000)["attempts"] == 1


def test_one_dead_site_says_nothing_of_the_road_to_mx_hosts():
    """A thousand failures at one site leave it open for others; failures at five sites and nowhere otherwise do not."""
    rules = BreakerRules(failures=3, sites=5)
    health = Health(rules)
    assert not any(failing(health, 1000, site="dead.example"))
    for n in range(3):
        assert not any(failing(health, 1, site=f"s{n}"))
    assert failing(health, 1, site="s9") == [True]
    health = Health(rules)
    for n in range(50):
        failing(health, 1, site=f"s{n % 4}")
        assert not health.record(Sign.GOOD, T, site="other")
    assert health.state is State.CLOSED


def test_a_probe_ends_an_outage_of_the_connection_only():
    """A relay that answers again takes mail; one that had refused us is tried with one message first."""
    health = Health(RULES)
    failing(health, 3)
    assert health.probed(T + 10_000, is_good=True)
    assert health.state is State.CLOSED
    for _ in range(3):
        health.record(Sign.BAD, T + 11_000, cause="relay_denied")
    assert health.probed(T + 30_000, is_good=True)
    assert health.state is State.HALF_OPEN
    assert health.probed(T + 30_000, is_good=False, cause="network: a probe failed")
    assert (health.state, health.openings) == (State.OPEN, 3)


def test_a_road_on_which_everything_hangs_is_shut_however_well_it_did_before():
    """Success before the silence keeps it open no longer; one that is shut already stays as it is."""
    health = Health(RULES)
    health.record(Sign.GOOD, T)
    assert health.hangs(T + 5_000, "network: hangs")
    assert (health.state, health.retry_at, health.reason) == (State.OPEN, T + 15_000, "network: hangs")
    assert not health.hangs(T + 6_000, "network: hangs still")
    assert health.reason == "network: hangs"
    assert health.hangs(T + 15_000, "network: hangs still"), "a trial that hangs, too, shuts it again"
    assert health.retry_at == T + 15_000 + 20_000


def test_the_score_falls_with_failures_deferrals_slowness_and_complaints():
    """100 is a road on which nothing goes wrong, 0 one that is open."""
    health = Health(BreakerRules(failures=100, least=1000))
    assert health.score(T) == 100
    for _ in range(10):
        health.record(Sign.GOOD, T, latency_ms=100)
    assert health.score(T) == 100
    scores = [health.score(T)]
    for change in (
        lambda: [health.record(Sign.DEFERRED, T) for _ in range(5)],
        lambda: health.record(Sign.GOOD, T, latency_ms=200_000),
        lambda: health.complain(T),
        lambda: [health.record(Sign.BAD, T) for _ in range(10)],
    ):
        change()
        scores.append(health.score(T))
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) == len(scores)


def test_what_is_kept_is_taken_over():
    """A restart, or another owner, goes on where it was."""
    first, second = Health(RULES), Health(RULES)
    failing(first, 3)
    saved = first.saved(T)
    second.adopt(State(saved["state"]), saved["since"], saved["reason"], saved["retry_at"], saved["openings"])
    assert second.is_shut(T + 5_000)
    assert not second.is_shut(T + 10_000)


def exchange(host="a.example"):
    return Exchange(route="a", started_at=1, finished_at=2, host=host)


def deferred(category, reply=True, counts=True):
    return Deferred(
        exchange=exchange(), category=category, detail="", reply=Reply(code=451, enhanced=None, text="x") if reply else None, counts=counts
    )


DELIVERED = Delivered(exchange=exchange(), reply=Reply(code=250, enhanced=None, text="ok"))
BOUNCED = Failed(exchange=exchange(), category=Category.INVALID_RECIPIENT, detail="")
SIGNS = [
    ([DELIVERED], RoadKind.RELAY, Sign.GOOD),
    ([BOUNCED], RoadKind.RELAY, Sign.GOOD),
    ([deferred(Category.NETWORK, reply=False), DELIVERED], RoadKind.RELAY, Sign.GOOD),
    ([deferred(Category.MAILBOX_FULL)], RoadKind.RELAY, Sign.DEFERRED),
    ([deferred(Category.RATE_LIMITED)], RoadKind.RELAY, Sign.BAD),
    ([deferred(Category.AUTH_FAILURE, counts=False)], RoadKind.RELAY, Sign.BAD),
    ([Unknown(exchange=exchange(), detail="")], RoadKind.RELAY, Sign.BAD),
    ([deferred(Category.RATE_LIMITED)], RoadKind.MX, Sign.DEFERRED),
    ([deferred(Category.NETWORK, reply=False)], RoadKind.MX, Sign.BAD),
    ([deferred(Category.REMOTE_SYSTEM, reply=False, counts=False)], RoadKind.RELAY, None),
    (
        [Deferred(exchange=exchange(host=None), category=Category.RATE_LIMITED, detail="our rate", counts=False)],
        RoadKind.RELAY,
        Sign.DEFERRED,
    ),
]


@pytest.mark.parametrize(("outcomes", "kind", "sign"), SIGNS)
def test_what_a_transaction_says_of_its_road(outcomes, kind, sign):
    """One recipient that was served shows that the road works; our own trouble says nothing of it."""
    found = sign_of(outcomes, kind)
    assert (found and found[0]) == sign
