# SPDX-License-Identifier: Apache-2.0
"""The Parquet form of a recording: its columns, its encodings, and the JSON beside them.

One row is one reading. A row group holds one busy channel, or several quiet ones in the order of their
names, so that the statistics of `channel`, `t0_ns` and `t1_ns` tell a reader which row groups it may skip.
Times and sequence numbers are delta-encoded; `raw` and `value` are dictionaries, because a sensor that is
polled faster than it publishes repeats itself.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from powersample.errors import BadFormat
from powersample.model import Anchor, Channel, Extent, LaneStats, Series, Window
from powersample.store.columns import column, constant, nulls, values

KEY = b"powersample"
SCHEMA_VERSION = 1

SCHEMA = pa.schema(
    [
        pa.field("channel", pa.dictionary(pa.int32(), pa.string()), nullable=False),
        pa.field("t0_ns", pa.int64(), nullable=False),
        pa.field("t1_ns", pa.int64(), nullable=False),
        pa.field("raw", pa.int64(), nullable=False),  # a float64 raw travels as its bits
        pa.field("value", pa.float64()),
        pa.field("status", pa.uint16(), nullable=False),
        pa.field("seq", pa.uint32(), nullable=False),
        pa.field("span_ns", pa.int64()),
    ]
)

OMITTED = pa.field("omitted", pa.uint32())  # of a recording that kept changes only
SCHEMA_KEPT = SCHEMA.append(OMITTED)

WRITE_OPTIONS: dict[str, Any] = {
    "compression": "zstd",
    "use_dictionary": ["channel", "raw", "value", "status", "span_ns"],
    "column_encoding": {name: "DELTA_BINARY_PACKED" for name in ("t0_ns", "t1_ns", "seq")},
    "write_statistics": ["channel", "t0_ns", "t1_ns"],
}


@dataclass(frozen=True, slots=True)
class Description:
    """Everything of a recording but its readings."""

    channels: tuple[Channel, ...]
    windows: tuple[Window, ...] = ()
    anchors: tuple[Anchor, ...] = ()
    lanes: tuple[LaneStats, ...] = ()
    meta: Mapping[str, Any] | None = None

    def to_json(self, extents: Mapping[str, Extent]) -> str:
        """Return the metadata value; `extents` tell per channel what the file holds of it."""
        channels = []
        for channel in self.channels:
            extent = extents.get(channel.name)
            held = [extent.records, extent.first_ns, extent.last_ns] if extent else None
            if extent and held and extent.omitted:
                held.append(extent.omitted)
            channels.append(channel.as_json() | {"extent": held})
        return json.dumps(
            {
                "schema_version": SCHEMA_VERSION,
                "channels": channels,
                "windows": [window.as_json() for window in self.windows],
                "anchors": [anchor.as_json() for anchor in self.anchors],
                "lanes": [lane.as_json() for lane in self.lanes],
                "meta": dict(self.meta or {}),
            }
        )

    @classmethod
    def from_json(cls, text: bytes | str, where: str) -> tuple["Description", dict[str, Extent]]:
        """Read `to_json`'s text.

        Raises:
            BadFormat: it is malformed, or of a newer version; the message begins with `where`.
        """
        try:
            data = json.loads(text)
            version = int(data["schema_version"])
            if version > SCHEMA_VERSION:
                raise BadFormat(
                    f"{where}: schema version {version} is newer than this powersample's {SCHEMA_VERSION}",
                    "Read it with a newer powersample.",
                )
            extents = {one["name"]: Extent(*one["extent"]) for one in data["channels"] if one.get("extent")}
            description = cls(
                tuple(Channel.from_json(one) for one in data["channels"]),
                tuple(Window.from_json(one) for one in data["windows"]),
                tuple(Anchor.from_json(one) for one in data["anchors"]),
                tuple(LaneStats.from_json(one) for one in data["lanes"]),
                data["meta"],
            )
        except BadFormat as error:
            raise error if where in str(error) else BadFormat(f"{where}: {error}") from error
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BadFormat(f"{where}: its powersample metadata is malformed ({error!r})") from error
        return description, extents


def to_table(series: Iterable[Series], schema: pa.Schema = SCHEMA) -> pa.Table:
    """Return the rows of `series`, one channel after the other; what they hold is not copied."""
    series = list(series)
    batches = []
    with_omitted = OMITTED.name in schema.names
    zeros = pa.py_buffer(bytes(8 * max(map(len, series), default=0)))
    for one in series:
        span = nulls(pa.int64(), len(one), zeros) if one.span_ns is None else column(one.span_ns)
        columns = [
            constant(one.channel.name, len(one), zeros),
            column(one.t0_ns),
            column(one.t1_ns),
            column(one.raw.view(np.int64)),
            column((one.raw * one.channel.scale).astype(np.float64, copy=False), one.status != 0),
            column(one.status),
            column(one.seq),
            span,
        ]
        if with_omitted:
            columns.append(column(one.left_out))
        batches.append(pa.RecordBatch.from_arrays(columns, schema=schema))
    return pa.Table.from_batches(batches, schema=schema).unify_dictionaries()


def _names(table: pa.Table) -> pa.DictionaryArray:
    whole = table["channel"].unify_dictionaries().combine_chunks()
    return whole.chunk(0) if isinstance(whole, pa.ChunkedArray) else whole


def channel_names(table: pa.Table) -> list[str]:
    """Return the channels that have rows in `table`."""
    names: list[str] = _names(table).unique().to_pylist()
    return names


def to_series(table: pa.Table, channel: Channel) -> Series:
    """Return the channel's rows of a table that may hold other channels too."""
    names = _names(table)
    known = names.dictionary.to_pylist()
    code = known.index(channel.name) if channel.name in known else -1
    mine = values(names.indices) == code
    everything = bool(mine.all())

    def of_it(name: str) -> NDArray[Any]:
        whole = values(table[name])
        return whole if everything else whole[mine]

    return Series(
        channel,
        of_it("t0_ns"),
        of_it("t1_ns"),
        of_it("raw").view(channel.raw_dtype),
        of_it("status"),
        of_it("seq"),
        of_it("span_ns") if channel.span == "sample" else None,
        of_it(OMITTED.name) if OMITTED.name in table.column_names else None,
    )


