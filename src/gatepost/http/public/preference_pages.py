"""
The pages that readers of mail see: what they decided, and why a link does not work.

Leaves: whole pages without script, image or font; their one style is inside, named by its hash in the page's own policy.
They show a shortened address: whoever has the mail that was forwarded has the page, too.
Not here: what is decided (tracking.desk).
"""

import base64
import hashlib
from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files
from typing import Any, Final

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from gatepost.domain.masking import masked_text
from gatepost.engaged import Preference
from gatepost.http.exchange import Answer

_HTML: Final = b"text/html; charset=utf-8"


def preference_page(found: Preference, *, is_news: bool) -> Answer:
    """
    Show what a recipient decided, and offer the other.

    Args:
        is_news: It was decided a moment ago.
    """
    facts = [("Address", masked_text(found.address)), ("Sender", found.sender), ("Kind of mail", found.stream)]
    if found.is_unsubscribed:
        return _page(
            200, "You are unsubscribed" if is_news else "You are unsubscribed already", ["No more mail of this kind will be sent to you."],
            facts=facts, action="resubscribe", button="Subscribe again", note="Mail that is on its way already may still arrive.",
        )  # fmt: skip
    if is_news:
        lines = ["You will get mail of this kind again."]
        if found.is_suppressed:
            lines = ["This is taken back. Mail to your address is held back for another reason, which only the sender can lift."]
        return _page(200, "You are subscribed again", lines, facts=facts, action="unsubscribe", button="Unsubscribe")
    return _page(
        200, "Unsubscribe?", ["Do you want no more mail of this kind?"], facts=facts, action="unsubscribe", button="Unsubscribe",
        kind="primary", note="Nothing has changed yet.",
    )  # fmt: skip


def not_ours_page() -> Answer:
    """Say that a link leads nowhere."""
    lines = ["It is not complete, or was changed on its way. Copy the whole link from the mail, or open a newer mail of the sender."]
    return _page(404, "This link does not work", lines)


def ended_page() -> Answer:
    """Say that a link is too old."""
    lines = ["Links in mail are good for some time only, and this one is older. Please use the link in a newer mail of the sender."]
    return _page(410, "This link is too old", lines)


def unclear_page() -> Answer:
    """Say that a form said nothing that is known here."""
    return _page(400, "Nothing has changed", ["What was sent does not say what to do. Open the link in the mail again."])


def busy_page(status: int, retry_after_s: int) -> Answer:
    """Say that it is to be tried again."""
    answer = _page(status, "Not just now", ["Please try again in a moment: nothing has changed yet."])
    return Answer(answer.status, answer.body, answer.content_type, [*answer.headers, (b"retry-after", b"%d" % retry_after_s)])


def plain_page(title: str, lines: Sequence[str], **more: Any) -> Answer:
    """
    Show a page of this look about something else.

    Args:
        more: `facts`, `action` and `button` of its form, `kind`, `note`.
    """
    return _page(200, title, lines, **more)


def headers() -> list[tuple[bytes, bytes]]:
    """Return the headers of every page: nothing from elsewhere, nobody's frame."""
    policy = f"default-src 'none'; style-src '{_style()[1]}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    return [
        (b"content-security-policy", policy.encode()), (b"referrer-policy", b"no-referrer"), (b"x-robots-tag", b"noindex, nofollow"),
        (b"x-frame-options", b"DENY"),
    ]  # fmt: skip


def _page(status: int, title: str, lines: Sequence[str], **more: Any) -> Answer:
    values: dict[str, Any] = {"facts": (), "action": "", "button": "", "kind": "", "note": "", **more}
    text = _template().render(title=title, lines=lines, style=Markup(_style()[0]), **values)  # noqa: S704 - our own file
    return Answer(status, text.encode(), _HTML, headers())


@lru_cache(1)
def _template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_asset("preferences.html"))


@lru_cache(1)
def _style() -> tuple[str, str]:
    text = _asset("preferences.css")
    return text, f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _asset(name: str) -> str:
    return (files("gatepost.http") / "assets" / name).read_text()
