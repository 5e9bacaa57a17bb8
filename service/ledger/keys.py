"""API keys: made here, shown once, kept as digests."""

import hashlib
import hmac
import secrets
from collections.abc import Collection
from datetime import datetime

import sqlalchemy as sa

from service.errors import InvalidField, NotFound
from service.ledger.database import Database
from service.ledger.rows import ApiKey, to_key
from service.ledger.tables import api_keys

SCOPES = ("submit", "read", "admin")
PREFIX = "rf"
ID_BYTES = 6
SECRET_BYTES = 32


class Keys(Database):
    """What the door and the command line ask of the ledger.

    A secret is 256 random bits, so a plain SHA-256 keeps it safe: slow password hashes protect secrets that can be
    guessed, and this one cannot.
    """

    def create_key(self, name: str, scopes: Collection[str], expires: datetime | None) -> tuple[ApiKey, str]:
        """Make a key.

        Returns:
            The key and its secret, which cannot be read again.

        Raises:
            InvalidField: a scope is unknown, or there is none.
        """
        unknown = sorted(set(scopes) - set(SCOPES))
        if unknown or not scopes:
            raise InvalidField(f"scopes are {', '.join(SCOPES)}; got {', '.join(unknown) or 'none'}", field="scopes")
        key_id = secrets.token_hex(ID_BYTES)
        secret = f"{PREFIX}_{key_id}_{secrets.token_urlsafe(SECRET_BYTES)}"
        values = {
            "id": key_id,
            "name": name,
            "digest": _digest(secret),
            "scopes": " ".join(scope for scope in SCOPES if scope in scopes),
            "expires_at": None if expires is None else expires.timestamp(),
        }
        with self.write() as (connection, now):
            row = connection.execute(sa.insert(api_keys).values(values | {"created_at": now}).returning(api_keys)).one()
        return to_key(row), secret

    def list_keys(self) -> list[ApiKey]:
        """Return every key, revoked ones included, oldest first."""
        with self.read() as (connection, _):
            return [to_key(row) for row in connection.execute(sa.select(api_keys).order_by(api_keys.c.created_at))]

    def revoke_key(self, key_id: str) -> ApiKey:
        """Revoke a key at once and for good.

        Raises:
            NotFound: there is no such key.
        """
        with self.write() as (connection, now):
            values = {"revoked_at": sa.func.coalesce(api_keys.c.revoked_at, now)}
            statement = sa.update(api_keys).where(api_keys.c.id == key_id).values(values).returning(api_keys)
            row = connection.execute(statement).one_or_none()
        if row is None:
            raise NotFound("there is no such API key")
        return to_key(row)

    def authenticate(self, secret: str) -> ApiKey | None:
        """Return the key that the secret belongs to, or None: unknown, wrong, expired or revoked."""
        parts = secret.split("_", 2)
        if len(parts) != 3 or parts[0] != PREFIX:
            return None
        with self.read() as (connection, now):
            row = connection.execute(sa.select(api_keys).where(api_keys.c.id == parts[1])).one_or_none()
        if row is None or not hmac.compare_digest(row.digest, _digest(secret)):
            return None
        if row.revoked_at is not None or (row.expires_at is not None and row.expires_at <= now):
            return None
        return to_key(row)

    def has_keys(self) -> bool:
        """Whether a key was ever made; revoking the last one does not open the door again."""
        with self.read() as (connection, _):
            return connection.execute(sa.select(api_keys.c.id).limit(1)).first() is not None


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
