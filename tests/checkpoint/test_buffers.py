"""Memory of chunks: used again, but never while somebody looks at it."""

import gc

from erasepro_convert.runtime import buffers
from erasepro_convert.runtime.buffers import chunk_buffer
from erasepro_convert.runtime.memory import CHUNK_SIZE


def test_a_buffer_is_used_again_once_no_view_is_left() -> None:
    buffers._free.clear()
    chunk = chunk_buffer(1000)
    piece = chunk[10:20]
    piece[:] = b"0123456789"
    del chunk
    gc.collect()
    others = [chunk_buffer(1000) for _ in range(3)]
    for other in others:
        other[:] = bytes(1000)
    assert piece.tobytes() == b"0123456789", "a view keeps the memory"
    assert not buffers._free
    del piece, others, other
    gc.collect()
    assert len(buffers._free) == 4
    assert len(chunk_buffer(CHUNK_SIZE)) == CHUNK_SIZE


def test_only_some_buffers_are_kept() -> None:
    chunks = [chunk_buffer(1) for _ in range(buffers.KEPT + 5)]
    del chunks
    gc.collect()
    assert len(buffers._free) == buffers.KEPT
