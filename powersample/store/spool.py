# SPDX-License-Identifier: Apache-2.0
"""Reads a spool: raw parts, parts already converted, events, marks and the session file.

It may be read while it is written, after a clean end, and after a kill. Two samplers may write into one, and meters:
the later ones' parts have numbers of their own (`store.stream`, `store.meter_spool`), and their events a file each. A
part is found under one of three names: `part-N.open` (being written), `part-N.part` (closed), `part-N.parquet`
(converted; the raw one is then gone).
"""

import io
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from powersample import marks
from powersample.errors import AccessDenied, BadFormat, InputNotFound
from powersample.marks import Log
from powersample.model import KEPT_DTYPE, METER_DTYPE, SAMPLE_DTYPE, Anchor, Channel, Extent, LaneStats, Series
from powersample.store.lock import NAME as LOCK
from powersample.store.schema import Description
from powersample.store.stored import ParquetFile, PathLike, StoredTrace, open_parquet
from powersample.store.writer import BUSY_ROWS, PART_ROWS

SPOOL_VERSION = 1
SLICE_RECORDS = 1 << 16  # 2 MB
HEADER_LIMIT = 1 << 24
MOST_GAPS = 1000  # of a meter that are listed


@dataclass(frozen=True, slots=True)
class Scan:
    """What a raw part's first `records` hold of each channel. A part only grows, so a scan is never wrong later."""

    records: int
    extents: dict[str, Extent]


@dataclass(slots=True)
class Known:
    """What earlier readings of a spool found: what only grows need not be read again.

    Attributes:
        scans: of raw parts, by number.
        log: its marks.
        marks_bytes: how far they were read.
    """

    scans: dict[int, Scan] = field(default_factory=dict)
    log: Log | None = None
    marks_bytes: int = 0

    def marks(self, path: Path, boot: str | None) -> Log:
        """Return the marks so far, read from where the last reading ended; what a kill tore off waits for its end."""
        if self.log is None or self.log.boot != boot:
            self.log, self.marks_bytes = Log(boot), 0
        with suppress(FileNotFoundError), path.open("rb") as file:
            file.seek(self.marks_bytes)
            text = file.read()
            whole = text.rfind(b"\n") + 1
            self.log.feed(io.BytesIO(text[:whole]).readlines())  # splitlines also cuts at \r
            self.marks_bytes += whole
        return self.log


