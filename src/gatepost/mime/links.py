"""
The links in a body: where they stand, and where they lead.

Arrives: HTML or plain text. Leaves: slots, the places that something else is written into for each recipient; whatever
stands between them stays as it is. Telephone numbers, mail addresses, anchors and every scheme but http and https stay links
of the sender's. `gatepost:unsubscribe` as a link, or in the text, stands for the page of the recipient who reads it.
Standards: HTML §13.2.5 (how tags, attributes and character references are read).
Not here: the message around a body (tracked), where links may lead (policy.click_targets).
Bugs: links in conditional comments for Outlook are not tracked.
"""

import html
import html.entities
import re
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from gatepost.domain.engagement import Tracking
from gatepost.policy.click_targets import target_of

UNSUBSCRIBE: Final = "gatepost:unsubscribe"
"""Stands in a message for the page of the recipient who reads it."""


class SlotKind(Enum):
    """What is written into a slot."""

    LINK = auto()
    UNSUBSCRIBE = auto()
    PIXEL = auto()


@dataclass(frozen=True, slots=True)
class Slot:
    """A place in a text that something else is written into; a pixel's is empty."""

    start: int
    end: int
    kind: SlotKind
    target: str = ""


_IN_TEXT: Final = re.compile(rf"{UNSUBSCRIBE}|https?://[^\s<>\"\x00-\x1f\x7f]+", re.IGNORECASE)
_PGP: Final = "-----BEGIN PGP "
_TAIL: Final = ".,;:!?'*_~"


def text_slots(text: str, tracking: Tracking) -> list[Slot]:
    """Find the slots of plain text, in order."""
    if _PGP in text:
        return []  # what is signed in line would not verify any more
    wants_links = tracking.clicks and tracking.text
    if not wants_links and not (tracking.unsubscribe and UNSUBSCRIBE in text):
        return []
    slots = []
    for found in _IN_TEXT.finditer(text):
        if found[0] == UNSUBSCRIBE:
            slots += [Slot(found.start(), found.end(), SlotKind.UNSUBSCRIBE)] if tracking.unsubscribe else []
        elif wants_links and (target := target_of(shown := _without_tail(found[0]))) is not None:
            slots.append(Slot(found.start(), found.start() + len(shown), SlotKind.LINK, target))
    return slots


def _without_tail(url: str) -> str:
    """Leave out what ends the sentence, not the URL: full stops, and closing brackets that were not opened in it."""
    while url:
        if url[-1] in _TAIL or (url[-1] in ")]}" and url.count(url[-1]) > url.count({")": "(", "]": "[", "}": "{"}[url[-1]])):
            url = url[:-1]
        else:
            break
    return url


_TAG: Final = re.compile(r"(/?)([A-Za-z][^\s/>]*+)")
_ATTRIBUTE: Final = re.compile(
    r"[\s/]*+([^\s/>=][^\s/>=]*+)(?:\s*+=\s*+(?:\"(?P<double>[^\"]*+)\"|'(?P<single>[^']*+)'|(?P<bare>[^\s>\"'][^\s>]*+)))?+"
)
_RAW: Final = {
    name: re.compile(rf"</{name}(?=[\s/>])", re.IGNORECASE | re.ASCII)
    for name in ("script", "style", "title", "textarea", "xmp", "iframe", "noembed", "noframes")
}
_REFERENCE: Final = re.compile(r"&(?:#(?:[0-9]{1,7}|[xX][0-9A-Fa-f]{1,6});?|[A-Za-z][A-Za-z0-9]{0,31};?)")
_UNTRACKED: Final = frozenset({"data-gatepost-no-track", "data-pm-no-track", "ses:no-track"})
"""Attributes of a link that stays as it is: ours, and those that people already have in their templates."""
_UNTRACKED_VALUES: Final = {"clicktracking": "off", "disable-tracking": "true", "data-track": "off"}


def html_slots(text: str, tracking: Tracking, *, wants_pixel: bool) -> list[Slot]:
    """Find the slots of HTML, in order; never raises for what it looks like, and reads each character a few times at most."""
    slots: list[Slot] = []
    last_end = -1
    at = text.find("<")
    while at >= 0:
        if text.startswith("<!--", at):
            at = _after(text, "-->", at + 4)
        elif (tag := _TAG.match(text, at + 1)) is None:
            at += 1
        else:
            name, start = tag[2].lower(), at
            at, slot = _tag_slot(text, tag.end(), name, tracking)
            if tag[1] and name == "body":
                last_end = start
            elif not tag[1] and name in {"a", "area"} and slot is not None:
                slots.append(slot)
            elif not tag[1] and name in _RAW:
                closing = _RAW[name].search(text, at)
                at = closing.start() if closing else len(text)
        at = text.find("<", at)
    if wants_pixel:
        place = last_end if last_end >= 0 else len(text.rstrip())
        slots = [
            *(one for one in slots if one.end <= place),
            Slot(place, place, SlotKind.PIXEL),
            *(one for one in slots if one.start >= place),
        ]
    return slots


def _after(text: str, what: str, at: int) -> int:
    found = text.find(what, at)
    return len(text) if found < 0 else found + len(what)


def _tag_slot(text: str, at: int, name: str, tracking: Tracking) -> tuple[int, Slot | None]:
    """Read a tag's attributes; return where it ends, and its link."""
    link: tuple[int, int] | None = None
    is_untracked = False
    while (found := _ATTRIBUTE.match(text, at)) is not None:
        at = found.end()
        attribute, which = found[1].lower(), found.lastgroup
        if attribute == "href" and link is None and which is not None:
            link = found.span(which)
        elif attribute in _UNTRACKED or (
            which is not None and attribute in _UNTRACKED_VALUES and found[which].strip().lower() == _UNTRACKED_VALUES[attribute]
        ):
            is_untracked = True
    at = _after(text, ">", at)
    if link is None or name not in {"a", "area"}:
        return at, None
    return at, _link_slot(*link, _unescaped(text[link[0] : link[1]]), tracking, is_untracked=is_untracked)


def _link_slot(start: int, end: int, url: str, tracking: Tracking, *, is_untracked: bool) -> Slot | None:
    if url.strip().lower() == UNSUBSCRIBE:
        return Slot(start, end, SlotKind.UNSUBSCRIBE) if tracking.unsubscribe else None
    if not tracking.clicks or is_untracked or (target := target_of(url)) is None:
        return None
    return Slot(start, end, SlotKind.LINK, target)


def _unescaped(value: str) -> str:
    """Read character references as HTML does in attributes: `&copy=1` is a parameter, not a sign (HTML §13.2.5.73)."""
    if "&" not in value:
        return value
    return _REFERENCE.sub(lambda found: _referred(found, value), value)


def _referred(found: re.Match[str], value: str) -> str:
    reference = found[0]
    if reference.startswith("&#"):
        return html.unescape(reference)
    name = reference[1:]
    if not name.endswith(";") and value.startswith("=", found.end()):
        return reference
    return html.entities.html5.get(name, reference)
