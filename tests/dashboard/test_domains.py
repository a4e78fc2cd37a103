"""The pages about senders' domains: list, health, what to publish, looking again."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gatepost.domain.access import GATEWAY
from gatepost.settings import Watch
from gatepost.store import health
from gatepost.tenants.source_health import Sender
from tests.dashboard.accessible import violations
from tests.dashboard.conftest import OpenPage
from tests.dashboard.site import Site, running_site
from tests.watch.zones import ADDRESS, HOSTNAME, dkim_names, good_zone

HEADERS = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture(scope="module")
def domain_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A gateway with a domain that is well, one that is broken, one that nobody looked at."""
    with running_site(tmp_path_factory.mktemp("domains"), watch=Watch(addresses=[ADDRESS])) as site:
        deps = site.deps
        zone: dict[str, Any] = deps.domain_health._lookup.zone
        deps.domain_health._sources.senders = [Sender(ADDRESS, HOSTNAME)]
        for name in ("well.test", "broken.test", "new.test"):
            view = site.run(deps.domains.add(deps.default_tenant_id, name, by=GATEWAY, is_trusted=name == "broken.test"))
            zone.update(good_zone(view, name))
            site.ids[name] = view.domain.id
            if name == "broken.test":
                for record in dkim_names(view):
                    zone.pop(record)
        for name in ("well.test", "broken.test"):
            site.run(deps.domain_health.look(deps.default_tenant_id, site.ids[name]))
        site.run(deps.domain_health._sources.look())
        yield site


@pytest.fixture
def client(domain_site: Site) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=domain_site.url, headers=HEADERS, timeout=20) as opened:
        yield opened


def test_the_list_shows_each_domains_state(domain_site: Site, client: httpx.Client) -> None:
    """Word and colour for each; what nobody looked at yet says so."""
    page = client.get("/domains").text
    rows = {name: page.partition(f">{name}<")[2].partition("</tr>")[0] for name in ("well.test", "broken.test", "new.test")}
    assert ">verified<" in rows["well.test"].replace("</svg>", ">")
    assert ">ok<" in rows["well.test"].replace("</svg>", ">")
    assert ">100<" in rows["well.test"].replace(" ", "")
    assert "broken" in rows["broken.test"]
    assert "trusted" in rows["broken.test"]
    assert "not looked at" in rows["new.test"]


def test_a_domains_page_says_what_is_wrong_and_what_to_do_next(domain_site: Site, client: httpx.Client) -> None:
    """Checks with evidence, the address that mail leaves from, rules with their provider's page, records to publish."""
    page = client.get(f"/domains/{domain_site.ids['broken.test']}").text
    assert "receivers find no key for our signatures" in page
    assert "<strong>Next:</strong> publish our keys" in page
    assert ADDRESS in page
    assert "https://support.google.com/a/answer/81126" in page
    assert "v=DKIM1;" in page
    well = client.get(f"/domains/{domain_site.ids['well.test']}").text
    assert "<strong>Next:</strong>" not in well
    assert "100 of 100" in well


def test_looking_again_asks_dns(domain_site: Site, client: httpx.Client) -> None:
    """The button makes a fresh look, unless that was done half a minute ago; a domain that waited is verified by it."""
    domain_id = domain_site.ids["new.test"]
    token = client.get(f"/domains/{domain_id}").text.partition('name="token" value="')[2].partition('"')[0]
    answer = client.post(f"/domains/{domain_id}/look", data={"token": token}, headers={"Origin": domain_site.url})
    assert (answer.status_code, answer.headers["location"]) == (303, f"/domains/{domain_id}?done=looked")
    assert "This is what DNS says now." in client.get(answer.headers["location"]).text
    row = domain_site.run(domain_site.deps.engine.read(lambda conn: health.domain_row(conn, domain_id)))
    assert row is not None
    assert row.state == "ok"
    assert client.post(f"/domains/{domain_id}/look", data={"token": "x"}).status_code == 403
    assert client.get("/domains/none").status_code == 404


def test_texts_of_strangers_in_dns_stay_texts(tmp_path: Path) -> None:
    """A record that holds markup is shown as written (CWE-79)."""
    with running_site(tmp_path) as site:
        deps = site.deps
        view = site.run(deps.domains.add(deps.default_tenant_id, "acme.test", by=GATEWAY))
        deps.domain_health._lookup.zone["acme.test"] = {"TXT": ["v=spf1 <script>alert(1)</script>"], "MX": ["10 <b>mx</b>.test"]}
        page = httpx.get(f"{site.url}/domains/{view.domain.id}", headers=HEADERS).text
        assert "&lt;script&gt;" in page
        assert "<script>alert" not in page
        assert "<b>mx" not in page


@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (390, "dark")])
def test_everybody_can_use_the_pages(domain_site: Site, open_page: OpenPage, width: int, theme: str) -> None:
    """axe-core finds nothing moderate or worse; nothing is wider than the screen."""
    page = open_page(f"{domain_site.url}/domains", width=width, theme=theme)
    found = []
    for path in ("/domains", f"/domains/{domain_site.ids['broken.test']}", f"/domains/{domain_site.ids['well.test']}"):
        page.goto(domain_site.url + path, wait_until="load")
        found += [f"{path}: {one['id']}" for one in violations(page) if one["impact"] != "minor"]
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
    assert found == []
