"""TLS reports: what is counted, written, claimed by one process, and sent signed (RFC 8460)."""

import asyncio
import email
import gzip
import json
import time
from dataclasses import dataclass, field

import dkim
import pytest

from gatepost.accept import Acceptor
from gatepost.accept.answers import Idempotency
from gatepost.clock import DAY, HOUR
from gatepost.domain.access import GATEWAY
from gatepost.domain.errors import Refused
from gatepost.domain.message import RawSubmission, Source
from gatepost.domain.tenant import Caller
from gatepost.egress.smtp.tls_results import TlsResults
from gatepost.mime.render import render
from gatepost.policy.quota import day_of
from gatepost.settings import Settings
from gatepost.settings import TlsReports as Options
from gatepost.store import messages, queue, tls_reports
from gatepost.store.blobs import LocalBlobs
from gatepost.store.errors import StorageUnavailable
from gatepost.store.opening import open_store
from gatepost.tenants.directory import Directory
from gatepost.tenants.domains import Domains
from gatepost.tenants.signing import Signing
from gatepost.testing.fake_clock import FakeClock
from gatepost.testing.fake_dns import SERVFAIL, FakeResolver
from gatepost.upkeep.tls_counts import write_results
from gatepost.upkeep.tls_reports import TlsReports, is_public
from gatepost.wire.tls_report import Counted, PolicyKind, ReportedFailure, ReportedPolicy, TlsFailure, find_places, mail_address
from tests.tls_policy.house import PolicyHost, server_context

START = int(time.time()) // 86_400 * 86_400_000 - DAY + 2 * HOUR
"""Early yesterday: reports are signed today, and verifiers look at the real clock."""
TODAY = day_of(START)
STS = ReportedPolicy(domain="rcpt.example", kind=PolicyKind.STS, text=("version: STSv1", "mode: enforce"), hosts=("*.rcpt.example",))
FREE = ReportedPolicy(domain="rcpt.example", kind=PolicyKind.NONE)
EXPIRED = ReportedFailure(
    result=TlsFailure.EXPIRED, host="mx.rcpt.example", sender_ip="192.0.2.9", receiver_ip="192.0.2.1", detail="too old"
)
OPTIONS = Options(sender="tls@acme.example", spread_s=0, organization="Acme", contact="postmaster@acme.example")


def counted(policy=STS, failure=None, sessions=1, day=TODAY) -> Counted:
    return Counted(day=day, policy=policy, failure=failure, sessions=sessions)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["v=TLSRPTv1;rua=mailto:reports@example.com"], ("mailto:reports@example.com",)),  # RFC 8460 §3.1, its own examples
        (["v=TLSRPTv1; rua=https://reporting.example.com/v1/tlsrpt"], ("https://reporting.example.com/v1/tlsrpt",)),
        (["v=TLSRPTv1; rua=mailto:a@x.example , https://x.example/;", "v=spf1 -all"], ("mailto:a@x.example", "https://x.example/")),
        (["v=TLSRPTv1; rua=ftp://x.example/, http://x.example/"], ()),
        (["v=TLSRPTv1; ext=1; rua=mailto:a@x.example"], ("mailto:a@x.example",)),
        (["v=TLSRPTv1; rua=mailto:a@x.example", "v=TLSRPTv1; rua=mailto:b@x.example"], ()),
        (["v=TLSRPTv2; rua=mailto:a@x.example"], ()),
        (["v=TLSRPTv1"], ()),
        ([], ()),
    ],
)
def test_records_are_read(texts, expected):
    """Who does not ask in exactly one record gets nothing (RFC 8460 §3)."""
    assert find_places(texts) == expected


def test_mailto_is_unquoted():
    """A URI may quote what an address holds, and carry options that do not matter."""
    assert mail_address("mailto:tls%2Brua@x.example?subject=hi") == "tls+rua@x.example"
    assert mail_address("https://x.example") is None


def test_results_are_counted_once_per_session_and_survive_a_database_that_is_away(make_engine):
    """Counts add up over processes and flushes; what cannot be written is counted again."""

    async def work():
        engine, other, clock = make_engine(), make_engine(), FakeClock(START)
        await open_store(engine, clock)
        results = TlsResults(clock, is_on=True)
        for failure in (None, None, EXPIRED):
            results.note(STS, failure)

        class Away:
            async def write(self, _):
                raise StorageUnavailable("away")

        with pytest.raises(StorageUnavailable):
            await write_results(Away(), results)
        results.note(STS)
        await write_results(engine, results)
        await write_results(engine, results)
        results.note(STS, EXPIRED)
        await write_results(other, results)
        clock.advance(86_400)
        results.note(STS)
        await write_results(engine, results)
        found = await engine.read(lambda conn: tls_reports.of(conn, TODAY, "rcpt.example"))
        assert sorted(found, key=lambda one: one.sessions) == [counted(failure=EXPIRED, sessions=2), counted(sessions=3)]
        await engine.close()
        await other.close()

    asyncio.run(work())


