"""
What became of the demo's messages: waits, checks, and shows.

Leaves: a table, and a list of everything that was not as it should be.
"""

import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from rich.console import Console
from rich.table import Table

from gatepost.clock import SystemClock, parse_iso
from gatepost.demo.house import House
from gatepost.demo.samples import NEVER, Api, Sent
from gatepost.wire.dkim_verify import verify

_PATIENCE_S = 40.0
_STYLE = {"delivered": "green", "deferred": "yellow", "bounced": "red"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One recipient's end."""

    address: str
    via: str
    status: str
    attempts: int
    took_s: float
    dkim: str


def wait_until_over(api: Api, sent: list[Sent]) -> None:
    """Wait until every recipient is where it should be, or time is up."""
    deadline = time.monotonic() + _PATIENCE_S
    waiting = list(sent)
    while waiting and time.monotonic() < deadline:
        waiting = [one for one in waiting if not _is_over(api.get(f"/v1/messages/{one.message_id}"), one)]
        if waiting:
            time.sleep(0.1)


def _is_over(message: dict[str, Any], sent: Sent) -> bool:
    return all(one["status"] == sent.expected.get(one["address"]) for one in message["recipients"])


def look(house: House, api: Api, sent: list[Sent]) -> tuple[list[Row], list[str]]:
    """Read what became of everything; return the rows to show, and what is wrong."""
    rows, faults = [], []
    for one in sent:
        faults += [f"{one.message_id}: {fault}" for fault in one.faults]
        message = api.get(f"/v1/messages/{one.message_id}")
        found = {recipient["address"]: recipient for recipient in message["recipients"]}
        for address, expected in one.expected.items():
            row, wrong = _look_at(house, api, one, message, found.get(address), address, expected)
            rows.append(row)
            faults += [f"{address} ({one.message_id}): {fault}" for fault in wrong]
    return rows, faults


def _look_at(
    house: House, api: Api, sent: Sent, message: dict[str, Any], recipient: dict[str, Any] | None, address: str, expected: str
) -> tuple[Row, list[str]]:
    if recipient is None:
        return Row(address=address, via=sent.via, status="missing", attempts=0, took_s=0, dkim=""), ["it is not among the recipients"]
    faults = [] if recipient["status"] == expected else [f"is {recipient['status']}, should be {expected}"]
    dkim = ""
    if recipient["status"] == "delivered":
        dkim, wrong = _check_signatures(house, api, sent.message_id, recipient["id"])
        faults += wrong
    due_at = parse_iso(message["scheduled_at"] or message["created_at"])
    took_s = (parse_iso(recipient["final_at"] or recipient["updated_at"]) - due_at) / 1000
    return Row(address=address, via=sent.via, status=recipient["status"], attempts=recipient["attempts"], took_s=took_s, dkim=dkim), faults


def _check_signatures(house: House, api: Api, message_id: str, recipient_id: str) -> tuple[str, list[str]]:
    """Check the signatures of the exact bytes that the sandbox captured."""
    content, _ = api.ask("GET", f"/v1/messages/{message_id}/raw?recipient={quote(recipient_id)}")
    verdicts = verify(content, house.records.get, SystemClock().now())
    faults = [f"DKIM {verdict.algorithm}: {verdict.fault}" for verdict in verdicts if not verdict.is_valid]
    if len(verdicts) < len(house.records):
        faults.append(f"it has {len(verdicts)} DKIM signatures instead of {len(house.records)}")
    return "valid: " + ", ".join(verdict.algorithm.partition("-")[0] for verdict in verdicts) if not faults else "NOT VALID", faults


def show(console: Console, api: Api, rows: list[Row], sent: list[Sent], faults: list[str]) -> None:
    """Print the table, what is said about those who wait, and what is wrong."""
    table = Table("recipient", "came in over", "status", "attempts", "after", "DKIM", header_style="bold", box=None, padding=(0, 2, 0, 0))
    for row in rows:
        style = _STYLE.get(row.status, "")
        status = f"[{style}]{row.status}[/]" if style else row.status
        table.add_row(row.address, row.via, status, str(row.attempts), _after(row), row.dkim)
    console.print(table)
    for one in sent:
        if NEVER in one.expected.values():
            told = api.get(f"/v1/messages/{one.message_id}/explain")
            console.print(f"\n{', '.join(one.expected)}: {told['sentence']}", markup=False)
    for fault in faults:
        console.print(f"NOT AS IT SHOULD BE: {fault}", style="red", markup=False)


def _after(row: Row) -> str:
    return "waits" if row.status == NEVER else f"{row.took_s:.2f} s"
