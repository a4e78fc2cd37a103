"""
A tenant's suppression list on pages: look an address up, suppress one, lift it; the list as a file, out and in.

Arrives: forms and files. Leaves: calls of `tenants.suppressions` and `tenants.suppression_files`, which hold the rules; pages.
"""

import asyncio
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, Final

from litestar import Response
from litestar.response import Redirect
from sqlalchemy import Row

from gatepost.clock import DAY
from gatepost.dashboard.access import AnyRequest, actor_of, viewer_of
from gatepost.dashboard.forms import faults_of, read_form
from gatepost.dashboard.lists import Slice, cut, read_cursor
from gatepost.dashboard.page import Page
from gatepost.dashboard.shell import Shell
from gatepost.domain.access import Scope
from gatepost.domain.address import Address, InvalidAddress, parse_address
from gatepost.domain.errors import Fault, Refused, invalid
from gatepost.mime.checks import text_faults
from gatepost.observe import maillog
from gatepost.store import suppressions as stored
from gatepost.tenants import suppression_files as files
from gatepost.tenants.suppressions import Suppression, Suppressions

if TYPE_CHECKING:
    from gatepost.dashboard.routes import DashboardDeps

_MOST_ROWS: Final = 50_000
_MOST_BYTES: Final = 4 * 1024 * 1024
_LASTS: Final = {"": "for good", "1": "one day", "7": "seven days", "30": "thirty days", "90": "ninety days", "365": "one year"}
_REASONS: Final = ("manual", "unsubscribed", "complaint", "invalid_recipient")
_KINDS: Final = {"csv": files.CSV, "jsonl": files.JSON_LINES}
_DONE: Final = {
    "added": "The address is suppressed. Messages to it are refused, and what waits for it is not sent.",
    "renewed": "The address was suppressed already; the new words count.",
    "removed": "The address may get mail again.",
}
_LOOKS: Final = {"complaint": "bounced", "invalid_recipient": "bounced", "inactive": "expired", "unsubscribed": "suppressed"}


