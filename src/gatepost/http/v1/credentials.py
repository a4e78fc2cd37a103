"""
The endpoints that API keys and OAuth clients share, built from a description of each: make, list, look at, rotate, revoke.

Not here: what is particular to each (keys, clients), the work itself (tenants.credential_register).
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from gatepost.domain.access import Restrictions, Scope
from gatepost.domain.errors import invalid
from gatepost.domain.tenant import Credential
from gatepost.http import decode, paging
from gatepost.http.exchange import NO_CONTENT, Answer, Endpoint, Parameter, Request, as_json
from gatepost.http.v1 import asking
from gatepost.http.v1.bodies import CredentialBody, RotateBody
from gatepost.mime.checks import text_faults
from gatepost.store.last_use import LastUse
from gatepost.tenants import grants
from gatepost.tenants.credential_register import Made, Register

C = TypeVar("C", bound=Credential)

SMALL = 64 * 1024
BODY_CODES = ("validation_failed", "malformed_request", "payload_too_large", "unsupported_media_type")
_LONGEST_NAME = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind(Generic[C]):
    """
    One kind of credential, as the API has it.

    Attributes:
        noun: In summaries, after "an".
        operation: In the names of operations, such as `getKey`.
        path: Of all of them.
        id_name: What the id is called in paths.
        rotation: The last part of the path that gives a new secret, and the name of that operation.
        about_rotation: What that does to the secret.
        revocation: What revoking one is, in the summary.
        body: What making one takes.
        answer: One as it is answered; `page` several, `made_answer` one with its secret.
        create: Makes one: with what its body says, and within what its maker has.
    """

    register: type[Register[C]]
    noun: str
    operation: str
    tag: str
    path: str
    id_name: str
    rotation: tuple[str, str]
    about_rotation: str
    revocation: str
    body: type[CredentialBody]
    answer: Any
    page: Any
    made_answer: Any
    create: Callable[[Request, Any, Restrictions], Awaitable[Made[C]]]
    written: Callable[[C, LastUse | None], Any]
    written_made: Callable[[Made[C]], Any]

    def opened(self, request: Request) -> Register[C]:
        """Open the register."""
        return self.register(request.deps.engine, request.deps.clock, request.deps.directory)

    async def find(self, request: Request) -> C:
        """
        Find the one of the path, before a body is looked at: what belongs to others is not there, whatever is asked.

        Raises:
            Refused: not_found.
        """
        return await self.opened(request).get(request.caller.tenant_id, str(request.params[self.id_name]))

    @property
    def of_one(self) -> dict[str, Any]:
        """What the endpoints of a single one have in common."""
        parameter = Parameter(
            name=self.id_name,
            place="path",
            description=f"the {self.id_name.removesuffix('_id')}'s id",
            is_required=True,
            schema={"type": "string", "pattern": f"^{self.register.prefix}_[0-7][0-9a-hjkmnp-tv-z]{{25}}$"},
        )
        return {"tag": self.tag, "parameters": (parameter,)}

    @property
    def path_of_one(self) -> str:
        """The path of a single one."""
        return f"{self.path}/{{{self.id_name}:str}}"

    async def make(self, request: Request) -> Answer:
        """Make one; the answer holds its secret, which is not kept."""
        body = decode.read_json(await decode.read_body(request, SMALL), self.body)
        check_name(body.name)
        restrictions = grants.read(asking.asked(body), request.deps.clock.now(), grants.scopes_of(request.caller.principal))
        return as_json(self.written_made(await self.create(request, body, restrictions)), 201)

    async def list(self, request: Request) -> Answer:
        """List them, revoked ones too, the newest first."""
        register, query = self.opened(request), request.query(*paging.NAMES)
        cursor = paging.read(query, register.prefix)
        newest_first = list(reversed(await register.list(request.caller.tenant_id)))
        page, has_more = paging.trim(paging.slice_of(newest_first, cursor, lambda one: one.id), cursor)
        uses = await register.uses(page)
        written = [self.written(one, uses.get(one.id)) for one in page]
        links = paging.links(request, query, cursor, written, has_more=has_more)
        return as_json(self.page(data=written, has_more=has_more), headers=links)

    async def get(self, request: Request) -> Answer:
        """Return one."""
        found = await self.find(request)
        uses = await self.opened(request).uses([found])
        return as_json(self.written(found, uses.get(found.id)))

    async def rotate(self, request: Request) -> Answer:
        """Give one a new secret; the old one works until the overlap ends."""
        found, caller = await self.find(request), request.caller
        overlap_ms = (await asking.rotation(request)).overlap_s * 1000
        rotated = await self.opened(request).rotate(caller.tenant_id, found.id, overlap_ms, by=caller.actor, maker=caller.principal)
        return as_json(self.written_made(rotated))

    async def revoke(self, request: Request) -> Answer:
        """Revoke one: it is refused from the next request on."""
        caller = request.caller
        await self.opened(request).revoke(caller.tenant_id, str(request.params[self.id_name]), by=caller.actor)
        return NO_CONTENT

    def endpoints(self) -> "tuple[Endpoint, ...]":
        """Describe the endpoints."""
        ending, rotating = self.rotation
        return (
            Endpoint(
                method="POST",
                path=self.path,
                run=self.make,
                name=f"make{self.operation}",
                scope=Scope.KEYS_WRITE,
                summary=f"Make an {self.noun}",
                tag=self.tag,
                body=self.body,
                answers={201: self.made_answer},
                description="The answer is the only place where the secret is ever shown.",
                codes=("permission_denied", *BODY_CODES),
            ),
            Endpoint(
                method="GET",
                path=self.path,
                run=self.list,
                name=f"list{self.operation}s",
                scope=Scope.KEYS_READ,
                summary=f"List {self.noun}s",
                tag=self.tag,
                answers={200: self.page},
                answer_headers=paging.LINK,
                parameters=paging.parameters(self.register.prefix),
                codes=("validation_failed",),
                description="`last_used_at` may lag by half a minute.",
            ),
            Endpoint(
                method="GET",
                path=self.path_of_one,
                run=self.get,
                name=f"get{self.operation}",
                scope=Scope.KEYS_READ,
                summary=f"Look at an {self.noun}",
                answers={200: self.answer},
                codes=("not_found",),
                **self.of_one,
            ),
            Endpoint(
                method="POST",
                path=f"{self.path_of_one}/{ending}",
                run=self.rotate,
                name=rotating,
                scope=Scope.KEYS_WRITE,
                summary=f"Give an {self.noun} a new secret",
                body=RotateBody,
                is_body_optional=True,
                answers={200: self.made_answer},
                description=f"The old secret is taken for `overlap_s` seconds more{self.about_rotation}",
                codes=("not_found", "conflict", "permission_denied", *BODY_CODES),
                **self.of_one,
            ),
            Endpoint(
                method="DELETE",
                path=self.path_of_one,
                run=self.revoke,
                name=f"revoke{self.operation}",
                scope=Scope.KEYS_WRITE,
                summary=self.revocation,
                answers={204: None},
                codes=("not_found",),
                **self.of_one,
            ),
        )


def check_name(name: str) -> None:
    """
    Check what a credential is called.

    Raises:
        Refused: validation_failed.
    """
    if faults := text_faults("/name", name, _LONGEST_NAME):
        raise invalid(*faults)
