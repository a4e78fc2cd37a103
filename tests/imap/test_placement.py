"""Placement: mail to seeds goes through the whole gateway into a real Dovecot; where it lands is found, and nothing is guessed."""

import asyncio
import json

import pytest
from aiosmtpd.controller import Controller
from click.testing import CliRunner

from gatepost import ids
from gatepost.app.imap import create_account
from gatepost.cli import main
from gatepost.clock import DAY
from gatepost.domain.access import GATEWAY, Principal, PrincipalKind
from gatepost.domain.address import parse_mailbox
from gatepost.domain.errors import Refused
from gatepost.domain.message import Submission
from gatepost.domain.placement import Outcome, PlacementResult, PlacementTest
from gatepost.domain.tenant import Caller
from gatepost.placement.daily import DailyTests
from gatepost.placement.looking import Looking
from gatepost.placement.sending import MARKER, PlacementTests
from gatepost.settings import Placement, Seed, Settings
from gatepost.store import placement
from gatepost.tenants.domains import Domains
from tests.flow.serving import Serving, gatepost_json, prepare, until
from tests.imap.dovecot import PASSWORD, free_port
from tests.returns import letters
from tests.returns.test_reported import run
from tests.store.rows import NOW

HEADER = "Authentication-Results: mx.seed.example;\r\n dkim=pass (2048-bit) header.d=acme.example;\r\n spf=softfail smtp.mailfrom=acme.example; dmarc=pass\r\nReceived: from us; now\r\nAuthentication-Results: mx.seed.example; spf=pass\r\n"


class Provider:
    """The end of a real SMTP conversation: it files mail into Dovecot, by the folder that it has for a recipient."""

    def __init__(self, dovecot, folders):
        self.dovecot, self.folders, self.paths = dovecot, folders, {}

    async def handle_DATA(self, server, session, envelope):  # noqa: N802
        for address in envelope.rcpt_tos:
            user = address.partition("@")[0]
            self.paths[user] = envelope.mail_from
            if folder := self.folders.get(user):
                await asyncio.to_thread(self.dovecot.put, user, HEADER.encode() + envelope.content, folder)
        return "250 2.0.0 taken"

    async def handle_RCPT(self, server, session, envelope, address, options):  # noqa: N802
        if self.folders.get(address.partition("@")[0]) == "bounce":
            return "550 5.1.1 no such user"
        envelope.rcpt_tos.append(address)
        return "250 ok"


def shown(data, command, sets):
    done = CliRunner().invoke(main, ["placement", command, "--data", str(data), "--json", *sets])
    assert done.exit_code == 0, done.output
    return json.loads(done.output)


def seeds_of(dovecot, user, names, **more):
    return {
        name: Seed(address=f"{user}-{name}@{name}.seed.example", url=dovecot.url(f"{user}-{name}"), secret=PASSWORD, ca_file=dovecot.ca_file, **more)
        for name in names
    }  # fmt: skip


