"""Memory for the chunks of files, used again as soon as nobody looks at a chunk any more.

Fresh memory would cost more than reading into it: the system clears each page when it is touched.
"""

import weakref
from collections import deque
from typing import Any

from erasepro_convert.runtime.memory import CHUNK_SIZE

KEPT = 16
"""The most buffers that are kept for later chunks."""

_free: deque[Any] = deque(maxlen=KEPT)


def chunk_buffer(count: int) -> memoryview:
    """Return writable memory of ``count`` bytes, at most ``CHUNK_SIZE``, with any content.

    It is given out again when no view of it is left.
    """
    import numpy as np

    try:
        memory = _free.pop()
    except IndexError:
        memory = np.empty(CHUNK_SIZE, np.uint8)
    view = memory[:count]  # every memoryview of it keeps this array
    weakref.finalize(view, _free.append, memory).atexit = False
    return memoryview(view)
