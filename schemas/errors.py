"""The one exception that is the user's to mend."""

from __future__ import annotations

import errno

#: Of an OSError: what it is written to takes no more.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class SurdError(Exception):
    """A bad config, a missing model, an unreachable source or an unwritable path.

    The message is one sentence naming the field, the value and the mend. The command line prints it without a
    traceback and exits with code 2; inside a flow it becomes a failed state with the same sentence.
    """
