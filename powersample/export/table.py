# SPDX-License-Identifier: Apache-2.0
"""A trace as CSV: a row a reading, channel after channel, and its windows as a table beside it.

The long form, because no two channels are read at the same instants: a wide table would need values that nobody read.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from powersample.export.changes import changes
from powersample.export.selection import Selection, clock_of, headline, quantity, realtime_ns, utf8
from powersample.model import Channel, Series, Trace
from powersample.model.energy import OPEN
from powersample.store.csv_rows import Column, csv_rows

# By what the trace's instants are: the columns that stamp a row.
STAMPS = {
    "monotonic": ("time_utc", "monotonic_ns"),
    "unanchored": ("monotonic_ns",),
    "utc": ("time_utc", "unix_ns"),
    "local": ("time_local",),
    "start": ("since_start_ns",),
}


def csv_chunks(chosen: Selection, *, only_changes: bool = False) -> Iterator[bytes]:
    """Yield a CSV file in pieces, at bounded memory.

    Lines that begin with # say what it is. Then a header and the rows, channel after channel and each in the order of
    time: the stamp (middle of the device call), `channel`, `device`, `domain`, a column for each quantity and unit
    (`power_w`, `energy_j`, `aux_pct`; empty where a read failed), `status` (0, or the source's error code), and
    `span_ns`, the time up to the stamp that a value averages, where a channel tells it.

    Args:
        chosen: what is written.
        only_changes: leave out readings that say the same as the one before; the last one of a channel stays.
    """
    spans = any(one.span != "none" for one in chosen.channels)
    units = sorted({_unit_column(one) for one in chosen.channels}, reverse=True)  # power before energy
    stamps = STAMPS[clock_of(chosen.trace)]
    yield "".join(f"# {line}\n" for line in _comments(chosen, only_changes=only_changes)).encode()
    names = [*stamps, "channel", "device", "domain", *units, "status", *(["span_ns"] if spans else [])]
    yield (",".join(names) + "\n").encode()
    for channel in chosen.channels:
        series = chosen.chunks(channel)
        for piece in changes(series) if only_changes else series:
            yield csv_rows(_columns(chosen.trace, piece, names), len(piece))


def _comments(chosen: Selection, *, only_changes: bool) -> Iterator[str]:
    said = headline(chosen.trace)
    if said:
        yield said
    host = chosen.trace.meta.get("host")
    yield "powersample" + (f", host {utf8(str(host))}".replace("\n", " ").replace("\r", " ") if host else "")
    if only_changes:
        yield "only readings that differ from the one before, and each channel's last"


def _unit_column(channel: Channel) -> str:
    return "_".join(quantity(channel))


def _columns(trace: Trace, piece: Series, names: list[str]) -> dict[str, Column]:
    channel, t_ns = piece.channel, piece.t_ns
    known: dict[str, Column] = {
        "channel": utf8(channel.name),
        "device": utf8(channel.device),
        "domain": channel.domain,
        _unit_column(channel): piece.value,
        "status": piece.status,
        "span_ns": piece.span_ns if piece.span_ns is not None else _fixed(channel, len(piece)),
        **_stamped(trace, t_ns),
    }
    return {name: known.get(name) for name in names}


def _fixed(channel: Channel, rows: int) -> NDArray[np.int64] | None:
    return None if channel.span_ns is None else np.full(rows, channel.span_ns, np.int64)


def _stamped(trace: Trace, t_ns: NDArray[np.int64]) -> dict[str, Column]:
    real_ns = realtime_ns(trace, t_ns)
    stamps: dict[str, Column] = {} if real_ns is None else {"time": real_ns.view("datetime64[ns]")}
    return {name: stamps.get("time") if name.startswith("time_") else t_ns for name in STAMPS[clock_of(trace)]}


def windows_csv(chosen: Selection) -> bytes | None:
    """Return the windows as a CSV file of their own; None when there are none.

    Columns `name`, `start_` and `end_` with each stamp of the readings' table, `duration_s`, `open` (1 where it was
    never ended and stands to the record's end) and `source`.
    """
    windows = chosen.windows
    if not windows:
        return None
    text = io.StringIO()
    said = headline(chosen.trace)
    if said:
        text.write(f"# {said}\n")
    cells = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    stamps = STAMPS[clock_of(chosen.trace)]
    text.write(",".join(["name", *(f"{end}_{stamp}" for end in ("start", "end") for stamp in stamps)]))
    text.write(",duration_s,open,source\n")
    stamp = _stamper(chosen.trace)
    for one in windows:
        row = [utf8(one.name), *stamp(one.start_ns), *stamp(one.end_ns), one.duration_s, int(OPEN in one.flags)]
        cells.writerow([*row, utf8(one.source)])
    return text.getvalue().encode()


def _stamper(trace: Trace) -> Callable[[int], list[str | int]]:
    def stamp(at_ns: int) -> list[str | int]:
        t_ns = np.array([at_ns], np.int64)
        found: list[str | int] = []
        for column in _stamped(trace, t_ns).values():
            value = np.asarray(column)[0]
            found.append(str(value).replace("T", " ") if value.dtype.kind == "M" else int(value))
        return found

    return stamp