class RawPart:
    """One raw part. What a kill tore off at its end is left out."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            line = file.readline(HEADER_LIMIT)
            size = file.seek(0, 2)
        try:
            self.header: dict[str, Any] = json.loads(line)
            version = int(self.header["powersample_spool"])
            self.offset = int(self.header["header_bytes"])
            record_bytes = int(self.header["record_bytes"])
            lanes = [one if isinstance(one, str) else one["name"] for one in self.header.get("lanes", [])]
            self.channels = {int(one["id"]): channel_of(one, lanes) for one in self.header["channels"]}
        except (ValueError, KeyError, TypeError) as error:
            raise BadFormat(f"{path} is not a spool part ({error!r})") from error
        if version > SPOOL_VERSION:
            raise BadFormat(
                f"{path}: spool version {version} is newer than {SPOOL_VERSION}", "Use a newer powersample."
            )
        self.kept = self.header.get("keep") == "changes"
        spans = record_bytes == METER_DTYPE.itemsize and bool(self.header.get("spans"))
        self.dtype = METER_DTYPE if spans else KEPT_DTYPE if self.kept else SAMPLE_DTYPE
        if record_bytes != self.dtype.itemsize or len(line) != self.offset:
            raise BadFormat(
                f"{path}: a header of {len(line)} bytes and records of {record_bytes} do not fit its format"
            )
        self.records = max(0, size - self.offset) // self.dtype.itemsize

    def slices(self, first: int = 0) -> Iterator[NDArray[np.void]]:
        """Yield the records from the `first`-th on as they were written, at most 2 MB at a time."""
        with self.path.open("rb") as file:
            file.seek(self.offset + first * self.dtype.itemsize)
            left = self.records - first
            while left > 0:
                found = np.fromfile(file, self.dtype, min(left, SLICE_RECORDS))
                if not len(found):
                    return
                left -= len(found)
                # A power cut leaves zeros where the file had grown and the data had not arrived.
                written = np.flatnonzero(found["t1_ns"])
                yield found[: written[-1] + 1] if len(written) else found[:0]

    def series(self) -> Iterator[Series]:
        """Yield every reading, by channel in row groups; holds the part once at most."""
        held: dict[int, list[NDArray[np.void]]] = {}
        rows: dict[int, int] = {}
        for records in self.slices():
            order = np.argsort(records["channel"], kind="stable")
            ids, first = np.unique(records["channel"][order], return_index=True)
            for number, index in zip(ids.tolist(), np.split(order, first[1:]), strict=True):
                self._named(number)
                held.setdefault(number, []).append(records[index])
                rows[number] = rows.get(number, 0) + len(index)
                if rows[number] > PART_ROWS - SLICE_RECORDS:
                    del rows[number]
                    yield series_of(self.channels[number], np.concatenate(held.pop(number)))
        for number in sorted(held):
            yield series_of(self.channels[number], np.concatenate(held[number]))

    def alone(self) -> set[str]:
        """See `ParquetFile`: the channels that would have a row group to themselves."""
        return {name for name, extent in self.scan().extents.items() if extent.records >= BUSY_ROWS}

    def shared(self, channels: Mapping[str, Channel]) -> Iterator[Series]:
        """See `ParquetFile`."""
        yield from (series for series in self.series() if series.channel.name in channels)

    def chunks(self, channel: Channel, start_ns: int | None, end_ns: int | None) -> Iterator[Series]:
        """See `powersample.model.Backend`."""
        wanted = [number for number, one in self.channels.items() if one.name == channel.name]
        for records in self.slices():
            series = series_of(channel, records[np.isin(records["channel"], wanted)]).between(start_ns, end_ns)
            if len(series):
                yield series

    def scan(self, before: "Scan | None" = None) -> "Scan":
        """Return what there is of each channel; reads the part from where `before`, an earlier scan of it, ended."""
        done, found = (before.records, dict(before.extents)) if before else (0, {})
        for records in self.slices(done):
            done += len(records)
            for number in np.unique(records["channel"]).tolist():
                mine = records[records["channel"] == number]
                omitted = int(mine["omitted"].sum()) if self.kept else 0
                extent = Extent(len(mine), int(mine["t0_ns"][0]), int(mine["t1_ns"][-1]), omitted)
                _extend(found, self._named(number).name, extent)
        return Scan(done, found)

    def _named(self, number: int) -> Channel:
        try:
            return self.channels[number]
        except KeyError:
            raise BadFormat(f"{self.path}: a record of channel {number}, which its header does not name") from None


def channel_of(data: dict[str, Any], lanes: list[str]) -> Channel:
    """Return the channel that a part's header describes; its lane there is a number."""
    lane = data.get("lane", "")
    return Channel.from_json(data | {"lane": lanes[lane] if isinstance(lane, int) and lane < len(lanes) else str(lane)})


def series_of(channel: Channel, records: NDArray[np.void]) -> Series:
    """Return records of one channel, as a part has them, as readings."""
    names = records.dtype.names or ()
    return Series(
        channel,
        np.ascontiguousarray(records["t0_ns"]),
        np.ascontiguousarray(records["t1_ns"]),
        np.ascontiguousarray(records["raw"]).view(channel.raw_dtype),
        np.ascontiguousarray(records["status"]),
        np.ascontiguousarray(records["seq"]),
        span_ns=np.ascontiguousarray(records["span_ns"]) if "span_ns" in names and channel.span == "sample" else None,
        omitted=np.ascontiguousarray(records["omitted"]) if "omitted" in names else None,
    )


def _extend(extents: dict[str, Extent], name: str, more: Extent) -> None:
    before = extents.get(name)
    extents[name] = (
        more
        if before is None
        else Extent(
            before.records + more.records,
            min(before.first_ns, more.first_ns),
            max(before.last_ns, more.last_ns),
            before.omitted + more.omitted,
        )
    )


Part = RawPart | ParquetFile


def part_numbers(directory: Path) -> list[int]:
    """Return the numbers of the parts there, in order."""
    names = (path.name for path in directory.glob("part-*"))
    return sorted({int(name[5:].split(".")[0]) for name in names if name.endswith((".part", ".open", ".parquet"))})


