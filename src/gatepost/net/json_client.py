"""
JSON from another server over HTTPS: OpenID providers, key sets.

Arrives: a URL from the settings, or from what a server named there said. Leaves: the decoded object.
No redirect is followed, answers are bounded in size and time, and plain HTTP is spoken on this machine only.
Bugs: a connection is made for each request: these are few.
"""

import base64
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote_plus, urlsplit

import msgspec

_MAX_BYTES = 512 * 1024
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class FetchFailed(Exception):  # noqa: N818
    """The other server could not be asked, or its answer is no use; one sentence for an operator, without secrets."""


def is_safe_url(url: str) -> bool:
    """Tell whether a URL may be asked: over TLS, or on this machine."""
    try:
        parsed = urlsplit(url)
        is_here = parsed.hostname in _LOOPBACK
    except ValueError:
        return False
    return parsed.scheme in ({"https", "http"} if is_here else {"https"}) and bool(parsed.hostname) and parsed.username is None


async def get_json(url: str, *, timeout_s: float, bearer: str = "") -> dict[str, Any]:
    """
    Get a JSON object.

    Raises:
        FetchFailed: With the reason.
    """
    headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
    status, found = await _ask("GET", url, headers, None, timeout_s)
    if status != 200:
        raise FetchFailed(f"{_shown(url)} answered {status}")
    return found


async def post_form(
    url: str, fields: Mapping[str, str], *, timeout_s: float, basic: tuple[str, str] | None = None
) -> tuple[int, dict[str, Any]]:
    """
    Send a form; return the status and the JSON object that came back.

    Args:
        basic: User and password (RFC 6749 §2.3.1: form-encoded before they are joined).

    Raises:
        FetchFailed: With the reason.
    """
    headers = {}
    if basic is not None:
        joined = f"{quote_plus(basic[0])}:{quote_plus(basic[1])}"
        headers["Authorization"] = "Basic " + base64.b64encode(joined.encode()).decode()
    return await _ask("POST", url, headers, fields, timeout_s)


async def _ask(
    method: str, url: str, headers: dict[str, str], fields: Mapping[str, str] | None, timeout_s: float
) -> tuple[int, dict[str, Any]]:
    if not is_safe_url(url):
        raise FetchFailed(f"{_shown(url)} is not asked: only https:// is, and http:// on this machine")
    import aiohttp  # noqa: PLC0415 - most gateways ask nobody

    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=timeout_s), auto_decompress=False) as session,
            session.request(
                method, url, data=fields, headers={"Accept": "application/json", "Accept-Encoding": "identity", **headers},
                allow_redirects=False,
            ) as answer,
        ):  # fmt: skip
            body = bytearray()
            async for chunk in answer.content.iter_chunked(16_384):
                body += chunk
                if len(body) > _MAX_BYTES:
                    raise FetchFailed(f"{_shown(url)} answered with more than {_MAX_BYTES} bytes")
            return answer.status, msgspec.json.decode(bytes(body), type=dict[str, Any])
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise FetchFailed(f"{_shown(url)} cannot be reached: {type(error).__name__}") from error
    except (msgspec.DecodeError, RecursionError):
        raise FetchFailed(f"{_shown(url)} answered with something that is no JSON object") from None


def _shown(url: str) -> str:
    return url.partition("?")[0][:200]
