"""
What runs in HTML: scripts, event handlers, pages within the page.

Arrives: HTML. Leaves: whether something in it would run.
Source: WHATWG HTML §8.1.8.2 (event handlers), in the parts that attacks use. Nothing is ever taken out: HTML is refused or
goes as it is.
Not here: links (links), attached files (attachments).
"""

import re
from html import unescape

_HANDLERS = (
    "abort|animation[a-z]+|auxclick|before[a-z]+|begin|blur|bounce|canplay|cellchange|change|click|contextmenu|copy|cut|dataavailable"
    "|dblclick|drag[a-z]*|drop|end|error|filterchange|finish|focus[a-z]*|hashchange|input|invalid|key[a-z]+|load[a-z]*|message|mouse[a-z]+"
    "|page[a-z]+|paste|pointer[a-z]+|popstate|readystatechange|repeat|reset|resize|scroll[a-z]*|search|select[a-z]*|show|start|submit"
    "|toggle|touch[a-z]+|transition[a-z]+|unload|wheel"
)
ACTIVE = re.compile(rb"<script\b|javascript\s*:|vbscript\s*:|<hta:application|[\s\"'/]on(?:" + _HANDLERS.encode() + rb")\s*=")
"""Something that runs, in bytes in lower case."""

_EMBEDDED = re.compile(rb"<(?:iframe|frame|object|embed|applet|base|form)\b|<meta[^>]{0,200}http-equiv\s*=\s*[\"']?refresh")
_SCHEME = re.compile(rb"(?:java|vb)script:")
_IGNORED = bytes(range(0x21))


def is_active(html: str) -> bool:
    """Tell whether HTML has scripts, event handlers, embedded pages or forms, in whatever spelling browsers read."""
    text = html.lower()
    if "&" in text:
        text += unescape(text)  # an attribute's references are resolved before it is a URL
    raw = text.encode("utf-8", "replace")
    if ACTIVE.search(raw) is not None or _EMBEDDED.search(raw) is not None:
        return True
    return _SCHEME.search(raw.translate(None, _IGNORED)) is not None  # white space within a scheme is left out