def test_nothing_is_counted_while_reports_are_off():
    """Without a sender nothing is kept."""
    results = TlsResults(FakeClock(START), is_on=False)
    results.note(STS)
    assert results.take() == []


@dataclass
class House:
    """A gateway's parts around reports, on one of the databases."""

    engines: list
    clock: FakeClock
    directory: Directory
    acceptor: Acceptor
    blobs: LocalBlobs
    resolver: FakeResolver
    public_keys: dict[bytes, bytes]
    submitted: list[str] = field(default_factory=list)
    refuse: bool = False

    def reports(self, n: int = 0, options: Options = OPTIONS, **more) -> TlsReports:
        async def submit(caller: Caller, submission: RawSubmission, key: str) -> None:
            if self.refuse:
                raise Refused("overloaded")
            self.submitted.append(key)
            await self.acceptor.submit_finished(caller, submission, Source.HTTP, Idempotency(key=key, request_hash=key.encode()))

        return TlsReports(
            engine=self.engines[n], clock=self.clock, options=options, directory=self.directory, resolver=self.resolver, submit=submit,
            owner=f"process {n}", **more,
        )  # fmt: skip

    async def stored(self) -> list[tuple[str, bytes]]:
        """Every stored message, with its recipient, signed as the courier would get it."""

        def read(conn):
            rows = [row for shard in queue.shards_with_rows(conn) for row in queue.due(conn, [(shard, 1, 100)], self.clock.now())]
            found = messages.materials(conn, [row.message_id for row in rows], 10**9)
            return [(messages.addresses(conn, [row.message_id])[row.message_id, row.n].address, found[row.message_id]) for row in rows]

        rows = await self.engines[0].read(read)
        signing = Signing(self.directory)
        return [
            (
                address,
                render(
                    self.blobs.get(material.encoding, material.data), signing.signers(material.tenant_id, "acme.example"),
                    now=self.clock.now(), received="Received: by gw; Tue, 24 Nov 2026 02:00:00 +0000",
                ),
            )
            for address, material in rows
        ]  # fmt: skip

    async def states(self, day: str = TODAY) -> dict:
        return await self.engines[0].read(lambda conn: tls_reports.sent(conn, day))


def in_house(make_engine, tmp_path, work, zone=None, *, has_key: bool = True) -> None:
    async def main() -> None:
        engines, clock = [make_engine(), make_engine()], FakeClock(START)
        tenant_id = await open_store(engines[0], clock)
        directory = Directory(engines[0], clock)
        domains = Domains(engines[0], clock, FakeResolver(), directory, hostname="gw.acme.example")
        await domains.add(tenant_id, "acme.example", by=GATEWAY, is_trusted=True)
        await directory.refresh()
        if not has_key:
            directory.signing_keys = lambda *_: ()
        blobs = LocalBlobs(tmp_path / "blobs")
        settings = Settings()
        acceptor = Acceptor(
            engine=engines[0], blobs=blobs, directory=directory, settings=settings, clock=clock, hostname="gw.acme.example"
        )  # fmt: skip
        public = {
            f"{key.selector}._domainkey.acme.example.".encode(): f"v=DKIM1; k={key.algorithm.split('-')[0]}; p={key.public}".encode()
            for key in directory.signing_keys(tenant_id, "acme.example")
        }
        asked = zone if zone is not None else {"_smtp._tls.rcpt.example": {"TXT": ['"v=TLSRPTv1; rua=mailto:tls@rcpt.example"']}}
        house = House(engines, clock, directory, acceptor, blobs, FakeResolver(asked), public)
        await engines[0].write(
            lambda conn: tls_reports.add(conn, [counted(sessions=5), counted(failure=EXPIRED, sessions=2), counted(FREE)])
        )
        try:
            await work(house)
        finally:
            for engine in engines:
                await engine.close()

    asyncio.run(main())


