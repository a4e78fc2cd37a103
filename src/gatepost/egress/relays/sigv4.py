"""
Signatures of requests to AWS.

Arrives: a request without credentials, and these. Leaves: its headers with the signature.
Standard: AWS Signature Version 4, https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html.
Not here: finding credentials (they are settings), what the request asks for (ses).
"""

import datetime as dt
import hashlib
import hmac
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field

from gatepost.clock import Instant

_ALGORITHM = "AWS4-HMAC-SHA256"


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsKey:
    """Credentials; `session_token` comes with temporary ones."""

    access_key_id: str
    secret: str = field(repr=False)
    session_token: str = field(default="", repr=False)


def signed_headers(
    method: str, url: str, headers: Mapping[str, str], body: bytes, *, key: AwsKey, region: str, service: str, now: Instant
) -> dict[str, str]:  # fmt: skip
    """Return the headers with Host, X-Amz-Date, the session's token and Authorization added; all of them are signed."""
    parts = urllib.parse.urlsplit(url)
    stamp = dt.datetime.fromtimestamp(now / 1000, dt.UTC).strftime("%Y%m%dT%H%M%SZ")
    found = {**headers, "Host": parts.netloc, "X-Amz-Date": stamp}
    if key.session_token:
        found["X-Amz-Security-Token"] = key.session_token
    lower = {name.lower(): " ".join(value.split()) for name, value in found.items()}
    names = ";".join(sorted(lower))
    fields = "".join(f"{name}:{lower[name]}\n" for name in sorted(lower))
    path = urllib.parse.quote(parts.path or "/", safe="/-_.~")  # what is encoded already is encoded once more, as AWS does
    canonical = "\n".join([method, path, _query(parts.query), fields, names, hashlib.sha256(body).hexdigest()])
    scope = f"{stamp[:8]}/{region}/{service}/aws4_request"
    to_sign = "\n".join([_ALGORITHM, stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    secret = f"AWS4{key.secret}".encode()
    for part in (stamp[:8], region, service, "aws4_request"):
        secret = hmac.digest(secret, part.encode(), "sha256")
    signature = hmac.digest(secret, to_sign.encode(), "sha256").hex()
    found["Authorization"] = f"{_ALGORITHM} Credential={key.access_key_id}/{scope}, SignedHeaders={names}, Signature={signature}"
    return found


def _query(text: str) -> str:
    pairs = urllib.parse.parse_qsl(text, keep_blank_values=True)
    quoted = sorted((urllib.parse.quote(name, safe="-_.~"), urllib.parse.quote(value, safe="-_.~")) for name, value in pairs)
    return "&".join(f"{name}={value}" for name, value in quoted)
