"""The pages of where mail lands and of providers' own suppression lists: what they tell, their forms, in a browser."""

import asyncio
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from gatepost.accept import Acceptor
from gatepost.domain.access import GATEWAY
from gatepost.placement.sending import PlacementTests
from gatepost.store import relay_lists
from gatepost.store.schema import message, placement_test
from tests.dashboard.accessible import violations
from tests.dashboard.conftest import OpenPage, fill
from tests.dashboard.rooms import HOSTILE, RELAYS, SEEDS, furnish
from tests.dashboard.site import Site, running_site
from tests.dashboard.test_rooms import audited, send


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Pages over a gateway with mailboxes to look into, tests of some days, and relays with lists."""
    with running_site(tmp_path_factory.mktemp("placement"), relays=RELAYS, seeds=SEEDS) as site:
        fill(site)
        furnish(site)
        deps = site.deps
        site.run(deps.domains.add(deps.default_tenant_id, "sender.example", by=GATEWAY, is_trusted=True))
        site.run(_refresh(site))
        acceptor = Acceptor(
            engine=deps.engine,
            blobs=deps.blobs,
            directory=deps.directory,
            settings=deps.settings,
            clock=deps.clock,
            hostname="gate.example",
        )
        object.__setattr__(deps, "placement", PlacementTests(deps.engine, deps.clock, deps.settings, acceptor))
        yield site


async def _refresh(site: Site) -> Any:
    return await site.deps.directory.refresh()


@pytest.fixture
def client(rooms: Site) -> Iterator[httpx.Client]:
    """A browser without a screen, at this machine."""
    with httpx.Client(base_url=rooms.url, headers={"Sec-Fetch-Site": "same-origin"}, timeout=20) as opened:
        yield opened


def words(text: str) -> str:
    """What a page says, in one line."""
    return " ".join(re.sub(r"<[^>]+>", " ", text).split())


def test_shares_are_told_by_provider_and_day_by_day(client: httpx.Client) -> None:
    """Of what was measured; what was not is counted apart, and what waits not at all."""
    text = client.get("/placement?span=30d").text
    told = words(text)
    assert "Inbox 69.2% Spam 23.1% Missing 7.69%" in told
    assert "9 of 13 mails came into an inbox, on 5 of 30 days" in text
    assert "Not measured 1" in told
    assert "gmail 100.0% 5" in told
    assert text.count('role="img"') == 1
    assert HOSTILE not in text
    assert "No test yet" not in text
    nothing = client.get("/placement?domain=none.example").text
    assert 'role="img"' not in nothing
    assert client.get("/placement?span=1y&after=nonsense").status_code == 200


def test_a_test_says_where_each_mail_lies(rooms: Site, client: httpx.Client) -> None:
    """Folder, time, what the provider thought of SPF, DKIM and DMARC, and the message itself; nobody else's test."""
    text = client.get(f"/placement/{rooms.ids['placement']}").text
    assert ("Junk" in text, "4.2 s" in text, f'/m/{rooms.ids["receipt"]}"' in text) == (True, True, True)
    assert HOSTILE not in text
    assert words(text).count("spam") >= 2
    for wrong in ("none", "plc_01h00000000000000000000000", rooms.ids["receipt"]):
        assert client.get(f"/placement/{wrong}").status_code == 404


def test_a_test_is_begun_by_a_form(rooms: Site, client: httpx.Client) -> None:
    """One mail for each mailbox, accepted like any other; the page of the test follows."""
    before = count(rooms, message)
    answer = send(client, "/placement", subject="Spring sale", stream="bulk", **{"from": "Shop <shop@sender.example>"})
    assert answer.status_code == 200
    assert "Spring sale" in answer.text
    assert re.search(r"/placement/plc_", str(answer.url))
    assert count(rooms, message) == before + len(SEEDS)
    assert words(answer.text).count("waiting") >= len(SEEDS)


@pytest.mark.parametrize(
    ("form", "field", "told"),
    [
        ({"from": "nobody"}, "from", "nobody"),
        ({"from": "shop@stranger.example"}, "from", "not one of this tenant"),
        ({"from": "shop@sender.example", "stream": "none"}, "stream", "none"),
    ],
)
def test_a_test_that_cannot_be_is_told_beside_its_field(
    rooms: Site, client: httpx.Client, form: dict[str, str], field: str, told: str
) -> None:
    """What was typed is still there, and nothing was sent."""
    before = count(rooms, placement_test)
    answer = send(client, "/placement", subject="Kept words", **form)
    assert answer.status_code in {403, 422}
    assert "Kept words" in answer.text
    assert told in answer.text
    assert count(rooms, placement_test) == before


