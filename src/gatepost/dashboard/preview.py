"""
A message's HTML, made fit to be shown inside the pages.

Arrives: HTML that anybody may have written. Leaves: a document for an iframe with `sandbox=""` and the policy below.
The sandbox and the policy are what keeps it harmless; the cleaning here removes what a policy cannot forbid (prefetch,
preconnect, refresh, navigation by a link), counts what stays blocked, and puts inline images into the document itself as
`data:`, so that not even this server is asked for anything.
Bugs: what is blocked inside `image-set` counts once for each set and once for each `url` in it.
"""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Final

from selectolax.lexbor import LexborHTMLParser, LexborNode

from gatepost.mime.nesting import too_deep_at

POLICY: Final = (
    "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)

_MAX_HTML = 2_000_000
_MAX_LINKS = 200
_MAX_INLINE_BYTES = 12 * 1024 * 1024
_IMAGES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp", "image/avif", "image/bmp", "image/x-icon"})
_GONE = (
    "script,noscript,template,link,meta,base,title,iframe,frame,frameset,object,embed,applet,portal,param,svg,math,"
    "audio,video,source,track,dialog,fencedframe"
)
_RESOURCES = frozenset({"src", "srcset", "background", "poster", "lowsrc", "dynsrc", "data", "imagesrcset"})
_EXTRA = frozenset({"srcset", "imagesrcset", "lowsrc", "dynsrc"})
_DROPPED = frozenset(
    {
        "action",
        "formaction",
        "ping",
        "target",
        "srcdoc",
        "autofocus",
        "longdesc",
        "cite",
        "manifest",
        "popover",
        "popovertarget",
        "http-equiv",
    }
)
_CSS_URL = re.compile(r"""url\(\s*(?:"([^"]*)"|'([^']*)'|([^)]*?))\s*\)""", re.IGNORECASE)
_CSS_ESCAPE = re.compile(r"\\0{0,4}([46][1-9a-f]|[57][0-9a])[ \t\r\n\f]?", re.IGNORECASE)
_CSS_IMAGE_SET = re.compile(r"(?:-webkit-)?image-set\(", re.IGNORECASE)
_CSS_IMPORT = re.compile(r"@import\b[^;]*;?", re.IGNORECASE)
_DATA_IMAGE = re.compile(r"data:image/(?:png|jpe?g|gif|webp|avif|bmp|x-icon)[;,]", re.IGNORECASE)
_FRAME_STYLE = (
    "body{margin:16px;font:14px/1.5 system-ui,sans-serif;overflow-wrap:anywhere}"
    "img{max-width:100%}img:not([src]){outline:1px dashed #98a1ab;outline-offset:-1px;background:#98a1ab22;min-width:16px;min-height:16px}"
    ":where(a[title]){color:#0b57d0;text-decoration:underline;cursor:help}"
)
_DARK_STYLE = "img[src]{filter:invert(1) hue-rotate(180deg)}"  # the frame around inverts everything; pictures are turned back


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image that came with the message."""

    content_type: str
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """Where a link leads, and the words that it stands behind."""

    url: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """
    A document to show.

    Attributes:
        blocked: Remote images and styles that were left out.
        links: The links, which do nothing in the preview; at most 200.
    """

    html: str
    blocked: int = 0
    links: tuple[Link, ...] = ()


def make_preview(html: str, images: Mapping[str, Image], *, is_dark: bool = False) -> Preview | None:
    """
    Make a document of a message's HTML; None when it nests deeper than a reader would follow.

    Args:
        images: By Content-ID, without angle brackets.
        is_dark: Show it as apps do that turn light messages dark.
    """
    html = html[:_MAX_HTML]
    if too_deep_at(html) is not None:
        return None
    parser = LexborHTMLParser(html)
    cleaner = _Cleaner(images)
    for node in parser.css(_GONE):
        node.decompose()
    for node in parser.css("style"):
        cleaner.take_style(node)
    for node in parser.css("*"):
        cleaner.clean(node)
    body = parser.body.html or "" if parser.body is not None else ""
    doctype = "<!doctype html>" if html.lstrip()[:9].lower() == "<!doctype" else ""
    style = f"<style>{_FRAME_STYLE}{_DARK_STYLE if is_dark else ''}</style>"
    head = f'<meta charset="utf-8"><title>Preview</title>{style}{"".join(cleaner.styles)}'
    document = f"{doctype}<html{_language(parser.root)}><head>{head}</head>{body}</html>"
    return Preview(html=document, blocked=cleaner.blocked, links=tuple(cleaner.links))


def _language(root: LexborNode | None) -> str:
    attributes = root.attributes if root is not None else {}
    return "".join(f' {name}="{escape(attributes[name] or "")}"' for name in ("lang", "dir") if attributes.get(name))


class _Cleaner:
    """Cleans one document's elements and keeps count."""

    def __init__(self, images: Mapping[str, Image]) -> None:
        self.blocked = 0
        self.links: list[Link] = []
        self.styles: list[str] = []
        self._images = images
        self._room = _MAX_INLINE_BYTES

    def clean(self, node: LexborNode) -> None:
        """Clean an element's attributes."""
        attributes = dict(node.attributes)
        for name, value in attributes.items():
            if name in _EXTRA and "src" in attributes:
                del node.attrs[name]  # other sizes of the same image: one image, counted once
            else:
                self._attribute(node, name.lower(), name, value or "")

    def take_style(self, node: LexborNode) -> None:
        """Move a style element's rules out of the tree, cleaned."""
        css, media = self._css(node.text(deep=True) or ""), node.attributes.get("media") or ""
        attribute = f' media="{escape(media)}"' if media else ""
        self.styles.append(f"<style{attribute}>{css.replace('</', '')}</style>")
        node.decompose()

    def _attribute(self, node: LexborNode, lowered: str, name: str, value: str) -> None:
        if lowered == "href" or lowered.endswith(":href"):
            self._link(node, name, value)
        elif lowered in _RESOURCES:
            self._resource(node, lowered, name, value)
        elif lowered == "style":
            node.attrs[name] = self._css(value)
        elif lowered in _DROPPED or lowered.startswith("on"):
            del node.attrs[name]

    def _link(self, node: LexborNode, name: str, value: str) -> None:
        del node.attrs[name]
        url = value.strip()
        if not url.lower().startswith(("http://", "https://", "mailto:", "tel:")):
            return
        node.attrs["title"] = url
        if len(self.links) < _MAX_LINKS:
            self.links.append(Link(url=url, text=" ".join(node.text(deep=True, separator=" ").split())[:120]))

    def _resource(self, node: LexborNode, lowered: str, name: str, value: str) -> None:
        source = self._source(value) if lowered in {"src", "background"} else None
        if source is not None:
            node.attrs[name] = source
            return
        del node.attrs[name]
        self.blocked += bool(value.strip())

    def _css(self, css: str) -> str:
        css = _CSS_ESCAPE.sub(lambda match: chr(int(match[1], 16)), css)  # letters only: u\\72l is url
        css, imports = _CSS_IMPORT.subn("", css)
        css, sets = _CSS_IMAGE_SET.subn("blocked(", css)
        self.blocked += imports + sets
        return _CSS_URL.sub(self._css_url, css)

    def _css_url(self, match: re.Match[str]) -> str:
        value = match[1] or match[2] or match[3] or ""
        source = self._source(value)
        if source is not None:
            return f'url("{source}")' if '"' not in source else "none"
        self.blocked += bool(value.strip()) and not value.strip().startswith("#")
        return "none"

    def _source(self, value: str) -> str | None:
        """Return what an image's address becomes; None when it stays blocked."""
        value = value.strip()
        if _DATA_IMAGE.match(value):
            return value
        if value[:4].lower() != "cid:":
            return None
        image = self._images.get(value[4:])
        if image is None or image.content_type not in _IMAGES or len(image.content) > self._room:
            return None
        self._room -= len(image.content)
        return f"data:{image.content_type};base64,{base64.b64encode(image.content).decode()}"
