"""The rules of shaping: what the data says, whose word counts, what a rate lets through, how back-off falls and rises."""

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from gatepost.clock import DAY, SECOND
from gatepost.domain.outcome import Reply
from gatepost.policy import shaping
from gatepost.policy.shaping import FLOOR, KNOWN, SIGNALS, Action, Backoff, Limits, Pace, WarmUp, limits_of, signal_of
from gatepost.policy.sites import load
from gatepost.settings import InvalidSettings, Settings, SiteLimits, SourceAddress, SourcePool
from gatepost.settings.checks import check, check_route


def reply(text, code=421, enhanced=None):
    return Reply(code=code, enhanced=enhanced, text=text)


def limits(site, *layers):
    return limits_of(site, layers, connections=10, messages_per_connection=None)


def test_the_more_particular_word_counts():
    """Of one layer what names the site wins over `*`; of two layers the later one; what nobody says stays as it was."""
    first = {"*": SiteLimits(connections=5, burst=7), "big": SiteLimits(connections=9)}
    second = {"*": SiteLimits(messages_per_second=3.0)}
    assert limits("big", first, second) == Limits(connections=9, burst=7, messages_per_second=3.0)
    assert limits("small", first, second) == Limits(connections=5, burst=7, messages_per_second=3.0)
    assert limits("small") == Limits(connections=10)
    assert limits("big", first, {"big": SiteLimits(messages_per_second=0.0)}).messages_per_second == 0


def test_every_site_takes_a_hundred_recipients_unless_it_says_otherwise():
    """RFC 5321 §4.5.3.1.8 promises a hundred; more in one transaction would be refused by some."""
    assert limits("example.net", KNOWN).recipients_per_transaction == 100
    assert limits("yahoo", KNOWN).messages_per_connection == 20


@pytest.mark.parametrize(
    ("site", "said", "signal_id", "action"),
    [
        ("microsoft", reply("RP-001 (BAY) Unfortunately, some messages from 192.0.2.1 weren't sent."), "microsoft.reputation", Action.SUSPEND),
        ("microsoft", reply("Unfortunately, messages from [192.0.2.1] weren't sent. Part of their network is on our block list (S3150).", 550, "5.7.1"), "microsoft.blocked", Action.SUSPEND),
        ("microsoft", reply("The mail server [192.0.2.1] has exceeded the maximum number of connections. (S3115)", 451, "4.7.652"), "microsoft.connections", Action.CONNECTIONS),
        ("yahoo", reply("[TSS04] Messages from 192.0.2.1 temporarily deferred due to unexpected volume or user complaints", 421, "4.7.0"), "yahoo.deferred", Action.SUSPEND),
        ("google", reply("Our system has detected an unusual rate of unsolicited mail originating from your IP address", 421, "4.7.28"), "google.unusual-rate", Action.SUSPEND),
        ("google", reply("The user you are trying to contact is receiving mail at a rate that prevents", 450, "4.2.1"), None, None),
        ("example.net", reply("Too many connections from your host"), "connections", Action.CONNECTIONS),
        ("example.net", reply("too many messages, slow down", 450, "4.7.1"), "rate", Action.RATE),
        ("example.net", reply("Service unavailable; blocked using zen.spamhaus.org", 554, "5.7.1"), "listed", Action.SUSPEND),
        ("example.net", reply("Greylisted, please try again in 5 minutes", 451, "4.7.1"), None, None),
        ("example.net", reply("timeout exceeded", 421, "4.4.2"), None, None),
        ("example.net", reply("too many recipients", 452, "4.5.3"), None, None),
        ("example.net", reply("try again later"), "closing", Action.BOTH),
        ("example.net", reply("policy says later", 451, "4.7.1"), "4.7", Action.BOTH),
        ("example.net", reply("mailbox full", 452, "4.2.2"), None, None),
        ("example.net", reply("no such user", 550, "5.1.1"), None, None),
        ("example.net", reply("message from an address with 4.7. in it", 550, "5.7.1"), None, None),
    ],
)  # fmt: skip
def test_replies_mean_what_their_senders_document(site, said, signal_id, action):
    """Words of known sites, words that all use, and codes alone; what is about one recipient or one message means nothing."""
    found = signal_of(said, site)
    assert (found.id if found else None, found.action if found else None) == (signal_id, action)


def test_the_data_is_about_sites_that_exist():
    """Limits and signals name systems of the table of mail systems: a slip would silently mean nobody."""
    names = set(load().systems)
    assert set(KNOWN) - {"*"} <= names
    assert {site for signal in SIGNALS for site in signal.sites} <= names


def test_codes_alone_are_weak():
    """One 421 or 4.7.x without words may be about one message: it needs company to slow a site down."""
    assert {signal.id for signal in SIGNALS if signal.is_weak} == {"closing", "4.7"}


def test_a_broken_data_file_is_refused():
    """A signal with an unknown key, or seconds without a suspension, is a slip."""
    with pytest.raises(ValueError, match="x: an unknown key"):
        shaping._signal({"id": "x", "action": "rate", "seconds": 5})
    with pytest.raises(ValueError, match="x: an unknown key"):
        shaping._signal({"id": "x", "action": "rate", "word": ["a"]})