def open_part(directory: Path, number: int) -> tuple[Part, Description]:
    """Open a part under the name that it has now.

    Raises:
        BadFormat: it is none.
        InputNotFound: it has none of the names.
    """
    stem = f"part-{number:06d}"
    # The sampler and the converter rename forward only: twice through the names meets it under one of them.
    for name in 2 * (f"{stem}.parquet", f"{stem}.part", f"{stem}.open"):
        path = directory / name
        try:
            if name.endswith(".parquet"):
                return open_parquet(path)
            raw = RawPart(path)
        except (FileNotFoundError, InputNotFound):
            continue
        except PermissionError:
            raise AccessDenied(f"{path} may not be read", "Ask its owner for read access.") from None
        header = raw.header
        anchors = (Anchor.from_json(header["anchor"]),) if header.get("anchor") else ()
        lanes = tuple(LaneStats.from_json(one) for one in header.get("lanes", ()) if isinstance(one, dict))
        meta = {"boot_id": header.get("boot_id"), "keep": header.get("keep")}
        return raw, Description(tuple(raw.channels.values()), anchors=anchors, lanes=lanes, meta=meta)
    raise InputNotFound(f"{directory / stem} has gone", "Was the recording finished meanwhile? Read its output.")


@dataclass(slots=True)
class Survey:
    """Everything that a spool says, its readings left where they are."""

    numbers: list[int] = field(default_factory=list)
    channels: dict[str, Channel] = field(default_factory=dict)
    anchors: list[Anchor] = field(default_factory=list)
    lanes: dict[str, LaneStats] = field(default_factory=dict)
    extents: dict[str, Extent] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)
    boot_id: str | None = None
    keep: str = "all"
    meters: dict[str, dict[str, Any]] = field(default_factory=dict)
    trouble: list[str] = field(default_factory=list)  # what keeps the spool from being removed
    trouble_said: list[str] = field(default_factory=list)  # what the sampler itself wrote down
    end: dict[str, Any] | None = None  # None while it is written, and after a kill

    def description(self, directory: Path, known: Known | None = None) -> Description:
        """Return it all, with windows from the marks; those still open end with the record."""
        end_ns = max((extent.last_ns for extent in self.extents.values()), default=None)
        path = directory / "marks"
        if known is None:  # what is torn off at its end is counted
            found = marks.parse(_lines(path), self.boot_id, end_ns)
        else:
            found = known.marks(path, self.boot_id).marks(end_ns)
        meta = self.meta | {"events": [{"name": name, "t_ns": t_ns} for name, t_ns in found.events]}
        left_out = {"unknown": found.unknown, "unmatched": found.unmatched, "other_boot": found.other_boot}
        if any(left_out.values()):
            meta["marks_left_out"] = left_out
        trouble = [*meta.get("trouble", ()), *self.trouble_said, *self.trouble]
        meta |= {"keep": self.keep, "trouble": trouble, "spool_end": self.end}
        if self.meters:
            meta["meters"] = [one | {"gaps": list(one["gaps"].values())} for one in self.meters.values()]
        anchors = sorted(set(self.anchors), key=lambda anchor: anchor.monotonic_ns)
        return Description(
            tuple(self.channels.values()), found.windows, tuple(anchors), tuple(self.lanes.values()), meta
        )


def survey(directory: Path, *, scan: bool = True, known: Known | None = None) -> Survey:
    """Look through a spool.

    Args:
        directory: the spool.
        scan: also read raw parts through for the channels' extents.
        known: what earlier surveys of the same spool found; it is not read again, and brought up to date.

    Raises:
        InputNotFound: there is no such folder.
        BadFormat: it is no spool.
    """
    if not directory.exists():
        raise InputNotFound(f"{directory}: no such folder", "Check the path.")
    if not directory.is_dir() or not _is_spool(directory):
        raise BadFormat(
            f"{directory} is not a spool: it holds neither parts nor a session", "Give an OUT.spool folder."
        )
    found = Survey()
    for number in part_numbers(directory):
        try:
            part, description = open_part(directory, number)
        except BadFormat as error:
            opened = directory / f"part-{number:06d}.open"
            if not opened.exists() or _has_records(opened):  # a kill may come before the header is written
                found.trouble.append(f"left out: {error}")
            continue
        found.numbers.append(number)
        found.channels |= {channel.name: channel for channel in description.channels}
        found.anchors += description.anchors
        found.lanes |= {lane.name: lane for lane in description.lanes}
        found.boot_id = found.boot_id or (description.meta or {}).get("boot_id") or None
        found.keep = (description.meta or {}).get("keep") or found.keep
        if isinstance(part, RawPart) and not scan:
            continue
        if isinstance(part, RawPart):
            scanned = part.scan(known.scans.get(number) if known else None)
            if known is not None:
                known.scans[number] = scanned
            extents: Mapping[str, Extent] = scanned.extents
        else:
            extents = part.extents
        for name, extent in extents.items():
            _extend(found.extents, name, extent)
    for events in sorted(directory.glob("events*.jsonl")):  # one a sampler
        _read_events(events, found)
    session = _json((directory / "session.json").read_bytes()) if (directory / "session.json").exists() else {}
    found.meta |= session or {}
    return found


