# SPDX-License-Identifier: Apache-2.0
"""A load's log as a file: a line of JSON behind a #, then a CSV with a row a burst.

`powersample-sampler --stress ... --edges FILE` writes the same.
"""

from __future__ import annotations

import csv
import json
import math
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from powersample.errors import AccessDenied, BadFormat, InputNotFound, OutputExists
from powersample.loads.edge_log import EdgeLog, Step
from powersample.loads.heat import Heat

MARK = "# powersample edges "
COLUMNS = ("step", "thread", "planned_ns", "rise_ns", "fall_ns", "cpu_ns")
SCHEMA = 1


def save(log: EdgeLog, path: str | os.PathLike[str]) -> None:
    """Write a log to a new file.

    Raises:
        OutputExists: there is such a file.
        OSError: it cannot be written.
    """
    count = len(log)
    known = [log.step if len(log.step) == count else [""] * count]
    known += [log.thread, log.rise_ns - log.late_ns, log.rise_ns, log.fall_ns]
    known += [log.cpu_ns if len(log.cpu_ns) == count else [""] * count]
    try:
        with open(path, "x", encoding="utf-8", newline="") as file:
            file.write(MARK + json.dumps(_head(log), allow_nan=False) + "\n")
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(COLUMNS)
            rows.writerows(zip(*known, strict=True))
    except FileExistsError as error:
        raise OutputExists(f"{path} is there already: give the name of a new file") from error


def load(path: str | os.PathLike[str]) -> EdgeLog:
    """Read a log that `save` or `powersample-sampler --stress ... --edges` wrote.

    Raises:
        InputNotFound, AccessDenied: it cannot be read.
        BadFormat: it is no such file, or was cut off.
    """
    path = Path(path)
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        raise InputNotFound(f"there is no file {path}") from None
    except UnicodeDecodeError as error:
        raise BadFormat(f"{path} is no log of a load: {error}") from error
    except OSError as error:
        raise AccessDenied(f"{path} cannot be read: {error.strerror} [errno {error.errno}]") from error
    lines = text.splitlines()
    if len(lines) < 2 or not lines[0].startswith(MARK) or lines[1] != ",".join(COLUMNS):
        raise BadFormat(f"{path} is no log of a load: its first line must begin with {MARK!r}")
    try:
        head = json.loads(lines[0].removeprefix(MARK))
        if head["schema_version"] > SCHEMA:
            raise BadFormat(f"{path} was written by a newer powersample: schema_version {head['schema_version']}")
        rows = list(zip(*csv.reader(lines[2:]), strict=True)) or [()] * len(COLUMNS)
        columns = dict(zip(COLUMNS, rows, strict=True))
        if len(rows[0]) != head["bursts"] or not text.endswith("\n"):
            raise BadFormat(f"{path} was cut off: {len(rows[0])} of {head['bursts']} bursts")
        return _log(head, columns)
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, BadFormat):
            raise
        raise BadFormat(f"{path} is no whole log of a load: {error}") from error


def _head(log: EdgeLog) -> dict[str, Any]:
    heat = log.heat
    return {
        "schema_version": SCHEMA,
        "name": log.name,
        "kernel": log.kernel,
        "vectors": log.vectors,
        "cpus": list(log.cpus),
        "bursts": len(log),
        "missed": log.missed,
        "wrong": log.wrong,
        "stalled_ns": log.stalled_ns,
        "unpinned": log.unpinned,
        "ended": log.ended,
        "steps": [asdict(one) for one in log.reached],
        "heat": {
            "t_ns": heat.t_ns.tolist(),
            "temperature_c": [_or_none(one) for one in heat.temperature_c.tolist()],
            "hz": [_or_none(one) for one in heat.hz.tolist()],
        },
    }


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _log(head: dict[str, Any], columns: dict[str, tuple[str, ...]]) -> EdgeLog:
    def whole(name: str) -> np.ndarray[Any, np.dtype[np.int64]]:
        cells = columns[name]
        return np.array([int(cell) for cell in cells] if all(cells) else [], np.int64)

    rise_ns, heat = whole("rise_ns"), head["heat"]
    return EdgeLog(
        name=head["name"],
        rise_ns=rise_ns,
        fall_ns=whole("fall_ns"),
        thread=whole("thread"),
        late_ns=rise_ns - whole("planned_ns"),
        **{key: head[key] for key in ("missed", "wrong", "stalled_ns", "unpinned", "kernel", "vectors", "ended")},
        cpus=tuple(head["cpus"]),
        reached=tuple(Step(**one) for one in head["steps"]),
        step=whole("step"),
        cpu_ns=whole("cpu_ns"),
        heat=Heat(
            np.array(heat["t_ns"], np.int64),
            np.array(heat["temperature_c"], np.float64),
            np.array(heat["hz"], np.float64),
        ),
    )
