"""When certificates are ordered: in time, and not again and again. The authority here is a function; the clock stands still."""

import datetime as dt

import pytest

from gatepost.app.encryption import ordered
from gatepost.certificates.order import OrderFailed
from gatepost.certificates.renewal import Renewal
from gatepost.certificates.shelf import Busy, Shelf, write_private
from gatepost.clock import SystemClock
from gatepost.settings import Acme, Settings, Tracking
from gatepost.testing.fake_clock import FakeClock

MINUTE, HOUR, DAY = 60, 3600, 86400
ACME = Acme(directory_url="https://ca.example/dir", agree_to_terms=True, domains=["a.example", "b.example"])


class Town:
    """A renewal with an authority that can be told to fail."""

    def __init__(self, folder, authority, clock=None, chance=0.0) -> None:
        self.shelf, self.clock, self.authority = Shelf(folder), clock or FakeClock(SystemClock().now()), authority
        self.failing = False
        self.orders: list[str] = []
        self.renewal = Renewal(ACME, self.shelf, self.clock, chance=lambda: chance, order=self.order)

    def order(self, acme, name, shelf):
        self.orders.append(name)
        if self.failing:
            raise OrderFailed("no such host")
        pair = self.authority.issue(name, starts=dt.timedelta(0), ends=dt.timedelta(days=90))
        return pair.key + pair.cert

    def step(self):
        return self.renewal.renew(self.renewal.due())


@pytest.fixture
def town(authority, tmp_path):
    """One with nothing ordered yet."""
    return Town(tmp_path, authority)


def test_hosts_of_tracking_are_ordered_too():
    """Pixels and links need a certificate like the doors: each host once, without its port, after the others."""
    tracking = Tracking(host="t.acme.example", hosts={"b.example": "b.example", "c.example": "go.c.example:8443"})
    found = ordered(Settings(acme=ACME, tracking=tracking))
    assert found.domains == ["a.example", "b.example", "t.acme.example", "go.c.example"]
    assert ordered(Settings(acme=ACME)) == ACME


def test_each_name_is_ordered_once_and_then_left_alone(town):
    """A minute later, and two months later, there is nothing to do; then there is."""
    assert [one.status for one in town.step()] == ["renewed", "renewed"]
    for seconds in (MINUTE, 58 * DAY):
        town.clock.advance(seconds)
        assert town.renewal.due() == []
    assert [one.status for one in town.renewal.renew(["a.example"])] == ["current"]
    assert town.orders == ["a.example", "b.example"]
    town.clock.advance(3 * DAY)
    assert town.renewal.due() == ["a.example", "b.example"]


def test_chance_spreads_renewals_before_the_last_third(authority, tmp_path):
    """Of 90 days it is day 60 at the latest and day 57 at the earliest."""
    days = []
    for chance in (0.0, 1.0):
        town = Town(tmp_path / str(chance), authority, chance=chance)
        started = town.clock.now()
        town.step()
        days.append((town.renewal.past()["a.example"].renew_at - started) / DAY / 1000)
    assert days == [pytest.approx(60, abs=0.1), pytest.approx(57, abs=0.1)]


def test_after_a_failure_it_waits_ever_longer(town, tmp_path):
    """Ten minutes, twenty, forty … twelve hours, over restarts too; a name that fails does not hold up the other."""
    town.failing = True
    waits = []
    for _ in range(9):
        assert [one.status for one in town.step()] == ["failed", "failed"]
        assert town.renewal.due() == []
        again = Town(tmp_path, town.authority, town.clock)
        assert again.renewal.due() == []
        waited = 0
        while not town.renewal.due():
            town.clock.advance(MINUTE)
            waited += 1
        waits.append(waited)
    assert waits == [10, 20, 40, 80, 160, 320, 640, 720, 720]
    town.failing = False
    assert [one.status for one in town.step()] == ["renewed", "renewed"]
    assert town.renewal.past()["a.example"].failures == 0


def test_nobody_orders_a_name_more_than_three_times_an_hour(town):
    """Whoever forces it: authorities lock accounts that ask too often."""
    for expected in ("renewed", "renewed", "renewed", "waiting", "waiting"):
        assert town.renewal.renew(["a.example"], is_forced=True)[0].status == expected
    assert town.orders == ["a.example"] * 3
    town.clock.advance(HOUR + 1)
    assert town.renewal.renew(["a.example"], is_forced=True)[0].status == "renewed"


def test_an_order_that_killed_the_process_counts(town, tmp_path):
    """A crash loop must not become a flood of orders."""

    def die(acme, name, shelf):
        raise KeyboardInterrupt

    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            Renewal(ACME, town.shelf, town.clock, chance=lambda: 0.0, order=die).renew(["a.example"])
    assert town.renewal.renew(["a.example"])[0].status == "waiting"


def test_only_one_process_orders(town):
    """The other hears that it is being done."""
    with town.shelf.locked(), pytest.raises(Busy):
        town.step()
    assert town.orders == []
    assert len(town.step()) == 2


def test_a_damaged_certificate_is_ordered_anew(town):
    """So is one that vanished."""
    town.step()
    town.clock.advance(2 * HOUR)
    write_private(town.shelf.certificate("a.example"), b"nonsense")
    town.shelf.certificate("b.example").unlink()
    assert town.renewal.due() == ["a.example", "b.example"]


def test_what_is_kept_is_for_its_owner_only(town, tmp_path):
    """Keys, account and orders: 0600 in folders of 0700, and no half-written file."""
    town.step()
    paths = [tmp_path / "acme", *(tmp_path / "acme").rglob("*")]
    assert [path for path in paths if path.stat().st_mode & 0o077] == []
    assert {path.suffix for path in paths if path.is_file()} == {".pem", ".json", ""}


@pytest.mark.parametrize("token", ["../orders.json", "", "a", "A" * 200, "gate.example.pem", "a/b" * 10, "..", "%2e%2e%2forders.json"])
def test_only_tokens_are_looked_up(town, token):
    """A path in the place of a token finds nothing, whatever lies there."""
    town.step()
    town.shelf.put_certificate("gate.example", b"secret")
    assert town.shelf.find_answer(token) is None


@pytest.mark.parametrize("name", ["../certificates/a.example", "", "..", "a/b", "A.example", "\x00", ".hidden"])
def test_only_names_are_looked_up(town, name):
    """The name in a client's first message is a stranger's text."""
    town.step()
    town.shelf.put_answer("A" * 43, "x")
    assert town.shelf.find_certificate(name) is None
