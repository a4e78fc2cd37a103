"""
A data directory full of mail that looks like real life: for the pages' tests and for the picture in the README.

Run as `python tests/dashboard/seed.py DIR` to fill a directory that `gatepost serve --data DIR` can show.
"""

import asyncio
import struct
import sys
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from gatepost import ids
from gatepost.clock import DAY, HOUR, MINUTE, SECOND, Instant, SystemClock
from gatepost.domain.address import parse_address, parse_mailbox
from gatepost.domain.event import Event, EventType
from gatepost.domain.message import STREAMS, Attachment, Draft, Steering, Submission
from gatepost.domain.route import DEFAULT_POOL, SANDBOX, roads_of, shard_of
from gatepost.mime.compose import compose
from gatepost.store import facts, leases, messages, queue
from gatepost.store.blobs import Blobs, LocalBlobs
from gatepost.store.engine import Engine
from gatepost.store.opening import create_engine, open_store

_WAITING = {"queued", "scheduled", "deferred"}


@dataclass(frozen=True, kw_only=True)
class Try:
    """One attempt: outcome, seconds after acceptance, and what the other side said."""

    outcome: str
    after_s: float
    code: int | None = 250
    enhanced: str | None = "2.0.0"
    reply: str = "Ok"
    category: str | None = None
    host: str | None = "sandbox"
    took_ms: int = 12
    transcript: str = ""


@dataclass(frozen=True, kw_only=True)
class To:
    """One recipient with its fate."""

    address: str
    status: str = "delivered"
    kind: str = "to"
    tries: tuple[Try, ...] = (Try(outcome="delivered", after_s=0.3),)
    reason: str | None = None
    next_in_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class Mail:
    """One message: what was sent, how long ago, and what became of it."""

    name: str
    ago_s: float
    sender: str
    subject: str
    to: tuple[To, ...]
    text: str | None = None
    html: str | None = None
    attachments: tuple[Attachment, ...] = ()
    stream: str = "transactional"
    tags: tuple[str, ...] = ()
    source: str = "http"
    route: str = SANDBOX
    events: tuple[tuple[EventType, float, int | None], ...] = field(default=())


def picture(width: int, height: int, colour: tuple[int, int, int], *, stripe: tuple[int, int, int] | None = None) -> bytes:
    """Draw a PNG with one colour, or with a diagonal stripe."""
    rows = b"".join(b"\0" + b"".join(bytes(stripe if stripe and (x + y) % 24 < 8 else colour) for x in range(width)) for y in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(rows)) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


LOGO = Attachment(
    filename="logo.png",
    content=picture(132, 36, (63, 81, 212), stripe=(86, 104, 232)),
    content_type="image/png",
    is_inline=True,
    content_id="logo@acme",
)
INVOICE = Attachment(filename="Rechnung 2026-1187.pdf", content=b"%PDF-1.4\n" + b"%" * 48_000, content_type="application/pdf")
TERMS = Attachment(filename="AGB.txt", content=b"Es gelten die Bedingungen.\n" * 40, content_type="text/plain")

RECEIPT = """<!doctype html><html lang="en"><head><title>Order</title><style>
body{margin:0;background:#f4f5f7;font-family:Helvetica,Arial,sans-serif;color:#20242a}
.card{max-width:560px;margin:24px auto;background:#fff;border-radius:8px;overflow:hidden;border:1px solid #e4e7eb}
.bar{padding:20px 28px;border-bottom:1px solid #e4e7eb}.in{padding:24px 28px}h1{font-size:20px;margin:0 0 8px}
table{width:100%;border-collapse:collapse;margin:16px 0}td{padding:10px 0;border-top:1px solid #edf0f2;font-size:14px}
td:last-child{text-align:right}.sum td{font-weight:bold;border-top:2px solid #20242a}
.btn{display:inline-block;background:#3f51d4;color:#fff;padding:10px 18px;border-radius:6px;text-decoration:none;font-size:14px}
.foot{font-size:12px;color:#6b7480;padding:16px 28px;background:#fafbfc}</style></head><body><div class="card">
<div class="bar"><img src="cid:logo@acme" alt="Acme" width="132" height="36"></div><div class="in"><h1>Thank you, Ann!</h1>
<p>Your order <b>42-1187</b> is on its way. It should be with you on Thursday.</p>
<table><tr><td>Walnut desk lamp</td><td>1</td><td>€ 89.00</td></tr><tr><td>Bulb E27, warm</td><td>2</td><td>€ 11.80</td></tr>
<tr><td>Shipping</td><td></td><td>€ 4.90</td></tr><tr class="sum"><td>Total</td><td></td><td>€ 105.70</td></tr></table>
<p><a class="btn" href="https://shop.acme.example/orders/42-1187">Follow your parcel</a></p></div>
<div class="foot">Acme GmbH, Lange Reihe 7, Hamburg · <a href="https://shop.acme.example/help">Help</a>
<img src="https://pixel.acme.example/o.gif?m=1187" width="1" height="1" alt=""></div></div></body></html>"""

