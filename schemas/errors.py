"""The exception for user errors, and errors of libraries in one line."""

from __future__ import annotations

import errno

#: errno of an OSError where a disk, a quota or a file is full.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class SurdError(Exception):
    """A bad config, a missing model, an unreachable source or an unwritable path.

    The message is one sentence naming the field, the value and what to do. The command line prints it without a
    traceback and exits with code 2; inside a flow it becomes a failed state with the same sentence.
    """


class NothingKept(SurdError):
    """A build of which no sample is left. Nothing is wrong with the command: it exits with code 1."""


def one_line(error: Exception, most: int = 200) -> str:
    """The message of a library's exception on one line, at most so many characters; its class's name if it has none."""
    return " ".join(str(error).split())[:most] or type(error).__name__
