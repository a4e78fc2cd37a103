"""
The register of OAuth clients: made, listed, given new secrets, revoked.

A client proves itself by a secret, of which only a SHA-256 is kept, or by assertions that it signs (private_key_jwt); then
it has no secret. Every change stands in the audit log, in its own transaction.
Not here: how a client proves itself (client_authentication), what it gets (authorization), who may give what (grants).
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from gatepost import ids
from gatepost.clock import Clock, Instant
from gatepost.domain.access import Actor, KeyMode, Principal
from gatepost.domain.errors import Fault, Refused, invalid
from gatepost.domain.tenant import OAuthClient
from gatepost.observe import maillog
from gatepost.store import audit, clients, last_use
from gatepost.store.engine import Engine
from gatepost.store.last_use import LastUse
from gatepost.tenants import grants
from gatepost.tenants.directory import Directory
from gatepost.tenants.grants import Restrictions
from gatepost.tenants.key_register import check_operator, facts_of, restrictions_of
from gatepost.tenants.keys import hash_secret, with_checksum
from gatepost.wire import jwt

_PREFIX = "gp_oauth_"


@dataclass(frozen=True, slots=True)
class MadeClient:
    """A client with its secret, which is shown this once; None when it signs assertions instead."""

    client: OAuthClient
    secret: str | None


class Clients:
    """The OAuth clients of all tenants."""

    def __init__(self, engine: Engine, clock: Clock, directory: Directory | None = None) -> None:
        """
        Args:
            directory: Told at once what changed; other processes look every second.
        """
        self._engine = engine
        self._clock = clock
        self._directory = directory

    async def create(
        self,
        tenant_id: str,
        name: str,
        mode: KeyMode,
        restrictions: Restrictions,
        *,
        by: Actor,
        maker: Principal | None,
        jwks: Mapping[str, Any] | None = None,
    ) -> MadeClient:
        """
        Make a client.

        Args:
            maker: Who gives of their own rights; None is the command line, which may give all.
            jwks: Public keys of a client that signs assertions; None gives it a secret.

        Raises:
            Refused: permission_denied when it would go beyond its maker; validation_failed when `jwks` is no key set.
            StorageUnavailable: Nothing changed.
        """
        if maker is not None:
            restrictions = grants.inherit(maker, restrictions)
            grants.check(maker, restrictions, mode)
        if jwks is not None:
            _check_keys(jwks)
        secret = with_checksum(_PREFIX) if jwks is None else None
        now = self._clock.now()
        fields = {field.name: getattr(restrictions, field.name) for field in dataclasses.fields(Restrictions)}
        hint = secret[-4:] if secret is not None else ""
        made = OAuthClient(id=ids.new("oac"), tenant_id=tenant_id, name=name, mode=mode, hint=hint, created_at=now, jwks=jwks, **fields)
        await self._engine.write(lambda conn: _insert(conn, made, secret, by, now))
        await self._tell("oauth_client_made", made, by)
        return MadeClient(made, secret)

    async def list(self, tenant_id: str) -> list[OAuthClient]:
        """
        List a tenant's clients, revoked ones too, the oldest first.

        Raises:
            StorageUnavailable: The database cannot be used now.
        """
        return await self._engine.read(lambda conn: clients.of_tenant(conn, tenant_id))

    async def get(self, tenant_id: str, client_id: str) -> OAuthClient:
        """
        Return a client.

        Raises:
            Refused: not_found.
            StorageUnavailable: The database cannot be used now.
        """
        return await self._engine.read(lambda conn: _find(conn, tenant_id, client_id))

    async def tenant_of(self, client_id: str) -> str | None:
        """
        Return the id of the tenant that a client belongs to.

        Raises:
            StorageUnavailable: The database cannot be used now.
        """
        return await self._engine.read(lambda conn: clients.tenant_of(conn, client_id))

    async def uses(self, found: Sequence[OAuthClient]) -> dict[str, LastUse]:
        """
        Look up when clients' tokens were used last; it may lag by half a minute.

        Raises:
            StorageUnavailable: The database cannot be used now.
        """
        return await self._engine.read(lambda conn: last_use.of(conn, [client.id for client in found]))

    async def rotate_secret(self, tenant_id: str, client_id: str, overlap_ms: int, *, by: Actor, maker: Principal | None) -> MadeClient:
        """
        Give a client a new secret; the old one is taken for the overlap, one that is older still no more.

        Raises:
            Refused: not_found; conflict when the client is over or has no secret; permission_denied when it can do more
                than its maker.
            StorageUnavailable: Nothing changed.
        """
        now = self._clock.now()
        rotated = await self._engine.write(lambda conn: _rotate(conn, tenant_id, client_id, overlap_ms, maker, by, now))
        await self._tell("oauth_client_rotated", rotated.client, by)
        return rotated

    async def revoke(self, tenant_id: str, client_id: str, *, by: Actor) -> None:
        """
        Revoke a client with all tokens that it has: refused from the next request on, within a second everywhere.

        Raises:
            Refused: not_found.
            StorageUnavailable: Nothing changed.
        """
        now = self._clock.now()
        revoked = await self._engine.write(lambda conn: _revoke(conn, tenant_id, client_id, by, now))
        await self._tell("oauth_client_revoked", revoked, by)

    async def _tell(self, what: str, client: OAuthClient, by: Actor) -> None:
        maillog.changed(what, tenant_id=client.tenant_id, client_id=client.id, by=by.id)
        if self._directory is not None:
            await self._directory.refresh()


def _check_keys(jwks: Mapping[str, Any]) -> None:
    try:
        jwt.read_keys(jwks)
    except ValueError as error:
        raise invalid(Fault("/jwks", "invalid_keys", str(error))) from None


def _insert(conn: Connection, made: OAuthClient, secret: str | None, by: Actor, now: Instant) -> None:
    check_operator(conn, made, made.tenant_id)
    clients.insert(conn, made, None if secret is None else hash_secret(secret))
    after = {**facts_of(made, made.name), "mode": made.mode.value, "has_jwks": made.jwks is not None}
    audit.append(conn, by, audit.Change(action="oauth_client.created", object_id=made.id, tenant_id=made.tenant_id, after=after), now)


def _find(conn: Connection, tenant_id: str, client_id: str) -> OAuthClient:
    found = clients.find(conn, tenant_id, client_id) if ids.is_valid(client_id, "oac") else None
    if found is None:
        raise Refused("not_found", "there is no such OAuth client")
    return found


def _rotate(
    conn: Connection, tenant_id: str, client_id: str, overlap_ms: int, maker: Principal | None, by: Actor, now: Instant
) -> MadeClient:
    old = _find(conn, tenant_id, client_id)
    if old.revoked_at is not None or (old.expires_at is not None and old.expires_at <= now):
        raise Refused("conflict", "the client is revoked or has expired; make a new one")
    if old.jwks is not None:
        raise Refused("conflict", "the client signs assertions and has no secret")
    if maker is not None:
        grants.check(maker, restrictions_of(old), old.mode)
    secret = with_checksum(_PREFIX)
    new = dataclasses.replace(old, hint=secret[-4:], previous_until=now + overlap_ms)
    clients.replace_secret(conn, client_id, hash_secret(secret), new.hint, now + overlap_ms)
    change = audit.Change(
        action="oauth_client.rotated",
        object_id=client_id,
        tenant_id=tenant_id,
        before={"hint": old.hint},
        after={"hint": new.hint, "previous_until": new.previous_until},
    )
    audit.append(conn, by, change, now)
    return MadeClient(new, secret)


def _revoke(conn: Connection, tenant_id: str, client_id: str, by: Actor, now: Instant) -> OAuthClient:
    found = _find(conn, tenant_id, client_id)
    if found.revoked_at is None:
        clients.revoke(conn, client_id, now)
        change = audit.Change(action="oauth_client.revoked", object_id=client_id, tenant_id=tenant_id, after={"revoked_at": now})
        audit.append(conn, by, change, now)
    return found