class SuppressionPages:
    """The pages about suppressed addresses."""

    def __init__(self, deps: "DashboardDeps", shell: Shell) -> None:
        self._deps = deps
        self._shell = shell
        self._lists = Suppressions(deps.engine, deps.clock)

    async def listing(self, request: AnyRequest) -> Response[Any]:
        """List suppressions, or those of one address."""
        return await self._list(request)

    async def add(self, request: AnyRequest) -> Response[Any]:
        """Suppress an address."""
        form, caller = await read_form(request), viewer_of(request).caller
        try:
            wanted = self._read(form, await self._streams(request))
            added = await self._lists.add(caller.tenant_id, [wanted], by=caller.actor)
        except Refused as refusal:
            return await self._list(request, refusal, form)
        renewed, by = 1 - added.new, caller.principal.id
        maillog.changed("suppressions_added", tenant_id=caller.tenant_id, added=added.new, renewed=renewed, by_key_id=by)
        return Redirect(f"/suppressions?done={'added' if added.new else 'renewed'}", status_code=303)

    async def remove(self, request: AnyRequest) -> Response[Any]:
        """Lift the suppression of an address in one stream, or the one for all."""
        form, caller = await read_form(request), viewer_of(request).caller
        try:
            address = parse_address(form.get("address", ""))
        except InvalidAddress:
            raise Refused("not_found", "this address is not suppressed") from None
        await self._lists.lift(caller.tenant_id, address, form.get("stream", stored.EVERY_STREAM), by=caller.actor)
        maillog.changed("suppression_removed", tenant_id=caller.tenant_id, address=maillog.mask(address.key), by_key_id=caller.principal.id)
        return Redirect("/suppressions?done=removed", status_code=303)

    async def export(self, request: AnyRequest) -> Response[Any]:
        """Give the list away as a file; the audit log tells of it."""
        name = request.query_params.get("format", "csv")
        kind = _KINDS.get(name)
        if kind is None:
            raise Refused("not_found", "there are csv and jsonl")
        rows = await self._lists.take_away(viewer_of(request).caller.tenant_id, None, _MOST_ROWS, by=actor_of(request))
        text = await asyncio.to_thread(lambda: files.heading(kind) + files.written(rows, kind))
        headers = {"Content-Disposition": f'attachment; filename="suppressions.{name}"'}
        return Response(content=text.encode(), media_type=f"{kind}; charset=utf-8", headers=headers)

    async def import_(self, request: AnyRequest) -> Response[Any]:
        """Add a file, or pasted lines, to the list."""
        form, caller = await request.form(), viewer_of(request).caller
        upload, pasted = form.get("file"), str(form.get("lines", ""))
        content = pasted.encode() if upload is None or isinstance(upload, str) else await upload.read() or pasted.encode()
        skips = form.get("skip") == "yes"
        try:
            read = await asyncio.to_thread(_read_file, content, await self._streams(request))
            if read.faults and not skips:
                raise invalid(*read.faults)
            added = await self._lists.add_in_parts(caller.tenant_id, read.suppressions, by=caller.actor)
        except Refused as refusal:
            return await self._list(request, refusal, {}, is_file=True)
        renewed = len(read.suppressions) - added
        maillog.changed("suppressions_imported", tenant_id=caller.tenant_id, added=added, renewed=renewed, by_key_id=caller.principal.id)
        return Redirect(f"/suppressions?new={added}&renewed={renewed}&skipped={read.faulty}", status_code=303)

    async def _streams(self, request: AnyRequest) -> Collection[str]:
        await self._deps.directory.refresh()
        return self._deps.directory.streams(viewer_of(request).caller.tenant_id)

    def _read(self, form: Mapping[str, str], streams: Collection[str]) -> Suppression:
        faults, address = text_faults("/note", form.get("note", ""), 1_000), None
        try:
            address = parse_address(form.get("address", "").strip())
        except InvalidAddress as error:
            faults.append(Fault("/address", "invalid_address", str(error)))
        stream, days = form.get("stream", "") or None, form.get("lasts", "")
        if stream is not None and stream not in streams:
            faults.append(Fault("/stream", "unknown_stream", f"there is no such stream; there are {', '.join(streams)}"))
        if form.get("reason", "manual") not in _REASONS:
            faults.append(Fault("/reason", "invalid_value", f"it is one of {', '.join(_REASONS)}"))
        if address is None or faults or days not in _LASTS:
            raise invalid(*faults or [Fault("/lasts", "invalid_value", "choose how long")])
        expires_at = self._deps.clock.now() + int(days) * DAY if days else None
        return Suppression(
            address=address, reason=form.get("reason", "manual"), stream=stream, note=form.get("note", "").strip(), expires_at=expires_at
        )

    async def _list(
        self, request: AnyRequest, refusal: Refused | None = None, values: Mapping[str, str] | None = None, *, is_file: bool = False
    ) -> Response[Any]:
        if refusal is not None and refusal.code not in {"validation_failed", "malformed_request", "payload_too_large"}:
            raise refusal
        query, tenant_id = request.query_params, viewer_of(request).caller.tenant_id
        address, is_searched = _asked(query.get("address", ""))
        page = await self._page(request, tenant_id, address) if address or not is_searched else Slice(rows=[])
        told = {name: int(query[name]) for name in ("new", "renewed", "skipped") if _is_count(query.get(name, ""))}
        faults = list(refusal.faults) if refusal is not None and is_file else []
        return self._shell.page(
            request, "suppressions.html", status=refusal.kind.status if refusal else 200, page=page, values=values or {},
            faults=faults_of(refusal) if refusal and not is_file else {}, file_faults=faults, file_refusal=refusal if is_file else None,
            asked=query.get("address", "").strip()[:254], is_searched=is_searched, is_address=address is not None, told=told,
            streams=sorted(await self._streams(request)), lasts=_LASTS, reasons=_REASONS, looks=_LOOKS, most_rows=_MOST_ROWS,
            done=_DONE.get(query.get("done", ""), ""),
        )  # fmt: skip

    async def _page(self, request: AnyRequest, tenant_id: str, address: Address | None) -> Slice:
        cursor = read_cursor(request, "sup")
        if address is not None:
            found: list[Row[Any]] = await self._deps.engine.read(lambda conn: stored.of_address(conn, tenant_id, address.key))
            return Slice(rows=found)
        rows = await self._deps.engine.read(
            lambda conn: stored.page(conn, tenant_id, cursor.size + 1, after=cursor.after, before=cursor.before)
        )  # fmt: skip
        return cut(rows, cursor)


def _read_file(content: bytes, streams: Collection[str]) -> files.Read:
    """
    Read a file of either kind: one that begins with a brace has JSON lines.

    Raises:
        Refused: malformed_request, payload_too_large.
    """
    kind = files.JSON_LINES if content.lstrip()[:1] == b"{" else files.CSV
    try:
        read = files.read_list(content, kind, streams)
    except files.NoList as error:
        raise Refused("malformed_request", str(error)) from None
    if len(read.suppressions) > _MOST_ROWS:
        raise Refused("payload_too_large", f"the file has more than {_MOST_ROWS:,} addresses; send it in parts")
    return read


def _asked(text: str) -> tuple[Address | None, bool]:
    """Return the address that is looked for, and whether anything is."""
    if not text.strip():
        return None, False
    try:
        return parse_address(text.strip()[:254]), True
    except InvalidAddress:
        return None, True


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 9


PAGES = (
    Page(method="GET", path="/suppressions", run=SuppressionPages.listing, scope=Scope.SUPPRESSIONS_READ),
    Page(method="POST", path="/suppressions", run=SuppressionPages.add, scope=Scope.SUPPRESSIONS_WRITE),
    Page(method="POST", path="/suppressions/remove", run=SuppressionPages.remove, scope=Scope.SUPPRESSIONS_WRITE),
    Page(method="GET", path="/suppressions/export", run=SuppressionPages.export, scope=Scope.SUPPRESSIONS_READ),
    Page(
        method="POST", path="/suppressions/import", run=SuppressionPages.import_, scope=Scope.SUPPRESSIONS_WRITE, most_bytes=_MOST_BYTES
    ),
)  # fmt: skip
