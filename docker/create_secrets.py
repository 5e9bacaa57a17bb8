"""Make the random passwords of Redis and PostgreSQL, once: the first container that `docker compose up` runs.

Three volumes are filled, so that each container sees its own secret only:

    /secrets/redis/redis.conf             `requirepass ...`, read by Redis
    /secrets/postgres/password            read by PostgreSQL when it creates its data folder
    /run/radfuse/radfuse_redis_url        settings of Radfuse's own containers (`RADFUSE_SECRETS_DIR`)
    /run/radfuse/radfuse_database_url

What exists already is kept, so that every later start finds the passwords that the data was made with.
"""

import os
import secrets
from pathlib import Path

REDIS_CONFIGURATION = Path("/secrets/redis/redis.conf")
POSTGRES_PASSWORD = Path("/secrets/postgres/password")
SETTINGS = Path("/run/radfuse")
PASSWORD_BYTES = 32

# Redis and PostgreSQL run as users of their own images, whose numbers differ from image to image; nobody else mounts
# their volumes. Radfuse's containers share one user.
READABLE_IN_ITS_VOLUME = 0o444
READABLE_BY_RADFUSE = 0o400


def write_secret(path: Path, text: str, mode: int) -> None:
    """Write a file whole or not at all, with its mode from the beginning."""
    part = path.with_suffix(".part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    part.rename(path)


def redis_password() -> str:
    """Return Redis' password, made at the first call."""
    if not REDIS_CONFIGURATION.exists():
        write_secret(REDIS_CONFIGURATION, f"requirepass {secrets.token_hex(PASSWORD_BYTES)}\n", READABLE_IN_ITS_VOLUME)
    return REDIS_CONFIGURATION.read_text(encoding="utf-8").split()[1]


def postgres_password() -> str:
    """Return PostgreSQL's password, made at the first call."""
    if not POSTGRES_PASSWORD.exists():
        write_secret(POSTGRES_PASSWORD, secrets.token_hex(PASSWORD_BYTES), READABLE_IN_ITS_VOLUME)
    return POSTGRES_PASSWORD.read_text(encoding="utf-8")


def main() -> None:
    """Fill the three volumes."""
    redis_url = f"redis://:{redis_password()}@redis:6379/0"
    database_url = f"postgresql+psycopg://radfuse:{postgres_password()}@postgres:5432/radfuse"
    write_secret(SETTINGS / "radfuse_redis_url", redis_url, READABLE_BY_RADFUSE)
    write_secret(SETTINGS / "radfuse_database_url", database_url, READABLE_BY_RADFUSE)


if __name__ == "__main__":
    main()
