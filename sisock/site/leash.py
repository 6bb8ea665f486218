"""Runs a program that ends when its parent does: `python -m sisock.site.leash PARENT COMMAND...`.

The program gets a session of its own, so that Ctrl-C in the terminal reaches the supervisor alone, which then stops
its parts in order. If the supervisor is killed, the kernel tells the program by SIGTERM.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Ties this process to its parent and becomes the command."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    os.setsid()
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        # The parent was gone before the leash was on.
        sys.exit(1)
    os.execvp(command[0], command)  # noqa: S606


if __name__ == "__main__":
    main()
