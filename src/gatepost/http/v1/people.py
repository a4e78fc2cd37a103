"""The people of a tenant: list, invite, change a role, remove. The work is done in tenants.people."""

from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from gatepost import ids
from gatepost.clock import iso
from gatepost.domain.access import Role, Scope
from gatepost.domain.errors import Fault, Refused, invalid
from gatepost.domain.person import Purpose
from gatepost.http import decode, paging
from gatepost.http.exchange import NO_CONTENT, Answer, Endpoint, Parameter, Request, as_json
from gatepost.tenants.one_time_links import link_to
from gatepost.tenants.people import Member, People

_SMALL = 64 * 1024
_ROLE = "owner, admin, developer or viewer"


class InvitationBody(Struct, forbid_unknown_fields=True, kw_only=True):
    """Whom to invite."""

    email: Annotated[str, Meta(max_length=254, description="their address; the invitation is for it alone")]
    role: Annotated[str, Meta(max_length=20, description=_ROLE)] = Role.VIEWER.value


class RoleBody(Struct, forbid_unknown_fields=True, kw_only=True):
    """What somebody shall be."""

    role: Annotated[str, Meta(max_length=20, description=_ROLE)]


class PersonAnswer(Struct, kw_only=True):
    """One person of the tenant."""

    id: str
    email: str
    name: str
    role: str
    has_second_factor: bool
    is_disabled: bool
    joined_at: str


class InvitationAnswer(Struct, kw_only=True):
    """An invitation. The link is shown only here, and works once."""

    id: str
    email: str
    role: str
    expires_at: str
    link: str | UnsetType = UNSET


class PeoplePage(Struct, kw_only=True):
    """One page of people, and all open invitations."""

    data: list[PersonAnswer]
    has_more: bool
    invitations: list[InvitationAnswer]


async def list_people(request: Request) -> Answer:
    """List people, the newest first, and all open invitations."""
    query = request.query(*paging.NAMES)
    cursor = paging.read(query, "per")
    people, tenant_id = _people(request), request.caller.tenant_id
    newest_first = list(reversed(await people.members(tenant_id)))
    page, has_more = paging.trim(paging.slice_of(newest_first, cursor, lambda one: one.person.id), cursor)
    written = [_written(one) for one in page]
    invitations = [
        InvitationAnswer(id=one.id, email=one.email, role=(one.role or Role.VIEWER).value, expires_at=iso(one.expires_at))
        for one in await people.invitations(tenant_id)
    ]
    answer = PeoplePage(data=written, has_more=has_more, invitations=invitations)
    return as_json(answer, headers=paging.links(request, query, cursor, written, has_more=has_more))


async def invite(request: Request) -> Answer:
    """Make an invitation; the answer holds its link, which is not kept."""
    body = decode.read_json(await decode.read_body(request, _SMALL), InvitationBody)
    made = await _people(request).invite(request.caller, request.caller.tenant_id, body.email, _role(body.role))
    answer = InvitationAnswer(
        id=made.link.id,
        email=made.link.email,
        role=body.role,
        expires_at=iso(made.link.expires_at),
        link=link_to(request.deps.settings, Purpose.INVITATION, made.token),
    )
    return as_json(answer, 201)


async def change_role(request: Request) -> Answer:
    """Give a person another role; their sessions end."""
    person_id = _person_id(request)
    body = decode.read_json(await decode.read_body(request, _SMALL), RoleBody)
    return as_json(_written(await _people(request).change_role(request.caller, request.caller.tenant_id, person_id, _role(body.role))))


async def remove(request: Request) -> Answer:
    """Take a person out of the tenant; their sessions end."""
    await _people(request).remove(request.caller, request.caller.tenant_id, _person_id(request))
    return NO_CONTENT


async def withdraw(request: Request) -> Answer:
    """Make an invitation worthless."""
    link_id = str(request.params["invitation_id"])
    if not ids.is_valid(link_id, "lnk"):
        raise Refused("not_found", "there is no such invitation, or it was accepted")
    await _people(request).withdraw(request.caller, request.caller.tenant_id, link_id)
    return NO_CONTENT


def _people(request: Request) -> People:
    return People(request.deps.engine, request.deps.clock, request.deps.settings)


def _role(text: str) -> Role:
    try:
        return Role(text)
    except ValueError:
        raise invalid(Fault("/role", "unknown_role", f"give {_ROLE}")) from None


def _person_id(request: Request) -> str:
    person_id = str(request.params["person_id"])
    if not ids.is_valid(person_id, "per"):
        raise Refused("not_found", "there is no such person in this tenant")
    return person_id


def _written(member: Member) -> PersonAnswer:
    person = member.person
    return PersonAnswer(
        id=person.id, email=person.email, name=person.name, role=member.role.value, has_second_factor=member.has_second_factor,
        is_disabled=person.disabled_at is not None, joined_at=iso(member.since),
    )  # fmt: skip


def _id_parameter(name: str, prefix: str, what: str) -> Parameter:
    pattern = f"^{prefix}_[0-7][0-9a-hjkmnp-tv-z]{{25}}$"
    return Parameter(
        name=name, place="path", description=f"the {what}'s id", is_required=True, schema={"type": "string", "pattern": pattern}
    )


_PERSON = _id_parameter("person_id", "per", "person")
_INVITATION = _id_parameter("invitation_id", "lnk", "invitation")
_ONE = "/v1/people/{person_id:str}"
_BODY_CODES = ("validation_failed", "malformed_request", "payload_too_large", "unsupported_media_type")

ENDPOINTS = [
    Endpoint(
        method="GET",
        path="/v1/people",
        run=list_people,
        name="listPeople",
        scope=Scope.PEOPLE_READ,
        summary="List the people of the tenant",
        tag="people",
        answers={200: PeoplePage},
        answer_headers=paging.LINK,
        parameters=paging.parameters("per"),
        codes=("validation_failed",),
    ),
    Endpoint(
        method="POST",
        path="/v1/people",
        run=invite,
        name="invitePerson",
        scope=Scope.PEOPLE_WRITE,
        summary="Invite somebody to the pages",
        tag="people",
        description="Nobody gives a role that can do more than they can themselves. The answer is the only place where the link is shown.",
        body=InvitationBody,
        answers={201: InvitationAnswer},
        codes=("permission_denied", "conflict", *_BODY_CODES),
    ),
    Endpoint(
        method="PATCH",
        path=_ONE,
        run=change_role,
        name="changePersonRole",
        scope=Scope.PEOPLE_WRITE,
        summary="Give a person another role",
        tag="people",
        body=RoleBody,
        answers={200: PersonAnswer},
        parameters=(_PERSON,),
        codes=("permission_denied", "not_found", "conflict", *_BODY_CODES),
    ),
    Endpoint(
        method="DELETE",
        path=_ONE,
        run=remove,
        name="removePerson",
        scope=Scope.PEOPLE_WRITE,
        summary="Remove a person from the tenant",
        tag="people",
        answers={204: None},
        parameters=(_PERSON,),
        codes=("permission_denied", "not_found", "conflict"),
    ),
    Endpoint(
        method="DELETE",
        path="/v1/people/invitations/{invitation_id:str}",
        run=withdraw,
        name="withdrawInvitation",
        scope=Scope.PEOPLE_WRITE,
        summary="Withdraw an invitation",
        tag="people",
        answers={204: None},
        parameters=(_INVITATION,),
        codes=("not_found",),
    ),
]
