"""
Secrets and addresses taken out of what is written down about a change, or about anything.

By name: what is called a password, a token or a private key is one. By form: keys of ours, JWTs, PEM keys, passwords
inside URLs are recognised wherever they stand. Addresses are shortened, since the audit log is not sealed.
Not here: the mail log's own shortening of addresses, which the operator may switch off (observe.maillog).
"""

import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any

MASK = "***"
_MARK = re.compile(r"\*\*\* \([0-9a-f]{8}\)")
"""A masked secret with a mark that changes when the secret does."""
_LONGEST = 2_000
_MOST = 500
_DEEPEST = 8

_SECRET_NAME = re.compile(
    r"password|passwd|passphrase|secret|master_key|eab_key|token|private|credential|authorization|cookie|sealed|recovery|(^|[_.])(otp|totp|pem|jwt|salt)($|[_.])"
)
_FACT_NAME = re.compile(r"(_id|_ids|_at|_s|_ms|_days|_bytes|_count|_file|_path|_url|_hint|_algorithm|_endpoint|_issuer)$")
_FORMS = (
    (re.compile(r"\b(gp_[a-z]{2,12}_)[0-9A-Za-z]{6,}"), rf"\1{MASK}"),
    (re.compile(r"\beyJ[\w-]{6,}\.[\w-]{6,}(\.[\w-]*)*"), f"eyJ{MASK}"),
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL), f"PRIVATE KEY {MASK}"),
    (re.compile(r"(://[^/\s:@]*):[^/\s]*@"), rf"\1:{MASK}@"),
    (re.compile(r"(?i)\b((?:bearer|basic) )[\w.~+/=-]{6,}"), rf"\1{MASK}"),
)
_ADDRESS = re.compile(r"(?<![\w.!#$%&'*+/=?^`{|}~-])([^\s@<>\"'(),:;/\[\]*])[^\s@<>\"'(),:;/\[\]]*@(?=[\w\[])")


def masked_text(text: str, *, is_address_masked: bool = True) -> str:
    """Take secrets, and addresses, out of a text; what is longer than 2,000 characters is cut."""
    if len(text) > _LONGEST:
        text = text[:_LONGEST] + "…"
    text = text.encode("utf-8", "replace").decode().replace("\x00", "�")
    for form, instead in _FORMS:
        text = form.sub(instead, text)
    return _ADDRESS.sub(rf"\1{MASK}@", text) if is_address_masked and "@" in text else text


def masked(value: Any, name: str = "") -> Any:
    """
    Return a value that JSON can hold, without its secrets.

    Args:
        name: What the value is called; secrets are known by their names, too.
    """
    return _masked(value, name, 0)


def is_secret_name(name: str) -> bool:
    """Tell whether what has this name is a secret; of a path with dots the last part counts."""
    lower = name.lower().rpartition(".")[2]
    return bool(_SECRET_NAME.search(lower)) and not _FACT_NAME.search(lower)


def _masked(value: Any, name: str, depth: int) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if is_secret_name(name) and value not in ("", 0, (), [], {}) and not _MARK.fullmatch(str(value)):
        return MASK
    match value:
        case int() | float():
            return value
        case bytes() | bytearray() | memoryview():
            return MASK
        case Mapping():
            if depth >= _DEEPEST:
                return MASK
            return {masked_text(str(key)): _masked(item, str(key), depth + 1) for key, item in list(value.items())[:_MOST]}
        case list() | tuple():
            return MASK if depth >= _DEEPEST else [_masked(item, "", depth + 1) for item in value[:_MOST]]
        case AbstractSet():
            return [_masked(item, "", depth + 1) for item in sorted(map(str, value))[:_MOST]]
        case _:
            return masked_text(str(value))
