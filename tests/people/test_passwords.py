"""Which passwords are taken, and what checking one costs."""

import asyncio

import pytest

from gatepost.domain.errors import Refused
from gatepost.tenants.passwords import Passwords, password_faults


@pytest.mark.parametrize(
    ("password", "code"),
    [
        ("short", "too_short"), ("elevenchars", "too_short"), ("x" * 257, "too_long"),
        ("password1234", "too_common"), ("P@ssw0rd!2024", "too_common"), ("123456789012", "too_common"), ("qwertyuiop12", "too_common"),
        ("aaaaaaaaaaaa", "too_common"), ("abcabcabcabc", "too_common"), ("Summer2024!!!!", "too_common"), ("1qaz2wsx3edc", "too_common"),
        ("correct horse battery staple", "too_common"), ("admin123admin123", "too_common"), ("Welcome2024Welcome", "too_common"),
        ("gatepost gatepost", "too_common"), ("letmein123456", "too_common"),
        ("ann.lee@example.net", "contains_identity"), ("my ann.lee secret", "contains_identity"), ("hi AnnLee hi 99", "contains_identity"),
    ],
)  # fmt: skip
def test_what_is_guessed_first_is_not_taken(password, code):
    """Too short, too long, common in any dress, or made of the person's own name and address."""
    assert [fault.code for fault in password_faults("/password", password, "ann.lee@example.net", "Ann Lee")] == [code]


@pytest.mark.parametrize(
    "password", ["tulip anchor violet", "kettle drum 77 moss", "Zq8!kd93-LmX", "påske lam er godt", "🌷🌵🍄🌲🐙🦊🦉🐢🐌🦋🐝🐞"]
)
def test_others_are(password):
    """Words, signs, letters of any script."""
    assert password_faults("/password", password, "ann.lee@example.net", "Ann Lee") == []


def test_a_hash_is_argon2id_as_owasp_asks_and_says_nothing():
    """19 MiB, two passes, one lane; another salt each time; the right password passes, others do not."""

    async def main():
        passwords = Passwords()
        first, second = await passwords.hash("tulip anchor violet"), await passwords.hash("tulip anchor violet")
        assert first.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
        assert first != second
        assert await passwords.check(first, "tulip anchor violet", is_known_device=False)
        assert not await passwords.check(first, "tulip anchor violets", is_known_device=False)
        assert not await passwords.check(None, "nobody has this password", is_known_device=False)
        assert not await passwords.check("$nonsense", "x", is_known_device=True)
        assert not passwords.is_outdated(first)
        assert Passwords(memory_kib=9216, passes=4).is_outdated(first)
        passwords.close()

    asyncio.run(main())


def test_the_same_letters_typed_differently_are_the_same_password():
    """A composed é and an e with an accent behind it."""

    async def main():
        passwords = Passwords(memory_kib=64, passes=1)
        assert await passwords.check(await passwords.hash("caf\u00e9 au lait noir"), "cafe\u0301 au lait noir", is_known_device=True)
        passwords.close()

    asyncio.run(main())


def test_a_flood_of_checks_waits_in_a_short_row_and_leaves_known_devices_theirs():
    """What finds no place is refused at once; a known device has another row, with room."""

    async def main():
        passwords = Passwords(memory_kib=64, passes=1, max_waiting=3)
        stored = await passwords.hash("tulip anchor violet")
        flood = [asyncio.create_task(passwords.check(None, "x", is_known_device=False)) for _ in range(50)]
        await asyncio.sleep(0)
        assert await passwords.check(stored, "tulip anchor violet", is_known_device=True)
        results = await asyncio.gather(*flood, return_exceptions=True)
        refused = [one for one in results if isinstance(one, Refused)]
        assert {one.code for one in refused} == {"overloaded"}
        assert len(refused) == 46  # one is looked at, three wait
        passwords.close()

    asyncio.run(main())
