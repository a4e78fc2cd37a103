"""
How deep the elements of HTML nest, told before a parser sees it: a parser's time is quadratic in the depth.

Arrives: HTML, as somebody wrote it. Leaves: where it gets deeper than any real message is.
Not here: parsing. It is an estimate from the tags alone, in one pass; elements that close themselves do not count.
"""

import re

_MAX_DEPTH = 500
_TAG = re.compile(r"<(/?)([A-Za-z][A-Za-z0-9-]*)")
_NEVER_DEEP = frozenset(
    {"area", "base", "br", "col", "dd", "dt", "hr", "img", "input", "li", "link", "meta"}
    | {"option", "p", "source", "tbody", "td", "tfoot", "th", "thead", "tr", "wbr"}
)


def too_deep_at(html: str) -> int | None:
    """Tell the place of the first tag that nests too deep, or None."""
    if html.count("<") <= _MAX_DEPTH:
        return None
    depth = 0
    for tag in _TAG.finditer(html):
        if tag[2].lower() not in _NEVER_DEEP:
            depth = max(0, depth - 1) if tag[1] else depth + 1
            if depth > _MAX_DEPTH:
                return tag.start()
    return None
