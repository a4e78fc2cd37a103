"""
Takes relays' hooks: believed first, then kept, then answered; read later by the feedback loop.

Arrives: a relay's name and a call. Leaves: a row of store.inbound; later statements. Nothing of a call that is not believed
is kept, and nothing is fetched for it (THREATS 40).
Not here: any provider's form (one module each), the way of HTTP (http.public.hooks).
"""

import hashlib
from collections.abc import Callable, Mapping
from typing import Final

from gatepost.clock import Clock
from gatepost.domain.errors import Refused
from gatepost.domain.statement import About, Statement
from gatepost.observe import maillog, metrics
from gatepost.returns.hooks.brevo import BrevoHook
from gatepost.returns.hooks.call import Hook, HookCall, NotBelieved, NotNow, Occurrence
from gatepost.returns.hooks.mailgun import MailgunHook
from gatepost.returns.hooks.mailjet import MailjetHook
from gatepost.returns.hooks.postmark import PostmarkHook
from gatepost.returns.hooks.resend import ResendHook
from gatepost.returns.hooks.sendgrid import SendGridHook
from gatepost.returns.hooks.ses import Fetch, SesHook
from gatepost.settings import Relay
from gatepost.store import inbound
from gatepost.store.engine import Engine
from gatepost.store.inbound import Arrived, Claimed

HOOKS: Final[Mapping[str, Callable[[str], Hook]]] = {
    "sendgrid": SendGridHook,
    "mailgun": MailgunHook,
    "postmark": PostmarkHook,
    "resend": ResendHook,
    "mailjet": MailjetHook,
    "brevo": BrevoHook,
}
"""By provider, those that need a secret only; `ses` needs a topic."""


def create_hooks(relays: Mapping[str, Relay], fetch: Fetch) -> dict[str, Hook]:
    """
    Make the hooks of the relays that have one.

    Raises:
        ValueError: An option has no valid value; the text names it and holds no secret.
    """
    found: dict[str, Hook] = {}
    for name, relay in relays.items():
        options = relay.hook
        if not (options.secret or options.topic):
            continue
        kind = options.provider or relay.url.partition("://")[0].lower()
        if kind == "ses":
            hook: Hook | None = _made(name, lambda topic=options.topic: SesHook(topic, fetch))  # type: ignore[misc]
        else:
            make = HOOKS.get(kind)
            hook = None if make is None else _made(name, lambda make=make, secret=options.secret: make(secret))  # type: ignore[misc]
        if hook is None:
            raise ValueError(f"relays.{name}.hook.provider: say whose hook it is: ses, {', '.join(sorted(HOOKS))}")
        found[name] = hook
    return found


def _made(name: str, make: Callable[[], Hook]) -> Hook:
    try:
        return make()
    except ValueError as error:
        raise ValueError(f"relays.{name}.{error}") from None


class HookDesk:
    """Takes calls, for one process."""

    def __init__(self, engine: Engine, clock: Clock, hooks: Mapping[str, Hook]) -> None:
        self._engine = engine
        self._clock = clock
        self._hooks = hooks

    async def take(self, relay: str, headers: Mapping[str, str], body: bytes, peer: str) -> None:
        """
        Keep a call that is believed; returns when it is on disk.

        Raises:
            Refused: not_found: this relay has no hook; authentication_failed; overloaded, where it cannot be told now.
            StorageUnavailable: It may or may not be on disk.
        """
        hook, now = self._hooks.get(relay), self._clock.now()
        if hook is None:
            raise Refused("not_found", "there is no such hook")
        try:
            details = await hook.verify(HookCall(headers=headers, body=body, now_s=now // 1000))
        except NotBelieved as error:
            metrics.reports.labels(relay, "not believed").inc()
            maillog.security("hook_refused", relay=relay, peer=peer, reason=str(error))
            raise Refused("authentication_failed", "this call is not believed") from None
        except (NotNow, OSError) as error:
            maillog.trouble("a relay's hook cannot be checked now", relay=relay, error=type(error).__name__)
            raise Refused("overloaded", "this call cannot be checked now", retry_after_s=30) from None
        arrived = Arrived(kind="hook", source=relay, details=details, body=body)
        await self._engine.write(lambda conn: inbound.put(conn, arrived, now))

    async def read(self, row: Claimed) -> list[Statement]:
        """
        Read a call that was kept.

        Raises:
            ValueError: It has no form that is known.
        """
        hook = self._hooks.get(row.source)
        if hook is None:
            return []
        return [_statement(row, one) for one in hook.read(row.body, row.details)]


def _statement(row: Claimed, one: Occurrence) -> Statement:
    mark = hashlib.sha256(f"{row.source}\0{one.event_id}\0{one.said}".encode()).hexdigest()[:40]
    return Statement(
        id=f"{row.source}/{mark}", said=one.said, by=row.source, at=row.received_at, category=one.category, rule=one.rule,
        stated=one.stated, about=About(address=one.address, relay=row.source, provider_ids=one.provider_ids), reply=one.reply,
        host=one.host, detail=one.detail,
    )  # fmt: skip
