"""
JSON from another server over HTTPS: OpenID providers, key sets.

Arrives: a URL from the settings, or from what a server named there said. Leaves: the decoded object.
Not here: sockets, limits of size and time, which URLs are safe (http_client).
Bugs: a connection is made for each request: these are few.
"""

import base64
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote_plus, urlencode

import msgspec

from gatepost.net.http_client import HttpClient, HttpFault, HttpRequest, is_safe_url, shown_url

__all__ = ["FetchFailed", "get_json", "is_safe_url", "post_form"]


class FetchFailed(Exception):  # noqa: N818
    """The other server could not be asked, or its answer is no use; one sentence for an operator, without secrets."""


async def get_json(url: str, *, timeout_s: float, bearer: str = "") -> dict[str, Any]:
    """
    Get a JSON object.

    Raises:
        FetchFailed: With the reason.
    """
    headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
    status, found = await _ask("GET", url, headers, None, timeout_s)
    if status != 200:
        raise FetchFailed(f"{shown_url(url)} answered {status}")
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
    if fields is not None:
        headers = {**headers, "Content-Type": "application/x-www-form-urlencoded"}
    body = b"" if fields is None else urlencode(fields).encode()
    client = HttpClient(timeout_s=timeout_s)
    try:
        answer = await client.ask(HttpRequest(method=method, url=url, headers=headers, body=body))
        return answer.status, msgspec.json.decode(answer.body, type=dict[str, Any])
    except HttpFault as error:
        raise FetchFailed(str(error)) from error
    except (msgspec.DecodeError, RecursionError):
        raise FetchFailed(f"{shown_url(url)} answered with something that is no JSON object") from None
    finally:
        await client.close()
