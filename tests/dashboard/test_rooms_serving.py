"""The rooms over a real `gatepost serve`: what the pages ask for is done by the other processes."""

import re
import socket
from pathlib import Path

import httpx

from tests.flow.serving import Serving, until


def test_what_pages_ask_for_happens(tmp_path: Path) -> None:
    """A relay is asked and told of; mail that waits is held, page by page, until the action's page says done; a site's order counts."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]  # nobody is there once this is closed
    relay = f'relays.main.url="smtp://127.0.0.1:{port}"'
    with Serving(tmp_path / "data", relay) as serving:
        headers = {"Sec-Fetch-Site": "same-origin"}
        with httpx.Client(base_url=f"http://{serving.listening['http']}", headers=headers, timeout=20, follow_redirects=True) as client:

            def send(path: str, page: str, **form: str) -> httpx.Response:
                token = re.search(r'name="token" value="([^"]+)"', client.get(page).text)
                assert token is not None, page
                return client.post(path, data={"token": token[1], **form})

            asked = send("/relays/main/test", "/relays/main")
            assert "It would take no mail." in asked.text
            assert "Nothing was sent." in asked.text
            counted = "/q/actions?count=yes&action=hold&recipient=example.net"
            assert "Nothing fits" in client.get(counted).text
            done = send("/q/actions", "/suppressions", action="hold", recipient="example.net")
            assert until(lambda: ">done<" in client.get(done.url).text.replace("</svg>", ">"))
            assert "Nothing goes there" in send("/sites/example.net/suspend", "/sites/example.net", note="calm").text
            assert "calm" in client.get("/sites").text
