"""A reader of structured fields (RFC 9651), as far as lists of items with parameters go: what a client of the headers would use."""

import re

_NUMBER = re.compile(r"-?[0-9]{1,15}(?![0-9.])")
_STRING = re.compile(r'"((?:[\x20-\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"')
_TOKEN = re.compile(r"[A-Za-z*][!#$%&'*+.^_`|~0-9A-Za-z:/-]*")
_KEY = re.compile(r"[a-z*][a-z0-9_.*-]*")


def read_list(text):
    """Read a list (§4.2.1); each member is a bare item with its parameters. Raises ValueError where it is none."""
    members, at = [], 0
    while True:
        item, at = _bare_item(text, at)
        parameters, at = _parameters(text, at)
        members.append((item, parameters))
        at = _spaces(text, at, " \t")
        if at == len(text):
            return members
        if text[at] != ",":
            raise ValueError(f"no comma at {at}")
        at = _spaces(text, at + 1, " \t")
        if at == len(text):
            raise ValueError("a comma at the end")


def _bare_item(text, at):
    for pattern, read in ((_STRING, lambda m: re.sub(r"\\(.)", r"\1", m[1])), (_NUMBER, lambda m: int(m[0])), (_TOKEN, lambda m: m[0])):
        if found := pattern.match(text, at):
            return read(found), found.end()
    raise ValueError(f"no item at {at}")


def _parameters(text, at):
    found = {}
    while at < len(text) and text[at] == ";":
        at = _spaces(text, at + 1, " ")
        key = _KEY.match(text, at)
        if key is None:
            raise ValueError(f"no key at {at}")
        at, value = key.end(), True
        if at < len(text) and text[at] == "=":
            value, at = _bare_item(text, at + 1)
        found[key[0]] = value
    return found, at


def _spaces(text, at, which):
    while at < len(text) and text[at] in which:
        at += 1
    return at