def test_where_mail_lands_is_measured(tmp_path, dovecot, user):
    """`gatepost serve`: inbox, spam, missing, bounced and an unreadable mailbox, each told apart, over API and command line; inbox 1 of 3. Meanwhile an abuse mailbox is read."""
    data = tmp_path / "data"
    secret = prepare(data)
    folders = {f"{user}-inbox": "INBOX", f"{user}-spam": "Junk", f"{user}-gone": None, f"{user}-bounced": "bounce"}
    seeds = seeds_of(dovecot, user, ("inbox", "spam", "gone", "bounced"))
    host = Provider(dovecot, folders)
    provider = Controller(host, hostname="127.0.0.1", port=free_port())
    provider.start()
    flags = [
        f"seeds.{name}.{option}={value}"
        for name, seed in seeds.items()
        for option, value in (
            ("address", seed.address),
            ("url", seed.url),
            ("secret", PASSWORD),
            ("ca_file", seed.ca_file),
            ("remove", "true"),
        )
    ]
    port = provider.port
    flags += [f'relays.main.url="smtp://127.0.0.1:{port}"', "egress.default_route=main", "placement.deadline_s=4", "placement.every_s=0.3"]
    flags += ["inbound.bounce_domain=bounces.example", "relays.main.return_paths=true", f"mailboxes.abuse.url={dovecot.url(user)}"]
    flags += [f"mailboxes.abuse.secret={PASSWORD}", f"mailboxes.abuse.ca_file={dovecot.ca_file}", "mailboxes.abuse.every_s=5"]
    try:
        with Serving(data, *flags) as serving:
            body = {"from": "Acme <news@acme.example>", "subject": "Offers", "html": "<p>Hi</p>"}
            status, begun = serving.ask("POST", "/v1/placement", secret, body)
            assert (status, begun["status"], len(begun["results"])) == (202, "running", 4), begun
            path = until(lambda: host.paths[f"{user}-inbox"])
            dovecot.put(user, letters.complaint("abuse@acme.example", path, recipient="victim@far.example"))
            until(lambda: serving.ask("GET", f"/v1/placement/{begun['id']}", secret)[1]["status"] == "finished")
            _, test = serving.ask("GET", f"/v1/placement/{begun['id']}", secret)
            found = {one["seed"]: one for one in test["results"]}
            assert {name: one["outcome"] for name, one in found.items()} == {
                "inbox": "inbox",
                "spam": "spam",
                "gone": "missing",
                "bounced": "unknown",
            }
            assert found["bounced"]["detail"] == "it was not handed over: bounced"
            for name, folder in (("inbox", "INBOX"), ("spam", "Junk")):
                one = found[name]
                assert (one["folder"], one["authserv_id"], one["spf"], one["dkim"], one["dmarc"]) == (
                    folder,
                    "mx.seed.example",
                    "softfail",
                    "pass",
                    "pass",
                )
                assert 0 <= one["after_s"] <= 10
                assert dovecot.contents(f"{user}-{name}", folder) == {}, "it was to be removed"
            assert found["gone"]["spf"] is None
            _, page = serving.ask("GET", "/v1/placement?domain=acme.example", secret)
            assert [one["id"] for one in page["data"]] == [begun["id"]]
            _, summary = serving.ask("GET", "/v1/placement/summary?domain=acme.example", secret)
            total = summary["total"]
            assert (total["inbox"], total["spam"], total["missing"], total["unknown"]) == (1, 1, 1, 1)
            assert total["inbox_rate"] == pytest.approx(1 / 3)
            assert summary["providers"]["spam.seed.example"]["spam_rate"] == 1.0
            assert serving.ask("GET", "/v1/placement/plc_01h00000000000000000000000", secret)[0] == 404
            assert serving.ask("POST", "/v1/placement", secret, {**body, "seeds": ["no"]})[1]["errors"][0]["pointer"] == "/seeds/0"
            assert serving.ask("POST", "/v1/placement", secret, {**body, "from": "x@stranger.example"})[1]["code"] == "domain_not_verified"
            until(lambda: "complaint" in {one["reason"] for one in serving.ask("GET", "/v1/suppressions", secret)[1]["data"]})
            by_reason = {one["reason"]: one["address"] for one in serving.ask("GET", "/v1/suppressions", secret)[1]["data"]}
            assert by_reason["complaint"] == f"{user}-inbox@inbox.seed.example"
            assert len(by_reason) == 2, "the complaint's own words named somebody else"
            sets = [part for flag in flags for part in ("--set", flag)]
            told = gatepost_json(data, "placement", "run", "--from", "news@acme.example", "--seed", "spam", "--wait", *sets)
            assert (told["status"], told["results"][0]["outcome"]) == ("finished", "spam")
            listed = shown(data, "list", sets)["placement_tests"]
            assert [one["id"] for one in listed] == [told["id"], begun["id"]]
            assert shown(data, "summary", sets)["tests"] == 2
            assert 'gatepost_placement_results_total{outcome="spam",seed="spam"} 2.0' in serving.text("/metrics")
            assert PASSWORD not in serving.log
    finally:
        provider.stop()