def test_without_mailboxes_the_page_says_how_to_begin(empty_site: Site) -> None:
    """No charts of nothing, no form that could only fail."""
    with httpx.Client(base_url=empty_site.url, headers={"Sec-Fetch-Site": "same-origin"}) as client:
        text = client.get("/placement").text
        assert "[seeds.gmail]" in text
        assert "Begin the test" not in text
        assert send(client, "/placement", page="/suppressions", **{"from": "a@b.example"}).status_code == 409
        assert "No provider with a list" in client.get("/relay-lists").text


def test_each_list_says_how_far_it_is_and_what_is_wrong(client: httpx.Client) -> None:
    """Last round, next one, added, removed, told, failed with the provider's words; relays without a list are named."""
    text = client.get("/relay-lists").text
    cards = {one[0]: words(one[1]) for one in re.findall(r'id="h-(\w+)">(.*?)</section>', text, re.DOTALL)}
    assert set(cards) == {"main", "failing", "held", "plain"}
    assert "in step" in cards["main"]
    for told in ("Added 7", "Known 390", "Of nobody 12", "Removed here 4", "Told 58", "Removed there 2", "Failed 0"):
        assert told in cards["main"]
    assert "401: the key is not valid" in cards["failing"]
    assert "(3 times in a row)" in cards["failing"]
    assert "followed when it forgets" in cards["failing"]
    assert "840 of default" in cards["held"]
    assert "120 entries vanished" in cards["held"]
    assert "switched off" in cards["plain"]
    assert "Without a list: second." in text
    assert HOSTILE not in text


def test_a_list_is_read_when_somebody_asks(rooms: Site, client: httpx.Client) -> None:
    """It is due at once, and the audit log tells who asked; one that is not wanted, or not there, is refused."""
    before = audited(rooms, "relay.suppressions_asked")
    assert "within a few seconds" in send(client, "/relay-lists/main/sync", page="/relay-lists").text
    due = rooms.run(rooms.deps.engine.read(relay_lists.due))
    assert due["main"] <= rooms.deps.clock.now() < due["held"]
    assert audited(rooms, "relay.suppressions_asked") == before + 1
    for name, status in (("plain", 409), ("second", 404), ("none", 404)):
        assert send(client, f"/relay-lists/{name}/sync", page="/relay-lists").status_code == status


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_everybody_can_use_these_pages(rooms: Site, open_page: OpenPage, width: int, theme: str) -> None:
    """axe-core finds nothing moderate or worse; nothing is wider than the screen; the chart has its colours."""
    page = open_page(f"{rooms.url}/placement", width=width, theme=theme)
    assert page.evaluate("getComputedStyle(document.querySelector('.chart rect')).fill") not in {"", "rgb(0, 0, 0)"}
    found = []
    for path in ("/placement", "/placement?span=7d&domain=none.example", "/placement/{placement}", "/relay-lists"):
        page.goto(rooms.url + path.format(**rooms.ids), wait_until="load")
        found += [f"{path}: {one['id']}: {one['nodes'][0]['html'][:120]}" for one in violations(page) if one["impact"] != "minor"]
        if page.evaluate("document.documentElement.scrollWidth") > width:
            found.append(f"{path}: too wide")
    assert found == []


def test_the_pages_are_found_by_their_tabs(rooms: Site, open_page: OpenPage) -> None:
    """From the numbers to placement, from the relays to their lists."""
    page = open_page(f"{rooms.url}/insights")
    page.get_by_role("link", name="Placement").click()
    assert page.url.endswith("/placement")
    page.get_by_role("link", name="Delivery").first.click()
    page.get_by_role("link", name="Provider lists").click()
    assert page.url.endswith("/relay-lists")


def count(rooms: Site, table: Any) -> int:
    async def run() -> int:
        return int(await rooms.deps.engine.read(lambda conn: conn.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()))

    return asyncio.run_coroutine_threadsafe(run(), rooms._loop).result(30)
