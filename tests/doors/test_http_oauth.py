"""OAuth 2.0 at the HTTP door: the words of its standards, and a client that nobody wrote for us."""

import base64
from urllib.parse import quote

import pytest
from tests.doors.http_rig import Rig, message, running_door

from gatepost.settings import OAuth, Settings

FORM = {"content-type": "application/x-www-form-urlencoded"}
GRANT = {"grant_type": "client_credentials"}


@pytest.fixture(scope="module")
def rig(tmp_path_factory):
    """A door with a name as an issuer."""
    with running_door(tmp_path_factory.mktemp("oauth"), Settings(oauth=OAuth(issuer="http://127.0.0.1:1"))) as running:
        yield running


@pytest.fixture
def nobody(rig: Rig):
    """A client without a key."""
    with rig.client(None) as made:
        yield made


def new_client(rig, key=None, **body):
    with rig.client(key or rig.key) as admin:
        answer = admin.post("/v1/oauth-clients", json={"name": "c", "scopes": ["messages:send", "messages:read"], **body})
        assert answer.status_code == 201, answer.text
        return answer.json()["client_id"], answer.json()["client_secret"]


def test_a_client_gets_a_token_and_sends_with_it(rig, nobody):
    """RFC 6749 §4.4 and §5.1: by HTTP Basic and in the form; the answer is not stored by anybody."""
    client_id, secret = new_client(rig)
    for proof in ({"auth": (client_id, secret), "data": GRANT}, {"data": {**GRANT, "client_id": client_id, "client_secret": secret}}):
        answer = nobody.post("/oauth/token", **proof)
        assert answer.status_code == 200, answer.text
        body = answer.json()
        assert set(body) == {"access_token", "token_type", "expires_in", "scope"}
        assert (body["token_type"], body["expires_in"], body["scope"]) == ("Bearer", 900, "messages:read messages:send")
        assert (answer.headers["cache-control"], answer.headers["pragma"]) == ("no-store", "no-cache")
        with rig.client(body["access_token"]) as sender:
            assert sender.post("/v1/messages", json=message()).status_code == 202
            assert sender.get("/v1/keys").status_code == 403


def test_a_real_oauth_client_gets_along(rig):
    """Authlib's own client asks, sends, introspects and revokes, knowing only the URL."""
    from authlib.integrations.httpx_client import OAuth2Client

    client_id, secret = new_client(rig)
    for method in ("client_secret_basic", "client_secret_post"):
        with OAuth2Client(client_id, secret, token_endpoint_auth_method=method, scope="messages:read") as client:
            token = client.fetch_token(f"{rig.url}/oauth/token", grant_type="client_credentials")
            assert token["scope"] == "messages:read"
            assert client.get(f"{rig.url}/v1/messages").status_code == 200
            assert client.introspect_token(f"{rig.url}/oauth/introspect", token=token["access_token"]).json()["active"] is True
            assert client.revoke_token(f"{rig.url}/oauth/revoke", token=token["access_token"]).status_code == 200
            assert client.get(f"{rig.url}/v1/messages").status_code == 401
            assert client.introspect_token(f"{rig.url}/oauth/introspect", token=token["access_token"]).json() == {"active": False}


def test_a_client_that_signs_gets_a_token(rig, nobody):
    """private_key_jwt by Authlib's own signer; the same assertion twice is refused."""
    import joserfc.jwk
    from authlib.oauth2.rfc7523 import private_key_jwt_sign

    key = joserfc.jwk.RSAKey.generate_key(2048)
    client_id, _ = new_client(rig, jwks={"keys": [key.as_dict(private=False)]})
    pem = key.as_pem(private=True).decode()
    form = {
        **GRANT,
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": private_key_jwt_sign(pem, client_id, "http://127.0.0.1:1/oauth/token", alg="RS256"),
    }
    assert nobody.post("/oauth/token", data=form).status_code == 200
    again = nobody.post("/oauth/token", data=form)
    assert (again.status_code, again.json()["error"]) == (401, "invalid_client")


@pytest.mark.parametrize(
    ("form", "status", "error"),
    [
        ({}, 400, "invalid_request"),
        ({"grant_type": ""}, 400, "invalid_request"),
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
        ({"grant_type": "authorization_code", "code": "x"}, 400, "unsupported_grant_type"),
        ({**GRANT, "scope": "domains:write"}, 400, "invalid_scope"),
        ({**GRANT, "scope": "../../etc"}, 400, "invalid_scope"),
        ({**GRANT, "client_secret": "x"}, 400, "invalid_request"),
        ({**GRANT, "client_assertion": "x"}, 400, "invalid_request"),
        ({**GRANT, "client_id": "oac_other"}, 400, "invalid_request"),
        ({**GRANT, "unknown": "ignored"}, 200, None),
        ({**GRANT, "scope": ""}, 200, None),
    ],
)
def test_errors_are_those_of_the_standard(rig, nobody, form, status, error):
    """RFC 6749 §5.2: JSON with error, whatever was wrong with the form."""
    answer = nobody.post("/oauth/token", auth=new_client(rig), data=form, headers=FORM)
    assert (answer.status_code, answer.json().get("error")) == (status, error), answer.text
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("content", "headers"),
    [
        (b"grant_type=client_credentials&grant_type=client_credentials", FORM),
        (b"grant_type=%ff", FORM),
        (b"\xff", FORM),
        (b"&".join(b"a%d=1" % n for n in range(100)), FORM),
        (b'{"grant_type": "client_credentials"}', {"content-type": "application/json"}),
        (b"grant_type=client_credentials", {}),
    ],
)
def test_forms_that_cannot_be_read_are_invalid_requests(rig, nobody, content, headers):
    """Twice-given fields too: which one counts would be a guess."""
    answer = nobody.post("/oauth/token", content=content, headers=headers, auth=new_client(rig))
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