@hypothesis_settings(max_examples=30, deadline=None)
@given(
    per_second=st.floats(0.5, 300),
    gaps=st.lists(st.integers(0, 40), min_size=200, max_size=400),
    late=st.lists(st.integers(0, 10), min_size=400, max_size=400),
)
def test_no_second_holds_more_than_the_rate(per_second, gaps, late):
    """However the demand comes, and with timers that are late: in every window of a second at most the rate, rounded up."""
    pace, now, sent = Pace(per_second), 1_000_000, []
    for gap, lateness in zip(gaps, late, strict=False):
        now += gap
        if (wait := pace.take(now)) > 0:
            now += wait + lateness
            if pace.take(now):
                continue
        sent.append(now)
    most = max((sum(1 for other in sent if at <= other < at + SECOND) for at in sent), default=0)
    assert most <= max(1, -int(-per_second // 1))


@pytest.mark.parametrize("per_second", [0.2, 1, 10, 50, 300, 900])
@pytest.mark.parametrize("late", [0, 5, 10])
def test_the_rate_is_used_to_the_full(per_second, late):
    """With always something to send, and timers up to 10 ms late, at least 95 % of the rate goes."""
    pace, now, sent = Pace(per_second), 0, 0
    end = int(60 * SECOND / min(per_second, 1))
    while now < end:
        if (wait := pace.take(now)) > 0:
            now += wait + late
        else:
            sent += 1
    assert 0.95 * per_second <= sent * SECOND / end <= per_second * 1.001 + SECOND / end


def test_a_burst_goes_at_once_after_a_pause():
    """Five may go together, the sixth waits; nothing is saved up beyond that."""
    pace = Pace(1, burst=5)
    assert [pace.take(10_000) for _ in range(5)] == [0] * 5
    assert pace.take(10_000) > 900
    assert [pace.take(100_000) for _ in range(6)][:5] == [0] * 5
    assert pace.take(100_000) > 900


def test_a_turn_that_was_not_used_is_given_back():
    """A transaction that did not begin costs nothing of the rate."""
    pace = Pace(1)
    assert pace.take(0) == 0
    assert pace.take(0) > 0
    pace.give_back()
    assert pace.take(0) == 0


def test_back_off_falls_by_half_and_rises_by_a_tenth():
    """Multiplicative decrease, once for all that was under way; additive increase each half a minute, up to 1."""
    found = Backoff()
    assert found.hold_back(100, 0)
    assert not found.hold_back(2_000, 90)
    assert found.factor == 0.5
    assert found.hold_back(3_000, 2_900)
    assert found.factor == 0.25
    for _ in range(20):
        found.hold_back(found.changed_at + 3_000, found.changed_at + 1)
    assert found.factor == FLOOR
    start, steps = found.changed_at, 0
    assert not found.recover(start + 29_000)
    while found.recover(found.changed_at + 30_000):
        steps += 1
    assert found.factor == 1
    assert steps == 10


def test_pauses_and_suspensions_grow_and_end():
    """Each signal without a delivery between doubles what follows, up to half an hour, and a day."""
    assert [shaping.pause_ms(n) for n in range(4)] == [1_000, 2_000, 4_000, 8_000]
    assert shaping.pause_ms(99) == 30 * 60_000
    assert [shaping.suspension_ms(600, n) for n in range(3)] == [600_000, 1_200_000, 2_400_000]
    assert shaping.suspension_ms(14_400, 99) == DAY
    assert shaping.unreachable_ms(9) is None
    assert [shaping.unreachable_ms(n) for n in (10, 11, 99)] == [5_000, 10_000, 300_000]


def test_a_warm_up_plan_caps_its_days_and_ends():
    """Nothing before the first day, each day its number, then no cap."""
    plan = WarmUp(first_day=20_000, caps=(50, 100))
    assert [plan.cap(day * DAY + 5) for day in (19_999, 20_000, 20_001, 20_002)] == [0, 50, 100, None]
    assert plan.ends_at == 20_002 * DAY
    said = SiteLimits(warm_up_from="2024-10-04", warm_up=[50, 100])
    assert limits("x", {"*": said}).warm_up == plan


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"sources": {"a": SourceAddress(address="nowhere")}}, "sources.a.address"),
        ({"sources": {"a": SourceAddress(address="2001:db8::1")}}, "needs egress.use_ipv6"),
        ({"sources": {"default": SourceAddress()}}, "sources.default"),
        ({"sources": {"a": SourceAddress(proxy="http://h:1")}}, "sources.a.proxy"),
        ({"sources": {"a": SourceAddress(hostname="a b\r\n")}}, "sources.a.hostname"),
        ({"pools": {"p": SourcePool(sources=["a"])}}, "there is no [sources.a]"),
        ({"sources": {"a": SourceAddress()}, "pools": {"p": SourcePool(sources=["a"]), "q": SourcePool(sources=["a"])}}, "is in the pool p already"),
        ({"sources": {"a": SourceAddress()}, "pools": {"p": SourcePool(sources=["a"], weights={"b": 1})}}, "pools.p.weights"),
        ({"sources": {"a": SourceAddress()}, "pools": {"p": SourcePool(sources=["a"], weights={"a": 0})}}, "all of its sources rest"),
        ({"shaping": {"x": SiteLimits(warm_up=[1])}}, "belong together"),
        ({"shaping": {"x": SiteLimits(warm_up=[1], warm_up_from="2026-02-30")}}, "warm_up_from"),
    ],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(changed, words):
    """A slip in sources, pools and limits is named at the start."""
    with pytest.raises(InvalidSettings) as refused:
        check(Settings(**changed))
    assert words in str(refused.value)


def test_a_road_may_name_a_pool_that_exists():
    """`mx:NAME` is a road for every pool; for one that does not exist it is refused."""
    settings = Settings(sources={"a": SourceAddress()}, pools={"bulk": SourcePool(sources=["a"])})
    check_route("egress.default_route", "mx:bulk,mx", settings)
    with pytest.raises(InvalidSettings, match="mx:none"):
        check_route("egress.default_route", "mx:none", settings)
