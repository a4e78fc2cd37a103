"""
A tenant's webhooks: made, changed, tried and removed by API and command line; what was sent is listed, and sent again.

Arrives: what somebody wants of a webhook. Leaves: the webhook, stored with its entry in the audit log. Who delivers finds
out within a second.
Not here: delivering (webhooks), what a webhook is (domain.webhook).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import Connection, Row

from gatepost import ids
from gatepost.clock import Clock, Instant
from gatepost.domain.access import Actor, Principal
from gatepost.domain.errors import Fault, Refused, invalid
from gatepost.domain.event import Event, EventType
from gatepost.domain.stream import DEFAULTS
from gatepost.domain.webhook import EVERY, MOST_IN_BATCH, HookSecret, HookStatus, Webhook, is_filter, is_header
from gatepost.observe import maillog
from gatepost.policy.hook_targets import check_target
from gatepost.settings import Settings
from gatepost.store import audit, facts, hooks, streams, webhooks
from gatepost.store.audit import Change
from gatepost.store.engine import Engine
from gatepost.store.webhooks import Standing
from gatepost.wire import hook_signature

OVERLAP_S: Final = 86_400
"""How long a secret that is replaced goes on to sign, unless something else is asked for."""
_MOST_HEADERS: Final = 10
_MOST_SECRETS: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A webhook, and how it is doing."""

    webhook: Webhook
    standing: Standing

    @property
    def id(self) -> str:
        """The webhook's."""
        return self.webhook.id


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """
    Which deliveries are sent again.

    Attributes:
        since: From this instant on.
        until: Before this one.
        only_failed: Only those that were given up.
    """

    since: Instant | None = None
    until: Instant | None = None
    only_failed: bool = False


