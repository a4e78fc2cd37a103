"""
`python -m bench.screening`: what looking at a message costs, without scanners and DNS.

Prints microseconds a message: the best of several rounds, since others use this machine too.
"""

import asyncio
import base64
import time
from collections.abc import Awaitable, Callable

from gatepost import ids
from gatepost.clock import SystemClock
from gatepost.domain.access import Principal, PrincipalKind
from gatepost.domain.address import parse_address, parse_mailbox
from gatepost.domain.message import Attachment, EnvelopeRecipient, RawSubmission, Submission
from gatepost.domain.tenant import Caller
from gatepost.mime.adopt import adopt
from gatepost.mime.compose import compose
from gatepost.screening.screener import Screener
from gatepost.settings import Limits, Screening, Settings
from gatepost.testing.fake_dns import FakeResolver

ROUNDS, COUNT = 15, 2_000
TEXT = "Your order 4711 is on its way.\n" * 80
HTML = "<p>Your order <b>4711</b> is <a href='https://acme.example/o/4711'>on its way</a>.</p>\n" * 30
VALUES = {"name": "Ann Example", "code": "123456", "link": "https://acme.example/reset?token=abc", "order": {"number": "4711"}}
CALLER = Caller(
    principal=Principal(id="key_1", kind=PrincipalKind.KEY, tenant_id="ten_1", name="bench"), peer="192.0.2.1", request_id="req_1"
)


class _Defaults:
    def policy(self, tenant_id: str) -> dict[str, str]:
        return {}


def screener(**rules: str) -> Screener:
    return Screener(settings=Settings(screening=Screening(**rules)), policies=_Defaults(), resolver=FakeResolver(), clock=SystemClock())


def fields(**more) -> Submission:
    return Submission(
        sender=parse_mailbox("shop@acme.example"),
        to=(parse_mailbox("ann@example.net"),),
        subject="Order 4711",
        text=TEXT,
        html=HTML,
        **more,
    )


def composed(given: Submission):
    return compose(given, message_id=ids.new_message_id(), hostname="gw.example", now=0)


def adopted(given: Submission):
    raw = RawSubmission(
        envelope_from=parse_address("shop@acme.example"),
        recipients=(EnvelopeRecipient(address=parse_address("ann@example.net")),),
        content=composed(given).content,
    )
    return adopt(raw, message_id=ids.new_message_id(), hostname="gw.example", now=0, limits=Limits())


def check(checks: Screener, given: Submission, *, is_raw: bool) -> Callable[[], Awaitable[object]]:
    draft = adopted(given) if is_raw else composed(given)
    return lambda: checks.check(CALLER, draft, None if is_raw else given)


async def best_us(work: Callable[[], Awaitable[object]], count: int = COUNT) -> float:
    best = float("inf")
    for _ in range(ROUNDS):
        started = time.perf_counter()
        for _ in range(count):
            await work()
        best = min(best, (time.perf_counter() - started) / count)
    return best * 1e6


async def main() -> None:
    pdf = Attachment(filename="invoice.pdf", content_type="application/pdf", content=b"%PDF-1.7\n" + base64.b64encode(bytes(100_000)))
    defaults, all_on = screener(), screener(disposable="warn", roles="warn", links="warn", html="warn")
    cases = (
        ("fields, text and HTML, 5 kB", check(defaults, fields(), is_raw=False), COUNT),
        ("fields, the same with variables", check(defaults, fields(variables=VALUES), is_raw=False), COUNT),
        ("MIME, text and HTML, 5 kB", check(defaults, fields(), is_raw=True), COUNT),
        ("fields, with a PDF of 133 kB", check(defaults, fields(attachments=(pdf,)), is_raw=False), COUNT),
        ("MIME, with a PDF of 133 kB", check(defaults, fields(attachments=(pdf,)), is_raw=True), 200),
        ("fields, links and html on", check(all_on, fields(), is_raw=False), 200),
    )
    print(f"{len(composed(fields()).content)} bytes composed; rules as by default but where said")
    for name, work, count in cases:
        print(f"{name:36} {await best_us(work, count):8.1f} us")


if __name__ == "__main__":
    asyncio.run(main())
