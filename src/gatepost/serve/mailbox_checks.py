"""
What `gatepost doctor` looks at in mailboxes over IMAP: can each be opened, and what did the gateway meet there?

Not here: reading their mail (returns.mailbox, placement.looking).
"""

import asyncio

from gatepost.app.database import create_engine
from gatepost.app.imap import create_account
from gatepost.app.secrets import unsealed
from gatepost.clock import MINUTE, SystemClock
from gatepost.net.imap import ImapTrouble, open_mailbox
from gatepost.serve.finding import Finding
from gatepost.settings import InvalidSettings, Loaded, Mailbox, Seed, parse_imap_url
from gatepost.store import mailboxes, opening
from gatepost.store.mailboxes import MailboxState
from gatepost.store.schema import REVISION

_SESSION_S = 20.0


def examine(loaded: Loaded) -> list[Finding]:
    """Open every mailbox and seed, without changing anything."""
    return asyncio.run(_examine(unsealed(loaded)))


async def _examine(loaded: Loaded) -> list[Finding]:
    settings, states = loaded.settings, await _states(loaded) if loaded.settings.mailboxes else {}
    boxes = [_look("mailboxes", name, one, [parse_imap_url(one.url).folder or "INBOX"]) for name, one in settings.mailboxes.items()]
    seeds = [_look("seeds", name, one, [one.inbox, *one.spam]) for name, one in settings.seeds.items()]
    found = await asyncio.gather(*boxes, *seeds)
    return [_with_state(one, states.get(one.check.removeprefix("mailbox "))) for one in found]


async def _states(loaded: Loaded) -> dict[str, MailboxState]:
    if not loaded.settings.database.url and not (loaded.data_dir / "gatepost.db").exists():
        return {}
    engine = create_engine(loaded)
    try:
        is_ours = await engine.read(opening.current_revision) == REVISION
        return await engine.read(mailboxes.states) if is_ours else {}
    finally:
        await engine.close()


async def _look(table: str, name: str, options: Mailbox | Seed, folders: list[str]) -> Finding:
    check = f"{'mailbox' if table == 'mailboxes' else 'seed'} {name}"
    advice = f"look at {table}.{name} in the settings"
    clock = SystemClock()
    try:
        async with open_mailbox(create_account(table, name, options, clock), clock, _SESSION_S) as session:
            counts = [(await session.select(folder, is_readonly=True)).messages for folder in folders]
            spam = await session.junk_folders() if isinstance(options, Seed) and not options.spam else []
    except (ImapTrouble, InvalidSettings) as error:
        return Finding(check, "failed", str(error), advice)
    if isinstance(options, Seed) and not (spam or options.spam):
        return Finding(check, "warning", "no folder of spam is found: spam would be called missing", f"set {table}.{name}.spam")
    told = ", ".join(f"{folder}: {count} messages" for folder, count in zip(folders, counts, strict=True))
    return Finding(check, "ok", told + (f"; spam: {', '.join(spam)}" if spam else ""))


def _with_state(finding: Finding, state: MailboxState | None) -> Finding:
    """Add what the running gateway met at the last look."""
    if state is None or not state.failures or finding.status != "ok":
        return finding
    minutes = (SystemClock().now() - (state.failing_since or state.checked_at)) // MINUTE
    return Finding(finding.check, "warning", f"{finding.detail}; the gateway could not read it for {minutes} minutes: {state.detail}")