def test_a_report_goes_out_signed_the_day_after(make_engine, tmp_path):
    """The mail is what receivers expect, its signature verifies, and its numbers are the counted ones (RFC 8460 §4.4, §5.3)."""

    async def work(house):
        reports = house.reports()
        assert await reports.step() == 0  # the day is not over
        house.clock.advance(86_400)
        assert await reports.step() == 1
        [(address, content)] = await house.stored()
        assert address == "tls@rcpt.example"
        assert dkim.verify(content, dnsfunc=lambda name, timeout=5: house.public_keys.get(name))
        mail = email.message_from_bytes(content)
        identifier = f"{TODAY}_rcpt.example@acme.example"
        assert mail["Subject"].replace("\r\n", "") == f"Report Domain: rcpt.example Submitter: acme.example Report-ID: <{identifier}>"
        assert (mail["TLS-Report-Domain"], mail["TLS-Report-Submitter"], mail["TLS-Required"]) == ("rcpt.example", "acme.example", "No")
        assert (mail.get_content_type(), mail.get_param("report-type")) == ("multipart/report", "tlsrpt")
        part = mail.get_payload()[1]
        assert part.get_content_type() == "application/tlsrpt+gzip"
        assert part.get_filename().startswith("acme.example!rcpt.example!")
        report = json.loads(gzip.decompress(part.get_payload(decode=True)))
        assert report["organization-name"] == "Acme"
        assert report["report-id"] == identifier
        assert report["date-range"] == {"start-datetime": f"{TODAY}T00:00:00Z", "end-datetime": f"{TODAY}T23:59:59Z"}
        by_type = {one["policy"]["policy-type"]: one for one in report["policies"]}
        assert by_type["sts"]["summary"] == {"total-successful-session-count": 5, "total-failure-session-count": 2}
        assert by_type["sts"]["policy"]["policy-string"] == ["version: STSv1", "mode: enforce"]
        assert by_type["sts"]["failure-details"] == [
            {
                "result-type": "certificate-expired", "sending-mta-ip": "192.0.2.9", "receiving-mx-hostname": "mx.rcpt.example",
                "receiving-ip": "192.0.2.1", "failed-session-count": 2, "additional-information": "too old",
            }
        ]  # fmt: skip
        assert by_type["no-policy-found"]["summary"]["total-successful-session-count"] == 1
        assert (await house.states())["rcpt.example"][:2] == ("sent", ["mailto:tls@rcpt.example"])
        assert await reports.step() == 0

    in_house(make_engine, tmp_path, work)


def test_of_many_processes_one_sends(make_engine, tmp_path):
    """Whoever claims a report sends it; nobody else does, at the same time or later."""

    async def work(house):
        house.clock.advance(86_400)
        all_ = [house.reports(n % 2) for n in range(6)]
        claimed = await asyncio.gather(*[one.step() for one in all_])
        assert sum(claimed) == 1
        assert len(await house.stored()) == 1
        house.clock.advance(7_200)
        assert [await one.step() for one in all_] == [0] * 6

    in_house(make_engine, tmp_path, work)


def test_a_process_that_dies_while_sending_leaves_no_gap_and_no_double(make_engine, tmp_path):
    """Its claim ends; the next one sends under the same idempotency key, so a mail that was stored is not stored again."""

    async def work(house):
        house.clock.advance(86_400)
        reports = house.reports()
        died = asyncio.Event()

        async def die(*_):
            died.set()
            raise asyncio.CancelledError

        reports._note = die
        with pytest.raises(asyncio.CancelledError):
            await reports.step()
        assert died.is_set()
        assert len(await house.stored()) == 1
        assert await house.reports(1).step() == 0
        house.clock.advance(30 * 60)
        assert await house.reports(1).step() == 1
        assert len(house.submitted) == 2
        assert len(await house.stored()) == 1
        assert (await house.states())["rcpt.example"][0] == "sent"

    in_house(make_engine, tmp_path, work)


def test_who_does_not_ask_gets_none_and_who_cannot_be_asked_is_asked_again(make_engine, tmp_path):
    """No record means no report, for good; a resolver that fails means later."""

    async def work(house):
        house.clock.advance(86_400)
        house.resolver.zone["_smtp._tls.rcpt.example"] = SERVFAIL
        assert await house.reports().step() == 1
        assert (await house.states())["rcpt.example"][0] == "claimed"
        house.clock.advance(30 * 60)
        house.resolver.zone.pop("_smtp._tls.rcpt.example")
        assert await house.reports().step() == 1
        assert (await house.states())["rcpt.example"][0] == "unwanted"
        assert await house.stored() == []

    in_house(make_engine, tmp_path, work)


