"""
SMTP dialogues that reports show: who was refused, with which words, after which command.

Arrives: the lines of a letter. Leaves: what was said about each address.
Standards: RFC 5321; the marks `>>>` and `<<<` are Sendmail's, and many have taken them over.
Not here: what the words mean (policy.classify).
"""

import re
from dataclasses import dataclass, field
from functools import lru_cache

from gatepost.feedback.addresses import find_addresses

_LOCAL_ERROR = re.compile(r"[45]\d\d (?:[45]\.\d{1,2}\.\d{1,3} )?\S")
_COMMANDS = {
    "RCPT": "rcpt",
    "MAIL": "mail",
    "DATA": "data",
    "EHLO": "ehlo",
    "HELO": "ehlo",
    "STAR": "tls",
    "AUTH": "auth",
    "BDAT": "content",
    ".": "content",
}
_STAGE = re.compile(
    r"(?:in reply to|in response to|response to|after sending|after|did not like our|following|performing|during|error on|"
    r"error in|after pipelined|after sending|\bcommand:?|\[|>>>|\bour)\s{0,3}(?:the\s)?(?:(end of|final|"
    r"end-of-)\s{0,2})?(rcpt|mail|data|helo|ehlo|starttls|auth|initial connection|connection|banner|greeting|"
    r"connect)(?:[ _]?(?:to|from|\W|$))",
    re.IGNORECASE,
)
_PHRASES = (
    ("but sender was rejected", "mail"),
    ("does not like recipient", "rcpt"),
    ("failed on data command", "data"),
    ("failed after i sent the message", "content"),
    ("but greeting failed", "greeting"),
    ("but my name was rejected", "ehlo"),
    ("data block", "content"),
    ("refused to talk to me", "greeting"),
    ("initial server greeting", "greeting"),
    ("while connecting to", "greeting"),
    ("smtp transmission failure has occurred", "content"),
    ("server rejected mail from address", "mail"),
    ("rejected recipient", "rcpt"),
    ("message data", "content"),
    ("end of data", "content"),
    ("eom", "content"),
    ("after end-of-data", "content"),
    ("[rcpt_to]", "rcpt"),
    ("[mail_from]", "mail"),
    ("[data]", "content"),
    ("recipient address rejected", "rcpt"),
)
_PLACES = {"rcpt": "rcpt", "mail": "mail", "data": "data", "helo": "ehlo", "ehlo": "ehlo", "starttls": "tls", "auth": "auth"}
_MAX_REPLIES = 20
_MAX_NAMED = 50


@dataclass(slots=True)
class Said:
    """What a transcript says about one address."""

    address: str
    replies: list[tuple[str, str]] = field(default_factory=list)
    """Text and stage, the other server's words before the reporter's own."""


def read_transcript(text: str) -> list[Said]:
    """Read every dialogue in a letter; empty where there is none."""
    if "<<<" not in text and "... " not in text:
        return []
    reader = _Reader()
    for line in text.split("\n"):
        reader.take(line.strip())
    return reader.done()


def local_errors(text: str) -> str:
    """Give the lines that a reporter put into the dialogue itself, such as `451 4.0.0 Operating system error`."""
    lines = [line.strip() for line in text.split("\n") if _LOCAL_ERROR.match(line.strip())]
    return " ".join(lines[:_MAX_REPLIES])


@lru_cache(maxsize=64)
def stage_of(text: str) -> str:
    """Name the command that was answered, as reports say it (`in reply to RCPT TO command`); empty where none is said."""
    cut = text[:6_000]
    found = list(_STAGE.finditer(cut))
    if found:
        match = found[-1]
        word = match[2].lower()
        if word == "data" and match[1]:
            return "content"
        return _PLACES.get(word, "greeting")
    lowered = cut.lower()
    return next((stage for phrase, stage in _PHRASES if phrase in lowered), "")


class _Reader:
    def __init__(self) -> None:
        self.found: dict[str, Said] = {}
        self.pending: list[tuple[str, str]] = []
        self.stage = ""
        self.to = ""

    def take(self, line: str) -> None:
        """Take one line, without blanks at its ends."""
        if line.startswith(">>>"):
            self._command(line[3:].strip())
        elif line.startswith("<<<"):
            self._reply(line[3:].strip())
        elif "while talking to" in line.lower():
            self.pending, self.stage = [], "greeting"
        elif "..." in line and (addresses := find_addresses(line[:400])) and line.find("...") > addresses[0].start:
            self._about(addresses[0].address, line)

    def done(self) -> list[Said]:
        """Give what was found; replies that nobody was named for belong to the last recipient that was tried, or to all."""
        if self.pending:
            self._add(self.to, [])
        return list(self.found.values())

    def _command(self, command: str) -> None:
        self.stage = _COMMANDS.get(command[:4].upper(), _COMMANDS.get(command[:1], self.stage))
        if self.stage == "rcpt" and (addresses := find_addresses(command[:400])):
            if self.pending and self.to:
                self._add(self.to, [])
            self.to = addresses[0].address

    def _reply(self, reply: str) -> None:
        is_consequence = reply.startswith(("503", "250", "354", "220")) or "no valid recipients" in reply.lower()
        if not is_consequence and len(self.pending) < _MAX_REPLIES:
            if (
                self.pending
                and self.pending[-1][0][:3] == reply[:3]
                and self.pending[-1][0][3:4] == "-"
                and self.pending[-1][1] == self.stage
            ):
                self.pending[-1] = (self.pending[-1][0] + " " + reply, self.stage)  # one reply of several lines
                if reply[3:4] != "-":
                    self.pending[-1] = (self.pending[-1][0][:3] + " " + self.pending[-1][0][4:], self.stage)
            else:
                self.pending.append((reply, self.stage))

    def _about(self, address: str, line: str) -> None:
        self._add(address, [(line, "")])

    def _add(self, address: str, own: list[tuple[str, str]]) -> None:
        if len(self.found) >= _MAX_NAMED and address.lower() not in self.found:
            self.pending = []
            return
        said = self.found.setdefault(address.lower(), Said(address))
        named = [one for one in self.pending if address.lower() in one[0].lower()]
        said.replies += (named or self.pending) + own
        self.pending = []
        self.to = "" if self.to.lower() == address.lower() else self.to
