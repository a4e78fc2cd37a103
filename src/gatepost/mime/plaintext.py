"""
HTML as readable text, for messages that come without a text part.

Arrives: HTML, as the caller wrote it. Leaves: text: links as `text (url)`, list items with a dash, table rows on a line.
Not here: cleaning HTML for display. The result is only ever shown as text, so nothing in it can run.
Bugs: no wrapping; nested tables lose their shape.
"""

import re

from selectolax.lexbor import LexborHTMLParser, LexborNode

from gatepost.mime.nesting import too_deep_at

_MAX_HTML = 2_000_000
_MAX_NODES = 50_000
_MAX_TEXT = 500_000
_HIDDEN = frozenset({"script", "style", "head", "template", "noscript", "title", "svg", "object", "iframe", "select", "textarea"})
_BLOCKS = frozenset(
    [
        "address",
        "article",
        "aside",
        "blockquote",
        "dd",
        "details",
        "div",
        "dl",
        "dt",
        "fieldset",
        "figcaption",
        "figure",
        "footer",
        "form",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "header",
        "hr",
        "main",
        "nav",
        "ol",
        "p",
        "pre",
        "section",
        "table",
        "tr",
        "ul",
        "li",
        "body",
        "html",
        "tbody",
        "thead",
        "tfoot",
        "center",
    ]
)
_SPACED = frozenset(["blockquote", "dl", "figure", "h1", "h2", "h3", "h4", "h5", "h6", "ol", "p", "pre", "table", "ul"])
_SPACES = re.compile(r"[ \t\r\n\f]+")
_BLANKS = re.compile(r"\n{3,}")


def text_of(html: str) -> str:
    """
    Turn HTML into text.

    Bounded: beyond 2 MB of HTML, 50,000 nodes or 500,000 characters of text the rest is left out. Never raises for
    what the HTML looks like.
    """
    html = html[:_MAX_HTML]
    root = LexborHTMLParser(html[: too_deep_at(html)]).root
    if root is None:
        return ""
    out = _Text()
    # A stack, not recursion: nesting is the sender's choice. A node is met twice, entering and leaving.
    stack: list[tuple[LexborNode, bool]] = [(root, False)]
    seen = 0
    while stack and seen < _MAX_NODES and out.length < _MAX_TEXT:
        node, is_leaving = stack.pop()
        seen += 1
        tag = node.tag or ""
        if is_leaving:
            out.leave(tag, node)
        elif tag == "-text":
            out.write(node.text_content or "")
        elif tag not in _HIDDEN and not tag.startswith(("-", "_", "!")):
            out.enter(tag, node)
            stack.append((node, True))
            stack += [(child, False) for child in _children(node)]
    return out.finish()


def _children(node: LexborNode) -> list[LexborNode]:
    found: list[LexborNode] = []
    child = node.last_child
    while child is not None and len(found) < _MAX_NODES:
        found.append(child)
        child = child.prev
    return found


class _Text:
    """Text that grows, with white space as a browser would show it."""

    def __init__(self) -> None:
        self.length = 0
        self._parts: list[str] = []
        self._at_line_start = True
        self._wants_space = False
        self._link_starts: list[int] = []
        self._preformatted = 0

    def write(self, text: str) -> None:
        if self._preformatted:
            self._put(text)
            self._at_line_start = text.endswith("\n")
            return
        text = _SPACES.sub(" ", text)
        if text.startswith(" ") and not self._at_line_start:
            self._wants_space = True
        core = text.strip(" ")
        if not core:
            return
        self._put(f" {core}" if self._wants_space and not self._at_line_start else core)
        self._at_line_start = False
        self._wants_space = text.endswith(" ")

    def enter(self, tag: str, node: LexborNode) -> None:
        if tag == "br":
            self._newline(force=True)
        elif tag == "hr":
            self._newline()
            self._put("-" * 20)
            self._at_line_start = False
        elif tag == "img":
            self.write(str(node.attributes.get("alt") or ""))
        elif tag == "a":
            self._link_starts.append(len(self._parts))
        elif tag in {"td", "th"} and not self._at_line_start:
            self._wants_space = True
            self.write(" | ") if self._parts and self._parts[-1].strip() else None
        elif tag in _BLOCKS:
            self._break(tag)
            if tag == "li":
                self._put("- ")
        self._preformatted += tag == "pre"

    def leave(self, tag: str, node: LexborNode) -> None:
        self._preformatted -= tag == "pre"
        if tag == "a" and self._link_starts:
            self._name_target(str(node.attributes.get("href") or "").strip(), self._link_starts.pop())
        elif tag in _BLOCKS:
            self._break(tag)

    def finish(self) -> str:
        lines = "".join(self._parts).split("\n")
        text = _BLANKS.sub("\n\n", "\n".join(line.rstrip(" \t|") for line in lines)).strip("\n ")
        return text[:_MAX_TEXT] + "\n" if text else ""

    def _name_target(self, href: str, start: int) -> None:
        """Add where a link leads, unless the text says it already or it is not for people."""
        shown = "".join(self._parts[start:]).strip()
        target = href.removeprefix("mailto:")
        if not href.lower().startswith(("http://", "https://", "mailto:", "tel:")) or shown == target:
            return
        if shown.rstrip("/") in {target.rstrip("/"), target.partition("://")[2].rstrip("/")}:
            return
        self.write(f" ({target[:2000]})" if shown else target[:2000])

    def _break(self, tag: str) -> None:
        if self._parts and self._parts[-1] == "- ":  # a block that begins a list item stays on its line
            return
        self._newline()
        if tag in _SPACED and self._parts:
            self._put("\n")

    def _newline(self, *, force: bool = False) -> None:
        if force or not self._at_line_start:
            self._put("\n")
        self._at_line_start = True
        self._wants_space = False

    def _put(self, text: str) -> None:
        self._parts.append(text)
        self.length += len(text)
