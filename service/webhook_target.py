"""Where webhooks may go: the operator's list, and which addresses are on it.

An address is compared as it is written. So only plain ones are taken - no user, no fragment, no escapes and no `..` in
the path - which every reader of addresses, ours and the receiver's, takes apart in the same way.
"""

import base64
import binascii
import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

LONGEST: Final = 2000
LONGEST_TARGET: Final = 500
KEY_PREFIX: Final = "whsec_"
KEY_BYTES: Final = range(24, 65)
LARGEST_PORT: Final = 65_535
_PORTS: Final = {"http": 80, "https": 443}
_ADDRESS: Final = re.compile(
    r"(?P<scheme>https?)://(?P<host>(?:[a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}|\[[0-9a-f:]+\])"
    r"(?::(?P<port>[1-9][0-9]{0,4}))?"
    r"(?P<path>/[a-z0-9._~!$&'()*+,;=:@/-]*)?(?P<query>\?[a-z0-9._~!$&'()*+,;=:@/?%-]*)?",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class WebhookTarget:
    """One entry of the list: scheme, host and port must be the same, the path must lie at or below `path`."""

    origin: str
    path: str

    def __str__(self) -> str:
        return f"{self.origin}{self.path}"

    def allows(self, origin: str, path: str) -> bool:
        """Whether an address of this origin and path is meant."""
        below = path == self.path or path.startswith(self.path if self.path.endswith("/") else f"{self.path}/")
        return origin == self.origin and below


def parse_targets(text: str) -> tuple[WebhookTarget, ...]:
    """Read the operator's list, separated by commas or white space.

    Raises:
        ValueError: an entry is not a plain http or https address; says which, counted from 1.
    """
    targets = []
    for number, entry in enumerate(re.split(r"[\s,]+", text.strip()) if text.strip() else [], 1):
        parts = _take_apart(entry)
        if parts is None or "?" in entry or len(entry) > LONGEST_TARGET:
            raise ValueError(f"entry {number} is not a plain address such as https://host:8443/path")
        targets.append(WebhookTarget(*parts))
    return tuple(targets)


def parse_keys(text: str) -> tuple[str, ...]:
    """Read the keys that sign webhooks, separated by commas or white space.

    Raises:
        ValueError: one is not `whsec_` and the base64 of 24 to 64 bytes; no key is repeated.

    References:
        Standard Webhooks 1.0, "Signature scheme".
    """
    keys = tuple(re.split(r"[\s,]+", text.strip()))
    for number, key in enumerate(keys, 1):
        try:
            size = len(base64.b64decode(key.removeprefix(KEY_PREFIX), validate=True))
        except binascii.Error:
            size = 0
        if not key.startswith(KEY_PREFIX) or size not in KEY_BYTES:
            raise ValueError(f"key {number} is not {KEY_PREFIX} and the base64 of 24 to 64 random bytes")
    return keys


def find_target(address: str, targets: Iterable[WebhookTarget]) -> WebhookTarget | None:
    """Return the entry of the list that lets the address in, or None."""
    parts = _take_apart(address)
    if parts is None:
        return None
    return next((target for target in targets if target.allows(*parts)), None)


def _take_apart(address: str) -> tuple[str, str] | None:
    """Return origin (with its port, lower case) and path of a plain address, None of any other."""
    found = _ADDRESS.fullmatch(address) if len(address) <= LONGEST else None
    if found is None:
        return None
    scheme, host, path = found["scheme"].lower(), found["host"].lower(), found["path"] or "/"
    port = int(found["port"] or _PORTS[scheme])
    if {".", ".."} & set(path.split("/")) or port > LARGEST_PORT or not _is_host(host):
        return None
    return f"{scheme}://{host}:{port}", path


def _is_host(host: str) -> bool:
    """Whether what stands in brackets is an IPv6 address; names have been checked."""
    try:
        return not host.startswith("[") or bool(ipaddress.IPv6Address(host[1:-1]))
    except ValueError:
        return False
