"""A running gateway and a command line beside it: what is made works, what is revoked stops, in every process."""

import base64
import json
import urllib.parse
import urllib.request

import pytest

from tests.flow.serving import Serving, gatepost_json, prepare, until


def _token(serving: Serving, client_id: str, secret: str) -> str:
    form = urllib.parse.urlencode({"grant_type": "client_credentials", "scope": "messages:send"}).encode()
    request = urllib.request.Request(f"http://{serving.listening['http']}/oauth/token", form, method="POST")
    request.add_header("Authorization", "Basic " + base64.b64encode(f"{client_id}:{secret}".encode()).decode())
    with urllib.request.urlopen(request, timeout=10) as response:
        return json.loads(response.read())["access_token"]


@pytest.mark.slow
def test_revoking_at_the_command_line_stops_a_key_and_a_client_in_the_running_gateway(tmp_path):
    """Made and revoked by another process; the gateway learns of it by looking every second."""
    admin = prepare(tmp_path / "data")
    with Serving(tmp_path / "data") as serving:
        key = serving.ask("POST", "/v1/keys", admin, {"name": "k", "scopes": ["messages:read"]})[1]
        client = serving.ask("POST", "/v1/oauth-clients", admin, {"name": "c", "scopes": ["messages:send"]})[1]
        token = _token(serving, client["client_id"], client["client_secret"])
        assert serving.ask("GET", "/v1/messages", key["key"])[0] == 200
        assert serving.ask("GET", "/v1/messages", token)[1]["code"] == "permission_denied"
        gatepost_json(serving.data, "key", "revoke", key["id"])
        gatepost_json(serving.data, "oauth-client", "revoke", client["client_id"])
        until(lambda: serving.ask("GET", "/v1/messages", key["key"])[0] == 401, 10)
        until(lambda: serving.ask("GET", "/v1/messages", token)[0] == 401, 10)
        log = serving.log
    for secret in (key["key"], client["client_secret"], token):
        assert secret not in log
    stored = b"".join(path.read_bytes() for path in serving.data.rglob("*") if path.is_file())
    assert not [secret[:9] for secret in (key["key"], client["client_secret"], token) if secret.encode() in stored]
    used = {one["id"]: one["last_used_at"] for one in gatepost_json(serving.data, "key", "list")}
    assert used[key["id"]]
