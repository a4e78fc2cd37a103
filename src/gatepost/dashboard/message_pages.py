"""One message: its head and tabs, its recipients' timelines, its content, and what can be done with it."""

import asyncio
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from litestar import MediaType, Response
from litestar.response import Redirect

from gatepost import ids
from gatepost.dashboard import preview, reads
from gatepost.dashboard.access import AnyRequest, actor_of, viewer_of
from gatepost.dashboard.content import SHOWN_SOURCE_BYTES, Found, Hidden
from gatepost.dashboard.live import Pulse
from gatepost.dashboard.page import Page
from gatepost.dashboard.shell import Shell, base_url
from gatepost.dashboard.views import RecipientView, breakdown, curl_for, offers, recipient_view, status_of
from gatepost.domain.access import Scope
from gatepost.domain.errors import Refused
from gatepost.explain import Explanation, explain
from gatepost.mime.parse import Parsed, part, read_message
from gatepost.observe import maillog

if TYPE_CHECKING:
    from gatepost.dashboard.routes import DashboardDeps

TABS = ("html", "text", "headers", "source", "files")
WIDTHS = ("375", "600", "full")
_MAX_INLINE = 20
_DONE = {"retry": "will be tried again at once", "cancel": "cancelled"}


class MessagePages:
    """The pages of one message."""

    def __init__(self, deps: "DashboardDeps", shell: Shell) -> None:
        self._deps = deps
        self._shell = shell
        self._pulse = Pulse(deps.engine, deps.clock)
        self._is_showing = deps.settings.http.show_content

    async def show(self, request: AnyRequest) -> Response[Any]:
        """Show a message; `tab`, `w` and `dark` say how."""
        message_id = _message_id(request)
        rows, told = await self._rows(viewer_of(request).tenant_id, message_id)
        content = rows.content
        # in a thread: a large message must not hold up the door that takes mail
        raw = await self._read(request, content) if isinstance(content, Found) else None
        values, parts = await asyncio.to_thread(_content_values, dict(request.query_params), raw)
        url = base_url(request, self._deps.settings.http.listen)
        seen = await self._pulse.latest(viewer_of(request).tenant_id, message_id)
        return self._shell.page(
            request, "message.html", message=rows.message, told=told, state=status_of(rows.recipients),
            breakdown=breakdown(rows.recipients), offers=offers(rows.recipients), content=rows.content,
            is_hidden=isinstance(rows.content, Hidden), seen=seen, done=_done(request),
            recipients=_recipient_views(rows, told),
            curl=curl_for(rows.message, rows.recipients, url, text=parts.text, html=parts.html),
            **values,
        )  # fmt: skip

    async def change(self, request: AnyRequest) -> Response[Any]:
        """Retry or cancel, then show the message again."""
        message_id = _message_id(request)
        form = await request.form()
        action, tenant_id = str(form.get("action", "")), viewer_of(request).tenant_id
        if action == "retry":
            count = await self._deps.control.retry(tenant_id, message_id, by=actor_of(request))
        elif action == "cancel":
            count = await self._deps.control.cancel(tenant_id, message_id, by=actor_of(request))
        else:
            raise Refused("malformed_request", "the form is not complete")
        maillog.changed(f"message_{action}", message_id=message_id, recipients=count, by=viewer_of(request).subject)
        return Redirect(f"/m/{message_id}?done={action}&count={count}", status_code=303)

    async def html(self, request: AnyRequest) -> Response[Any]:
        """Serve a message's HTML as a document that can do nothing."""
        raw = await self._raw(request)
        made = await asyncio.to_thread(_preview, raw, read_message(raw), is_dark=request.query_params.get("dark") == "1")
        if made is None:
            raise Refused("not_found", "this message has no HTML that can be shown")
        return Response(content=made.html, media_type=MediaType.HTML, headers={"Content-Security-Policy": preview.POLICY})

    async def raw(self, request: AnyRequest) -> Response[Any]:
        """Serve a message's bytes as a file."""
        message_id = _message_id(request)
        return _download(await self._raw(request), f"{message_id}.eml", "message/rfc822")

    async def file(self, request: AnyRequest) -> Response[Any]:
        """Serve one file of a message; it is never opened in the browser."""
        raw, n = await self._raw(request), request.path_params["n"]
        named = next((one.filename for one in read_message(raw).attachments if one.index == n), None)
        if named is None:
            raise Refused("not_found", "this message has no such file")
        return _download(part(raw, n), named, "application/octet-stream")

    async def _rows(self, tenant_id: str | None, message_id: str) -> tuple[reads.MessageRows, Explanation]:
        rows = await self._deps.engine.read(lambda conn: reads.message_rows(conn, tenant_id, message_id, show_content=self._is_showing))
        told = await explain(self._deps.engine, self._deps.clock, tenant_id, message_id)
        if rows is None or told is None:
            raise Refused("not_found", "there is no such message")
        return rows, told

    async def _raw(self, request: AnyRequest) -> bytes:
        message_id, tenant_id = _message_id(request), viewer_of(request).tenant_id
        content = await self._deps.engine.read(lambda conn: reads.content_of(conn, tenant_id, message_id, show_content=self._is_showing))
        if content is None:
            raise Refused("not_found", "there is no such message")
        if isinstance(content, Hidden):
            raise Refused("permission_denied", content.reason)
        return await self._read(request, content)

    async def _read(self, request: AnyRequest, content: Found) -> bytes:
        if content.is_real:
            message_id = _message_id(request)
            await self._deps.control.record_view(content.tenant_id, message_id, by=actor_of(request))
            maillog.changed("content_viewed", message_id=message_id, by=viewer_of(request).subject)
        return content.read(self._deps.blobs)