class Accepting:
    """An acceptor that takes everything, and remembers it."""

    def __init__(self):
        self.taken, self.refuses = [], False

    async def validate(self, caller, submission):
        return ()

    async def submit(self, caller, submission):
        if self.refuses:
            raise Refused("rate_limited")
        self.taken.append(submission)
        return type("Accepted", (), {"results": [type("Message", (), {"id": ids.new_message_id()})]})


CALLER = Caller(principal=Principal(id="local", kind=PrincipalKind.LOCAL, tenant_id="ten_a", name="x"), peer="", request_id="r")
MAIL = Submission(sender=parse_mailbox("Acme <news@acme.example>"), subject="Hi", text="Hello")


class Bench:
    """Tests and who looks, without the gateway around them."""

    def __init__(self, house, seeds, **options):
        self.house = house
        self.settings = Settings(seeds=seeds, placement=Placement(every_s=1.0, deadline_s=60, **options))
        self.acceptor = Accepting()
        self.tests = PlacementTests(house.engine, house.clock, self.settings, self.acceptor)

    def looking(self, owner="one"):
        accounts = {name: create_account("seeds", name, seed, self.house.clock) for name, seed in self.settings.seeds.items()}
        return Looking(self.house.engine, self.house.clock, self.settings, accounts, owner)

    async def sent(self, seed, **fields):
        """A test whose mail was handed over."""
        [row] = await self.house.delivered(**fields)
        now = self.house.clock.now()
        test = PlacementTest(
            id=ids.new("plc"), tenant_id="ten_a", domain="acme.example", sender="a@acme.example", subject="Hi", marker=ids.new("plc")[4:],
            created_at=now, deadline_at=now + 60_000, results=(PlacementResult(seed=seed, provider="seed", message_id=row.message_id),),
        )  # fmt: skip
        await self.house.engine.write(lambda conn: placement.insert(conn, test))
        return test

    async def result(self, test):
        return (await self.house.engine.read(lambda conn: placement.get(conn, "ten_a", test.id))).results[0]


def run_bench(make_engine, seeds, work, **options):
    async def with_bench(house):
        await work(house, Bench(house, seeds, **options))

    run(make_engine, with_bench)


def test_only_the_markers_own_mail_counts(make_engine, dovecot, user):
    """Mail of another test, and mail that only quotes the marker, is not it; it is missing after the deadline, and not before."""

    async def work(house, bench):
        test, other = await bench.sent("a"), await bench.sent("a")
        await asyncio.to_thread(
            dovecot.put, f"{user}-a", f"Subject: re: {test.marker}\r\nX-Other: {test.marker}\r\n\r\n{MARKER}: {test.marker}\r\n".encode()
        )
        await asyncio.to_thread(dovecot.put, f"{user}-a", f"{MARKER}: {test.marker}-and-more\r\n\r\nx\r\n".encode())
        await asyncio.to_thread(dovecot.put, f"{user}-a", f"{MARKER}: {other.marker}\r\n\r\nx\r\n".encode(), "Junk")
        await bench.looking().step()
        assert [(await bench.result(one)).outcome for one in (test, other)] == [Outcome.WAITING, Outcome.SPAM]
        house.clock.advance(59)
        await bench.looking().step()
        assert (await bench.result(test)).outcome is Outcome.WAITING
        house.clock.advance(2)
        await bench.looking().step()
        assert (await bench.result(test)).outcome is Outcome.MISSING
        assert await house.engine.read(placement.is_any_waiting) is False
        found = await house.engine.read(lambda conn: placement.get(conn, "ten_a", test.id))
        assert found.finished_at == house.clock.now()

    run_bench(make_engine, seeds_of(dovecot, user, "a"), work)