NEWSLETTER = """<html><body style="margin:0;background:#10243e url('https://cdn.acme.example/bg.jpg');font-family:Georgia,serif;color:#fff">
<div style="max-width:600px;margin:0 auto;padding:32px"><h1 style="font-weight:normal">Autumn light</h1>
<img src="https://cdn.acme.example/hero.jpg" srcset="https://cdn.acme.example/hero@2x.jpg 2x" width="536" height="220" alt="A lamp on a desk">
<p style="font-size:17px;line-height:1.6">The evenings draw in. Here are four lamps that make that a good thing, and one that we could not photograph because it was already sold.</p>
<p><a href="https://shop.acme.example/autumn" style="color:#ffd479">See the collection</a> · <a href="https://shop.acme.example/unsubscribe" style="color:#9fb4cc">Unsubscribe</a></p></div></body></html>"""

_CODE_HTML = """<div style="font-family:system-ui;max-width:420px;margin:32px auto;text-align:center"><p>Your sign-in code</p>
<p style="font:600 34px monospace;letter-spacing:.2em;background:#f3f4f6;padding:16px;border-radius:8px">481 502</p><p style="color:#666">It is valid for ten minutes.</p></div>"""

_BUSY = "S: 220 mx1.example.org ESMTP\nC: EHLO gate.acme.example\nS: 250-mx1.example.org\nS: 250-PIPELINING\nS: 250-STARTTLS\nS: 250 8BITMIME\nC: STARTTLS\nS: 220 2.0.0 go ahead\n-- TLSv1.3 TLS_AES_256_GCM_SHA384 --\nC: MAIL FROM:<shop@acme.example>\nC: RCPT TO:<greta@example.org>\nC: DATA\nS: 250 2.1.0 Ok\nS: 450 4.2.0 Greylisted, see http://postgrey.example/help\nS: 554 5.5.1 no valid recipients\nC: QUIT"
_GREY = Try(
    outcome="deferred",
    after_s=0.8,
    code=450,
    enhanced="4.2.0",
    reply="Greylisted, please try again in 5 minutes",
    category="policy_rejected",
    host="mx1.example.org",
    took_ms=412,
    transcript=_BUSY,
)
_TAKEN = "S: 220 sandbox\nC: MAIL FROM:<shop@acme.example>\nS: 250 2.1.0 Ok\nC: RCPT TO:<ann@example.net>\nS: 250 2.1.5 Ok\nC: DATA\nS: 354 go on\n-- 8,412 octets of content --\nS: 250 2.0.0 captured"
_CAPTURED = Try(outcome="delivered", after_s=0.31, reply="captured", took_ms=9, transcript=_TAKEN)
_NO_USER = Try(
    outcome="failed",
    after_s=0.6,
    code=550,
    enhanced="5.1.1",
    reply="No such user here",
    category="invalid_recipient",
    took_ms=18,
    transcript=_TAKEN.replace("250 2.1.5 Ok", "550 5.1.1 No such user here"),
)
_FULL = Try(outcome="deferred", after_s=1.0, code=452, enhanced="4.2.2", reply="The mailbox is full", category="mailbox_full", took_ms=31)