@pytest.mark.parametrize("path", ["/oauth/token", "/oauth/introspect", "/oauth/revoke"])
@pytest.mark.parametrize(
    "authorization",
    [None, "Basic", "Basic !", "Basic " + base64.b64encode(b"\xff:x").decode(), "Basic " + base64.b64encode(b"a:b").decode(), "Bearer KEY"],
)
def test_who_does_not_prove_itself_gets_nothing(rig, path, authorization):
    """401 with invalid_client and the scheme to use; an API key is no client's secret."""
    headers = {} if authorization is None else {"authorization": authorization.replace("KEY", rig.key)}
    with rig.client(None) as nobody:
        answer = nobody.post(path, data={**GRANT, "token": "x"}, headers=headers)
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client"), answer.text
    assert answer.headers["www-authenticate"].startswith("Basic")


def test_id_and_secret_in_basic_are_form_encoded(rig, nobody):
    """RFC 6749 §2.3.1: percent signs and pluses mean what they mean in forms."""
    client_id, secret = new_client(rig)
    odd = "".join(f"%{ord(char):02X}" for char in client_id)
    proof = base64.b64encode(f"{odd}:{quote(secret, safe='')}".encode()).decode()
    assert nobody.post("/oauth/token", data=GRANT, headers={"authorization": f"Basic {proof}"}).status_code == 200


def test_what_a_client_may_know_of_a_token_ends_at_its_tenant(rig, nobody):
    """THREATS 30: another tenant's client hears no more than for nonsense, and can end nothing."""
    mine, foreign = new_client(rig), new_client(rig, rig.other_key)
    token = nobody.post("/oauth/token", auth=mine, data=GRANT).json()["access_token"]
    assert nobody.post("/oauth/introspect", auth=foreign, data={"token": token}).json() == {"active": False}
    assert nobody.post("/oauth/introspect", auth=foreign, data={"token": rig.key}).json() == {"active": False}
    assert nobody.post("/oauth/revoke", auth=foreign, data={"token": token}).status_code == 400
    assert nobody.post("/oauth/introspect", auth=mine, data={"token": token}).json()["active"] is True
    assert nobody.post("/oauth/revoke", auth=mine, data={"token": "nonsense"}).status_code == 200
    with rig.client(token) as sender:
        assert sender.get("/v1/messages").status_code == 200


def test_the_server_describes_itself(rig, nobody):
    """RFC 8414 and RFC 7517: what it says leads to keys that verify its tokens; nothing private is among them."""
    import joserfc.jwk
    import joserfc.jwt

    found = nobody.get("/.well-known/oauth-authorization-server").json()
    assert found["issuer"] == "http://127.0.0.1:1"
    assert found["grant_types_supported"] == ["client_credentials"]
    assert "none" not in found["token_endpoint_auth_signing_alg_values_supported"]
    for name in ("token_endpoint", "introspection_endpoint", "revocation_endpoint", "jwks_uri"):
        assert nobody.options(found[name].removeprefix(found["issuer"])).status_code == 204
    keys = nobody.get("/.well-known/jwks.json").json()
    assert not any("d" in key for key in keys["keys"])
    token = nobody.post("/oauth/token", auth=new_client(rig), data=GRANT).json()["access_token"]
    decoded = joserfc.jwt.decode(token, joserfc.jwk.KeySet.import_key_set(keys), algorithms=["EdDSA"])
    assert (decoded.claims["iss"], decoded.header["typ"]) == (found["issuer"], "at+jwt")


def test_no_secret_of_identity_is_stored_or_logged(tmp_path, capfd):
    """THREATS 31: after a run neither the database, its log, other files nor the mail log hold a key, a client's secret or a token."""
    from gatepost.observe import maillog

    maillog.configure(level="debug", mask_addresses=True, process="door")
    folder = tmp_path / "door"
    with running_door(folder) as rig, rig.client(None) as nobody:
        client_id, secret = new_client(rig)
        token = nobody.post("/oauth/token", auth=(client_id, secret), data=GRANT).json()["access_token"]
        wrong = rig.key[:-1] + ("a" if rig.key[-1] != "a" else "b")
        for shown in (token, rig.key, rig.test_key, wrong, token[:-3] + "AAA"):
            with rig.client(shown) as tried:
                tried.get("/v1/messages", headers={"x-note": "n"})
        with rig.client() as admin:
            key_id = admin.get("/v1/keys").json()["data"][0]["id"]
            rotated = admin.post(f"/v1/keys/{key_id}/rotate").json()["key"]
        nobody.post("/oauth/token", auth=(client_id, "gp_oauth_wrongsecret"), data=GRANT)
        nobody.post("/oauth/introspect", auth=(client_id, secret), data={"token": token})
        nobody.post("/oauth/revoke", auth=(client_id, secret), data={"token": token})
        secrets = [rig.key, rig.test_key, rig.other_key, rotated, secret, token, token.split(".")[2], wrong, "gp_oauth_wrongsecret"]
        logged = capfd.readouterr()
        stored = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert len(stored) > 100_000
    assert "token_revoked" in logged.err
    found = [one[:12] for one in secrets if one.encode() in stored or one in logged.err or one in logged.out]
    assert found == []
