"""One source at one site: connections, rate, what replies do, what an operator does; time is an argument."""

import pytest

from gatepost.clock import DAY, MINUTE, SECOND
from gatepost.dispatch.flow import Flow
from gatepost.dispatch.ports import Permit, Wait
from gatepost.domain.outcome import Category, Deferred, Delivered, Exchange, Failed, Reply
from gatepost.domain.route import Source
from gatepost.policy.shaping import Limits, WarmUp
from gatepost.store.shaping import FOREVER

NOW = 20_000 * DAY
EXCHANGE = Exchange(route="mx", started_at=NOW, finished_at=NOW)
OK = [Delivered(exchange=EXCHANGE, reply=Reply(code=250, enhanced=None, text="ok"))]


def flow(site="example.net", **limits):
    return Flow(Source(name="a"), "default", site, Limits(**{"connections": 8, **limits}))


def later(text, code=421, enhanced=None, at=NOW):
    said = Reply(code=code, enhanced=enhanced, text=text)
    return [
        Deferred(exchange=Exchange(route="mx", started_at=at, finished_at=at), category=Category.RATE_LIMITED, detail=str(said), reply=said)
    ]


def unreached():
    return [Deferred(exchange=EXCHANGE, category=Category.NETWORK, detail="timed out")]


def transact(one, outcomes, now):
    taken = one.take(now)
    assert isinstance(taken, Permit), taken
    one.end(outcomes, now)


def cause(one, now):
    taken = one.take(now)
    if isinstance(taken, Permit):
        one.end([], now)
        return None
    return taken.cause


def test_connections_are_counted_exactly():
    """As many permits as connections, one more when one is given back."""
    one = flow(connections=3)
    assert [isinstance(one.take(NOW), Permit) for _ in range(4)] == [True, True, True, False]
    assert cause(one, NOW) == "slots_in_use"
    one.end(OK, NOW)
    assert isinstance(one.take(NOW), Permit)
    assert cause(one, NOW) == "slots_in_use"


def test_a_permit_tells_the_limits():
    """Recipients, messages per connection and connections travel with the permit."""
    permit = flow(connections=3, messages_per_connection=20, recipients_per_transaction=50).take(NOW)
    assert (permit.recipients, permit.messages_per_connection, permit.connections, permit.source.name) == (50, 20, 3, "a")


def test_too_many_connections_means_fewer_then_slowly_more():
    """Half of them at once, and a pause; a tenth of the limit each half a minute afterwards."""
    one = flow(connections=10)
    transact(one, later("too many connections"), NOW)
    assert (one.width, cause(one, NOW)) == (5, "backing_off")
    now = NOW + 2 * SECOND
    one.tick(now, 1)
    assert cause(one, now) is None
    widths = []
    for second in range(2, 200):
        one.tick(NOW + second * SECOND, 1)
        widths.append(one.width)
    assert widths[0] == 5
    assert widths[-1] == 10
    assert sorted(set(widths)) == [5, 6, 7, 8, 9, 10]
    assert widths == sorted(widths)


def test_a_rate_signal_halves_a_configured_rate():
    """The rate in force falls and is shown."""
    one = flow(messages_per_second=100)
    transact(one, later("rate limit exceeded"), NOW)
    assert one.state(NOW).rate_limit == 50
    assert one.width == 8


def test_a_rate_signal_without_a_limit_learns_one():
    """A fifth less than what went lately, half where the next signal comes soon; without more it is forgotten after some time."""
    one = flow(connections=1000)
    for second in range(10):
        for _ in range(200):
            transact(one, OK, NOW + second * SECOND)
        one.tick(NOW + second * SECOND, 1)
    transact(one, later("slow down", 450), NOW + 9 * SECOND)
    learned = one.state(NOW).rate_limit
    assert 150 <= learned <= 160
    transact(one, later("slow down", 450, at=NOW + 11 * SECOND), NOW + 11 * SECOND)
    assert one.state(NOW).rate_limit == pytest.approx(learned / 2, abs=0.01)
    for second in range(12, 700):
        one.tick(NOW + second * SECOND, 1)
    assert one.state(NOW + 700 * SECOND).rate_limit is None
    assert not one.is_troubled