class WebhookRegister:
    """The webhooks of all tenants."""

    def __init__(self, engine: Engine, clock: Clock, settings: Settings) -> None:
        self._engine = engine
        self._clock = clock
        self._options = settings.webhooks

    async def create(self, tenant_id: str, values: Mapping[str, Any], *, by: Actor, maker: Principal | None = None) -> Webhook:
        """
        Make a webhook, told of what happens from now on.

        Args:
            values: `url`, and if wanted `description`, `events`, `streams`, `headers`, `batch_size`.
            maker: Who asks: cannot be told of more streams than it may use itself.

        Raises:
            Refused: validation_failed with the places; permission_denied; conflict when there are too many.
            StorageUnavailable: The database cannot be used now.
        """
        now = self._clock.now()
        empty = Webhook(id=ids.new("whk"), tenant_id=tenant_id, url="", created_at=now, changed_at=now)

        def run(conn: Connection) -> Webhook:
            if len(webhooks.of_tenant(conn, tenant_id)) >= self._options.max_per_tenant:
                raise Refused("conflict", f"a tenant has at most {self._options.max_per_tenant} webhooks")
            made = self._changed(conn, empty, values, maker)
            made = replace(made, secrets=(HookSecret(text=hook_signature.make_secret()),))
            webhooks.insert(conn, made)
            change = Change(action="webhook.created", object_id=made.id, tenant_id=tenant_id, after=_told(made))
            audit.append(conn, by, change, now)
            return made

        made = await self._engine.write(run)
        maillog.changed("webhook_created", tenant_id=tenant_id, webhook_id=made.id, by=by.id)
        return made

    async def every(self, tenant_id: str) -> list[View]:
        """
        List a tenant's webhooks, the newest first.

        Raises:
            StorageUnavailable: The database cannot be used now.
        """

        def run(conn: Connection) -> list[View]:
            found = webhooks.of_tenant(conn, tenant_id)
            standings = webhooks.standings(conn, [one.id for one in found])
            return [View(webhook=one, standing=standings[one.id]) for one in found]

        return await self._engine.read(run)

    async def get(self, tenant_id: str, webhook_id: str) -> View:
        """
        Return a webhook.

        Raises:
            Refused: not_found.
            StorageUnavailable: The database cannot be used now.
        """

        def run(conn: Connection) -> View:
            found = _found(conn, tenant_id, webhook_id)
            return View(webhook=found, standing=webhooks.standings(conn, [found.id])[found.id])

        return await self._engine.read(run)

    async def change(
        self, tenant_id: str, webhook_id: str, values: Mapping[str, Any], *, by: Actor, maker: Principal | None = None
    ) -> Webhook:  # fmt: skip
        """
        Change a webhook; what is not among the values stays.

        Args:
            values: As for `create`, and `enabled`: one that is switched on again goes on where it stopped.

        Raises:
            Refused: not_found; validation_failed with the places; permission_denied.
            StorageUnavailable: The database cannot be used now.
        """
        now = self._clock.now()

        def run(conn: Connection) -> Webhook:
            before = _found(conn, tenant_id, webhook_id, is_locking=True)
            changed = self._changed(conn, before, values, maker)
            if changed == before:
                return before
            changed = replace(changed, changed_at=_later(before, now))
            if values.get("enabled") is True:
                changed = replace(changed, disabled_at=None, disabled_reason="")
            elif values.get("enabled") is False and before.disabled_at is None:
                changed = replace(changed, disabled_at=now, disabled_reason="it was switched off")
            webhooks.update(conn, changed)
            change = Change(action="webhook.changed", object_id=webhook_id, tenant_id=tenant_id, before=_told(before), after=_told(changed))
            audit.append(conn, by, change, now)
            return changed

        changed = await self._engine.write(run)
        maillog.changed("webhook_changed", tenant_id=tenant_id, webhook_id=webhook_id, by=by.id)
        return changed

    async def delete(self, tenant_id: str, webhook_id: str, *, by: Actor) -> None:
        """
        Remove a webhook with its log.

        Raises:
            Refused: not_found.
            StorageUnavailable: The database cannot be used now.
        """

        def run(conn: Connection) -> None:
            before = _found(conn, tenant_id, webhook_id, is_locking=True)
            webhooks.delete(conn, webhook_id)
            change = Change(action="webhook.removed", object_id=webhook_id, tenant_id=tenant_id, before=_told(before))
            audit.append(conn, by, change, self._clock.now())

        await self._engine.write(run)
        maillog.changed("webhook_removed", tenant_id=tenant_id, webhook_id=webhook_id, by=by.id)

    async def rotate(self, tenant_id: str, webhook_id: str, overlap_s: int, *, by: Actor) -> Webhook:
        """
        Give a webhook a new secret.

        Args:
            overlap_s: How long calls are signed with the old one, too.

        Raises:
            Refused: not_found.
            StorageUnavailable: The database cannot be used now.
        """
        now = self._clock.now()

        def run(conn: Connection) -> Webhook:
            before = _found(conn, tenant_id, webhook_id, is_locking=True)
            until = now + overlap_s * 1000
            old = [replace(one, until=until if one.until is None else min(one.until, until)) for one in before.secrets]
            kept = [one for one in old if one.until is not None and one.until > now][: _MOST_SECRETS - 1]
            changed = replace(before, secrets=(HookSecret(text=hook_signature.make_secret()), *kept), changed_at=_later(before, now))
            webhooks.update(conn, changed)
            change = Change(action="webhook.secret_rotated", object_id=webhook_id, tenant_id=tenant_id, after={"overlap_s": overlap_s})
            audit.append(conn, by, change, now)
            return changed

        changed = await self._engine.write(run)
        maillog.changed("webhook_secret_rotated", tenant_id=tenant_id, webhook_id=webhook_id, by=by.id)
        return changed

    async def test(self, tenant_id: str, webhook_id: str, *, by: Actor) -> str:
        """
        Send a webhook an event of the type `webhook.test`, whatever it wants; return the event's id.

        Raises:
            Refused: not_found; conflict while it is switched off.
            StorageUnavailable: The database cannot be used now.
        """
        now = self._clock.now()

        def run(conn: Connection) -> str:
            found = _found(conn, tenant_id, webhook_id)
            if found.disabled_at is not None:
                raise Refused("conflict", "the webhook is switched off")
            data = {"webhook_id": webhook_id, "detail": "this is a test; nothing happened"}
            told = Event(id=ids.new("evt"), type=EventType.WEBHOOK_TEST, tenant_id=tenant_id, at=now, data=data)
            facts.insert_events(conn, [told])
            hooks.add(conn, found, told.id, told.type.value, now)
            audit.append(conn, by, Change(action="webhook.tested", object_id=webhook_id, tenant_id=tenant_id), now)
            return told.id

        return await self._engine.write(run)

    async def deliveries(
        self, tenant_id: str, webhook_id: str, limit: int, *, after: str | None = None, before: str | None = None,
        status: HookStatus | None = None,
    ) -> Sequence[Row[Any]]:  # fmt: skip
        """
        List what was sent to a webhook, or waits, the newest events first.

        Raises:
            Refused: not_found.
            StorageUnavailable: The database cannot be used now.
        """

        def run(conn: Connection) -> Sequence[Row[Any]]:
            _found(conn, tenant_id, webhook_id)
            return hooks.page(conn, webhook_id, limit, after=after, before=before, status=status.value if status else None)

        return await self._engine.read(run)

    async def failed(self, tenant_id: str, webhook_id: str, at_most: int) -> int:
        """
        Count the deliveries that were given up, up to a number: so many a replay of what failed would send again.

        Raises:
            Refused: not_found.
            StorageUnavailable: The database cannot be used now.
        """

        def run(conn: Connection) -> int:
            _found(conn, tenant_id, webhook_id)
            return hooks.count(conn, webhook_id, HookStatus.FAILED.value, at_most)

        return await self._engine.read(run)

    async def replay_one(self, tenant_id: str, webhook_id: str, event_id: str, *, by: Actor) -> Row[Any]:
        """
        Send one event again; one that waits is left as it is. Return its delivery.

        Raises:
            Refused: not_found; conflict while the webhook is switched off.
            StorageUnavailable: The database cannot be used now.
        """

        def run(conn: Connection) -> Row[Any]:
            _on(_found(conn, tenant_id, webhook_id))
            if hooks.get(conn, webhook_id, event_id) is None:
                raise Refused("not_found", "the log has no such delivery")
            count = hooks.replay(conn, webhook_id, self._clock.now(), event_id=event_id)
            self._note_replay(conn, tenant_id, webhook_id, {"event_id": event_id, "count": count}, by)
            found = hooks.get(conn, webhook_id, event_id)
            assert found is not None
            return found

        return await self._engine.write(run)

    async def replay(self, tenant_id: str, webhook_id: str, wanted: Range, *, by: Actor) -> int:
        """
        Send many events again; return how many.

        Raises:
            Refused: not_found; conflict while the webhook is switched off.
            StorageUnavailable: The database cannot be used now.
        """
        since = "" if wanted.since is None else ids.lower_bound("evt", wanted.since)
        until = "~" if wanted.until is None else ids.lower_bound("evt", wanted.until)
        status = HookStatus.FAILED if wanted.only_failed else None

        def run(conn: Connection) -> int:
            _on(_found(conn, tenant_id, webhook_id))
            count = hooks.replay(conn, webhook_id, self._clock.now(), since=since, until=until, status=status)
            told = {"since": wanted.since, "until": wanted.until, "only_failed": wanted.only_failed, "count": count}
            self._note_replay(conn, tenant_id, webhook_id, told, by)
            return count

        return await self._engine.write(run)

    def _note_replay(self, conn: Connection, tenant_id: str, webhook_id: str, told: Mapping[str, Any], by: Actor) -> None:
        audit.append(conn, by, Change(action="webhook.replayed", object_id=webhook_id, tenant_id=tenant_id, after=told), self._clock.now())

    def _changed(self, conn: Connection, before: Webhook, values: Mapping[str, Any], maker: Principal | None) -> Webhook:
        """
        Put new values in.

        Raises:
            Refused: validation_failed with every place; permission_denied.
        """
        if maker is not None and maker.domains:
            raise Refused("permission_denied", "a webhook is told of every domain, and this key is for some only")
        given = {name: values[name] for name in ("url", "description", "batch_size") if name in values}
        given |= {name: tuple(dict.fromkeys(values[name])) for name in ("events", "streams") if name in values}
        if "headers" in values:
            given["headers"] = dict(values["headers"])
        own = maker.streams if maker is not None else frozenset()
        if own and not given.get("streams", before.streams):
            given["streams"] = tuple(sorted(own))
        made = replace(before, **given)
        if faults := [*self._faults(made), *_stream_faults(made, {*DEFAULTS, *streams.of_tenant(conn, before.tenant_id)}, own)]:
            raise invalid(*faults)
        if "enabled" in values and values["enabled"] is not (before.disabled_at is None):
            return replace(made, disabled_at=None if values["enabled"] else self._clock.now())
        return made

    def _faults(self, made: Webhook) -> list[Fault]:
        found = []
        if len(made.url) > 2000:
            found.append(Fault("/url", "too_long", "a URL has at most 2,000 characters"))
        elif (wrong := check_target(made.url, self._options.allow_networks)) is not None:
            found.append(Fault("/url", "invalid_url", wrong))
        if not made.events:
            found.append(Fault("/events", "required", f"name at least one type of event, or {EVERY}"))
        found += [
            Fault(f"/events/{n}", "unknown_event", "this is no type of event, no family such as recipient.*, and not *")
            for n, one in enumerate(made.events)
            if not is_filter(one)
        ]
        if not 1 <= made.batch_size <= MOST_IN_BATCH:
            found.append(Fault("/batch_size", "out_of_range", f"from 1 to {MOST_IN_BATCH}"))
        if len(made.description) > 200 or not made.description.isprintable():
            found.append(Fault("/description", "invalid_text", "at most 200 characters, and no control characters"))
        return found + _header_faults(made.headers)