def test_a_mailbox_that_cannot_be_read_makes_no_mail_missing(make_engine, dovecot, user):
    """What was not measured is unknown and in no rate; mail that comes to light within the patience still counts."""
    broken = {"a": Seed(address="a@seed.example", url="imap://ann@127.0.0.1:1/?tls=never", secret="x")}

    async def work(house, bench):
        test = await bench.sent("a")
        for seconds in (0, 61, 500):
            house.clock.advance(seconds)
            await bench.looking().step()
            assert (await bench.result(test)).outcome is Outcome.WAITING
        house.clock.advance(200)
        await bench.looking().step()
        found = await bench.result(test)
        assert found.outcome is Outcome.UNKNOWN
        assert "cannot be read: no connection" in found.detail
        summary = await house.engine.read(lambda conn: placement.summary(conn, "ten_a", ["acme.example"], NOW, house.clock.now() + 1))
        assert (summary.total.unknown, summary.total.measured, summary.total.rate(Outcome.INBOX)) == (1, 0, None)

    run_bench(make_engine, broken, work)


def test_mail_that_never_left_is_not_missing(make_engine, dovecot, user):
    """In the sandbox, still in the queue at the deadline, never accepted, or of a seed that is gone: unknown, with the reason."""

    async def work(house, bench):
        waiting = await bench.sent("a")
        await house.engine.write(lambda conn: conn.exec_driver_sql("UPDATE recipient SET status = 'deferred'"))
        unsent = await bench.sent("a")
        await house.engine.write(
            lambda conn: conn.exec_driver_sql(f"UPDATE placement_result SET message_id = NULL WHERE test_id = '{unsent.id}'")
        )
        gone = await bench.sent("b")
        await bench.looking().step()
        assert "no such seed" in (await bench.result(gone)).detail
        house.clock.advance(121)
        await bench.looking().step()
        assert (await bench.result(waiting)).detail == "it was not handed over: deferred"
        assert (await bench.result(unsent)).detail == "it was not sent"
        bench.acceptor.refuses = True
        refused = await bench.tests.begin(CALLER, MAIL)
        assert (refused.results[0].outcome, refused.results[0].detail) == (Outcome.UNKNOWN, "it was not accepted: rate_limited")
        assert refused.finished_at is not None

    run_bench(make_engine, seeds_of(dovecot, user, "a"), work)


