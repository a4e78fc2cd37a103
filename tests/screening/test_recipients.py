"""Recipients: does their domain take mail, is it a slip of the finger, a mailbox to throw away, a task instead of a person?"""

import asyncio
from pathlib import Path

import pytest

from gatepost.clock import SystemClock
from gatepost.domain.errors import Refused
from gatepost.net.dns import DnsResolver, ResolverFailed
from gatepost.policy.recipients import disposable_domains, is_disposable, is_role
from gatepost.policy.typos import meant, read_list
from gatepost.settings import Screening, Settings
from gatepost.testing.fake_dns import SERVFAIL, TIMEOUT, DnsServer, FakeResolver
from tests.screening.mail import check_fields, check_mime, mime, screener, submission

ASKING = {"recipient_domains": "refuse"}
ZONE = {
    "good.example": {"MX": ["10 mx.good.example"]},
    "mx.good.example": {"A": ["192.0.2.1"]},
    "implicit.example": {"A": ["192.0.2.2"]},
    "null.example": {"MX": ["0 ."]},
    "nothing.example": {"TXT": ["x"]},
    "dangling.example": {"MX": ["10 gone.example"]},
    "half.example": {"MX": ["10 gone.example", "20 mx.good.example"]},
    "broken.example": SERVFAIL,
    "mxbroken.example": {"MX": ["10 broken.example"]},
}


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("gmial.com", "gmail.com"), ("gmal.com", "gmail.com"), ("gamil.com", "gmail.com"), ("gmaill.com", "gmail.com"), ("gnail.com", "gmail.com"),
        ("gmail.con", "gmail.com"), ("gmail.co", "gmail.com"), ("gmail.cm", "gmail.com"), ("gmail.comm", "gmail.com"), ("gmial.con", "gmail.com"),
        ("gmai.com", "gmail.com"), ("hotmial.com", "hotmail.com"), ("hotmil.com", "hotmail.com"), ("hotmaiil.com", "hotmail.com"),
        ("yaho.com", "yahoo.com"), ("yahooo.com", "yahoo.com"), ("yahoo.con", "yahoo.com"), ("outlok.com", "outlook.com"),
        ("outlook.cmo", "outlook.com"), ("iclud.com", "icloud.com"), ("protonmial.com", "protonmail.com"), ("aol.con", "aol.com"),
        ("gmx.dee", "gmx.de"), ("googlemial.com", "googlemail.com"), ("comcast.nte", "comcast.net"),
    ],
)  # fmt: skip
def test_slips_of_the_finger_are_recognised(typed, expected):
    """Letters swapped, left out, doubled, neighbours on the keyboard; in the name and in the ending."""
    assert meant(typed) == expected


@pytest.mark.parametrize(
    "domain",
    [
        "gmail.com", "gail.com", "mail.com", "email.com", "ymail.com", "fmail.com", "grail.com", "snail.com", "gmail.de", "hotmail.dk", "hotmail.se",
        "yahoo.co.jp", "yahoo.pl", "outlook.at", "live.se", "live.de", "gmx.at", "gmx.ch", "ao.com", "al.com", "we.de", "wb.de", "mac.com",
        "me.com", "loud.com", "cloud.com", "orange.com", "range.com", "verizon.com", "yandex.ru", "bk.ru", "acme.example", "example.com",
        "x.org", "cloud.de", "msn.de", "aol.de", "hotmail.group", "gmail.acme.example", "tmail.com", "hotmai.example", "", "localhost",
    ],
)  # fmt: skip
def test_real_domains_get_no_hint(domain):
    """Another provider, another country, another company: who wrote it means it."""
    assert meant(domain) is None


def test_no_domain_of_a_known_mailbox_is_taken_for_another():
    """Neither those of the list nor the real ones near them, nor the disposable ones."""
    for name in ("mailbox_domains.txt", "real_domains.txt"):
        assert [domain for domain in read_list(name) if meant(domain)] == []
    assert sorted(disposable_domains() & (read_list("mailbox_domains.txt") | read_list("real_domains.txt"))) == []


