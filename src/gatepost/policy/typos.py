"""
Slips of the finger in a recipient's domain: `gmial.com` is `gmail.com`.

Arrives: a domain. Leaves: the domain that was meant, or None.
A hint for a domain that is real and another one does more harm than a missing hint, so only what fingers do counts: two
letters swapped, one left out, one doubled, a neighbour on the keyboard; in the name, in the ending, or one in each. The
first letter is taken as meant, short names are left alone, and an ending that exists is not questioned.
Not here: whether the domain takes mail (net.dns).
Bugs: keyboards other than QWERTY have other neighbours.
"""

from functools import lru_cache
from importlib.resources import files

_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_SHORTEST_NAME = 5
_LONGEST = 40
_REAL_ENDINGS = frozenset(
    [
        "app", "bet", "biz", "cam", "cat", "ceo", "com", "dev", "edu", "gov", "info", "int", "men", "mil", "mobi", "name", "net", "new",
        "one", "org", "pet", "pro", "red", "ren", "run", "tel", "vet", "win",
    ]
)  # fmt: skip
_SLIPS_THOUGH_REAL = {"com": frozenset({"co", "cm", "om"}), "net": frozenset({"ne"})}


def read_list(name: str) -> frozenset[str]:
    """Read one of this package's lists: an entry a line, `#` begins a comment."""
    return parse_list(files("gatepost.policy").joinpath(name).read_text("utf-8"))


def parse_list(text: str) -> frozenset[str]:
    """Read a list: an entry a line, in any case; `#` begins a comment."""
    entries = (line.partition("#")[0].strip().lower() for line in text.splitlines())
    return frozenset(entry for entry in entries if entry)


@lru_cache(maxsize=8192)
def meant(domain: str) -> str | None:
    """
    Say which mailbox provider's domain was meant; None where the domain may well be meant as it is.

    Args:
        domain: Lower-case A-labels.
    """
    if len(domain) > _LONGEST or domain in _common() or domain in _real():
        return None
    name, _, ending = domain.partition(".")
    for known in _in_order():
        known_name, _, known_ending = known.partition(".")
        if known_name[0] != name[:1]:
            continue
        is_same_name, is_same_ending = name == known_name, ending == known_ending
        if (is_same_name or _is_slip(name, known_name)) and (is_same_ending or _is_ending_slip(ending, known_ending)):
            return known
    return None


def _is_slip(typed: str, known: str) -> bool:
    return len(known) >= _SHORTEST_NAME and is_one_slip(typed, known)


def _is_ending_slip(typed: str, known: str) -> bool:
    if typed in _SLIPS_THOUGH_REAL.get(known, ()):
        return True
    last = typed.rpartition(".")[2]
    is_real = (len(last) == 2 and last.isalpha()) or last in _REAL_ENDINGS
    return not is_real and is_one_slip(typed, known)


def is_one_slip(typed: str, known: str) -> bool:
    """Tell whether one slip of a finger makes `typed` of `known`."""
    if abs(len(typed) - len(known)) > 1 or typed == known:
        return False
    at = next((n for n, (a, b) in enumerate(zip(typed, known, strict=False)) if a != b), min(len(typed), len(known)))
    if len(typed) < len(known):  # one left out
        return typed[at:] == known[at + 1 :]
    if len(typed) > len(known):  # one too many: doubled, or a neighbour hit with it
        around = (typed[at - 1 : at], typed[at + 1 : at + 2])
        return typed[at + 1 :] == known[at:] and any(_is_near(typed[at], key) for key in around)
    if typed[at : at + 2] == known[at : at + 2][::-1] and typed[at + 2 :] == known[at + 2 :]:  # swapped
        return True
    return typed[at + 1 :] == known[at + 1 :] and _is_near(typed[at], known[at])


def _is_near(a: str, b: str) -> bool:
    """Tell whether two keys are the same or touch."""
    if a == b:
        return True
    places = [(row, keys.index(key)) for key in (a, b) for row, keys in enumerate(_ROWS) if key and key in keys]
    if len(places) != 2:
        return False
    (row_a, column_a), (row_b, column_b) = places
    shift = column_a - column_b
    return abs(row_a - row_b) <= 1 and (abs(shift) <= 1 if row_a == row_b else shift in ({0, -1} if row_a > row_b else {0, 1}))


@lru_cache(maxsize=1)
def _common() -> frozenset[str]:
    return read_list("mailbox_domains.txt")


@lru_cache(maxsize=1)
def _in_order() -> tuple[str, ...]:
    return tuple(sorted(_common()))


@lru_cache(maxsize=1)
def _real() -> frozenset[str]:
    return read_list("real_domains.txt")