def _stream_faults(made: Webhook, known: Collection[str], own: Collection[str]) -> list[Fault]:
    found = []
    for n, one in enumerate(made.streams):
        if one not in known:
            found.append(Fault(f"/streams/{n}", "unknown_stream", f"there is no such stream; there are {', '.join(sorted(known))}"))
        elif own and one not in own:
            found.append(Fault(f"/streams/{n}", "stream_not_allowed", "this key may not use the stream"))
    return found


def _header_faults(headers: Mapping[str, str]) -> list[Fault]:
    found = []
    if len(headers) > _MOST_HEADERS:
        found.append(Fault("/headers", "too_many", f"at most {_MOST_HEADERS}"))
    if len({name.lower() for name in headers}) < len(headers):
        found.append(Fault("/headers", "duplicate_header", "a header stands twice"))
    for name, value in headers.items():
        place = f"/headers/{name[:80]}"
        if not is_header(name):
            found.append(Fault(place, "header_not_allowed", "only Authorization, X-API-Key and the like, and X-Webhook-… are sent"))
        elif not (value.isascii() and value.isprintable() and 0 < len(value) <= 1000 and value == value.strip()):
            found.append(Fault(place, "invalid_header", "1 to 1,000 printable ASCII characters, no blanks around them"))
    return found


def _found(conn: Connection, tenant_id: str, webhook_id: str, *, is_locking: bool = False) -> Webhook:
    found = webhooks.get(conn, webhook_id, tenant_id)
    if found is not None and is_locking:
        webhooks.lock(conn, webhook_id)  # first, as who delivers does: in another order the two could wait for each other
        found = webhooks.get(conn, webhook_id, tenant_id, is_locking=True)
    if found is None:
        raise Refused("not_found", "there is no such webhook")
    return found


def _on(found: Webhook) -> None:
    if found.disabled_at is not None:
        raise Refused("conflict", "the webhook is switched off; switch it on first")


def _later(before: Webhook, now: Instant) -> Instant:
    """Two changes never have the same instant: who delivers sees the second one by it."""
    return max(now, before.changed_at + 1)


def _told(webhook: Webhook) -> dict[str, Any]:
    """Describe a webhook for the audit log: a URL and headers may hold secrets."""
    host = webhook.url.partition("://")[2].partition("/")[0]
    return {
        "host": host, "description": webhook.description, "events": list(webhook.events), "streams": list(webhook.streams),
        "header_names": sorted(webhook.headers), "batch_size": webhook.batch_size, "enabled": webhook.disabled_at is None,
    }  # fmt: skip
