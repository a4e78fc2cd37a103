"""DMARC records, the tree walk and alignment."""

import pytest

from gatepost.wire.dmarc import MalformedRecord, allows_reports, discover, is_aligned, parse, walk_names
from gatepost.wire.questions import Question, Reply, Walk, drive


def settle(walk: Walk, zone: dict[str, list[str] | None]):
    def ask(question: Question) -> Reply:
        return zone.get(question.name, [])

    return drive(walk, ask)


def test_a_record_is_read() -> None:
    """Tags in any order after the version, white space anywhere, defaults of RFC 9989 §4.7."""
    found = parse("v=DMARC1 ; p = reject;rua=mailto:d@reports.test!10m,mailto:e@acme.test; adkim=s; aspf=r; sp=quarantine; x=y")
    assert (found.policy, found.subdomain_policy, found.is_dkim_strict, found.is_spf_strict) == ("reject", "quarantine", True, False)
    assert found.report_domains == ("reports.test", "acme.test")
    assert found.troubles == ()
    assert parse("v=DMARC1; p=none").subdomain_policy == "none"
    assert parse("v=DMARC1; p=reject; t=y").is_testing
    assert parse("v=DMARC1; p=reject; pct=0").is_testing


@pytest.mark.parametrize("text", ["p=none; v=DMARC1", "v=DMARC1", "v=DMARC1; p=monitor", "v=DMARC2; p=none"])
def test_what_receivers_ignore_is_no_record(text: str) -> None:
    """The version comes first, and without a policy or an address for reports there is nothing to act on."""
    with pytest.raises(MalformedRecord):
        parse(text)


def test_slips_are_told() -> None:
    """A record that works, but not as it was meant, says so."""
    found = parse("v=DMARC1; p=quarantine; pct=50; adkim=x; sp=all; rua=d@acme.test; p=none; nonsense")
    assert found.policy == "quarantine"
    assert len(found.troubles) == 6
    assert parse("v=DMARC1; p=bad; rua=mailto:d@acme.test").policy == "none"


def test_the_walk_goes_up_eight_names_at_most() -> None:
    """Deep names are cut to seven labels (RFC 9989 §4.10)."""
    assert walk_names("a.b.c.test") == ["a.b.c.test", "b.c.test", "c.test", "test"]
    names = walk_names("a.b.c.d.e.f.g.h.i.j.mail.acme.test")
    assert len(names) == 8
    assert names[:2] == ["a.b.c.d.e.f.g.h.i.j.mail.acme.test", "g.h.i.j.mail.acme.test"]


def test_the_policy_is_the_domains_own_or_its_organizations() -> None:
    """A subdomain without a record gets `sp` of its organization; a public suffix's record makes the name below it the organization."""
    zone: dict[str, list[str] | None] = {
        "_dmarc.acme.test": ["v=DMARC1; p=reject; sp=none"], "_dmarc.own.acme.test": ["v=DMARC1; p=quarantine", "v=spf1 -all"],
        "_dmarc.gov.suffix": ["v=DMARC1; p=reject; psd=y"], "_dmarc.two.test": ["v=DMARC1; p=none", "v=DMARC1; p=reject"],
    }  # fmt: skip
    below = settle(discover("mail.acme.test"), zone)
    assert (below.policy, below.found_at, below.organization) == ("none", "acme.test", "acme.test")
    own = settle(discover("own.acme.test"), zone)
    assert (own.policy, own.organization) == ("quarantine", "acme.test")
    public = settle(discover("a.town.gov.suffix"), zone)
    assert (public.policy, public.found_at, public.organization) == ("reject", "gov.suffix", "town.gov.suffix")
    two = settle(discover("two.test"), zone)
    assert two.record is None
    assert "2 DMARC records" in two.problem
    zone["_dmarc.down.test"] = None
    assert settle(discover("down.test"), zone).is_failed
    assert settle(discover("none.test"), zone).policy == ""


def test_alignment_is_by_organization_or_exact() -> None:
    """Relaxed takes the organization, strict the name itself (RFC 9989 §4.4)."""
    assert is_aligned("acme.test", "mail.acme.test", "acme.test", "acme.test", is_strict=False)
    assert not is_aligned("acme.test", "mail.acme.test", "acme.test", "acme.test", is_strict=True)
    assert is_aligned("acme.test", "acme.test", "", "", is_strict=True)
    assert not is_aligned("acme.test", "bounces.provider.test", "acme.test", "provider.test", is_strict=False)


def test_other_domains_must_want_the_reports() -> None:
    """Otherwise receivers send none (RFC 9990 §4)."""
    zone: dict[str, list[str] | None] = {"acme.test._report._dmarc.reports.test": ["v=DMARC1;"], "acme.test._report._dmarc.down.test": None}
    assert settle(allows_reports("acme.test", "reports.test", "acme.test"), zone) is True
    assert settle(allows_reports("acme.test", "mail.acme.test", "acme.test"), zone) is True
    assert settle(allows_reports("acme.test", "stranger.test", "acme.test"), zone) is False
    assert settle(allows_reports("acme.test", "down.test", "acme.test"), zone) is None
