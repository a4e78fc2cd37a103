"""
Values of variables that would turn a mail against its reader.

Arrives: the variables of a request. Leaves: findings of the rules variables_links and variables_markup.
In a sign-up or invitation mail the name is a stranger's text: whoever registers as "Your account is locked, see evil.com"
sends that text in the company's mail. So a name holds no link, no domain, no line break and 200 characters at most; other
values may be links, but not such as hide where they lead.
Sources: CWE-74 (injection into what others read), UTS 39 (look-alikes).
Not here: putting values in, and escaping them (mime.variables).
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from gatepost.domain.address import mixes_scripts
from gatepost.domain.errors import Fault
from gatepost.domain.screening import Finding
from gatepost.policy.lookalike import Trouble, trouble_of_authority
from gatepost.policy.typos import read_list

MAX_NAME = 200
_MAX_VALUES = 2_000
_SEARCHED = 2_000

_PEOPLE = frozenset(
    [
        "addressee", "author", "buyer", "client", "contact", "customer", "family", "first", "firstname", "friend", "full", "fullname",
        "given", "guest", "host", "inviter", "invitee", "last", "lastname", "maiden", "member", "middle", "nick", "owner", "person",
        "recipient", "sender", "sur", "user", "display", "greeting", "salutation", "your", "their", "to", "from",
    ]
)  # fmt: skip
_ALONE = frozenset(
    [
        "name", "names", "firstname", "lastname", "fullname", "surname", "forename", "nickname", "givenname", "familyname", "displayname",
        "username", "middlename", "addressee", "inviter", "invitee", "greeting", "salutation",
    ]
)  # fmt: skip
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_BREAK = re.compile("[\r\n\x0b\x0c\x85\u2028\u2029]")
_DIRECTION = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_MARKUP = re.compile(r"<[A-Za-z/!?]|&(?:lt|gt|#[0-9]{1,7}|#x[0-9a-f]{1,6});?", re.IGNORECASE)
_URL = re.compile(
    r"[a-z][a-z0-9+.-]{1,20}:[/\\]{2}|(?<![\w/\\])[/\\]{2}[\w]|(?<!\w)www[.]|(?<!\w)(?:javascript|vbscript|mailto|tel|sms):", re.IGNORECASE
)
_DOMAIN = re.compile(r"(?<![\w.-])(?:[^\W_][\w-]{0,62}[.])*[^\W_][\w-]{0,61}[^\W_][.]([^\W\d_]{2,24})(?![\w-])")
_SCHEME = re.compile(r"(?<!\w)(javascript|vbscript)\s*:|(?<!\w)data\s*:\s*(?:text|application)/", re.IGNORECASE)
_AUTHORITY = re.compile(r"[/\\]{2}([^/\\?#\s\"'<>]{1,300})")
_DOTS = str.maketrans({"\u3002": ".", "\uff0e": ".", "\uff61": ".", "\u2024": ".", "\ufe52": "."})
_EMAIL = re.compile(r"[^\s@/\\:<>]{1,64}@[\w.-]{1,253}")
_IGNORED = str.maketrans("", "", "\t\r\n")  # browsers leave these out of a URL
_WORD = re.compile(r"[^\W\d_]+")


def examine(variables: Mapping[str, Any]) -> list[Finding]:
    """Find what is wrong with the values; every text within lists and objects is looked at, `MAX_VALUES` of them."""
    found: list[Finding] = []
    for place, is_name, text in _texts(variables):
        if is_name:
            found += [_finding(*one, place) for one in _of_name(text)]
        elif ":" in text or "//" in text or "\\\\" in text:
            trouble = _of_link(text)
            if trouble is not None:
                found.append(_finding("variables_links", *trouble, place))
    return found


def _finding(rule: str, code: str, detail: str, place: str) -> Finding:
    return Finding(rule, Fault(place, code, f"the value {detail}"))


def _texts(variables: Mapping[str, Any]) -> Iterator[tuple[str, bool, str]]:
    """Walk through the values without recursion; each text with its pointer, and whether it is a person's name."""
    stack: list[tuple[str, str, Any]] = [("/variables", "", variables)]
    left = _MAX_VALUES
    while stack and left > 0:
        place, key, value = stack.pop()
        left -= 1
        if isinstance(value, str):
            if value:
                yield place, is_name(key), value
        elif isinstance(value, Mapping):
            stack += [(f"{place}/{_escaped(name)}", name, one) for name, one in reversed([*value.items()])]
        elif isinstance(value, list):
            stack += [(f"{place}/{n}", key, one) for n, one in reversed([*enumerate(value)])]


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1") if "~" in name or "/" in name else name


@lru_cache(maxsize=4096)
def is_name(key: str) -> bool:
    """Tell whether a variable holds a person's name: `name`, `first_name`, `customerName`, not `file_name` or `company_name`."""
    words = re.split(r"[\s_.-]+", _CAMEL.sub("_", key).lower().strip("_"))
    if "".join(words) in _ALONE:
        return True
    return len(words) > 1 and words[-1] in {"name", "names"} and all(word in _PEOPLE for word in words[:-1])


def _of_name(text: str) -> Iterator[tuple[str, str, str]]:
    if len(text) > MAX_NAME:
        yield "variables_links", "name_too_long", f"has {len(text)} characters; a name has at most {MAX_NAME}"
        text = text[:_SEARCHED]
    if text.isascii() and text.replace(" ", "").isalnum():
        return
    if _BREAK.search(text):
        yield "variables_links", "line_break", "has a line break, which a name has not"
    if _DIRECTION.search(text):
        yield "variables_links", "reordered_text", "has characters that change the direction of writing"
    if _MARKUP.search(text):
        yield "variables_markup", "markup", "has HTML in it; it is shown as text"
    seen = unicodedata.normalize("NFKC", text.translate(_DOTS))
    if _EMAIL.fullmatch(seen):  # often the name of who gave none; no page opens
        return
    if _URL.search(seen) or any(ending.lower() in _endings() for ending in _DOMAIN.findall(seen)):
        yield "variables_links", "link_in_name", "has a link or a domain in it, which a name has not"
    elif not text.isascii() and any(mixes_scripts(word) for word in _WORD.findall(seen)):
        yield "variables_links", "lookalike_name", "mixes letters of different scripts, as look-alikes do"


def _of_link(text: str) -> Trouble | None:
    text = text[:_SEARCHED].translate(_IGNORED)
    if _SCHEME.search(text):
        return "unsafe_link", "has a link that runs something instead of leading somewhere"
    for authority in _AUTHORITY.findall(text):
        trouble = trouble_of_authority(authority)
        if trouble is not None:
            return trouble[0], f"has a link that {trouble[1]}"
    return None


@lru_cache(maxsize=1)
def _endings() -> frozenset[str]:
    return read_list("tlds.txt")