def test_one_421_without_words_says_nothing_three_in_a_row_do():
    """Weak signals act only together; a delivery between takes them back."""
    one = flow()
    for said in (later("try again"), later("try again"), OK, later("try again"), later("try again")):
        transact(one, said, NOW)
    assert one.width == 8
    transact(one, later("try again"), NOW)
    assert one.width == 4
    assert cause(one, NOW) == "backing_off"


def test_refusals_in_a_row_lengthen_the_pause():
    """A site that refuses everything is asked ever more rarely, with one connection."""
    one, now, pauses = flow(), NOW, []
    for _ in range(6):
        transact(one, later("too many connections", at=now), now)
        wait = one.take(now)
        pauses.append(wait.until - now)
        now = wait.until
        one.tick(now, 1)
    assert pauses == [1_000, 2_000, 4_000, 8_000, 16_000, 32_000]
    assert one.width == 1


def test_what_was_under_way_says_nothing_new():
    """Eight refusals at once are one signal."""
    one = flow(connections=8)
    for _ in range(8):
        one.take(NOW)
    for _ in range(8):
        one.end(later("too many connections"), NOW)
    assert one.width == 4
    assert one.take(NOW).until == NOW + SECOND


def test_a_block_suspends_and_leaves_a_trace():
    """A strong signal, permanent or not, stops the source at the site for a while; it starts again with one connection."""
    one = flow("microsoft")
    said = Reply(code=550, enhanced="5.7.1", text="messages from [192.0.2.1] weren't sent. On our block list (S3150).")
    one.take(NOW)
    one.take(NOW)
    blocked = [Failed(exchange=EXCHANGE, category=Category.REPUTATION_BLOCK, detail=str(said), reply=said)]
    one.end(blocked, NOW)
    one.end(blocked, NOW + 5)
    state = one.state(NOW + 10)
    assert (state.cause, state.signal_id, state.suspended_until) == ("site_suspended", "microsoft.blocked", NOW + 4 * 60 * MINUTE)
    assert "S3150" in state.signal_text
    assert "S3150" in state.detail
    ends = NOW + 4 * 60 * MINUTE
    one.tick(ends, 1)
    assert one.width == 1
    assert cause(one, ends) is None
    transact(one, blocked, ends)
    assert one.closed(ends).until == ends + 8 * 60 * MINUTE


def test_a_signal_on_the_way_to_a_delivery_counts():
    """A host that said 421 and was passed over for another still told how much the site wants."""
    one = flow(connections=10)
    exchange = Exchange(
        route="mx", started_at=NOW, finished_at=NOW, passed_over=(Reply(code=421, enhanced=None, text="too many connections"),)
    )
    transact(one, [Delivered(exchange=exchange, reply=Reply(code=250, enhanced=None, text="ok"))], NOW)
    assert one.width == 5


def test_a_site_that_cannot_be_reached_is_tried_by_one_now_and_then():
    """After ten failures in a row nothing goes for a while, then one; a delivery opens it again."""
    one = flow()
    for _ in range(10):
        transact(one, unreached(), NOW)
    assert cause(one, NOW) == "site_unreachable"
    now = NOW + 5 * SECOND
    one.tick(now, 1)
    assert one.width == 1
    transact(one, unreached(), now)
    assert one.closed(now).until == now + 10 * SECOND
    now += 10 * SECOND
    one.tick(now, 1)
    transact(one, OK, now)
    assert one.width == 8
    assert cause(one, now) is None


