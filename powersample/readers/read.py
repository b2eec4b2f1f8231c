# SPDX-License-Identifier: Apache-2.0
"""Files by format: our own traces, logs of other tools, tables of runs. A format is guessed only when it is certain."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from powersample.errors import AccessDenied, BadFormat, InputNotFound, InvalidArgument
from powersample.formats import codecarbon, ecnas, lpm01a, mllog, nvidia_smi, pmd, points, power_csv, spl, zeus
from powersample.formats.parsed import STATUS_TEXT, Parsed
from powersample.model import RunTable, Trace, Window
from powersample.readers.ptdaemon import joined
from powersample.readers.why import unrecognised
from powersample.sensors import architecture_of

FORMATS = ("powersample", "nvidia-smi", "pmd", "lpm01a", "mllog", "ptdaemon", "csv", "ecnas", "codecarbon", "zeus")
HEAD_BYTES = 8192
START_FILE = "PMD_start_ts.txt"  # us since 1970, UTC, beside a PMD stream


def guess(path: str | os.PathLike[str]) -> str | None:
    """Return the format of a file, None when it is not certain.

    Raises:
        InputNotFound, AccessDenied: it cannot be read.
    """
    path = Path(path)
    if path.is_dir():
        return "powersample"
    head = _bytes(path, HEAD_BYTES)
    if head.startswith(b"PAR1"):
        return "powersample"
    if lpm01a.looks_like(head) and path.suffix == ".bin":
        return "lpm01a"
    if pmd.looks_like(head):
        return "pmd"
    try:
        text = head.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 4:  # not merely a character that the cut went through
            return None
        text = head[: error.start].decode("utf-8-sig")
    certain = {
        "nvidia-smi": nvidia_smi.looks_like,
        "mllog": mllog.looks_like,
        "ptdaemon": spl.looks_like,
        "ecnas": ecnas.looks_like,
        "codecarbon": codecarbon.looks_like,
        "zeus": zeus.looks_like,
        "csv": power_csv.looks_like,
    }
    found = [name for name, looks_like in certain.items() if looks_like(text)]
    return found[0] if len(found) == 1 else None


def read(
    path: str | os.PathLike[str],
    *,
    format: str | None = None,
    columns: Mapping[str, str] | None = None,
    gpu: str | None = None,
    driver: str | None = None,
    day_first: bool = False,
) -> Trace | RunTable:
    """Return what a file holds.

    Args:
        path: the file, or the spool of a recording.
        format: of `FORMATS`; None guesses.
        columns: for "csv": what columns of other names are ({"time": "t_s", "P": "power_w"}).
        gpu: NVML's name of the card that a log does not name ("NVIDIA A100-PCIE-40GB"): it says what readings mean.
        driver: version of its driver, likewise.
        day_first: stamps of a PTDaemon log are DD-MM-YYYY.

    Raises:
        InputNotFound, AccessDenied: it cannot be read.
        BadFormat: it is not of the format, or none is certain.
        InvalidArgument: unknown format.
    """
    path = Path(path)
    if format is not None and format not in FORMATS:
        raise InvalidArgument(f"no format {format!r}; there are {', '.join(FORMATS)}")
    chosen = format or ("csv" if columns else guess(path))
    if chosen is None:
        raise unrecognised(path, _bytes(path, HEAD_BYTES))
    if chosen == "powersample":
        from powersample import store

        return store.read_spool(path) if path.is_dir() else store.load(path)
    data, where = _bytes(path), str(path)
    tables = {"ecnas": ecnas.parse, "codecarbon": codecarbon.parse, "zeus": zeus.parse}
    if chosen in tables:
        return tables[chosen](data, where)
    if chosen == "csv":
        return _trace(power_csv.parse(data, where, columns), chosen, gpu, driver)
    if chosen == "ptdaemon":
        return _trace(joined(spl.parse(data, where, day_first=day_first), path), chosen, gpu, driver)
    parsers = {"nvidia-smi": nvidia_smi.parse, "lpm01a": lpm01a.parse, "mllog": mllog.parse, "pmd": pmd.parse}
    parsed = parsers[chosen](data, where)
    if chosen == "pmd" and (start_ns := _pmd_start_ns(path)) is not None:
        parsed = _moved(parsed, start_ns)
    return _trace(parsed, chosen, gpu, driver)


def read_carbon(path: str | os.PathLike[str]) -> tuple[tuple[codecarbon.CarbonRow, ...], tuple[str, ...]]:
    """Return CodeCarbon's runs as it wrote them, and what was wrong with the file.

    Raises:
        InputNotFound, AccessDenied, BadFormat: as `read`.
    """
    path = Path(path)
    return codecarbon.parse_rows(_bytes(path), str(path))


def read_points(path: str | os.PathLike[str], columns: points.PointColumns) -> points.PointTable:
    """Return operating points that were measured elsewhere, from a table whose columns are told.

    Raises:
        InputNotFound, AccessDenied, BadFormat: as `read`.
    """
    path = Path(path)
    return points.parse(_bytes(path), str(path), columns)


def _bytes(path: Path, most: int = -1) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(most)
    except FileNotFoundError:
        raise InputNotFound(f"there is no file {path}") from None
    except OSError as error:
        raise AccessDenied(f"{path} cannot be read: {error.strerror} [errno {error.errno}]") from error


def _pmd_start_ns(path: Path) -> int | None:
    beside = path.with_name(START_FILE)
    if not beside.exists():
        return None
    text = beside.read_text("utf-8", "replace").strip()
    if not text.isdigit():
        raise BadFormat(f"{beside} holds {text[:40]!r} instead of microseconds since 1970")
    return int(text) * 1000


def _moved(parsed: Parsed, start_ns: int) -> Parsed:
    series = tuple(
        type(one)(one.channel, one.t0_ns + start_ns, one.t1_ns + start_ns, one.raw, one.status, one.seq)
        for one in parsed.series
    )
    return Parsed(series, "utc", parsed.windows, parsed.notes, parsed.meta)


def _trace(parsed: Parsed, chosen: str, gpu: str | None, driver: str | None) -> Trace:
    meta: dict[str, Any] = {**parsed.meta, "format": chosen, "clock": parsed.clock, "simulated": False}
    devices = [dict(one) for one in meta.get("devices") or ()]
    for device in devices:
        device["name"] = device.get("name") or gpu  # what the log says goes first
        device["architecture"] = architecture_of(device["name"] or "")
    if devices:
        meta["devices"] = devices
    if driver:
        meta["driver"] = driver
    notes = list(parsed.notes)
    if parsed.clock == "local":
        notes.append("times are of a clock without a zone, as the log wrote them")
    codes = {int(code) for one in parsed.series for code in one.status[one.status != 0]}
    notes += [f"code {code}: {STATUS_TEXT[code]}" for code in sorted(codes) if code in STATUS_TEXT]
    meta["notes"] = notes
    windows = [Window(name, start_ns, end_ns, (), "log") for name, start_ns, end_ns in parsed.windows]
    return Trace.of(parsed.series, windows=windows, meta=meta)
