"""
Mailboxes of the settings, made ready: accounts with their secrets, what reads abuse mailboxes, what tests where mail lands.

Nothing here is loaded while the settings name no mailbox.
Not here: what is done with them (returns.mailbox, placement).
"""

import os
import socket
from pathlib import Path

from gatepost.accept import Acceptor
from gatepost.app.base import Base
from gatepost.clock import Clock
from gatepost.egress.smtp.tokens import TokenFailed, Tokens, parse_oauth
from gatepost.net.imap import ImapAccount, ImapTrouble, Secret
from gatepost.placement.daily import DailyTests
from gatepost.placement.looking import Looking
from gatepost.placement.sending import PlacementTests
from gatepost.returns.mailbox import AbuseMailbox
from gatepost.settings import InvalidSettings, Mailbox, Seed, parse_imap_url

STEP_S = 0.5
_DAILY_S = 30.0


def create_account(table: str, name: str, options: Mailbox | Seed, clock: Clock) -> ImapAccount:
    """
    Read the account of a mailbox.

    Args:
        table: `mailboxes` or `seeds`.

    Raises:
        InvalidSettings: There is no secret, or its file cannot be read; the text holds no secret.
    """
    url = parse_imap_url(options.url)
    plan = parse_oauth(name, options.oauth, url.user, url.host, table)
    text = _secret(table, name, options)
    if bool(plan) == bool(text):
        raise InvalidSettings(f"{table}.{name}.secret: give a password, or oauth")
    tokens = Tokens(plan, clock) if plan is not None else None

    async def secret() -> Secret:
        if tokens is None:
            return Secret(text=text)
        try:
            return Secret(text=(await tokens.credentials()).password, is_token=True)
        except TokenFailed as error:
            raise ImapTrouble(str(error), is_refused=error.is_refused) from None

    forget = tokens.forget if tokens is not None else lambda: None
    return ImapAccount(
        host=url.host, port=url.port, user=url.user, tls=url.tls, secret=secret, forget=forget,
        ca_file=options.ca_file, timeout_s=options.timeout_s,
    )  # fmt: skip


def _secret(table: str, name: str, options: Mailbox | Seed) -> str:
    if options.secret and options.secret_file:
        raise InvalidSettings(f"{table}.{name}.secret and {table}.{name}.secret_file: give one of them")
    text = options.secret
    if options.secret_file:
        try:
            text = Path(options.secret_file).read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidSettings(f"{table}.{name}.secret_file: {error}") from error
    if not text.isprintable():
        raise InvalidSettings(f"{table}.{name}.secret: it has characters that no password has")
    return text


def owner() -> str:
    """Name this process, as leases do."""
    return f"{socket.gethostname()}:{os.getpid()}"


def read_mailboxes(base: Base) -> None:
    """
    Read the abuse mailboxes from now on.

    Raises:
        InvalidSettings: An option of one has no valid value.
    """
    most, engine, clock = base.settings.inbound.message_bytes, base.engine, base.clock
    for name, options in base.settings.mailboxes.items():
        account, folder = create_account("mailboxes", name, options, clock), parse_imap_url(options.url).folder or "INBOX"
        box = AbuseMailbox(engine, clock, name, options, account, folder, most_bytes=most, owner=owner())
        base.repeat(f"mailbox {name}", STEP_S, box.watch)


def create_placement(base: Base, acceptor: Acceptor) -> PlacementTests | None:
    """
    Make what tests where mail lands, and let it look from now on; None where there are no seeds.

    Raises:
        InvalidSettings: An option of a seed has no valid value.
    """
    settings, engine, clock = base.settings, base.engine, base.clock
    if not settings.seeds:
        return None
    accounts = {name: create_account("seeds", name, seed, clock) for name, seed in settings.seeds.items()}
    tests = PlacementTests(engine, clock, settings, acceptor)
    base.repeat("placement", STEP_S, Looking(engine, clock, settings, accounts, owner()).step)
    if settings.placement.daily:
        base.repeat("daily placement tests", _DAILY_S, DailyTests(engine, clock, settings, tests).step)
    return tests
