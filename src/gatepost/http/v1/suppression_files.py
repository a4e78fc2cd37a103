"""
The suppression list as a file: `GET /v1/suppressions/export`, `POST /v1/suppressions/import`; CSV or JSON Lines.

Not here: what files look like (tenants.suppression_files), single suppressions (suppressions).
"""

import asyncio

from msgspec import Struct

from gatepost import ids
from gatepost.domain.access import Scope
from gatepost.domain.errors import Fault, Refused, invalid
from gatepost.http import decode
from gatepost.http.exchange import Answer, Endpoint, Parameter, Request, as_json
from gatepost.observe import maillog
from gatepost.tenants import suppression_files as files
from gatepost.tenants.suppressions import Suppressions

_BYTES = 16 * 1024 * 1024
_MOST_ROWS = 50_000
_KINDS = {
    "text/csv": files.CSV, "application/jsonl": files.JSON_LINES, "application/x-ndjson": files.JSON_LINES,
    "application/x-jsonlines": files.JSON_LINES,
}  # fmt: skip


class SuppressionsImported(Struct, frozen=True, kw_only=True, tag_field="object", tag="suppression_import"):
    """
    What came of an import.

    Attributes:
        skipped: Lines with a fault, which `skip_invalid` left out.
    """

    added: int
    renewed: int
    skipped: int


async def export(request: Request) -> Answer:
    """Write the list, the newest first; where there is more, Link says how it goes on."""
    query = request.query("format", "after")
    kind = {"csv": files.CSV, "jsonl": files.JSON_LINES}.get(query.get("format", "csv"))
    after = query.get("after")
    if kind is None:
        raise invalid(Fault("format", "invalid_value", "csv or jsonl"))
    if after is not None and not ids.is_valid(after, "sup"):
        raise invalid(Fault("after", "invalid_value", "this is no cursor"))
    lists = Suppressions(request.deps.engine, request.deps.clock)
    rows = await lists.take_away(request.caller.tenant_id, after, _MOST_ROWS + 1, by=request.caller.actor)
    shown, name = rows[:_MOST_ROWS], f"suppressions.{query.get('format', 'csv')}"
    headers = [(b"content-disposition", f'attachment; filename="{name}"'.encode())]
    if len(rows) > _MOST_ROWS:
        url = f"/v1/suppressions/export?format={query.get('format', 'csv')}&after={shown[-1].id}"
        headers.append((b"link", f'<{url}>; rel="next"'.encode()))
    text = await asyncio.to_thread(lambda: files.heading(kind) + files.written(shown, kind))
    return Answer(200, text.encode(), b"text/csv; charset=utf-8; header=present" if kind == files.CSV else b"application/jsonl", headers)


async def import_(request: Request) -> Answer:
    """Read a list; with a faulty line nothing of it is taken, unless faulty lines are to be skipped."""
    query = request.query("skip_invalid", "reason")
    media, _ = decode.media_type_of(request)
    kind = _KINDS.get(media)
    if kind is None:
        raise Refused("unsupported_media_type", "send text/csv or application/jsonl")
    reason = query.get("reason", "imported")
    if not reason.isascii() or not reason.isidentifier() or reason != reason.lower() or len(reason) > 100:
        raise invalid(Fault("reason", "invalid_value", "a word such as manual, bounce, complaint, unsubscribe"))
    content = await decode.read_body(request, _BYTES, media)
    await request.deps.directory.refresh()
    streams = request.deps.directory.streams(request.caller.tenant_id)
    try:
        read = await asyncio.to_thread(files.read_list, content, kind, streams, reason)
    except files.NoList as error:
        raise Refused("malformed_request", str(error)) from None
    if len(read.suppressions) > _MOST_ROWS:
        raise Refused("payload_too_large", f"the file has more than {_MOST_ROWS} addresses; send it in parts")
    if read.faults and query.get("skip_invalid") != "true":
        raise invalid(*read.faults)
    lists = Suppressions(request.deps.engine, request.deps.clock)
    added = await lists.add_in_parts(request.caller.tenant_id, read.suppressions, by=request.caller.actor)
    renewed = len(read.suppressions) - added
    maillog.changed(
        "suppressions_imported", tenant_id=request.caller.tenant_id, added=added, renewed=renewed, by_key_id=request.caller.principal.id
    )  # fmt: skip
    return as_json(SuppressionsImported(added=added, renewed=renewed, skipped=read.faulty))


ENDPOINTS = [
    Endpoint(
        method="GET",
        path="/v1/suppressions/export",
        run=export,
        name="exportSuppressions",
        scope=Scope.SUPPRESSIONS_READ,
        summary="Take the suppression list away as a file",
        tag="suppressions",
        description="At most 50,000 lines; Link leads on. The audit log tells of it. Cells that a spreadsheet would compute begin with an"
        " apostrophe.",
        answers={200: ("text/csv", "application/jsonl")},
        answer_headers={"Link": "how it goes on"},
        parameters=(
            Parameter(name="format", place="query", description="csv or jsonl", schema={"type": "string", "enum": ["csv", "jsonl"]}),
            Parameter(name="after", place="query", description="from Link", schema={"type": "string", "maxLength": 40}),
        ),
        codes=("validation_failed",),
    ),
    Endpoint(
        method="POST",
        path="/v1/suppressions/import",
        run=import_,
        name="importSuppressions",
        scope=Scope.SUPPRESSIONS_WRITE,
        summary="Add a file to the suppression list",
        tag="suppressions",
        description="CSV with a heading (address or email; stream, reason, note, expires_at), or JSON Lines; at most 50,000 addresses."
        " Exports of SendGrid, Mailgun, Postmark and others are understood.",
        body=bytes,
        body_type="text/csv",
        answers={200: SuppressionsImported},
        parameters=(
            Parameter(
                name="skip_invalid", place="query", description="true leaves faulty lines out, else they refuse the file",
                schema={"type": "string", "enum": ["true", "false"]},
            ),
            Parameter(name="reason", place="query", description="of lines without one", schema={"type": "string", "maxLength": 100}),
        ),
        codes=("validation_failed", "malformed_request", "payload_too_large", "unsupported_media_type"),
    ),
]  # fmt: skip
