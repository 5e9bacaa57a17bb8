"""The DICOMweb servers that cases may name: the operator's list, by short names that say nothing of where they are."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote, urlsplit

NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")


@dataclass(frozen=True)
class DicomwebServer:
    """One server.

    Attributes:
        name: what requests call it.
        url: of its DICOMweb service, without credentials.
        user: for basic authentication, empty for none.
        password: see `user`.
    """

    name: str
    url: str
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)

    def __str__(self) -> str:
        return f"{self.name}={self.url}"


def parse_servers(text: str) -> tuple[DicomwebServer, ...]:
    """Read the operator's list of `name=url`, separated by white space; a URL may hold `user:password@`.

    Raises:
        ValueError: an entry is wrong, or a name comes twice; says which, counted from 1, and repeats nothing.
    """
    servers: dict[str, DicomwebServer] = {}
    for number, entry in enumerate(text.split(), start=1):
        name, _, address = entry.partition("=")
        parts = urlsplit(address)
        if not NAME.fullmatch(name) or parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"entry {number} is not name=url, such as archive=https://host:8443/dicom-web")
        if parts.query or parts.fragment:
            raise ValueError(f"entry {number} has a query or a fragment")
        if name in servers:
            raise ValueError(f"entry {number} has the name of an earlier one")
        url = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"
        servers[name] = DicomwebServer(name, url, unquote(parts.username or ""), unquote(parts.password or ""))
    return tuple(servers.values())


def find_server(name: str, servers: Iterable[DicomwebServer]) -> DicomwebServer | None:
    """Return the server of a name, or None."""
    return next((server for server in servers if server.name == name), None)
