"""The exit statuses of the command line."""

from enum import IntEnum


class Exit(IntEnum):
    """What the command line says of its success."""

    OK = 0
    FAILED = 1
    USAGE = 2
    REFUSED = 3
    UNREACHABLE = 4
    INTERRUPTED = 130
