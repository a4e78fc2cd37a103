"""
Which addresses are one and the same person's mailbox.

Arrives: an address key (lower-case local part, domain in A-labels). Leaves: the same text for all spellings that reach the
same mailbox: without what follows a plus sign, and at Gmail without dots.
Not here: suppressions, which go by the address as it was given: who wrote to `ann+news@` may suppress that one alone.
Bugs: other providers' separators, such as `-` at some, are not known here: there they may be part of a name.
"""

_DOTLESS = {"gmail.com": "gmail.com", "googlemail.com": "gmail.com"}
"""Domains where dots in the local part do not count, with the name under which they are known."""


def mailbox_of(address: str) -> str:
    """Return the one form of an address under which caps count it."""
    local, _, domain = address.rpartition("@")
    local = local.partition("+")[0] or local
    if domain in _DOTLESS:
        return f"{local.replace('.', '')}@{_DOTLESS[domain]}"
    return f"{local}@{domain}"
