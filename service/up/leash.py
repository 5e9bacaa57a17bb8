"""Run a command that cannot outlive its parent: `python leash.py COMMAND ARGUMENT...`.

The kernel kills the command when the process that started it dies, however it dies; the setting survives
`exec`. This file is run by its path, before anything else is imported, and needs the standard library alone.

References:
    Linux manual, PR_SET_PDEATHSIG(2const).
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def die_with(parent: int, with_signal: signal.Signals = signal.SIGKILL) -> None:
    """Have the kernel send this process `with_signal` when its parent dies; do so now if that has happened."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, with_signal, 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), with_signal)


def main() -> None:
    """Tie this process to supervisord, the leader of its session, then become the command."""
    die_with(os.getsid(0))
    os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606  # the command comes from supervisord's configuration


if __name__ == "__main__":
    main()
