"""What the tests of outgoing TLS share: an authority, servers' contexts, a signed zone behind a validating resolver."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.tls.authority import Authority, Pair
from tests.tls_policy.house import SignedZone, running, sub_authority, tlsa


@dataclass(frozen=True)
class Names:
    """
    Certificates, and where they lie.

    Attributes:
        file: The authority's certificate.
        pairs: Certificates by name: `good` is valid for the mail hosts and policy hosts of these tests.
    """

    authority: Authority
    file: Path
    folder: Path
    pairs: dict[str, Pair]


@pytest.fixture(scope="session")
def names(tmp_path_factory: pytest.TempPathFactory) -> Names:
    """Make an authority and certificates, good and bad."""
    folder = tmp_path_factory.mktemp("names")
    authority = Authority("Mail Authority")
    from tests.tls_policy.house import DAY

    hosts = ("mx.good.test", "mx2.good.test", "mx.sts.example", "mx2.sts.example", "mx.plain.example")
    policies = ("mta-sts.sts.example", "mta-sts.good.test", "mta-sts.both.test", "mta-sts.plain.example")
    middle = sub_authority(Authority("DANE Root"), "DANE Middle")
    pairs = {
        "good": authority.issue(*hosts),
        "policies": authority.issue(*policies),
        "expired": authority.issue(*hosts, *policies, starts=-30 * DAY, ends=-DAY),
        "stranger": Authority("Stranger").issue(*hosts, *policies),
        "elsewhere": authority.issue("mx.elsewhere.example", "mta-sts.elsewhere.example"),
        "dane": middle.issue("mx.good.test"),
        "address": authority.issue("192.0.2.1"),
    }
    (folder / "middle.pem").write_bytes(middle.pem)
    return Names(authority, authority.write(folder / "ca.pem"), folder, pairs)


@pytest.fixture(scope="session")
def zone(names: Names, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SignedZone]:
    """Run unbound over a signed and an unsigned zone; one RRset of the signed one is forged after signing."""
    good, other = names.pairs["good"].certificate, names.pairs["stranger"].certificate
    right, wrong = tlsa(3, 1, 1, good), tlsa(3, 1, 1, other)
    records = {
        # a good domain: two hosts, both with records
        "good.test.": ["MX 10 mx.good.test."],
        "mx.good.test.": ["A 192.0.2.1"],
        "_25._tcp.mx.good.test.": [f"TLSA {right}"],
        # the record is another certificate's
        "wrong.test.": ["MX 10 mx.wrong.test."],
        "mx.wrong.test.": ["A 192.0.2.1"],
        "_25._tcp.mx.wrong.test.": [f"TLSA {wrong}"],
        # an attacker's record without a signature that fits: the resolver says SERVFAIL
        "bogus.test.": ["MX 10 mx.bogus.test."],
        "mx.bogus.test.": ["A 192.0.2.1"],
        "_25._tcp.mx.bogus.test.": ["TLSA 3 1 1 " + "ab" * 32],
        # no record can be used
        "unusable.test.": ["MX 10 mx.unusable.test."],
        "mx.unusable.test.": ["A 192.0.2.1"],
        "_25._tcp.mx.unusable.test.": ["TLSA 1 1 1 " + "cd" * 32],
        # aliases: the records stand where the alias leads, and at the alias
        "alias.test.": ["MX 10 mx.alias.test."],
        "mx.alias.test.": ["CNAME mx.good.test."],
        "alias2.test.": ["MX 10 mx.alias2.test."],
        "mx.alias2.test.": ["CNAME mx.plain.example."],
        "_25._tcp.mx.alias2.test.": [f"TLSA {right}"],
        # signed, and no records at all
        "bare.test.": ["MX 10 mx.bare.test."],
        "mx.bare.test.": ["A 192.0.2.1"],
        # no MX: its own address is meant
        "direct.test.": ["A 192.0.2.1"],
        "_25._tcp.direct.test.": [f"TLSA {wrong}"],
        # DANE and MTA-STS at once
        "both.test.": ["MX 10 mx.both.test."],
        "mx.both.test.": ["A 192.0.2.1"],
        "_25._tcp.mx.both.test.": [f"TLSA {right}"],
        "_mta-sts.both.test.": ['TXT "v=STSv1; id=1;"'],
        "mta-sts.both.test.": ["A 127.0.0.1"],
        # not signed: its TLSA record says nothing
        "plain.example.": ["MX 10 mx.plain.example."],
        "mx.plain.example.": ["A 192.0.2.1"],
        "_25._tcp.mx.plain.example.": [f"TLSA {wrong}"],
        # not signed, but its host is in the signed zone
        "half.example.": ["MX 10 mx.wrong.test."],
    }
    forged = {"3 1 1 " + "ab" * 32: "3 1 1 " + right.split()[-1]}
    yield from running(SignedZone(tmp_path_factory.mktemp("zone"), records, forged=forged))
