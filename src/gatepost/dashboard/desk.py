"""What the pages about people, keys and signing in work with; one of each per process."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gatepost.dashboard.access import Access
from gatepost.settings import Settings
from gatepost.tenants.accounts import Accounts
from gatepost.tenants.key_register import Keys
from gatepost.tenants.one_time_links import OneTimeLinks
from gatepost.tenants.passwords import Passwords
from gatepost.tenants.people import People
from gatepost.tenants.sessions import Sessions
from gatepost.tenants.sign_in import SignIn
from gatepost.tenants.sign_in_oidc import SingleSignOn
from gatepost.tenants.sign_in_pace import Pacing
from gatepost.tenants.sign_in_tickets import Tickets
from gatepost.tenants.team_reports import TeamReports

if TYPE_CHECKING:
    from gatepost.dashboard.routes import DashboardDeps


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """Who lets people in, and what they can do with themselves and with each other."""

    settings: Settings
    access: Access
    sessions: Sessions
    sign_in: SignIn
    single_sign_on: SingleSignOn
    links: OneTimeLinks
    accounts: Accounts
    people: People
    keys: Keys
    reports: TeamReports


def make_desk(deps: "DashboardDeps", passwords: Passwords | None = None) -> Desk:
    """
    Put it together.

    Args:
        passwords: Another way of hashing than the usual one.
    """
    engine, clock, settings = deps.engine, deps.clock, deps.settings
    tickets, hashing = Tickets(engine, clock), passwords or Passwords()
    access = Access(
        engine=engine, directory=deps.directory, clock=clock, settings=settings, default_tenant_id=deps.default_tenant_id, tickets=tickets
    )
    return Desk(
        settings=settings,
        access=access,
        sessions=access.sessions,
        sign_in=SignIn(engine, clock, settings, hashing, Pacing(clock), tickets),
        single_sign_on=SingleSignOn(engine, clock, settings, tickets),
        links=OneTimeLinks(engine, clock, settings, hashing),
        accounts=Accounts(engine, clock, hashing, tickets),
        people=People(engine, clock, settings),
        keys=Keys(engine, clock, deps.directory),
        reports=TeamReports(engine, clock, settings),
    )
