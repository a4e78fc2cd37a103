"""
Links of an HTML body that lead elsewhere than they say.

Arrives: HTML. Leaves: what is wrong with its links, each kind once.
Standards: RFC 3986; see lookalike for the hosts.
Not here: scripts (active).
Bugs: there is no list of public suffixes: two domains count as one where their last two labels are the same, or the last
three under endings such as co.uk.
"""

import re

from selectolax.lexbor import LexborHTMLParser, LexborNode

from gatepost.policy.lookalike import Trouble, a_labels, host_of, trouble_of_url

MAX_LINKS = 2_000
_SHOWN_DOMAIN = re.compile(
    r"\s*(?:(?:https?:)?//)?(?:[^\s/@]{1,100}@)?((?:[\w-]{1,63}\.)+[^\W\d_]{2,24})(?::[0-9]{1,5})?(?:[/?#]\S*)?\s*", re.IGNORECASE
)
_SECOND_LEVEL = frozenset({"co", "com", "net", "org", "ac", "edu", "gov", "gob", "go", "or", "ne", "nom", "id"})


def troubles(html: str) -> list[Trouble]:
    """Find what is wrong with the links, in order of appearance; each kind once."""
    if "href" not in html.lower():
        return []
    found: dict[str, str] = {}
    nodes = LexborHTMLParser(html).css("a[href], area[href], form[action]")
    for node in nodes[:MAX_LINKS]:
        for code, detail in _of_link(node):
            found.setdefault(code, detail)
    return list(found.items())


def _of_link(node: LexborNode) -> list[Trouble]:
    url = node.attributes.get("href") or node.attributes.get("action") or ""
    found = []
    trouble = trouble_of_url(url)
    if trouble is not None:
        found.append((trouble[0], f"a link {trouble[1]}"))
    text = _SHOWN_DOMAIN.fullmatch(node.text(deep=True)[:300]) if node.tag == "a" else None
    host = host_of(url)
    if text and host and not is_same_site(a_labels(text[1]), host):
        found.append(("link_text_differs", f"a link shows {text[1][:80]} and leads to {host[:80]}"))
    return found


def is_same_site(a: str, b: str) -> bool:
    """Tell whether two hosts are of one registered domain, as far as their labels say."""
    return a == b or _site(a) == _site(b)


def _site(host: str) -> str:
    labels = host.split(".")
    count = 3 if len(labels) > 2 and len(labels[-1]) == 2 and labels[-2] in _SECOND_LEVEL else 2
    return ".".join(labels[-count:])