READ_COLUMNS = ["channel", "t0_ns", "t1_ns", "raw", "status", "seq"]


@dataclass(frozen=True, slots=True)
class RowGroup:
    """Where a row group's readings lie, by its statistics."""

    index: int
    rows: int
    first_channel: str
    last_channel: str
    first_ns: int
    last_ns: int

    def may_hold(self, channel: str, start_ns: int | None, end_ns: int | None) -> bool:
        """Whether a reader of this channel and time has to look inside."""
        return (
            self.first_channel <= channel <= self.last_channel
            and (start_ns is None or self.last_ns >= start_ns)
            and (end_ns is None or self.first_ns <= end_ns)
        )


def column_names(metadata: pq.FileMetaData) -> list[str]:
    """Return the names of a file's columns.

    Not by `metadata.schema` where there is another way: pyarrow's two refer to each other, and 8 KB a row group stay
    in memory until the garbage collector comes by, and of a spool's parts there may be hundreds by then.
    """
    if metadata.num_row_groups == 0:
        return list(metadata.schema.names)
    group = metadata.row_group(0)
    return [group.column(i).path_in_schema for i in range(metadata.num_columns)]


def row_groups(metadata: pq.FileMetaData) -> list[RowGroup]:
    """Return the index of a file's row groups, in the file's order."""
    at = {name: i for i, name in enumerate(column_names(metadata))}
    found = []
    for index in range(metadata.num_row_groups):
        group = metadata.row_group(index)
        if group.num_rows == 0:
            continue
        channel, t0_ns, t1_ns = (group.column(at[name]).statistics for name in ("channel", "t0_ns", "t1_ns"))
        found.append(RowGroup(index, group.num_rows, channel.min, channel.max, t0_ns.min, t1_ns.max))
    return found
