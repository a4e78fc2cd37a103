"""Whose clicks count (THREATS 37)."""

import httpx
import pytest

from tests.dashboard.seed import Mail, To, store
from tests.dashboard.site import Site


def deferred(site: Site) -> str:
    """Store a message that can be retried and cancelled."""
    deps = site.deps
    mail = Mail(
        name="x",
        ago_s=5,
        sender="a@acme.example",
        subject="x",
        to=(To(address="b@example.net", status="deferred", tries=(), next_in_s=900),),
        text="x",
    )
    return site.run(store(deps.engine, deps.blobs, deps.default_tenant_id, deps.clock.now(), mail))


def token_of(client: httpx.Client, path: str) -> str:
    """Read the token out of a page's form."""
    return client.get(path).text.partition('name="token" value="')[2].partition('"')[0]


def test_a_click_on_retry_and_cancel_takes_effect(site: Site, client: httpx.Client) -> None:
    """The forms of the message page do what they say, and the page then says so."""
    path = f"/m/{deferred(site)}"
    answer = client.post(path, data={"token": token_of(client, path), "action": "retry"})
    assert answer.status_code == 303
    assert "1 recipient will be tried again at once." in client.get(answer.headers["location"]).text
    answer = client.post(path, data={"token": token_of(client, path), "action": "cancel"})
    assert "1 recipient cancelled." in client.get(answer.headers["location"]).text
    again = client.post(path, data={"token": token_of(client, path), "action": "cancel"})
    assert again.status_code == 409
    assert "nothing was cancelled" in again.text


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Sec-Fetch-Site": "none"},
        {"Origin": "https://evil.example"}, {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"}, {"Origin": "http://["}, {},
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", ["message", "/q", "/logout", "/login"])
def test_another_sites_form_changes_nothing(site: Site, client: httpx.Client, headers: dict[str, str], path: str) -> None:
    """Even with the right token: a form elsewhere, or a program, is refused."""
    message = f"/m/{deferred(site)}"
    fields = {"token": token_of(client, message), "action": "pause" if path == "/q" else "cancel", "site": "victim.example", "key": "x"}
    answer = httpx.post(site.url + (message if path == "message" else path), headers=headers, data=fields)
    assert answer.status_code == 403
    assert "permission_denied" in answer.text
    assert "deferred" in client.get(message).text
    assert "victim.example" not in client.get("/q").text


@pytest.mark.parametrize("token", ["", "x", "é", "A" * 43])
def test_a_form_without_this_viewers_token_changes_nothing(site: Site, client: httpx.Client, token: str) -> None:
    """The origin alone is not enough."""
    answer = client.post(f"/m/{deferred(site)}", data={"token": token, "action": "cancel"})
    assert answer.status_code == 403


@pytest.mark.parametrize("path", ["/", "/q", "/live", "/new?top=msg_01m85v75k70000000000000000"])
@pytest.mark.parametrize(
    "mode",
    [
        {"Sec-Fetch-Dest": "iframe", "Sec-Fetch-Mode": "navigate"},
        {"Sec-Fetch-Dest": "image", "Sec-Fetch-Mode": "no-cors"},
        {"Sec-Fetch-Mode": "cors"},
    ],
)
def test_no_other_site_can_hold_a_page_inside(site: Site, path: str, mode: dict[str, str]) -> None:
    """Frames, images and fetches from elsewhere get a refusal, not even a slow or a quick answer to measure."""
    assert httpx.get(site.url + path, headers={"Sec-Fetch-Site": "cross-site", **mode}).status_code == 403


def test_a_link_from_elsewhere_opens_the_page(site: Site) -> None:
    """A link in a chat or a ticket leads to the message."""
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert httpx.get(f"{site.url}/m/{site.ids['receipt']}", headers=headers).status_code == 200


def test_a_site_is_paused_and_resumed(site: Site, client: httpx.Client) -> None:
    """The queue page stops and starts deliveries to one site."""
    for action, word in (("pause", "Resume slow.example"), ("resume", "")):
        answer = client.post("/q", data={"token": token_of(client, "/q"), "site": "slow.example", "action": action})
        assert answer.status_code == 303
        assert ("Resume slow.example" in client.get("/q").text) == bool(word)


def test_a_form_that_is_too_large_is_refused(site: Site, client: httpx.Client) -> None:
    """The pages take clicks, not uploads."""
    assert client.post("/q", data={"token": "x" * 100_000}).status_code == 413
