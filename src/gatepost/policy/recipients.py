"""
What an address alone tells: a mailbox that is thrown away after use, a task instead of a person.

Standards: RFC 2142 (mailbox names of tasks), RFC 5233 (`local+detail`).
Not here: slips of the finger (typos), whether the domain takes mail (net.dns).
"""

from functools import lru_cache

from gatepost.policy.typos import read_list


@lru_cache(maxsize=1)
def disposable_domains() -> frozenset[str]:
    """Return the known providers of mailboxes that are thrown away."""
    return read_list("disposable.txt")


def is_disposable(domain: str, known: frozenset[str]) -> bool:
    """
    Tell whether a domain, or one that it lies under, is in a list.

    Args:
        domain: Lower-case A-labels.
    """
    while domain:
        if domain in known:
            return True
        domain = domain.partition(".")[2]
    return False


def is_role(local: str) -> bool:
    """Tell whether a local part names a task instead of a person, whatever detail stands behind its `+`."""
    return local.partition("+")[0].lower() in _roles()


@lru_cache(maxsize=1)
def _roles() -> frozenset[str]:
    return read_list("roles.txt")