CORPUS = Path(__file__).parents[2] / "../shared/corpora/sisimai/EXPECTED.csv"


@pytest.mark.skipif(not CORPUS.exists(), reason="the shared corpora are not beside this checkout")
def test_recipients_of_real_bounces_get_hints_only_where_the_domain_is_none():
    """Domains that occurred in the wild: no hint but for those that were typed wrong there."""
    import csv

    with CORPUS.open(encoding="utf-8") as file:
        domains = {row["recipient"].rpartition("@")[2].lower() for row in csv.DictReader(file) if "@" in (row.get("recipient") or "")}
    assert len(domains) > 30
    assert sorted(domain for domain in domains if meant(domain)) == ["gmal.com"]


def codes(faults):
    return [(fault.pointer, fault.code, fault.hint) for fault in faults]


def checked(given, own, resolver=None, settings=None):
    async def run():
        checks = screener(settings, own=own, resolver=resolver or FakeResolver(ZONE))
        try:
            return "", codes(await check_fields(checks, given))
        except Refused as refusal:
            return refusal.code, codes(refusal.faults)

    return asyncio.run(run())


def test_a_slip_is_told_with_what_was_meant():
    """By default a warning at that recipient, with the address to put there; refused where the tenant wants it."""
    given = submission("ann@acme.example", "Bob <bob+x@gmial.com>")
    wanted = [("/to/1", "domain_typo", "bob+x@gmail.com")]
    assert checked(given, {}) == ("", wanted)
    assert checked(given, {"typos": "refuse"}) == ("validation_failed", wanted)
    assert checked(given, {"typos": "off"}) == ("", [])


@pytest.mark.parametrize(
    ("domain", "code"),
    [
        ("good.example", None), ("implicit.example", None), ("half.example", None), ("null.example", "null_mx"), ("none.example", "no_such_domain"),
        ("nothing.example", "no_mail_server"), ("dangling.example", "no_mail_server"), ("broken.example", None), ("mxbroken.example", None),
    ],
)  # fmt: skip
def test_a_domain_that_takes_no_mail_is_found(domain, code):
    """MX, the address without MX (RFC 5321 §5.1), null MX (RFC 7505); a resolver that fails refuses nothing."""
    wanted = [] if code is None else [("/to/0", code, "")]
    assert checked(submission(f"ann@{domain}"), ASKING) == ("validation_failed" if code else "", wanted)
    assert checked(submission(f"ann@{domain}"), {"recipient_domains": "warn"}) == ("", wanted)
    assert checked(submission(f"ann@{domain}"), {}) == ("", [])


def test_a_missing_domain_comes_with_a_hint():
    """DNS says that there is none, and the list what was meant."""
    assert checked(submission("ann@gmial.com"), {**ASKING, "typos": "off"}) == (
        "validation_failed",
        [("/to/0", "no_such_domain", "ann@gmail.com")],
    )


def test_every_place_of_a_bad_domain_is_named_and_asked_about_once():
    """To, Cc and Bcc; over SMTP the place is the command."""
    resolver = FakeResolver(ZONE)
    given = submission("a@none.example", "b@none.example", cc=submission("c@none.example").to, bcc=submission("d@good.example").to)
    code, faults = checked(given, ASKING, resolver)
    assert (code, [place for place, *_ in faults]) == ("validation_failed", ["/to/0", "/to/1", "/cc/0"])
    assert resolver.asked.count(("MX", "none.example")) == 1

    async def raw():
        with pytest.raises(Refused) as caught:
            await check_mime(screener(own=ASKING, resolver=FakeResolver(ZONE)), mime(), "ann@none.example")
        return codes(caught.value.faults)

    assert asyncio.run(raw()) == [("RCPT TO", "no_such_domain", "")]


class Slow:
    """A resolver that answers about one name and hangs for the others."""

    def __init__(self):
        self.now = self.most = 0

    async def mx(self, domain):
        from gatepost.net.dns import NoDomain

        if domain == "none.example":
            return NoDomain()
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.Event().wait()
        finally:
            self.now -= 1

    async def addresses(self, host):
        return ResolverFailed("")