def mails() -> list[Mail]:
    """Return the messages, the newest first."""
    ann = To(address="ann@example.net", tries=(_CAPTURED,))
    return [
        Mail(name="code", ago_s=8, sender="Acme <login@acme.example>", subject="481 502 is your sign-in code", to=(To(address="mira.lindqvist@example.net"),), text="Your sign-in code is 481 502.\n\nIt is valid for ten minutes.\n", html=_CODE_HTML, stream="codes", tags=("login",)),
        Mail(name="queued", ago_s=11, sender="Acme Shop <shop@acme.example>", subject="Your parcel left our warehouse", to=(To(address="jonas.weber@example.com", status="queued", tries=(), next_in_s=-11),), text="It left. You will have it on Thursday.", tags=("shipping",)),
        Mail(name="receipt", ago_s=96, sender="Acme Shop <shop@acme.example>", subject="Your order 42-1187 at Acme", to=(ann, To(address="bob@example.net", kind="cc", status="bounced", reason="invalid_recipient", tries=(_NO_USER,)), To(address="archive@acme.example", kind="bcc")), html=RECEIPT, attachments=(LOGO, INVOICE, TERMS), tags=("order", "receipt")),
        Mail(name="deferred", ago_s=140, sender="Acme Shop <shop@acme.example>", subject="Please confirm your delivery address", to=(To(address="greta@example.org", status="deferred", reason="policy_rejected", tries=(_GREY,), next_in_s=262),), text="Hello Greta,\n\nis Lange Reihe 7 still right?\n\nAcme", tags=("order",)),
        Mail(name="emoji", ago_s=410, sender="Acme Team 🎉 <hello@acme.example>", subject="🎉 You are in! Welcome to Acme 👋🏽 — here is how to begin", to=(To(address="søren@example.dk"),), text="Welcome!", html="<h1>Welcome 👋🏽</h1><p>Good to have you.</p>", tags=("welcome",)),
        Mail(name="rtl", ago_s=900, sender="متجر أكمي <shop@acme.example>", subject="تم شحن طلبك رقم ٤٢", to=(To(address="layla@example.ae"),), text="مرحبا ليلى،\n\nتم شحن طلبك رقم ٤٢ وسيصل يوم الخميس.", tags=("order",)),
        Mail(name="bounced", ago_s=1300, sender="Acme Billing <billing@acme.example>", subject="Invoice 2026-1187 is due on 1 December", to=(To(address="accounts@gone.example.com", status="bounced", reason="invalid_recipient", tries=(_NO_USER,)),), text="Please pay.", attachments=(INVOICE,), tags=("invoice",)),
        Mail(name="scheduled", ago_s=2500, sender="Acme <news@acme.example>", subject="Doors open tomorrow at nine", to=(To(address="tim@example.net", status="scheduled", tries=(), next_in_s=15 * 3600),), text="See you.", stream="bulk", tags=("event",)),
        Mail(name="suppressed", ago_s=3900, sender="Acme <news@acme.example>", subject="Autumn light: four lamps for long evenings", to=(To(address="former@example.net", status="suppressed", reason="complaint", tries=()),), html=NEWSLETTER, stream="bulk", tags=("newsletter",)),
        Mail(name="newsletter", ago_s=3920, sender="Acme <news@acme.example>", subject="Autumn light: four lamps for long evenings", to=(To(address="reader@example.net"), To(address="reader2@example.net"), To(address="reader3@example.net"), To(address="reader4@example.net", status="deferred", reason="mailbox_full", tries=(_FULL,), next_in_s=1500)), html=NEWSLETTER, stream="bulk", tags=("newsletter", "autumn-2026")),
        Mail(name="long", ago_s=7300, sender="Monitoring of the Northern Warehouse and its Annexes <monitoring@acme.example>", subject="[warehouse-north/annex-3] Temperature above threshold for 00:14:37: sensor rack-17/shelf-4 reports 31.4 °C (limit 28.0 °C), please acknowledge within fifteen minutes", to=(To(address="on-call-rotation-for-the-northern-warehouse@operations.acme.example"),), text="31.4 °C", source="smtp", tags=("alert",)),
        Mail(name="real", ago_s=9000, sender="Acme Shop <shop@acme.example>", subject="Your refund is on its way", to=(To(address="ines@example.org", tries=(Try(outcome="delivered", after_s=1.1, reply="2.0.0 Ok: queued as 4X9k2b1", host="mx2.example.org", took_ms=640, transcript=_BUSY.replace("450 4.2.0 Greylisted, see http://postgrey.example/help", "250 2.1.5 Ok")),)),), text="The secret content of a real message.", route="mx", tags=("refund",)),
        Mail(name="expired", ago_s=76 * 3600, sender="Acme Shop <shop@acme.example>", subject="We could not reach you", to=(To(address="void@unreachable.example", status="expired", reason="expired", tries=tuple(Try(outcome="deferred", after_s=3600 * 8 * n, code=None, enhanced=None, reply="connection timed out", category="network", host=None, took_ms=30_000) for n in range(1, 10))),), text="Hello?"),
        Mail(name="cancelled", ago_s=80 * 3600, sender="Acme <news@acme.example>", subject="Early access for members", to=(To(address="vip@example.net", status="cancelled", tries=()),), text="Wrong list, sorry.", stream="bulk", events=((EventType.CANCELLED, 40, 0),)),
        Mail(name="empty", ago_s=90 * 3600, sender="cron@acme.example", subject="", to=(To(address="root@acme.example"),), text="backup: 0 errors\n", source="smtp"),
    ]  # fmt: skip


