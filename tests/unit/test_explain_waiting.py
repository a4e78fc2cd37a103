"""Why mail waits: the cause that is told, its sentence, and the evidence."""

from dataclasses import replace

import pytest

from gatepost.clock import MINUTE, SECOND
from gatepost.domain.flow import FlowState
from gatepost.explain.waiting import Surroundings, why
from gatepost.store.queue_row import HELD, HELD_BY_HAND, Due
from gatepost.store.roads import RoadView

NOW = 1_800_000_000_000
ROW = Due(1, 1, NOW - SECOND, "msg_1", 0, "ten_a", "default", "gmail.com", 1, 0, NOW + 60 * MINUTE)
AROUND = Surroundings(now=NOW, shows_signals=True)
FLOW = FlowState(source="default", site="gmail.com", pool="default", connections=2, connections_limit=10, in_use=2, saved_at=NOW - SECOND)
LATER = ROW._replace(due_at=NOW + 5 * MINUTE)

CASES = {
    "tenant_suspended": (ROW._replace(due_at=ROW.due_at + HELD), replace(AROUND, suspended_at=NOW - MINUTE), "the tenant was suspended 1 min"),
    "held": (ROW._replace(due_at=ROW.due_at + HELD_BY_HAND), replace(AROUND, held_by="Ann"), "Held by Ann"),
    "site_paused": (ROW, replace(AROUND, paused={"gmail.com": NOW - MINUTE}), "deliveries to gmail.com were paused 1 min ago"),
    "no_dispatcher": (ROW, replace(AROUND, is_dispatched=False), "no dispatch process is running"),
    "retry": (LATER._replace(attempt=2), AROUND, "Deferred after 1 attempt; the next attempt is in 5 min; it expires in 1 h 0 min"),
    "send_window": (LATER, AROUND, "its stream's hours of sending, in 5 min"),
    "dns_failing": (LATER._replace(site="?acme.example"), AROUND, "DNS does not say where mail for acme.example goes; it is asked again in 5 min"),
    "resolving": (ROW._replace(site="?acme.example"), AROUND, "DNS is being asked where mail for acme.example goes"),
    "site_suspended": (
        ROW,
        replace(AROUND, flows=[replace(FLOW, cause="site_suspended", suspended_until=NOW + 5 * MINUTE, signal_text="421 4.7.28 slow down")]),
        "it goes on in 5 min. It said: 421 4.7.28 slow down",
    ),
    "rate_reached": (ROW, replace(AROUND, flows=[replace(FLOW, cause="rate_reached", detail="3 messages a second are allowed")]), "3 messages a second"),
    "warm_up_cap": (ROW, replace(AROUND, flows=[replace(FLOW, cause="warm_up_cap", detail="today's 50 messages were sent")]), "today's 50 messages"),
    "slots_in_use": (ROW, replace(AROUND, flows=[replace(FLOW, cause="slots_in_use", detail="2 of 2 connections are in use")]), "2 of 2 connections"),
    "breaker_open": (
        ROW._replace(site="relay:main"),
        replace(AROUND, roads={"main": RoadView(road="main", state="open", since=NOW - MINUTE, reason="network", retry_at=NOW + SECOND)}),
        "the relay main has been failing since 1 min ago (network); it is tried again in 1 s",
    ),
    "road_disabled": (
        ROW._replace(site="relay:main"),
        replace(AROUND, roads={"main": RoadView(road="main", state="disabled", since=NOW - MINUTE, reason="bills")}),
        "the relay main was switched off 1 min ago (bills)",
    ),
    "tenant_turn": (ROW, replace(AROUND, ahead={0: 250}), "250 messages of this tenant to gmail.com go before it"),
    "turn": (ROW, AROUND, "waiting for a free connection to gmail.com, or being delivered now"),
}  # fmt: skip


@pytest.mark.parametrize("cause", CASES)
def test_every_cause_has_its_code_and_its_sentence(cause):
    """What holds a recipient is named by a stable code, and in words that say what, and until when."""
    row, around, words = CASES[cause]
    attempts = row.attempt - 1
    status = "deferred" if attempts else "queued"
    told = why(status, row, attempts, " mx said: 451 later.", around)
    assert told.cause == cause
    assert words in told.sentence
    assert told.sentence.endswith(" mx said: 451 later.")


def test_what_is_scheduled_says_when():
    """A scheduled message waits for its time, not for a retry."""
    told = why("scheduled", LATER, 0, "", AROUND)
    assert (told.cause, told.evidence["until"]) == ("scheduled", "2027-01-15T08:05:00.000Z")


def test_the_evidence_of_a_site_has_limit_use_and_the_servers_words():
    """Who wants to know more than the sentence finds limit, use, end and signal as facts."""
    flow = replace(FLOW, cause="site_suspended", suspended_until=NOW + SECOND, signal_text="421 no", signal_at=NOW, signal_id="x")
    evidence = why("queued", ROW, 0, "", replace(AROUND, flows=[flow])).evidence
    assert (evidence["limit"], evidence["in_use"], evidence["signal"], evidence["rule"]) == (2, 2, "421 no", "x")
    assert evidence["until"] == "2027-01-15T08:00:01.000Z"


def test_one_source_that_may_send_is_enough():
    """While one source of the pool is free, mail does not wait for the other; another pool's sources count nothing."""
    held = replace(FLOW, source="a", cause="site_suspended", suspended_until=NOW + MINUTE)
    free = replace(FLOW, source="b")
    elsewhere = replace(FLOW, source="c", pool="other")
    assert why("queued", ROW, 0, "", replace(AROUND, flows=[held, free])).cause == "turn"
    assert why("queued", ROW, 0, "", replace(AROUND, flows=[held, elsewhere])).cause == "site_suspended"


def test_what_an_owner_wrote_long_ago_is_not_told_as_news():
    """Slots and rates of a process that is gone hold nothing; its suspension of the site does."""
    stale = replace(FLOW, saved_at=NOW - MINUTE, cause="slots_in_use")
    assert why("queued", ROW, 0, "", replace(AROUND, flows=[stale])).cause == "turn"
    suspended = replace(stale, cause="site_suspended", suspended_until=NOW + MINUTE)
    assert why("queued", ROW, 0, "", replace(AROUND, flows=[suspended])).cause == "site_suspended"


def test_a_tenant_does_not_read_what_was_said_to_another():
    """A site's answer may name another tenant's recipient: only operators see it."""
    flow = replace(FLOW, cause="site_suspended", suspended_until=NOW + SECOND, signal_text="421 ann@example.net", signal_at=NOW)
    told = why("queued", ROW, 0, "", replace(AROUND, flows=[flow], shows_signals=False))
    assert "ann@" not in told.sentence + str(told.evidence)
