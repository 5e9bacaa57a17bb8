"""Who is asking, and whether they may.

Keys are demanded as soon as one exists. Without any, a service that listens on loopback alone is open to the machine's
users, as the owner `local`; any other is locked until `radfuse keys create` has made one.

References:
    RFC 6750, section 2.1 and 3 (bearer tokens, `WWW-Authenticate`); Fetch Metadata (`Sec-Fetch-Site`).
"""

import ipaddress
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer, SecurityScopes

from service.api.context import Context, ContextOf
from service.errors import Forbidden, Unauthenticated

LOCAL_OWNER = "local"
SCOPES = frozenset({"submit", "read", "admin"})
_bearer = HTTPBearer(
    auto_error=False,
    scheme_name="ApiKey",
    description="An API key made with `radfuse keys create`: `Authorization: Bearer <key>`. Scopes: `submit` (submit "
    "and remove), `read`, `admin` (metrics). A revoked key is refused after 5 seconds at the latest.",
)
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


@dataclass(frozen=True)
class Caller:
    """Whose jobs a request sees, and what it may do."""

    owner: str
    scopes: frozenset[str]


def authenticate(request: Request, context: ContextOf, credentials: Credentials) -> Caller:
    """Return the caller.

    Raises:
        Unauthenticated: a key is demanded and there is none, or none that is valid.
        Forbidden: the service is open to this machine, but a web page of another site asks.
    """
    if not context.keys.any_key():
        return _admit_local(request, context)
    key = context.keys.find(credentials.credentials) if credentials else None
    if key is None:
        sent = "is unknown, expired or revoked" if credentials else "is missing"
        raise Unauthenticated(f"the API key {sent}; send `Authorization: Bearer <key>`")
    return Caller(owner=key.id, scopes=frozenset(key.scopes))


async def authorise(caller: Annotated[Caller, Depends(authenticate)], needed: SecurityScopes) -> Caller:
    """Return the caller, if it has every scope needed.

    Raises:
        Forbidden: a scope is lacking.
    """
    lacking = sorted(set(needed.scopes) - caller.scopes)
    if lacking:
        raise Forbidden(f"this key lacks the scope {', '.join(lacking)}", scopes=lacking)
    return caller


def refuse_while_locked(context: ContextOf) -> None:
    """Keep even the documentation closed on a service that is reachable from outside and has no key yet.

    Raises:
        Unauthenticated: locked.
    """
    if not context.settings.on_loopback and not context.keys.any_key():
        raise Unauthenticated(
            "the service is locked until an API key exists; on its machine run: radfuse keys create NAME"
        )


def _admit_local(request: Request, context: Context) -> Caller:
    refuse_while_locked(context)
    # Without keys the browser of anyone on this machine could be led here: refuse what another site's page sends,
    # and names other than loopback's, which a rebound DNS entry would show.
    if request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        raise Forbidden("a web page of another site may not use this service")
    if not _names_loopback(request.url.hostname):
        raise Forbidden("without API keys this service answers only to localhost")
    return Caller(owner=LOCAL_OWNER, scopes=SCOPES)


def _names_loopback(host: str | None) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


Submitter = Annotated[Caller, Security(authorise, scopes=["submit"])]
Reader = Annotated[Caller, Security(authorise, scopes=["read"])]
Admin = Annotated[Caller, Security(authorise, scopes=["admin"])]
