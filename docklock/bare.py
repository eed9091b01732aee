"""The C halves of socket, signal, collections and functools, under their public names.

The Python halves import enum, selectors, functools and more: 6 ms of a start that may take 40. What
lacks here: `socket.accept` (there is `_accept`), `with` on sockets, enumerations of signals (they
are plain integers). Only for modules that every `docklock run` imports.
"""

from __future__ import annotations

import _socket as socket

from chainlite.lean import TYPE_CHECKING

if TYPE_CHECKING:
    import signal
    from collections import deque
    from functools import partial
else:
    import _signal as signal
    from _collections import deque
    from _functools import partial

__all__ = ["deque", "partial", "signal", "socket"]