def test_dns_that_hangs_lets_mail_pass():
    """After the time for all questions; what was answered until then still counts, and nothing is left running."""

    async def run():
        resolver = Slow()
        settings = Settings(screening=Screening(recipient_domains="refuse", dns_timeout_s=0.05, dns_concurrency=7))
        hanging = [f"a@h{n}.example" for n in range(40)]
        assert list(await check_fields(screener(settings, resolver=resolver), submission(*hanging))) == []
        await asyncio.sleep(0)
        assert (resolver.most, resolver.now) == (7, 0)
        with pytest.raises(Refused) as caught:
            await check_fields(screener(settings, resolver=resolver), submission("a@none.example", "a@h1.example"))
        assert codes(caught.value.faults) == [("/to/0", "no_such_domain", "")]

    asyncio.run(run())


def test_the_real_resolver_is_asked_once_for_many_messages():
    """Answers are cached, missing domains too; a server that does not answer or says SERVFAIL refuses nothing."""

    async def run():
        async with DnsServer({**ZONE, "silent.example": TIMEOUT}) as server:
            settings = Settings(screening=Screening(recipient_domains="refuse", dns_timeout_s=0.2))
            resolver = DnsResolver(server=server.address, timeout_s=0.2, clock=SystemClock())
            checks = screener(settings, resolver=resolver)
            for _ in range(3):
                assert list(await check_fields(checks, submission("a@good.example", "a@implicit.example", "a@broken.example"))) == []
                with pytest.raises(Refused):
                    await check_fields(checks, submission("a@none.example"))
            assert (server.asked["good.example", "MX"], server.asked["none.example", "MX"]) == (1, 1)
            assert list(await check_fields(checks, submission("a@silent.example"))) == []

    asyncio.run(run())


def test_mailboxes_to_throw_away_are_found(tmp_path):
    """Those of the list with their subdomains, and the operator's own."""
    own = tmp_path / "own.txt"
    own.write_text("# ours\nThrowaway.EXAMPLE  # with a note\n\n")
    settings = Settings(screening=Screening(disposable="refuse", disposable_files=[str(own)]))
    for domain in ("mailinator.com", "x.mailinator.com", "throwaway.example"):
        assert checked(submission(f"a@{domain}"), {}, settings=settings) == ("validation_failed", [("/to/0", "disposable_domain", "")])
    for domain in ("acme.example", "notmailinator.example", "gmail.com"):
        assert checked(submission(f"a@{domain}"), {}, settings=settings) == ("", [])
    assert checked(submission("a@mailinator.com"), {}) == ("", [])
    assert len(disposable_domains()) > 300
    assert not is_disposable("com", disposable_domains())
    with pytest.raises(ValueError, match=r"screening\.disposable_files"):
        screener(Settings(screening=Screening(disposable_files=[str(tmp_path / "missing")])))


def test_tasks_instead_of_persons_are_found():
    """postmaster@, abuse@, noreply@ and the like, with a detail too; a warning and a refusal as wanted."""
    for local in ("postmaster", "Abuse", "noreply", "no-reply", "mailer-daemon", "info+x"):
        assert checked(submission(f"{local}@acme.example"), {"roles": "refuse"}) == ("validation_failed", [("/to/0", "role_address", "")])
        assert checked(submission(f"{local}@acme.example"), {"roles": "warn"})[0] == ""
    assert not any(is_role(local) for local in ("ann", "information", "abused", "post.master", "", "+x"))


def test_a_refusal_names_recipients_and_contents_together():
    """One answer with all that is wrong, so that it is corrected once."""
    given = submission("ann@gmial.com", files=(("a.exe", "text/plain", b"hi"),))
    assert checked(given, {"typos": "refuse"}) == (
        "content_refused",
        [("/to/0", "domain_typo", "ann@gmail.com"), ("/attachments/0/filename", "blocked_extension", "")],
    )