async def seed(engine: Engine, blobs: Blobs, tenant_id: str, now: Instant, chosen: Sequence[Mail] | None = None) -> dict[str, str]:
    """Store messages; return their ids by name."""
    by_name: dict[str, str] = {}
    for mail in mails() if chosen is None else chosen:
        by_name[mail.name] = await store(engine, blobs, tenant_id, now, mail)
    return by_name


async def store(engine: Engine, blobs: Blobs, tenant_id: str, now: Instant, mail: Mail) -> str:
    """Store one message as accept and settle would have; return its id."""
    at = now - int(mail.ago_s * SECOND)
    message_id = ids.lower_bound("msg", at)
    draft = compose(_submission(mail), message_id=message_id, hostname="gate.acme.example", now=at)
    await engine.write(lambda conn: _insert(conn, blobs, tenant_id, now, at, mail, draft))
    return message_id


def _submission(mail: Mail) -> Submission:
    def boxes(kind: str) -> Any:
        return tuple(parse_mailbox(one.address) for one in mail.to if one.kind == kind)

    return Submission(
        sender=parse_mailbox(mail.sender), to=boxes("to"), cc=boxes("cc"), bcc=boxes("bcc"), subject=mail.subject,
        text=mail.text, html=mail.html, attachments=mail.attachments, steering=Steering(stream=mail.stream, tags=mail.tags),
    )  # fmt: skip


def _insert(conn: Connection, blobs: Blobs, tenant_id: str, now: Instant, at: Instant, mail: Mail, draft: Draft) -> None:
    encoding, data = blobs.put(draft.content)
    lane = int(STREAMS[mail.stream])
    scheduled = [one.next_in_s for one in mail.to if one.status == "scheduled" and one.next_in_s is not None]
    row = {
        "id": draft.id, "tenant_id": tenant_id, "created_at": at, "stream": mail.stream, "lane": lane, "source": mail.source, "key_id": ids.lower_bound("key", at),
        "envelope_from": str(draft.envelope_from), "from_": mail.sender, "from_domain": draft.header_from.address.domain, "subject": mail.subject,
        "message_id_header": draft.message_id_header, "size_bytes": len(draft.content), "is_8bit": draft.is_8bit, "is_smtputf8": draft.is_smtputf8,
        "is_sandbox": mail.route == SANDBOX, "route": mail.route, "tags": list(mail.tags), "metadata": {},
        "scheduled_at": now + int(scheduled[0] * SECOND) if scheduled else None, "expires_at": at + 3 * DAY, "options": {},
    }  # fmt: skip
    recipients = [_recipient(draft.id, n, tenant_id, one, mail.route, at) for n, one in enumerate(mail.to)]
    messages.insert(conn, [row], [{"message_id": draft.id, "encoding": encoding, "data": data}], recipients)
    queue.insert(
        conn, [_due(draft.id, n, tenant_id, one, mail.route, lane, now) for n, one in enumerate(mail.to) if one.status in _WAITING]
    )
    facts.insert_attempts(
        conn,
        [
            _attempt(draft.id, n, number, one, mail.route, at) | {"tenant_id": tenant_id}
            for n, to in enumerate(mail.to)
            for number, one in enumerate(to.tries, 1)
        ],
    )
    facts.insert_events(conn, _events(draft.id, tenant_id, mail, at))
    if mail.route == SANDBOX:
        taken = [n for n, one in enumerate(mail.to) if one.status == "delivered"]
        rows = [{"message_id": draft.id, "n": n, "tenant_id": tenant_id, "at": at, "encoding": encoding, "data": data} for n in taken]
        facts.insert_captures(conn, rows)


def _recipient(message_id: str, n: int, tenant_id: str, to: To, route: str, at: Instant) -> dict[str, Any]:
    address = parse_address(to.address)
    last = to.tries[-1] if to.tries else None
    ended_at = at + int(last.after_s * SECOND) if last else at
    return {
        "message_id": message_id, "n": n, "tenant_id": tenant_id, "address": str(address), "address_key": address.key, "kind": to.kind,
        "site": roads_of(route)[0].site_of(address.domain, address.domain), "status": to.status, "reason": to.reason, "attempts": len(to.tries),
        "last_reply": " ".join(str(part) for part in (last.code, last.enhanced, last.reply) if part) if last else None, "last_host": last.host if last else None,
        "updated_at": ended_at, "final_at": None if to.status in _WAITING else ended_at, "notify": None, "orcpt": None,
    }  # fmt: skip


