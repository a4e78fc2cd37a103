"""How guesses are slowed down."""

import pytest

from gatepost.tenants.sign_in_pace import Guess, Pacing, network_of
from gatepost.testing.fake_clock import FakeClock


def test_failures_from_one_network_wait_longer_and_longer_up_to_a_quarter_of_an_hour():
    """Five are free; then a second, doubled each time."""
    clock, waits = FakeClock(), []
    pacing = Pacing(clock)
    for _ in range(25):
        begun = pacing.begin("ann", "192.0.2.1", None)
        while not isinstance(begun, Guess):
            waits.append(begun)
            clock.advance(begun)
            begun = pacing.begin("ann", "192.0.2.1", None)
    assert waits[:5] == [1, 2, 4, 8, 16]
    assert max(waits) == 900
    assert isinstance(pacing.begin("bob", "192.0.2.1", None), Guess)
    assert isinstance(pacing.begin("ann", "192.0.2.99", None), Guess)


def test_success_and_a_quiet_day_forget():
    """Who knows the password starts anew; so does who waits."""
    clock = FakeClock()
    pacing = Pacing(clock)
    for _ in range(4):
        pacing.begin("ann", "192.0.2.1", None)
    guess = pacing.begin("ann", "192.0.2.1", None)
    assert isinstance(guess, Guess)
    pacing.succeeded(guess)
    assert isinstance(pacing.begin("ann", "192.0.2.1", None), Guess)
    for _ in range(4):
        pacing.begin("ann", "192.0.2.1", None)
    assert not isinstance(pacing.begin("ann", "192.0.2.1", None), Guess)
    clock.advance(86_401)
    assert isinstance(pacing.begin("ann", "192.0.2.1", None), Guess)


def test_many_guesses_at_the_same_moment_are_many():
    """They count when they begin, not when they are known to be wrong."""
    pacing = Pacing(FakeClock())
    assert sum(isinstance(pacing.begin("ann", "192.0.2.1", None), Guess) for _ in range(1000)) == 5


def test_ten_thousand_guesses_from_ten_thousand_addresses_neither_get_through_nor_stop_the_owner():
    """A hundred are looked at, then one in ten seconds; the owner's device is not slowed at all."""
    clock = FakeClock()
    pacing = Pacing(clock)
    looked_at = 0
    for n in range(10_000):
        looked_at += isinstance(pacing.begin("ann", f"10.{n // 65536}.{n // 256 % 256}.{n % 256}", None), Guess)
        clock.advance(0.01)
        if n % 1000 == 0:
            own = pacing.begin("ann", "198.51.100.7", "device-1")
            assert isinstance(own, Guess)
            pacing.succeeded(own)
    assert 100 <= looked_at <= 112


def test_who_sprays_accounts_pushes_nobodys_count_out():
    """Counts are bounded; one that holds somebody back stays."""
    pacing = Pacing(FakeClock())
    while isinstance(pacing.begin("ann", "192.0.2.1", None), Guess):
        pass
    for n in range(30_000):
        pacing.begin(f"nobody-{n}", "203.0.113.9", None)
    assert not isinstance(pacing.begin("ann", "192.0.2.1", None), Guess)
    assert len(pacing._counts) <= 20_000


def test_a_known_device_waits_at_most_half_a_minute():
    """Whoever has stolen the device still cannot guess fast."""
    clock, waits = FakeClock(), []
    pacing = Pacing(clock)
    for _ in range(40):
        begun = pacing.begin("ann", "192.0.2.1", "device-1")
        if not isinstance(begun, Guess):
            waits.append(begun)
            clock.advance(begun)
    assert max(waits) == 30


def test_codes_are_counted_apart_and_more_strictly():
    """Six digits: of them at most twenty are free, from however many networks."""
    pacing = Pacing(FakeClock())
    assert sum(isinstance(pacing.begin("per_1", f"10.0.0.{n}", None, is_code=True), Guess) for n in range(200)) == 20
    assert isinstance(pacing.begin("per_1", "10.0.0.1", None), Guess)


@pytest.mark.parametrize(
    ("peer", "network"),
    [("192.0.2.7", "192.0.2.7"), ("::ffff:192.0.2.7", "192.0.2.7"), ("2001:db8:1:2ff::9", "2001:db8:1:200::/56"), ("unix", "unix")],
)
def test_a_network_is_what_one_visitor_can_be_assumed_to_own(peer, network):
    """One IPv4 address, however written; of IPv6 a /56."""
    assert network_of(peer) == network