def _is_spool(directory: Path) -> bool:
    names = {path.name for path in directory.iterdir()}
    if not names:
        return directory.suffix == ".spool"  # a kill may come at once
    return bool(names & {"session.json", "events.jsonl", LOCK} or part_numbers(directory))


def _has_records(path: Path) -> bool:
    with path.open("rb") as file:
        return b"\n" in file.read(HEADER_LIMIT)


def _lines(path: Path) -> list[bytes]:
    return io.BytesIO(path.read_bytes()).readlines() if path.exists() else []  # splitlines also cuts at \r


def _json(line: bytes) -> dict[str, Any] | None:
    try:
        data = json.loads(line)
    except ValueError:
        return None  # a kill tears the last line
    return data if isinstance(data, dict) else None


def _read_events(path: Path, found: Survey) -> None:
    lanes: list[Any] = []
    for line in _lines(path):
        event = _json(line)
        if event is None:
            continue
        if event.get("event") == "anchor":
            found.anchors.append(Anchor.from_json(event.get("anchor", event)))
        elif event.get("event") == "failed":
            found.trouble_said.append(f"the spool stopped writing: {event.get('status')} (errno {event.get('errno')})")
        elif str(event.get("event")).startswith("meter"):
            _read_meter(event, found.meters)
        elif event.get("event") == "end":
            found.end = found.end or {key: event.get(key) for key in ("reason", "omitted", "discarded", "cpu_ns")}
        lanes = event.get("lanes", lanes)  # cumulative: the newest says all
    if lanes:  # a kill leaves only what the parts' headers say of their lanes
        found.lanes |= {lane.name: lane for lane in map(LaneStats.from_json, lanes)}


def _read_meter(event: dict[str, Any], meters: dict[str, dict[str, Any]]) -> None:
    name = str(event.get("name"))
    if event["event"] == "meter":
        meters[name] = dict(event["meter"]) | {"gaps": {}, "gaps_total": 0, "counts": {}}
    elif name in meters and event["event"] == "meter_gap":
        gaps, start_ns = meters[name]["gaps"], event["gap"]["start_ns"]
        meters[name]["gaps_total"] += start_ns not in gaps
        if start_ns in gaps or len(gaps) < MOST_GAPS:
            gaps[start_ns] = event["gap"]  # one that has ended comes again
    elif name in meters and event["event"] == "meter_counts":
        meters[name]["counts"] = event["counts"]


class SpoolParts:
    """A spool's parts as a trace's backend. What is written after its making is not seen."""

    def __init__(self, directory: Path, found: Survey) -> None:
        self._directory = directory
        self._numbers = found.numbers
        self._extents = found.extents

    def chunks(self, channel: Channel, start_ns: int | None, end_ns: int | None) -> Iterator[Series]:
        """See `powersample.model.Backend`."""
        extent = self._extents.get(channel.name)
        if extent is None:
            return
        end_ns = extent.last_ns if end_ns is None else min(end_ns, extent.last_ns)
        for number in self._numbers:
            part, _ = open_part(self._directory, number)
            yield from part.chunks(channel, start_ns, end_ns)

    def extent(self, channel: Channel) -> Extent | None:
        """See `powersample.model.Backend`."""
        return self._extents.get(channel.name)


def read_spool(directory: PathLike, known: Known | None = None) -> StoredTrace:
    """Open a spool as a trace of what has been recorded so far.

    Args:
        directory: the spool.
        known: given again with every reading of the same spool, saves reading it all each time.

    Raises:
        InputNotFound: there is no such folder.
        BadFormat: it is no spool.
    """
    path = Path(directory)
    found = survey(path, known=known)
    return StoredTrace(path, SpoolParts(path, found), found.description(path, known))