_ONE = "/m/{message_id:str}"
PAGES = (
    Page(method="GET", path=_ONE, run=MessagePages.show, scope=Scope.MESSAGES_READ),
    Page(method="POST", path=_ONE, run=MessagePages.change, scope=Scope.MESSAGES_WRITE),
    Page(method="GET", path=f"{_ONE}/html", run=MessagePages.html, scope=Scope.MESSAGES_READ),
    Page(method="GET", path=f"{_ONE}/raw", run=MessagePages.raw, scope=Scope.MESSAGES_READ),
    Page(method="GET", path=f"{_ONE}/files/{{n:int}}", run=MessagePages.file, scope=Scope.MESSAGES_READ),
)


def _message_id(request: AnyRequest) -> str:
    message_id: str = request.path_params["message_id"]
    if not ids.is_valid(message_id, "msg"):
        raise Refused("not_found", "there is no such message")
    return message_id


def _recipient_views(rows: reads.MessageRows, told: Explanation) -> list[RecipientView]:
    by_n = {one.n: one for one in told.recipients}
    known = [row for row in rows.recipients if row.n in by_n]
    return [recipient_view(row, by_n[row.n], rows.message, rows.attempts, rows.events) for row in known]


def _preview(raw: bytes, parts: Parsed, *, is_dark: bool) -> preview.Preview | None:
    if not parts.html:
        return None
    shown = [one for one in parts.attachments if one.content_id and f"cid:{one.content_id}" in parts.html][:_MAX_INLINE]
    images = {one.content_id or "": preview.Image(content_type=one.content_type, content=part(raw, one.index)) for one in shown}
    return preview.make_preview(parts.html, images, is_dark=is_dark)


def _content_values(query: dict[str, str], raw: bytes | None) -> tuple[dict[str, Any], Parsed]:
    """Collect what the tabs show; only the open one's is worked out."""
    parts = read_message(raw) if raw is not None else Parsed()
    tab = query.get("tab", "")
    if tab not in TABS or (tab == "html" and not parts.html):
        tab = "html" if parts.html else "text"
    width = query.get("w", "")
    values = {
        "tab": tab,
        "width": width if width in WIDTHS else "full",
        "dark": query.get("dark") == "1",
        "parts": parts,
        "preview": _preview(raw, parts, is_dark=False) if raw is not None and tab == "html" else None,
        "source": _source(raw) if raw is not None and tab == "source" else "",
        "source_cut": len(raw or b"") > SHOWN_SOURCE_BYTES,
        "raw_bytes": len(raw or b""),
    }
    return values, parts


def _source(raw: bytes) -> str:
    return raw[:SHOWN_SOURCE_BYTES].decode("utf-8", "replace").replace("\r\n", "\n")


def _done(request: AnyRequest) -> str:
    """Say what the last click did; only our own words, whatever the URL says."""
    action, count = request.query_params.get("done", ""), request.query_params.get("count", "")
    if action not in _DONE or not count.isdecimal() or len(count) > 5:
        return ""
    return f"{int(count)} recipient{'' if int(count) == 1 else 's'} {_DONE[action]}."


def _download(content: bytes, filename: str, content_type: str) -> Response[bytes]:
    name = filename.replace("/", "_").replace("\\", "_")[:200] or "file"
    headers = {
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}",
        "Content-Security-Policy": "sandbox; default-src 'none'",
    }
    return Response(content=content, media_type=content_type, headers=headers)
