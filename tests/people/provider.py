"""
An OpenID provider that does what a test wants, right or wrong, on an ephemeral port of loopback.

It checks what a strict provider checks: the redirect address, the client's secret, and the PKCE verifier of each code.
"""

import base64
import contextlib
import hashlib
import json
import secrets
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote_plus, urlsplit

from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey

CLIENT_ID = "gatepost"
CLIENT_SECRET = "a secret: of the client"
_KEY = RSAKey.generate_key(2048, parameters={"kid": "one"}, auto_kid=False)


@dataclass
class Provider:
    """Its state, and what it does wrong."""

    issuer: str = ""
    key: Any = field(default_factory=lambda: _KEY)
    claims: dict[str, Any] = field(default_factory=dict)
    without: set[str] = field(default_factory=set)
    header: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    sign_with: Any = None
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)

    def authorize(self, url: str, subject: str = "ann-1", **claims: Any) -> dict[str, str]:
        """Let somebody in, as its login page would; return what the browser comes back with."""
        query = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        code = secrets.token_urlsafe(16)
        self.codes[code] = {**query, "sub": subject, "claims": json.dumps(claims)}
        return {"code": code, "state": query["state"]}

    def answer(self, path: str, form: dict[str, str], authorization: str) -> tuple[int, Any]:
        """Answer a request."""
        self.log.append(path)
        if path == "/.well-known/openid-configuration":
            return 200, {
                "issuer": self.issuer, "authorization_endpoint": f"{self.issuer}/authorize", "token_endpoint": f"{self.issuer}/token",
                "jwks_uri": f"{self.issuer}/jwks", "id_token_signing_alg_values_supported": ["RS256", "HS256", "none"], **self.metadata,
            }  # fmt: skip
        if path == "/jwks":
            return 200, {"keys": [self.key.as_dict(private=False)]}
        if path == "/token":
            return self._token(form, authorization)
        return 404, {}

    def _token(self, form: dict[str, str], authorization: str) -> tuple[int, Any]:
        given = base64.b64decode(authorization.removeprefix("Basic ")).decode().split(":")
        code = self.codes.pop(form.get("code", ""), None)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(form.get("code_verifier", "").encode()).digest()).decode().rstrip("=")
        is_right = (
            [unquote_plus(one) for one in given] == [CLIENT_ID, CLIENT_SECRET]
            and code is not None
            and code["code_challenge_method"] == "S256"
            and code["code_challenge"] == challenge
            and code["redirect_uri"] == form.get("redirect_uri")
        )
        if not is_right or code is None:
            return 400, {"error": "invalid_grant"}
        return 200, {"access_token": "at", "token_type": "Bearer", "id_token": self._id_token(code)}

    def _id_token(self, code: dict[str, str]) -> str:
        now = 1_764_000_000
        claims = {
            "iss": self.issuer, "aud": CLIENT_ID, "sub": code["sub"], "nonce": code["nonce"], "iat": now, "exp": now + 300,
            "email": "ann@acme.example", "email_verified": True, "name": "Ann Lee", **json.loads(code["claims"]), **self.claims,
        }  # fmt: skip
        claims = {name: value for name, value in claims.items() if name not in self.without}
        header = {"alg": "RS256", "kid": "one", **self.header}
        if header["alg"] == "none":
            parts = [base64.urlsafe_b64encode(json.dumps(one).encode()).decode().rstrip("=") for one in (header, claims)]
            return ".".join([*parts, ""])
        key = OctKey.import_key(CLIENT_SECRET) if header["alg"] == "HS256" else self.sign_with or self.key
        return jwt.encode(header, claims, key, algorithms=[header["alg"]])


@contextlib.contextmanager
def running_provider() -> Iterator[Provider]:
    """Run a provider until the block ends."""
    provider = Provider()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send(*provider.answer(self.path, {}, ""))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"])).decode()
            form = {name: values[0] for name, values in parse_qs(body).items()}
            self._send(*provider.answer(self.path, form, self.headers.get("authorization", "")))

        def _send(self, status: int, value: Any) -> None:
            content = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    provider.issuer = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def query_of(url: str) -> dict[str, str]:
    """Read a URL's query."""
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