def _due(message_id: str, n: int, tenant_id: str, to: To, route: str, lane: int, now: Instant) -> dict[str, Any]:
    domain = parse_address(to.address).domain
    site = roads_of(route)[0].site_of(domain, domain)
    return {
        "shard": shard_of(DEFAULT_POOL, site), "lane": lane, "due_at": now + int((to.next_in_s or 0) * SECOND), "message_id": message_id, "n": n,
        "tenant_id": tenant_id, "pool": DEFAULT_POOL, "site": site, "attempt": len(to.tries) + 1, "retries": len(to.tries), "expires_at": now + 71 * HOUR, "tried": 0,
    }  # fmt: skip


def _attempt(message_id: str, n: int, number: int, one: Try, route: str, at: Instant) -> dict[str, Any]:
    finished_at = at + int(one.after_s * SECOND)
    is_remote = one.host is not None and one.host != "sandbox"
    return {
        "message_id": message_id, "n": n, "number": number, "outcome": one.outcome, "category": one.category, "detail": None, "code": one.code,
        "enhanced": one.enhanced, "reply": one.reply, "route": route, "host": one.host, "peer": "192.0.2.17:25" if is_remote else None,
        "tls": "TLSv1.3 TLS_AES_256_GCM_SHA384" if is_remote else None, "started_at": finished_at - one.took_ms, "finished_at": finished_at,
        "transcript": one.transcript, "node": "seed",
        "source": "default" if is_remote else None, "tls_policy": "opportunistic" if is_remote else None, "provider_id": None,
    }  # fmt: skip


_FATES = {
    "delivered": EventType.DELIVERED,
    "bounced": EventType.BOUNCED,
    "deferred": EventType.DEFERRED,
    "suppressed": EventType.SUPPRESSED,
    "expired": EventType.EXPIRED,
}


def _events(message_id: str, tenant_id: str, mail: Mail, at: Instant) -> list[Event]:
    first = EventType.SCHEDULED if any(one.status == "scheduled" for one in mail.to) else EventType.ACCEPTED
    found = [
        Event(
            id=ids.lower_bound("evt", at),
            type=first,
            tenant_id=tenant_id,
            at=at,
            message_id=message_id,
            data={"source": mail.source, "recipients": len(mail.to)},
        )
    ]
    for n, to in enumerate(mail.to):
        if to.status in _FATES:
            then = at + int(to.tries[-1].after_s * SECOND) if to.tries else at
            data = {"reason": to.reason} if to.reason else {}
            found.append(
                Event(id=ids.new("evt"), type=_FATES[to.status], tenant_id=tenant_id, at=then, message_id=message_id, n=n, data=data)
            )
    found += [
        Event(id=ids.new("evt"), type=kind, tenant_id=tenant_id, at=at + int(after * SECOND), message_id=message_id, n=n)
        for kind, after, n in mail.events
    ]
    return found


def many(count: int, first_ago_s: float = 4 * DAY / SECOND) -> list[Mail]:
    """Make further messages, a minute apart, older than all others."""
    kinds = ("Your receipt", "Password changed", "New sign-in", "Weekly report", "Your booking")
    return [
        Mail(name=f"more-{n}", ago_s=first_ago_s + n * MINUTE / SECOND, sender="Acme <hello@acme.example>", subject=f"{kinds[n % 5]} #{n:04d}", to=(To(address=f"user{n}@example.net"),), text="Hello.")
        for n in range(count)
    ]  # fmt: skip


def pretend_dispatch(conn: Connection, now: Instant) -> None:
    """Hold one lease for ten minutes, so that explanations do not say that nobody delivers."""
    leases.take(conn, "seed", [0], now, now + 10 * MINUTE)


async def _fill(directory: Path) -> None:
    clock = SystemClock()
    engine = create_engine("", directory)
    try:
        tenant_id = await open_store(engine, clock)
        blobs = LocalBlobs(directory / "blobs")
        await seed(engine, blobs, tenant_id, clock.now())
        await seed(engine, blobs, tenant_id, clock.now(), many(60))
        await engine.write(lambda conn: pretend_dispatch(conn, clock.now()))
    finally:
        await engine.close()


if __name__ == "__main__":
    asyncio.run(_fill(Path(sys.argv[1])))
