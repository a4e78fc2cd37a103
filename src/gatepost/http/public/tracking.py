"""
`/t/o/TOKEN.gif`, `/t/c/TOKEN`, `/t/u/TOKEN`: what readers' mail programs ask for; nobody shows a key.

HEAD is answered like GET without content, and is a machine's. GET changes nothing for the recipient: only POST unsubscribes,
and it wants nothing but the token and `List-Unsubscribe=One-Click`: no cookie, no redirect (RFC 8058 §3.1, §3.2).
Standards: RFC 9110 §15.4.3 (302), §9.2.1 (safe methods), RFC 8058, RFC 7578 (form data).
Not here: who is believed, and what is written down (tracking.desk), the pages (preference_pages).
"""

import base64
import re
from functools import wraps
from typing import Final
from urllib.parse import parse_qsl

from gatepost.domain.errors import Refused
from gatepost.domain.statement import Said
from gatepost.http import decode
from gatepost.http.exchange import Answer, Endpoint, Parameter, Request, Run
from gatepost.http.public import preference_pages as pages
from gatepost.policy.visitors import Visit
from gatepost.store.errors import StorageUnavailable
from gatepost.tracking.desk import Ended, NotOurs, TrackingDesk

_GIF: Final = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")
_FORM_BYTES: Final = 16 * 1024
_PURPOSES: Final = (b"sec-purpose", b"purpose", b"x-purpose", b"x-moz")
_PART: Final = re.compile(rb'name="?([A-Za-z-]{1,40})"?[^\r\n]*\r\n(?:[^\r\n]+\r\n)*\r\n([^\r\n]{0,100})')
_RETRY_S: Final = 5


def _kindly(run: Run) -> Run:
    """Answer with a page for people where something does not work."""

    @wraps(run)
    async def answered(request: Request) -> Answer:
        try:
            return await run(request)
        except NotOurs:
            return pages.not_ours_page()
        except Ended:
            return pages.ended_page()
        except StorageUnavailable:
            return pages.busy_page(503, _RETRY_S)
        except Refused as refusal:
            if refusal.code != "rate_limited":
                raise
            return pages.busy_page(429, refusal.retry_after_s or _RETRY_S)

    return answered


async def show_pixel(request: Request) -> Answer:
    """Return the pixel, whoever asks; a mail program shows nothing else."""
    status = 200
    try:
        _desk(request).opened(str(request.params["name"]).removesuffix(".gif"), _visit(request, Said.OPENED))
    except NotOurs:
        status = 404
    except Ended:
        status = 410
    except Refused as refusal:
        return Answer(429, _GIF, b"image/gif", [(b"retry-after", b"%d" % (refusal.retry_after_s or _RETRY_S))])
    return Answer(status, _GIF, b"image/gif")


@_kindly
async def follow_link(request: Request) -> Answer:
    """Send a reader on to where the sender's link led."""
    target = await _desk(request).clicked(_token(request), _visit(request, Said.CLICKED))
    quiet = [(b"referrer-policy", b"no-referrer"), (b"x-robots-tag", b"noindex, nofollow")]
    return Answer(302, b"", b"text/plain; charset=utf-8", [(b"location", target.encode("ascii")), *quiet])


@_kindly
async def show_preference(request: Request) -> Answer:
    """Show what a recipient decided; changes nothing."""
    return pages.preference_page(await _desk(request).preference(_token(request), request.peer), is_news=False)


@_kindly
async def decide(request: Request) -> Answer:
    """Unsubscribe, by a mail program's one click or by the page's form; or take it back by the form."""
    desk = _desk(request)
    match await _wanted(request):
        case "one_click" | "unsubscribe" as asked:
            by = "one_click" if asked == "one_click" else "page"
            return pages.preference_page(await desk.unsubscribe(_token(request), request.peer, by=by), is_news=True)
        case "resubscribe":
            return pages.preference_page(await desk.resubscribe(_token(request), request.peer), is_news=True)
    return pages.unclear_page()


async def _wanted(request: Request) -> str:
    body = await decode.read_bytes(request, _FORM_BYTES)
    kind = (request.header(b"content-type") or "").lower()
    if kind.startswith("multipart/form-data"):
        fields = {found[1].decode().lower(): found[2].decode("latin-1") for found in _PART.finditer(body)}
    else:
        try:
            fields = {name.lower(): value for name, value in parse_qsl(body.decode("ascii"), max_num_fields=20)}
        except (UnicodeDecodeError, ValueError):
            return ""
    if fields.get("list-unsubscribe", "").strip().lower() == "one-click":
        return "one_click"
    return fields.get("action", "")


def _desk(request: Request) -> TrackingDesk:
    if request.deps.tracking is None:
        raise NotOurs
    return request.deps.tracking


def _token(request: Request) -> str:
    return str(request.params["token"])


def _visit(request: Request, said: Said) -> Visit:
    purposes = [value for name in _PURPOSES for value in request.headers(name)]
    return Visit(
        said=said, agent=" ".join(request.headers(b"user-agent"))[:1_000], peer=request.peer, purpose=" ".join(purposes)[:200],
        is_head=request.method == "HEAD",
    )  # fmt: skip


_TOKEN: Final = Parameter(name="token", place="path", description="as it stands in the mail", is_required=True)
_PAGES: Final = {404: "text/html", 410: "text/html", 429: "text/html", 503: "text/html"}

ENDPOINTS = [
    Endpoint(
        method="GET",
        path="/t/o/{name:str}",
        run=show_pixel,
        name="showPixel",
        summary="The pixel of a tracked message",
        tag="tracking",
        parameters=(Parameter(name="name", place="path", description="a token of ours, and `.gif`", is_required=True),),
        answers={200: "image/gif", 404: "image/gif", 410: "image/gif", 429: "image/gif"},
        is_public=True,
    ),
    Endpoint(
        method="GET",
        path="/t/c/{token:str}",
        run=follow_link,
        name="followLink",
        summary="A link of a tracked message",
        tag="tracking",
        description="Redirects to where the sender's link led. The target is stored with the message: nothing in the URL can change it.",
        parameters=(_TOKEN,),
        answers={302: "text/plain", **_PAGES},
        is_public=True,
    ),
    Endpoint(
        method="GET",
        path="/t/u/{token:str}",
        run=show_preference,
        name="showPreference",
        summary="The page of a recipient",
        tag="tracking",
        description="Shows whether mail of the stream comes, with a form. Looking at it changes nothing.",
        parameters=(_TOKEN,),
        answers={200: "text/html", **_PAGES},
        is_public=True,
    ),
    Endpoint(
        method="POST",
        path="/t/u/{token:str}",
        run=decide,
        name="unsubscribe",
        summary="Unsubscribe with one click (RFC 8058)",
        tag="tracking",
        description="Takes `List-Unsubscribe=One-Click` as mail programs send it, or the page's own form. No more mail of the message's"
        " stream is sent to the recipient. The same again changes nothing.",
        parameters=(_TOKEN,),
        answers={200: "text/html", 400: "text/html", **_PAGES},
        codes=("payload_too_large",),
        is_public=True,
    ),
]
