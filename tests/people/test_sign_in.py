"""Signing in with a password and a second factor, on both databases."""

import pyotp
import pytest

from gatepost.domain.access import Role
from gatepost.domain.errors import Refused
from gatepost.observe import maillog
from gatepost.tenants import second_factors
from tests.people.house import OTHER, PASSWORD, in_house, operator, visit


def code_of(house, secret):
    """Read an authenticator."""
    return pyotp.TOTP(secret).at(house.clock.now() // 1000)


async def add_totp(house, entered):
    """Set an authenticator up; return its secret and the recovery codes."""
    secret = second_factors.make_totp_secret()
    codes = await house.accounts.add_totp(await house.changing(entered), secret, code_of(house, secret))
    return secret, codes


async def refused(work):
    """Return the code of a refusal."""
    with pytest.raises(Refused) as caught:
        await work
    return caught.value.code


def test_a_password_opens_a_session_with_the_persons_rights(make_engine):
    """The first person is operator of the gateway and owner of its tenant; the sign-in is in the audit log."""

    async def work(house):
        await house.set_up()
        entered = await house.sign_in.with_password(" Ann@ACME.example ", PASSWORD, visit())
        signed_in = await house.signed_in(entered)
        assert signed_in.roles == {house.tenant_id: Role.OWNER}
        assert {"operator", "admin", "messages:read"} <= {scope.value for scope in signed_in.principal.scopes}
        assert await house.audited() == ["person.created", "person.signed_in"]

    in_house(make_engine, work)


def test_an_unknown_address_a_wrong_password_and_a_disabled_person_are_one_and_the_same(make_engine, monkeypatch):
    """The same words, and one hash each: neither answer nor work tells whether there is an account."""
    told = []
    monkeypatch.setattr(maillog, "security", lambda what, **fields: told.append((what, fields)))

    async def work(house):
        await house.set_up()
        await house.join("bob@acme.example", Role.VIEWER)
        await house.people.set_disabled(operator(house.tenant_id), "bob@acme.example", is_disabled=True)
        answers = set()
        for email, password in (
            ("ann@acme.example", OTHER), ("nobody@acme.example", PASSWORD), ("no address", PASSWORD), ("bob@acme.example", PASSWORD),
            ("", ""), ("ann@acme.example", ""), ("ann@acme.example", "x" * 100_000),
        ):  # fmt: skip
            before = house.passwords.checks
            with pytest.raises(Refused) as caught:
                await house.sign_in.with_password(email, password, visit(f"192.0.2.{len(told)}"))
            answers.add((caught.value.code, caught.value.detail))
            assert house.passwords.checks == before + 1
        assert len(answers) == 1
        assert {what for what, _ in told} == {"sign_in_failed"}
        assert PASSWORD not in repr(told)
        assert "nobody@" not in repr(told)

    in_house(make_engine, work)


def test_ten_thousand_wrong_guesses_do_not_keep_the_owner_out(make_engine):
    """From as many addresses: nearly all are refused unseen, and the known device signs in at once, in the midst of them."""

    async def work(house):
        entered = await house.set_up()
        known, count = {entered.person.id: "device-1"}, 10_000 if house.engine.dialect == "sqlite" else 1_000
        before = house.passwords.checks
        codes = [
            await refused(house.sign_in.with_password("ann@acme.example", OTHER, visit(f"10.{n // 256}.{n % 256}.1"))) for n in range(count)
        ]
        assert codes.count("rate_limited") >= count - 200
        assert house.passwords.checks - before <= 200
        again = await house.sign_in.with_password("ann@acme.example", PASSWORD, visit(devices=known))
        assert (await house.signed_in(again)).person.id == entered.person.id

    in_house(make_engine, work)


def test_a_pause_says_how_long_and_is_told_once_a_minute(make_engine, monkeypatch):
    """Retry-After is honest, and a flood of guesses does not flood the log."""
    told = []
    monkeypatch.setattr(maillog, "security", lambda what, **fields: told.append(what))

    async def work(house):
        await house.set_up()
        for _ in range(5):
            await refused(house.sign_in.with_password("ann@acme.example", OTHER, visit()))
        for _ in range(50):
            with pytest.raises(Refused) as caught:
                await house.sign_in.with_password("ann@acme.example", PASSWORD, visit())
            assert (caught.value.code, caught.value.retry_after_s) == ("rate_limited", 1)
        assert told.count("sign_in_paused") == 1
        house.clock.advance(1)
        await house.sign_in.with_password("ann@acme.example", PASSWORD, visit())

    in_house(make_engine, work)


def test_with_an_authenticator_the_password_opens_nothing_yet(make_engine):
    """The session that waits for the code is no session; the one after it is another, with another secret."""

    async def work(house):
        secret, _ = await add_totp(house, await house.set_up())
        waiting = await house.sign_in.with_password("ann@acme.example", PASSWORD, visit())
        assert waiting.needs_second_factor
        found = await house.sessions.find(waiting.token, is_use=False)
        assert found.session.state == "password"
        house.clock.advance(30)
        assert await refused(house.sign_in.with_code(found, "000000", visit())) == "authentication_failed"
        entered = await house.sign_in.with_code(found, code_of(house, secret), visit(token=waiting.token))
        assert not entered.needs_second_factor
        assert entered.token != waiting.token
        assert await house.sessions.find(waiting.token, is_use=False) is None

    in_house(make_engine, work)


def test_a_code_counts_once(make_engine):
    """Whoever looks over the shoulder has nothing; nor does an older code of the same minute count afterwards."""

    async def work(house):
        secret, _ = await add_totp(house, await house.set_up())
        waiting = await house.sessions.find((await house.sign_in.with_password("ann@acme.example", PASSWORD, visit())).token, is_use=False)
        older = code_of(house, secret)
        assert await refused(house.sign_in.with_code(waiting, older, visit())) == "authentication_failed"  # it set the authenticator up
        house.clock.advance(30)
        code = code_of(house, secret)
        await house.sign_in.with_code(waiting, code, visit("192.0.2.2"))
        assert await refused(house.sign_in.with_code(waiting, code, visit("192.0.2.3"))) == "authentication_failed"
        assert await refused(house.sign_in.with_code(waiting, older, visit("192.0.2.4"))) == "authentication_failed"

    in_house(make_engine, work)


def test_a_recovery_code_stands_in_once(make_engine):
    """Typed in any way; a second time it is refused, and nine are left."""

    async def work(house):
        _, codes = await add_totp(house, await house.set_up())
        waiting = await house.sessions.find((await house.sign_in.with_password("ann@acme.example", PASSWORD, visit())).token, is_use=False)
        await house.sign_in.with_code(waiting, codes[4].upper().replace("-", " "), visit())
        assert await refused(house.sign_in.with_code(waiting, codes[4], visit())) == "authentication_failed"
        assert len((await house.person()).recovery_hashes) == 9
        assert not set(codes) & set((await house.person()).recovery_hashes)

    in_house(make_engine, work)


def test_codes_cannot_be_tried_through(make_engine):
    """After a few wrong ones there is a pause, also from other networks; a known device has its own count."""

    async def work(house):
        entered = await house.set_up()
        secret, _ = await add_totp(house, entered)
        waiting = await house.sessions.find((await house.sign_in.with_password("ann@acme.example", PASSWORD, visit())).token, is_use=False)
        codes = [await refused(house.sign_in.with_code(waiting, "123456", visit(f"10.0.0.{n}"))) for n in range(100)]
        assert codes.count("authentication_failed") == 20
        house.clock.advance(30)
        own = visit(devices={entered.person.id: "device-1"})
        await house.sign_in.with_code(waiting, code_of(house, secret), own)

    in_house(make_engine, work)


def test_a_password_hash_of_old_parameters_is_renewed(make_engine):
    """Signing in brings it up to date, once."""

    async def work(house):
        await house.set_up()
        old = (await house.person()).password_hash
        house.passwords._passes, house.passwords._made = 2, None
        await house.sign_in.with_password("ann@acme.example", PASSWORD, visit())
        new = (await house.person()).password_hash
        assert new != old
        assert "t=2" in new
        await house.sign_in.with_password("ann@acme.example", PASSWORD, visit())
        assert (await house.person()).password_hash == new

    in_house(make_engine, work)


def test_the_store_holds_no_secret_of_a_person(make_engine, tmp_path):
    """Neither address, name, TOTP secret, password, token nor recovery code can be read in any column."""
    import sqlalchemy as sa

    from gatepost.store.schema import metadata

    async def work(house):
        entered = await house.set_up()
        secret, codes = await add_totp(house, entered)
        made = await house.people.invite(operator(house.tenant_id), house.tenant_id, "carla@acme.example", Role.VIEWER)

        def dump(conn):
            return "\n".join(repr(tuple(row)) for table in metadata.sorted_tables for row in conn.execute(sa.select(table)))

        text = await house.engine.read(dump)
        for one in ("ann@acme.example", "Ann Lee", "carla@", secret, *codes, PASSWORD, entered.token, made.token):
            assert one not in text

    in_house(make_engine, work)
