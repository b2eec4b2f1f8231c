# SPDX-License-Identifier: Apache-2.0
"""Numpy arrays as Arrow's columns and back, by their buffers.

Not by `pa.array` and `to_numpy`: both import pandas, to ask whether what they were given is pandas'. That is 45 MB of
memory and half a second in every recorder and converter, which have no other use for it.
"""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


def column(values: NDArray[Any], missing: NDArray[np.bool_] | None = None) -> pa.Array:
    """Return numbers as a column, not copied if they lie in one piece.

    Args:
        values: 1-D, of a type that Arrow has.
        missing: where the column is null.
    """
    present = None
    if missing is not None and missing.any():
        present = pa.py_buffer(np.packbits(~missing, bitorder="little"))
    whole = np.ascontiguousarray(values)
    return pa.Array.from_buffers(pa.from_numpy_dtype(whole.dtype), len(whole), [present, pa.py_buffer(whole)])


def nulls(kind: pa.DataType, count: int, zeros: pa.Buffer) -> pa.Array:
    """Return a column without values; `zeros` holds `count` of its kind at least."""
    return pa.Array.from_buffers(kind, count, [zeros, zeros])


def constant(text: str, count: int, zeros: pa.Buffer) -> pa.DictionaryArray:
    """Return a column of one text; `zeros` holds `count` int32 at least: the text's place in a dictionary of one."""
    encoded = text.encode()
    ends = np.array([0, len(encoded)], np.int32)
    words = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(ends), pa.py_buffer(encoded)])
    return pa.DictionaryArray.from_arrays(pa.Array.from_buffers(pa.int32(), count, [None, zeros]), words)


def values(found: pa.Array | pa.ChunkedArray) -> NDArray[Any]:
    """Return a column's numbers, 0 where it is null; read-only, not copied if they lie in one piece."""
    chunks = found.chunks if isinstance(found, pa.ChunkedArray) else [found]
    pieces = [_piece(chunk) for chunk in chunks]
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces or [np.zeros(0, found.type.to_pandas_dtype())])


def _piece(chunk: pa.Array) -> NDArray[Any]:
    present, data = chunk.buffers()
    dtype = np.dtype(chunk.type.to_pandas_dtype())
    if data is None or not len(chunk):
        return np.zeros(0, dtype)
    numbers = np.frombuffer(data, dtype, len(chunk), chunk.offset * dtype.itemsize)
    if chunk.null_count == 0:
        return numbers
    bits = np.unpackbits(np.frombuffer(present, np.uint8), bitorder="little")
    there = bits[chunk.offset : chunk.offset + len(chunk)].astype(bool)
    return np.where(there, numbers, dtype.type(0))
