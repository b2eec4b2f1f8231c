# SPDX-License-Identifier: Apache-2.0
"""Arrow's columns by their buffers: what goes in comes out, and nothing heavy comes along."""

import gc
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from powersample.model import Channel, Kind, Series, Trace
from powersample.store import columns, load, save

DTYPES = ("int64", "uint32", "uint16", "float64")


def series(count):
    channel = Channel("gpu0.power.instant", "GPU-X", "gpu", Kind.POWER, "W", 1e-3)
    t_ns = np.arange(count, dtype=np.int64) * 1_000_000
    return Series(channel, t_ns, t_ns + 10, t_ns % 7_000, np.zeros(count, np.uint16), np.arange(count, dtype=np.uint32))


@given(
    numbers=st.lists(st.tuples(st.integers(0, 60_000), st.booleans()), max_size=70),
    cut=st.integers(0, 70),
    dtype=st.sampled_from(DTYPES),
)
def test_a_column_and_back_is_the_same_numbers_with_zeros_for_nulls(numbers, cut, dtype):
    """Cut anywhere: a slice of a column begins in the middle of a byte of its validity bits."""
    held = np.array([number for number, _ in numbers], dtype)
    missing = np.array([lacks for _, lacks in numbers], bool)
    made = columns.column(held, missing)
    made.validate(full=True)
    assert made.to_pylist() == [None if lacks else number for number, lacks in numbers]
    whole = pa.chunked_array([made.slice(0, cut), made.slice(cut)])
    for back, first in ((columns.values(whole), 0), (columns.values(made.slice(cut)), cut)):
        assert back.dtype == dtype
        np.testing.assert_array_equal(back, np.where(missing, 0, held)[first:])


def test_values_of_an_empty_column_keep_their_type():
    assert columns.values(pa.chunked_array([], pa.uint16())).dtype == np.uint16


def test_a_strided_array_is_copied_and_a_whole_one_is_not():
    whole = np.arange(10, dtype=np.int64)
    assert columns.column(whole[::2]).to_pylist() == [0, 2, 4, 6, 8]
    assert columns.column(whole).buffers()[1].address == whole.ctypes.data


@pytest.mark.parametrize("count", [0, 1, 9])
def test_constant_and_nulls_are_what_arrow_takes_them_for(count):
    zeros = pa.py_buffer(bytes(8 * count))
    name = columns.constant("wåll.power", count, zeros)
    name.validate(full=True)
    assert name.to_pylist() == ["wåll.power"] * count
    nothing = columns.nulls(pa.int64(), count, zeros)
    nothing.validate(full=True)
    assert nothing.to_pylist() == [None] * count


def test_writing_and_reading_a_recording_imports_no_pandas(tmp_path):
    """It would be half of a recorder's memory, and pyarrow brings it by itself where it is asked the easy way."""
    path = tmp_path / "run.parquet"
    save(Trace.of([series(100)]), path)
    code = f"""
import sys
from powersample.store import load, save
trace = load({str(path)!r})
assert len(trace.series("gpu0.power.instant")) == 100
save(trace, {str(tmp_path / "copy.parquet")!r})
with open({str(path)!r}, "rb") as one, open({str(tmp_path / "copy.parquet")!r}, "rb") as other:
    assert one.read() == other.read()
from powersample.store.writer import TraceWriter
from pathlib import Path
with TraceWriter(Path({str(tmp_path / "third.parquet")!r})) as writer:
    for chunk in trace.chunks("gpu0.power.instant"):
        writer.add(chunk)
    from powersample.store.schema import Description
    writer.close(Description(tuple(trace.channels.values())))
sys.exit("pandas" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_a_file_that_is_closed_leaves_its_index_to_nobody(tmp_path):
    """pyarrow's metadata and schema refer to each other: touched, they wait for the garbage collector."""
    path = tmp_path / "run.parquet"
    save(Trace.of([series(100)]), path)
    gc.collect()
    gc.disable()
    try:
        trace = load(path)
        assert len(trace.series("gpu0.power.instant")) == 100
        del trace
        assert not [one for one in gc.get_objects() if type(one) is pq.FileMetaData]
    finally:
        gc.enable()
