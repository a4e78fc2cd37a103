"""What an attempt does to a recipient: every outcome, at every moment of a recipient's life."""

from hypothesis import given
from hypothesis import strategies as st

from gatepost.domain.event import EventType
from gatepost.domain.outcome import Category, Deferred, Delivered, Exchange, Failed, Reply, Unknown
from gatepost.domain.recipient import TERMINAL, TRANSITIONS, WAITING, Status, message_status
from gatepost.policy.retry import RetrySchedule
from gatepost.settle import decide, expire
from gatepost.store.queue import Due

NOW = 1_764_000_000_000
SCHEDULE = RetrySchedule(waits_s=[60, 300, 900, 1800, 3600, 7200, 10800, 14400], jitter=0.1)


def due(attempt=1, retries=0, expires_at=NOW + 259_200_000):
    return Due(
        shard=1,
        lane=1,
        due_at=NOW,
        message_id="msg_x",
        n=0,
        tenant_id="t",
        pool="default",
        site="s",
        attempt=attempt,
        retries=retries,
        expires_at=expires_at,
    )


def exchange():
    return Exchange(route="mx", started_at=NOW, finished_at=NOW)


replies = st.builds(Reply, code=st.integers(200, 599), enhanced=st.none() | st.just("4.7.1"), text=st.text(max_size=20))
categories = st.sampled_from(list(Category))
outcomes = st.one_of(
    st.builds(Delivered, exchange=st.just(exchange()), reply=replies, final=st.booleans()),
    st.builds(
        Deferred,
        exchange=st.just(exchange()),
        category=categories,
        detail=st.text(max_size=9),
        reply=st.none() | replies,
        counts=st.booleans(),
    ),
    st.builds(Failed, exchange=st.just(exchange()), category=categories, detail=st.text(max_size=9), reply=st.none() | replies),
    st.builds(Unknown, exchange=st.just(exchange()), detail=st.text(max_size=9)),
)


@given(outcomes, st.integers(1, 60), st.integers(0, 60), st.integers(-100_000, 300_000_000), st.floats(0, 0.999))
def test_every_outcome_ends_in_a_lawful_state_with_its_event(outcome, attempt, retries, left, chance):
    """Waiting means a due time within the recipient's life; final means none."""
    row = due(attempt, retries, NOW + left)
    decision = decide(row, outcome, SCHEDULE, NOW, chance)
    assert decision.status in TRANSITIONS[Status.QUEUED] & TRANSITIONS[Status.DEFERRED] & TRANSITIONS[Status.SCHEDULED]
    assert (decision.due_at is None) == (decision.status in TERMINAL)
    if decision.due_at is not None:
        assert NOW < decision.due_at <= row.expires_at
    assert decision.retries in {retries, retries + 1}


@given(st.integers(1, 40), st.floats(0, 0.999))
def test_a_refusal_for_now_is_never_a_bounce(retries, chance):
    """RFC 5321 §4.2.1: 4yz is transient; whatever the number of attempts, only time ends it."""
    later = Deferred(exchange=exchange(), category=Category.RATE_LIMITED, detail="", reply=Reply(code=451, enhanced=None, text=""))
    assert decide(due(retries, retries), later, SCHEDULE, NOW, chance).status is Status.DEFERRED
    assert decide(due(retries, retries, NOW), later, SCHEDULE, NOW, chance).status is Status.EXPIRED


def test_a_refusal_for_good_is_never_tried_again():
    """RFC 5321 §4.2.1: 5yz is permanent."""
    decision = decide(due(), Failed(exchange=exchange(), category=Category.INVALID_RECIPIENT, detail="no"), SCHEDULE, NOW, 0.5)
    assert (decision.status, decision.due_at, decision.event) == (Status.BOUNCED, None, EventType.BOUNCED)
    assert decision.data["severity"] == "hard"


def test_a_relays_yes_is_sent_and_the_recipients_servers_yes_is_delivered():
    """Who took responsibility decides the word."""
    for final, status in ((True, Status.DELIVERED), (False, Status.SENT)):
        outcome = Delivered(exchange=exchange(), reply=Reply(code=250, enhanced=None, text="ok"), final=final)
        assert decide(due(), outcome, SCHEDULE, NOW, 0.5).status is status


def test_our_own_trouble_uses_up_no_retry_and_waits_a_minute():
    """A resolver that is away for a day must not leave a message with four-hour waits."""
    ours = Deferred(exchange=exchange(), category=Category.NETWORK, detail="resolver", counts=False)
    decision = decide(due(7, 6), ours, SCHEDULE, NOW, 0.5)
    assert (decision.retries, decision.due_at) == (6, NOW + 60_000)


def test_an_unknown_outcome_says_that_the_mail_may_be_there_twice():
    """RFC 1047: it is tried again, and the event tells."""
    decision = decide(due(), Unknown(exchange=exchange(), detail="broke"), SCHEDULE, NOW, 0.5)
    assert decision.status is Status.DEFERRED
    assert decision.data["possible_duplicate"] is True


def test_expiry_before_any_attempt_has_an_event_of_its_own():
    """Nothing is dropped in silence."""
    assert expire(due()).event is EventType.EXPIRED


def test_waits_follow_the_schedule_and_repeat_its_last():
    """RFC 5321 §4.5.4.1: 30 minutes at least in the long run; jitter stays within its share."""
    plain = RetrySchedule(waits_s=[60, 1800], jitter=0)
    assert [plain.next_at(n, 0, 10**12, 0.5) for n in (1, 2, 3, 50)] == [60_000, 1_800_000, 1_800_000, 1_800_000]
    for chance in (0, 0.3, 0.99):
        assert 54_000 <= SCHEDULE.next_at(1, 0, 10**12, chance) <= 66_000


@given(st.lists(st.sampled_from(list(Status)), min_size=1))
def test_delivered_means_every_recipient(statuses):
    """A message is as finished as its least finished recipient."""
    told = message_status(statuses)
    assert told in statuses
    if told is Status.DELIVERED:
        assert set(statuses) == {Status.DELIVERED}
    if any(status in WAITING for status in statuses):
        assert told in WAITING
