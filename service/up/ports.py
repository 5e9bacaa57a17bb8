"""Whether, and where, the API can listen: found out before anything is started."""

import errno
import socket

from service.errors import StartFailed


def check_port(host: str, port: int) -> None:
    """Make sure that the API can listen.

    Raises:
        StartFailed: the port is taken or not allowed, or the address is not this machine's.
    """
    try:
        _bind(host, port)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise StartFailed(
                f"port {port} of {host} is taken by another program; set RADFUSE_PORT to a free one"
            ) from error
        raise StartFailed(f"cannot listen on {host} port {port}: {error.strerror}") from error


def free_port(host: str) -> int:
    """Return a port of `host` that nobody listens on.

    Raises:
        StartFailed: the address is not this machine's.
    """
    try:
        return _bind(host, 0)
    except OSError as error:
        raise StartFailed(f"cannot listen on {host}: {error.strerror}") from error


def _bind(host: str, port: int) -> int:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)
        return int(probe.getsockname()[1])