def test_failures_on_our_side_say_nothing_of_the_site():
    """DNS that fails, or a proxy: no attempt is counted, and no site held back."""
    one = flow()
    ours = [Deferred(exchange=EXCHANGE, category=Category.NETWORK, detail="DNS did not answer", counts=False)]
    for _ in range(30):
        transact(one, ours, NOW)
    assert not one.is_troubled


def test_an_operator_suspends_and_resumes():
    """An order stops a source at once and says why; lifting it also lifts what signals had suspended before, not after."""
    one = flow("yahoo")
    transact(one, later("[TSS04] temporarily deferred", 421), NOW)
    one.order(FOREVER, 0, "complaints")
    wait = one.take(NOW + 1)
    assert (wait.cause, wait.detail) == ("site_suspended", f"{one.site} said: 421 [TSS04] temporarily deferred")
    one.order(0, NOW - 5)
    assert cause(one, NOW + 1) == "site_suspended"
    one.order(0, NOW + 1)
    assert cause(one, NOW + 2) is None
    one.order(FOREVER, NOW + 1, "complaints")
    assert one.take(NOW + 3).detail == "suspended by an operator until it is resumed: complaints"


def test_a_warm_up_lets_so_many_through_and_no_more():
    """Counted before they go, up to the day's cap; the next day has its own."""
    one = flow(connections=500, warm_up=WarmUp(first_day=20_000, caps=(25, 40)))
    assert cause(one, NOW) == "starting"
    one.start_day(NOW, 0)
    sent = 0
    for _ in range(100):
        if (wanted := one.wanted()) is not None:
            one.granted = wanted
        if isinstance(one.take(NOW), Permit):
            sent += 1
    assert sent == 25
    wait = one.take(NOW)
    assert (wait.cause, wait.until) == ("warm_up_cap", NOW + DAY)
    assert cause(one, NOW + DAY) == "starting"
    one.start_day(NOW + DAY, 0)
    assert one.cap == 40


def test_a_warm_up_does_not_exceed_what_is_counted_on_disk():
    """Between two writes no more goes than was counted up before."""
    one = flow(warm_up=WarmUp(first_day=20_000, caps=(1000,)), connections=500)
    one.start_day(NOW, 100)
    one.granted = one.wanted()
    while isinstance(one.take(NOW), Permit):
        pass
    assert one.used == one.granted == 110


def test_a_transaction_that_did_not_begin_costs_nothing():
    """Given back without outcomes: the rate, the warm-up and the count are as before."""
    one = flow(messages_per_second=1, warm_up=WarmUp(first_day=20_000, caps=(5,)))
    one.start_day(NOW, 0)
    one.granted = 5
    for _ in range(20):
        assert isinstance(one.take(NOW), Permit)
        one.end([], NOW)
    assert (one.used, one.begun, one.in_use) == (0, 0, 0)


@pytest.mark.parametrize("age", [0, 60 * SECOND])
def test_the_next_owner_starts_from_what_is_known(age):
    """Factors, suspension and the signal survive; right after the change it starts slowly, since old connections may be open."""
    first = flow(connections=8, site="yahoo")
    transact(first, later("too many connections"), NOW)
    transact(first, OK, NOW + 5 * SECOND)
    now = NOW + 10 * SECOND
    first.tick(now, 1)
    state = first.state(now)
    second = flow(connections=8, site="yahoo")
    second.take_over(state, now + age)
    assert second.state(now + age).signal_id == "connections"
    assert second.width == (1 if age == 0 else 4)
    for second_ in range(1, 4):
        second.tick(now + age + second_ * SECOND, 1)
    assert second.width == 4
    transact(first, later("[TSS04]"), now + SECOND)
    third = flow(site="yahoo")
    third.take_over(first.state(now + SECOND), now + 2 * SECOND)
    assert isinstance(wait := third.take(now + 2 * SECOND), Wait)
    assert (wait.cause, wait.until) == ("site_suspended", first.closed(now + SECOND).until)