def test_each_seed_gets_a_message_of_its_own_with_the_marker(make_engine, dovecot, user):
    """No seed sees another; a tenant has so many tests a day; what is stored of sender and subject is sealed."""

    async def work(house, bench):
        test = await bench.tests.begin(CALLER, MAIL)
        assert [[str(box.address) for box in one.to] for one in bench.acceptor.taken] == [
            [f"{user}-{name}@{name}.seed.example"] for name in "ab"
        ]
        assert {dict(one.headers)[MARKER] for one in bench.acceptor.taken} == {test.marker}
        assert all(one.steering.tags == ("placement",) for one in bench.acceptor.taken)
        assert (test.sender, test.subject, len(test.marker)) == ("Acme <news@acme.example>", "Hi", 32)
        rows = await house.engine.read(lambda conn: repr(conn.exec_driver_sql("SELECT * FROM placement_test").all()))
        assert "news@" not in rows
        await bench.tests.begin(CALLER, MAIL, ["a"])
        with pytest.raises(Refused, match="quota_exceeded"):
            await bench.tests.begin(CALLER, MAIL)
        with pytest.raises(Refused, match="validation_failed"):
            await bench.tests.begin(CALLER, MAIL, ["a", "nobody"])
        assert await house.engine.read(lambda conn: placement.get(conn, "ten_b", test.id)) is None
        house.clock.advance(DAY // 1000 + 1)
        assert await bench.tests.begin(CALLER, MAIL) is not None
        await house.engine.write(lambda conn: placement.purge(conn, house.clock.now() + 2 * DAY, 2))
        assert len(await house.engine.read(lambda conn: placement.page(conn, "ten_a", 10))) == 1

    run_bench(make_engine, seeds_of(dovecot, user, "ab"), work, per_day=2)


def test_a_daily_test_is_sent_once_a_day_by_whichever_process(make_engine, dovecot, user):
    """From its hour on, once for all processes, again on the next day; a domain that nobody has is told of and tried later."""

    async def work(house, bench):
        loops = [DailyTests(house.engine, house.clock, bench.settings, bench.tests) for _ in range(2)]
        midnight = -(-NOW // DAY) * DAY
        house.clock.advance((midnight - NOW) // 1000 + 6 * 3600)
        assert [await one.step() for one in loops] == [0, 0]
        added = await Domains(house.engine, house.clock, None, None, hostname="gate.example").add(
            "ten_a", "acme.example", by=GATEWAY, is_trusted=True
        )
        assert added.domain.name == "acme.example"
        house.clock.advance(3601)
        assert sum(await asyncio.gather(*[one.step() for one in loops])) == 1
        house.clock.advance(3601)
        assert [await one.step() for one in loops] == [0, 0]
        house.clock.advance(DAY // 1000 - 3 * 3600)
        assert [await one.step() for one in loops] == [0, 0], "it is before the hour"
        house.clock.advance(2 * 3600)
        assert sum([await one.step() for one in loops]) == 1

    run_bench(make_engine, seeds_of(dovecot, user, "a"), work, daily=["Acme <news@acme.example>"])


def test_rates_are_of_what_was_measured_in_the_span(make_engine):
    """Sums by provider and together over [start, end), of one tenant and one domain; the median is of what arrived."""

    async def work(house, _bench):
        def put(conn, at, provider, outcome, ms=None, tenant_id="ten_a", domain="acme.example"):
            result = PlacementResult(seed=provider, provider=provider, outcome=outcome, after_ms=ms)
            test = PlacementTest(
                id=ids.new("plc"), tenant_id=tenant_id, domain=domain, sender="", subject="", marker="m", created_at=at, deadline_at=at, results=(result,)
            )  # fmt: skip
            placement.insert(conn, test)

        def fill(conn):
            for n in range(8):
                put(conn, NOW + n, "gmail", Outcome.INBOX, 1_000 * n)
            put(conn, NOW + 8, "gmail", Outcome.SPAM, 9_000)
            put(conn, NOW + 9, "gmail", Outcome.MISSING)
            put(conn, NOW + 9, "gmail", Outcome.UNKNOWN)
            put(conn, NOW + 9, "gmail", Outcome.WAITING)
            put(conn, NOW + 5, "gmx", Outcome.SPAM, 5)
            put(conn, NOW + 10, "gmail", Outcome.SPAM)
            put(conn, NOW, "gmail", Outcome.SPAM, tenant_id="ten_b")
            put(conn, NOW, "gmail", Outcome.SPAM, domain="other.example")

        await house.engine.write(fill)
        found = await house.engine.read(lambda conn: placement.summary(conn, "ten_a", ["acme.example"], NOW, NOW + 10))
        gmail = dict(found.providers)["gmail"]
        assert (found.tests, [name for name, _ in found.providers]) == (12, ["gmail", "gmx"])
        assert (gmail.inbox, gmail.spam, gmail.missing, gmail.unknown, gmail.median_ms) == (8, 1, 1, 1, 4_000)
        assert [gmail.rate(one) for one in (Outcome.INBOX, Outcome.SPAM, Outcome.MISSING)] == [0.8, 0.1, 0.1]
        assert found.total.rate(Outcome.INBOX) == 8 / 11
        assert (await house.engine.read(lambda conn: placement.summary(conn, "ten_a", None, NOW, NOW + 10))).total.spam == 3

    run_bench(make_engine, {}, work)