def test_a_report_that_is_not_accepted_is_tried_again(make_engine, tmp_path):
    """A gateway that is overloaded sends its reports later, and gives up after a day's tries."""

    async def work(house):
        house.refuse = True
        house.clock.advance(86_400)
        for _ in range(24):
            assert await house.reports().step() == 1
            house.clock.advance(21 * 60)
        assert (await house.states())["rcpt.example"][0] == "failed"
        house.refuse = False
        assert await house.reports().step() == 0

    in_house(make_engine, tmp_path, work)


def test_an_unsigned_report_is_not_sent(make_engine, tmp_path):
    """Without a DKIM key there is no report (RFC 8460 §3)."""

    async def work(house):
        house.clock.advance(86_400)
        assert await house.reports().step() == 1
        state, _, detail = (await house.states())["rcpt.example"]
        assert state == "claimed"
        assert "no active DKIM key" in detail

    in_house(make_engine, tmp_path, work, has_key=False)


def test_reports_are_spread_over_the_first_hours(make_engine, tmp_path):
    """Not everybody writes at midnight (RFC 8460 §4.1), and a domain's moment is always the same."""

    async def work(house):
        reports = house.reports(options=Options(sender="tls@acme.example", spread_s=4 * 3600))
        midnight = START - START % DAY + DAY
        due = {name: reports._due_at(TODAY, name) for name in ("a.example", "b.example", "c.example", "rcpt.example")}
        assert all(midnight <= at < midnight + 4 * HOUR for at in due.values())
        assert len(set(due.values())) == 4
        house.clock.advance((due["rcpt.example"] - house.clock.now()) / 1000 - 1)
        assert await reports.step() == 0
        house.clock.advance(2)
        assert await reports.step() == 1

    in_house(make_engine, tmp_path, work)


@pytest.mark.parametrize("is_here_allowed", [True, False])
def test_a_report_by_https(make_engine, tmp_path, names, is_here_allowed):
    """Posted packed, to servers on the public internet only: a stranger's record must not lead into our own network."""

    async def work(house):
        host = PolicyHost(server_context(names.pairs["policies"], names.folder), status="201 Created")
        async with host:
            house.resolver.zone |= {
                "_smtp._tls.rcpt.example": {"TXT": [f'"v=TLSRPTv1; rua=https://mta-sts.sts.example:{host.port}/v1"']},
                "mta-sts.sts.example": {"A": ["127.0.0.1"]},
            }
            house.clock.advance(86_400)
            allowed = {"is_allowed": lambda _: True} if is_here_allowed else {}
            reports = house.reports(ca_file=str(names.file), **allowed)
            assert await reports.step() == 1
            await reports.close()
            state = (await house.states())["rcpt.example"]
            if not is_here_allowed:
                assert (state[0], host.requests) == ("claimed", [])
                return
            assert state[0] == "sent", state
            assert host.requests == ["POST /v1 HTTP/1.1"]
            assert json.loads(gzip.decompress(host.posted[0]))["report-id"] == f"{TODAY}_rcpt.example@acme.example"

    in_house(make_engine, tmp_path, work)


@pytest.mark.parametrize(
    "url", ["https://127.0.0.1/", "https://[::1]/", "https://localhost/", "https://u:p@x.example/", "https://2130706433/"]
)
def test_a_report_is_not_posted_to_addresses(make_engine, tmp_path, url):
    """Only names are asked: an address would go past the check of what the name leads to."""

    async def work(house):
        house.resolver.zone["_smtp._tls.rcpt.example"] = {"TXT": [f'"v=TLSRPTv1; rua={url}"']}
        house.clock.advance(86_400)
        assert await house.reports(is_allowed=lambda _: True).step() == 1
        assert "is not asked" in (await house.states())["rcpt.example"][2]

    in_house(make_engine, tmp_path, work)


def test_public_addresses():
    """Loopback, private, link-local and documentation ranges are not the public internet."""
    assert is_public("8.8.8.8")
    for address in ("127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "fd00::1", "192.0.2.1", "0.0.0.0"):
        assert not is_public(address)


def test_what_is_old_is_dropped(make_engine, tmp_path):
    """Results go after a week."""

    async def work(house):
        house.clock.advance(9 * 86_400)
        await house.reports().forget()
        assert await house.engines[0].read(lambda conn: tls_reports.of(conn, TODAY, "rcpt.example")) == []

    in_house(make_engine, tmp_path, work)
