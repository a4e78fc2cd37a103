"""Where a batch goes: relay URLs, and DNS answers put in order."""

import random

import pytest

from gatepost.domain.outcome import Category
from gatepost.egress.smtp.plan import Hosts, Undeliverable, Unresolved, parse_relay, plan_mx
from gatepost.net.dns import MxHosts, NoDomain, NoMx, NullMx, ResolverFailed
from gatepost.settings import InvalidSettings
from gatepost.wire.smtp_client import Credentials, TlsLevel


def test_hosts_are_tried_by_preference_and_equals_in_random_order() -> None:
    """RFC 5321 §5.1: lower numbers first, equal ones shuffled, at most five, each once."""
    answer = MxHosts(((20, "c"), (10, "a"), (10, "b"), (30, "d"), (30, "a"), (40, "e"), (50, "f")))
    orders = {plan_mx("x.test", answer, random.Random(seed).shuffle) for seed in range(20)}
    assert orders == {Hosts(("a", "b", "c", "d", "e")), Hosts(("b", "a", "c", "d", "e"))}


def test_a_domain_without_mx_is_its_own_host() -> None:
    """The implicit MX of RFC 5321 §5.1."""
    assert plan_mx("x.test", NoMx(), random.shuffle) == Hosts(("x.test",), is_implicit=True)


@pytest.mark.parametrize(("answer", "status"), [(NullMx(), "5.1.10"), (NoDomain(), "5.1.2")])
def test_a_domain_that_takes_no_mail_is_a_failure(answer: NullMx | NoDomain, status: str) -> None:
    """Null MX (RFC 7505) and NXDOMAIN are for good."""
    plan = plan_mx("x.test", answer, random.shuffle)
    assert isinstance(plan, Undeliverable)
    assert plan.category is Category.INVALID_DOMAIN
    assert plan.detail.startswith(status)


def test_a_failing_resolver_is_no_answer() -> None:
    """SERVFAIL says nothing about the domain."""
    assert plan_mx("x.test", ResolverFailed("SERVFAIL"), random.shuffle) == Unresolved("SERVFAIL")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("smtp://mx.test:2525", ("mx.test", 2525, TlsLevel.MAY, False, None)),
        ("smtp://mx.test", ("mx.test", 25, TlsLevel.MAY, False, None)),
        ("smtp://u:p%40ss@mx.test", ("mx.test", 587, TlsLevel.MUST, False, Credentials("u", "p@ss"))),
        ("smtp://u:p@mx.test:25?tls=never", ("mx.test", 25, TlsLevel.NEVER, False, Credentials("u", "p"))),
        ("smtps://mx.test", ("mx.test", 465, TlsLevel.MUST, True, None)),
        ("smtps://[::1]:4650?tls=may", ("::1", 4650, TlsLevel.MAY, True, None)),
    ],
)
def test_a_relays_url_says_how_to_reach_it(url: str, expected: tuple[object, ...]) -> None:
    """Host, port, encryption and password; with a password TLS is the default."""
    target = parse_relay("main", url)
    assert (target.host, target.port, target.tls, target.is_implicit_tls, target.credentials) == expected


@pytest.mark.parametrize(
    "url",
    [
        "",
        "mx.test:25",
        "http://mx.test",
        "smtp://",
        "smtp://mx.test:99999",
        "smtp://mx.test?tls=maybe",
        "smtp://u:hunter2@mx.test?x=1",
        "smtps://mx.test?tls=never",
        "smtp://u:hunter2%00@mx.test",
        "smtp://mx.test/path",
    ],
)
def test_a_wrong_url_is_refused_without_showing_the_password(url: str) -> None:
    """The message names the option, never its value."""
    with pytest.raises(InvalidSettings, match=r"relays\.main\.url") as caught:
        parse_relay("main", url)
    assert "hunter2" not in str(caught.value)
