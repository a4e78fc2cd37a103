"""
Fetching MTA-STS policies.

Arrives: a domain. Leaves: its policy; or `PolicyUnavailable` with a word of RFC 8460.
The certificate must be valid for `mta-sts.DOMAIN`, no redirect is followed, the answer must be 200 and `text/plain`, and 64 KiB are read
at most.
Standards: RFC 8461 §3.2, §3.3.
Not here: HTTP (http_client), the policy's text (wire.mta_sts), when to fetch (egress.smtp.mta_sts).
"""

import ssl
from enum import StrEnum
from typing import Final

from gatepost.net.dns import Resolver
from gatepost.net.http_client import HttpClient, HttpFault, HttpRequest
from gatepost.wire.mta_sts import MAX_POLICY_BYTES, InvalidPolicy, Policy, parse_policy

_HTTPS: Final = 443


class Trouble(StrEnum):
    """What went wrong, in the words of RFC 8460 §4.3.2.2."""

    FETCH = "sts-policy-fetch-error"
    INVALID = "sts-policy-invalid"
    CERTIFICATE = "sts-webpki-invalid"


class PolicyUnavailable(Exception):  # noqa: N818
    """There is no policy to be had now; the message says why."""

    def __init__(self, trouble: Trouble, detail: str) -> None:
        super().__init__(detail)
        self.trouble = trouble


class PolicyFetcher:
    """Asks policy hosts."""

    def __init__(self, *, resolver: Resolver | None, timeout_s: float, ca_file: str = "", port: int = _HTTPS) -> None:
        """
        Set up without asking anything.

        Args:
            ca_file: As for `HttpClient`.
        """
        self._client = HttpClient(timeout_s=timeout_s, max_bytes=MAX_POLICY_BYTES, ca_file=ca_file, resolver=resolver)
        self._port = port

    async def fetch(self, domain: str) -> Policy:
        """
        Fetch a domain's policy.

        Raises:
            PolicyUnavailable: There is none that counts.
        """
        place = f"mta-sts.{domain}" if self._port == _HTTPS else f"mta-sts.{domain}:{self._port}"
        request = HttpRequest(method="GET", url=f"https://{place}/.well-known/mta-sts.txt", headers={"Accept": "text/plain"})
        try:
            answer = await self._client.ask(request)
        except HttpFault as error:
            trouble = Trouble.CERTIFICATE if _is_certificate(error.__cause__) else Trouble.FETCH
            raise PolicyUnavailable(trouble, str(error)) from error
        if answer.status != 200:
            raise PolicyUnavailable(Trouble.FETCH, f"{request.url} answered {answer.status}; only 200 counts, and redirects do not")
        kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "text/plain":
            raise PolicyUnavailable(Trouble.FETCH, f"{request.url} is {kind[:60] or 'of no type'}, not text/plain")
        try:
            return parse_policy(answer.body)
        except InvalidPolicy as error:
            raise PolicyUnavailable(Trouble.INVALID, f"{request.url} is no policy: {error}") from error

    async def close(self) -> None:
        """Close connections."""
        await self._client.close()


def _is_certificate(error: BaseException | None) -> bool:
    return isinstance(getattr(error, "certificate_error", error), ssl.SSLCertVerificationError)
