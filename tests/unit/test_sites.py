"""Which mail system takes a domain, by the names of its mail hosts."""

from pathlib import Path

import pytest

from gatepost.policy.sites import InvalidSites, load, registrable

SITES = load()

KNOWN = [
    ("aspmx.l.google.com", "google"),
    ("alt1.aspmx.l.google.com", "google"),
    ("gmail-smtp-in.l.google.com", "google"),
    ("smtp.google.com", "google"),
    ("outlook-com.olc.protection.outlook.com", "microsoft"),
    ("contoso-com.mail.protection.outlook.com", "microsoft365"),
    ("contoso-com.o-v1.mx.microsoft", "microsoft365"),
    ("mta5.am0.yahoodns.net", "yahoo"),
    ("mx-aol.mail.gm0.yahoodns.net", "yahoo"),
    ("mx01.mail.icloud.com", "apple"),
    ("mxa-00000001.gslb.pphosted.com", "proofpoint"),
    ("us-smtp-inbound-1.mimecast.com", "mimecast"),
    ("d1234.a.ess.barracudanetworks.com", "barracuda"),
    ("esa1.acme.iphmx.com", "cisco"),
    ("mx1a1.comcast.net", "comcast"),
    ("mx00.emig.gmx.net", "gmx"),
    ("mx00.t-online.de", "t-online"),
    ("smtp-in.orange.fr", "orange"),
    ("mxs.mail.ru", "mailru"),
    ("mx.yandex.net", "yandex"),
    ("mx3.qq.com", "qq"),
    ("163mx01.mxmail.netease.com", "netease"),
    ("mx.zoho.eu", "zoho"),
    ("in1-smtp.messagingengine.com", "fastmail"),
    ("mail.protonmail.ch", "protonmail"),
    ("mx1.mail.ovh.net", "ovh"),
    ("spool.mail.gandi.net", "gandi"),
]


@pytest.mark.parametrize(("host", "site"), KNOWN)
def test_known_systems_are_recognised(host: str, site: str) -> None:
    """The names that big systems give their mail hosts lead to them; consumer and business mail of Microsoft are two."""
    assert SITES.of_domain("customer.example", [(10, host)]) == site


def test_a_name_that_only_ends_alike_is_another_system() -> None:
    """A suffix is whole labels: notgoogle.com is not google.com."""
    assert SITES.of_domain("x.example", [(10, "mx.notgoogle.com")]) == "notgoogle.com"


def test_the_best_host_decides() -> None:
    """A backup MX elsewhere does not make the site; among equal hosts the choice is the same every time."""
    hosts = [(20, "aspmx.l.google.com"), (10, "mx1.acme.example"), (10, "mx2.acme.example")]
    assert SITES.of_domain("acme.example", hosts) == "acme.example"
    assert SITES.of_domain("acme.example", hosts[::-1]) == "acme.example"
    assert SITES.of_domain("acme.example", [(10, "mx.b.example"), (10, "mx.a.example")]) == "a.example"
    assert SITES.of_domain("acme.example", [(10, "mx.a.example"), (10, "aspmx.l.google.com")]) == "google"


def test_without_mail_hosts_a_domain_is_its_own_system() -> None:
    """Its own address is meant, or it takes no mail at all: either way it shares nobody's budget."""
    assert SITES.of_domain("www.acme.example") == "www.acme.example"


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("mx1.mail.acme.com", "acme.com"),
        ("mx.acme.co.uk", "acme.co.uk"),
        ("a.b.acme.com.br", "acme.com.br"),
        ("mx.acme.ne.jp", "acme.ne.jp"),
        ("acme.com", "acme.com"),
        ("co.uk", "co.uk"),
        ("mx.acme.de", "acme.de"),
        ("mx.com.example", "com.example"),
        ("localhost", "localhost"),
        ("192.0.2.1", "192.0.2.1"),
        ("mx.acme.net.", "acme.net"),
    ],
)
def test_other_systems_are_called_by_their_registered_name(host: str, name: str) -> None:
    """All hosts of one operator share a site, and strangers below one category do not."""
    assert registrable(host) == name


def test_no_two_systems_claim_one_suffix_and_names_are_plain() -> None:
    """The table is data: every suffix leads to one system, and no site's name looks like a domain or a road."""
    suffixes = [suffix for one in SITES.systems.values() for suffix in one.mx]
    assert len(suffixes) == len(set(suffixes))
    assert all(suffix == suffix.lower() and not suffix.startswith(".") for suffix in suffixes)
    assert not [site for site in SITES.systems if "." in site or ":" in site or site == "sandbox"]
    assert all(one.docs.startswith("https://") for one in SITES.systems.values() if one.docs)
    assert SITES.name_of("google") == "Google (Gmail and Workspace)"
    assert SITES.name_of("acme.example") == "acme.example"


def test_an_operators_file_goes_before_the_table(tmp_path: Path) -> None:
    """A new system, and a suffix that is taken from a known one."""
    own = tmp_path / "sites.toml"
    own.write_text('[campus]\nname = "The university"\nmx = ["mx.uni.example", "zoho.eu"]\n')
    sites = load(own)
    assert sites.of_domain("cs.uni.example", [(5, "a.mx.uni.example")]) == "campus"
    assert sites.of_domain("x.example", [(5, "mx.zoho.eu")]) == "campus"
    assert sites.of_domain("x.example", [(5, "mx.zoho.com")]) == "zoho"


@pytest.mark.parametrize(
    "text", ["[x]\n", '[x]\nmx = "a.example"\n', "[x]\nmx = [1]\n", '["relay:x"]\nmx = ["a.example"]\n', "x", '[x]\nmx=["a.b"]\nz=1\n']
)
def test_a_broken_file_is_refused_with_its_place(tmp_path: Path, text: str) -> None:
    """A wrong table shows at the start, not at the first delivery."""
    own = tmp_path / "sites.toml"
    own.write_text(text)
    with pytest.raises(InvalidSites, match=r"sites\.toml"):
        load(own)
    with pytest.raises(InvalidSites, match="cannot be read"):
        load(tmp_path / "missing.toml")
