"""
Access tokens at the doors: whose they are, and a memory of those whose signature was checked.

A token is checked in full once and is remembered by its SHA-256 until it ends; what may change meanwhile (it, its client,
its tenant) is asked anew at each request. Bad tokens are not remembered: an attacker has as many as they like.
Not here: our own tokens (tokens), those of outside issuers (issuers).
"""

import hashlib
from collections import OrderedDict
from collections.abc import Iterable

from gatepost.clock import Clock
from gatepost.domain.errors import Refused
from gatepost.tenants.issuers import OutsideToken, TrustedIssuer
from gatepost.tenants.tokens import OwnToken, Tokens
from gatepost.wire import jwt
from gatepost.wire.jwt import BadToken

_REMEMBERED = 4_096

Verified = OwnToken | OutsideToken


class AccessTokens:
    """Every token that this gateway takes."""

    def __init__(self, tokens: Tokens, issuers: Iterable[TrustedIssuer], clock: Clock) -> None:
        self._tokens = tokens
        self._issuers = {issuer.settings.url: issuer for issuer in issuers}
        self._clock = clock
        self._remembered: OrderedDict[bytes, Verified] = OrderedDict()

    async def verify(self, text: str) -> Verified:
        """
        Check a token's form, signature and claims.

        Raises:
            Refused: authentication_failed.
        """
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
        known = self._remembered.get(digest)
        if known is not None:
            if self._clock.now() < known.recheck_at:
                return known
            del self._remembered[digest]
        try:
            found = await self._verify(text)
        except BadToken as bad:
            raise Refused("authentication_failed", f"the token is not good: {bad}") from None
        self._remembered[digest] = found
        if len(self._remembered) > _REMEMBERED:
            self._remembered.popitem(last=False)
        return found

    async def own(self, text: str) -> OwnToken | None:
        """Return a token of ours; None when it is none, or has ended."""
        try:
            found = await self.verify(text)
        except Refused:
            return None
        return found if isinstance(found, OwnToken) else None

    async def _verify(self, text: str) -> Verified:
        parsed = jwt.parse(text)
        named = parsed.claims.get("iss")
        if named == self._tokens.issuer:
            return await self._tokens.verify(text, parsed)
        issuer = self._issuers.get(named) if isinstance(named, str) else None
        if issuer is None:
            raise BadToken("its issuer is not trusted here")
        return await issuer.verify(text, parsed)
