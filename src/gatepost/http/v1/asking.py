"""How the bodies of keys and OAuth clients become what `tenants.grants` reads."""

from typing import Any

from gatepost.clock import Instant
from gatepost.http import decode
from gatepost.http.exchange import Request
from gatepost.http.v1.bodies import CredentialBody, KeyChangesBody, RotateBody
from gatepost.http.v1.submission import moment_of
from gatepost.tenants import grants

_SMALL = 64 * 1024


def asked(body: CredentialBody) -> grants.Asked:
    """
    Read what a new key or client shall have.

    Raises:
        Refused: validation_failed: the time is none.
    """
    return grants.Asked(
        scopes=body.scopes,
        domains=body.domains,
        streams=body.streams,
        networks=body.cidrs,
        limits=body.limits,
        expires_at=moment_of(body.expires_at, "/expires_at"),
    )


def changes(body: KeyChangesBody, now: Instant) -> dict[str, Any]:
    """
    Read which restrictions of a key shall change, and to what.

    Raises:
        Refused: validation_failed, with the place of each fault.
    """
    read = grants.read(
        grants.Asked(
            scopes=body.scopes,
            domains=body.domains or (),
            streams=body.streams or (),
            networks=body.cidrs or (),
            limits=body.limits or (),
        ),
        now,
    )
    given = {"scopes": body.scopes, "domains": body.domains, "streams": body.streams, "networks": body.cidrs, "limits": body.limits}
    return {name: getattr(read, name) for name, value in given.items() if value is not None}


async def rotation(request: Request) -> RotateBody:
    """
    Read how to rotate; a request without a body takes the defaults.

    Raises:
        Refused: The body is none that fits.
    """
    if request.header(b"content-type") is None and request.header(b"content-length") in {None, "0"}:
        return RotateBody()
    return decode.read_json(await decode.read_body(request, _SMALL), RotateBody)
