"""Who may give what: nobody more than they have."""

import ipaddress

import pytest

from gatepost.domain.access import (
    SCOPES,
    KeyMode,
    Limit,
    Per,
    Principal,
    PrincipalKind,
    Resource,
    Restrictions,
    Scope,
    parse_limit,
    widened,
)
from gatepost.domain.errors import Refused
from gatepost.tenants import grants
from gatepost.tenants.grants import Asked

NOW = 1_000_000
TEN_A_MINUTE = Limit(resource=Resource.MESSAGES, amount=10, per=Per.MINUTE)


def maker(*scopes, **fields):
    fields = {"kind": PrincipalKind.KEY, **fields}
    return Principal(id="key_1", tenant_id="ten_1", name="maker", scopes=widened(frozenset(scopes or (Scope.ADMIN,))), **fields)


def net(text):
    return ipaddress.ip_network(text)


def refusals(who, wanted, mode=KeyMode.LIVE):
    try:
        grants.check(who, grants.inherit(who, wanted), mode)
    except Refused as refused:
        assert refused.code == "permission_denied"
        return {fault.pointer for fault in refused.faults}
    return set()


def test_every_scope_has_words():
    """The API's description names each scope with what it allows."""
    assert set(SCOPES) == set(Scope)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("messages", "is not a limit"),
        ("messages=10", "is not a limit"),
        ("messages=-1/day", "is not a limit"),
        ("messages=1.5/day", "is not a limit"),
        ("mails=10/day", "what can be limited"),
        ("messages=10/week", "a limit is per"),
        ("messages=" + "9" * 16 + "/day", "is not a limit"),
    ],
)
def test_a_limit_that_is_none_says_what_one_looks_like(text, why):
    """The sentence is for the person at the command line."""
    with pytest.raises(ValueError, match=why):
        parse_limit(text)


@pytest.mark.parametrize("text", ["messages=10/minute", "bytes=1000000/month", "requests=0/second", "recipients=7/hour"])
def test_a_limit_reads_as_it_is_written(text):
    """What is printed can be given again."""
    assert str(parse_limit(f" {text} ")) == text


@pytest.mark.parametrize(
    ("who", "wanted", "places"),
    [
        (maker(), Restrictions(), set()),
        (maker(Scope.KEYS_WRITE), Restrictions(), {"/scopes"}),
        (maker(Scope.KEYS_WRITE), Restrictions(scopes=frozenset({Scope.MESSAGES_SEND})), {"/scopes"}),
        (maker(Scope.KEYS_WRITE), Restrictions(scopes=frozenset({Scope.KEYS_READ})), set()),
        (maker(Scope.KEYS_WRITE, Scope.MESSAGES_READ), Restrictions(scopes=frozenset({Scope.MESSAGES_WRITE})), {"/scopes"}),
        (maker(), Restrictions(scopes=frozenset({Scope.OPERATOR})), {"/scopes"}),
        (maker(Scope.ADMIN, Scope.OPERATOR), Restrictions(scopes=frozenset({Scope.OPERATOR})), set()),
        (maker(domains=frozenset({"a.example"})), Restrictions(domains=frozenset({"b.example"})), {"/domains"}),
        (maker(domains=frozenset({"a.example", "b.example"})), Restrictions(domains=frozenset({"b.example"})), set()),
        (maker(streams=frozenset({"codes"})), Restrictions(streams=frozenset({"bulk"})), {"/streams"}),
        (maker(networks=(net("10.0.0.0/8"),)), Restrictions(networks=(net("0.0.0.0/0"),)), {"/cidrs"}),
        (maker(networks=(net("10.0.0.0/8"),)), Restrictions(networks=(net("::/0"),)), {"/cidrs"}),
        (maker(networks=(net("10.0.0.0/8"),)), Restrictions(networks=(net("10.1.0.0/16"),)), set()),
        (maker(limits=(TEN_A_MINUTE,)), Restrictions(limits=(parse_limit("messages=11/minute"),)), {"/limits"}),
        (maker(limits=(TEN_A_MINUTE,)), Restrictions(limits=(parse_limit("messages=9/minute"),)), set()),
        (maker(expires_at=NOW + 5), Restrictions(expires_at=NOW + 6), {"/expires_at"}),
        (maker(expires_at=NOW + 5), Restrictions(expires_at=NOW + 4), set()),
    ],
)
def test_nobody_gives_more_than_they_have(who, wanted, places):
    """Scopes, domains, streams, networks, limits and time are each bounded by the maker's own."""
    assert refusals(who, wanted) == places


def test_what_is_left_open_is_taken_over_from_the_maker():
    """A narrow key that names nothing makes keys that are as narrow."""
    who = maker(
        domains=frozenset({"a.example"}),
        streams=frozenset({"codes"}),
        networks=(net("10.0.0.0/8"),),
        limits=(TEN_A_MINUTE,),
        expires_at=NOW + 5,
    )
    made = grants.inherit(who, Restrictions(scopes=grants.scopes_of(who)))
    assert (made.domains, made.streams, made.networks, made.limits, made.expires_at) == (
        who.domains,
        who.streams,
        who.networks,
        who.limits,
        NOW + 5,
    )
    grants.check(who, made, KeyMode.LIVE)


def test_a_test_key_makes_no_live_keys():
    """Its mail would leave the sandbox."""
    assert refusals(maker(mode=KeyMode.TEST), Restrictions(), KeyMode.LIVE) == {"/mode"}
    assert refusals(maker(mode=KeyMode.TEST), Restrictions(), KeyMode.TEST) == set()


def test_the_operator_scope_exists_in_the_default_tenant_only():
    """Whoever gives it."""
    with pytest.raises(Refused):
        grants.check_operator(frozenset({Scope.OPERATOR}), "ten_other", "ten_default")
    grants.check_operator(frozenset({Scope.OPERATOR}), "ten_default", "ten_default")
    grants.check_operator(frozenset({Scope.ADMIN}), "ten_other", "ten_default")


def test_every_fault_of_a_wish_is_told_with_its_place():
    """One answer names them all."""
    asked = Asked(
        scopes=["messages:send", "mail"], domains=["nope domain"], streams=["no stream"], networks=["10.0.0.0/99"],
        limits=["messages=1/day", "messages=2/day", "x"], expires_at=NOW,
    )  # fmt: skip
    with pytest.raises(Refused) as caught:
        grants.read(asked, NOW)
    assert {fault.pointer for fault in caught.value.faults} == {
        "/scopes/1", "/domains/0", "/streams/0", "/cidrs/0", "/limits/2", "/limits", "/expires_at"
    }  # fmt: skip
    with pytest.raises(Refused):
        grants.read(Asked(scopes=[]), NOW)


def test_domains_and_networks_are_brought_to_one_form():
    """So that they compare equal to what messages and sockets say."""
    read = grants.read(Asked(domains=["ACME.Example."], networks=["10.1.2.3/8", "10.0.0.0/8"]), NOW)
    assert (read.domains, read.networks) == (frozenset({"acme.example"}), (net("10.0.0.0/8"),))
