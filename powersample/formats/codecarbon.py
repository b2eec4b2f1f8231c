# SPDX-License-Identifier: Apache-2.0
"""CodeCarbon's emissions.csv: energies in kWh, powers in W, durations in s, PUE inside all of the energies.

Columns differ by version (3 adds experiment_id, water, utilisations, wue; 1 lacks pue), so they are found by name. A
line is written when its run ends: `timestamp` is that moment, in whole seconds of the machine's own zone. Versions 1
and 2 tell the power of the last reading, version 3 the mean of readings.
"""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from powersample.errors import BadFormat
from powersample.formats.parsed import as_text, counted, moment_ns
from powersample.model import RunRow, RunTable

KWH_J = 3.6e6
NEEDED = ("timestamp", "duration", "energy_consumed")
DOMAINS = {"cpu": "cpu", "gpu": "gpu", "ram": "dram"}
SAMPLE_S = 15.0  # measure_power_secs unless a run set it, which the file does not tell
ARM = ("arm", "aarch")  # as CodeCarbon 3 looks for it, in the platform's machine


@dataclass(frozen=True, slots=True)
class CarbonRow:
    """One run as CodeCarbon wrote it; None where the cell is empty or no number.

    Attributes:
        line: of the file.
        run_id: as written, "" where it is empty.
        end_ns: when the line was written, ns since 1970 of a clock without a zone, whole seconds.
        duration_s: of the run.
        version: of CodeCarbon, "3.3.2"; "" where it is not told.
        cpu_j, gpu_j, ram_j, total_j: energies, PUE included.
        power_w: by "cpu", "gpu", "ram": the last or the mean reading's, see the module.
        emissions_kg: CO2 equivalent.
        pue: the factor inside the energies; 1 where the file's version knew none.
        mode: "machine" or "process".
        gpu_count: GPUs of the machine, not those that the run chose.
        gpu_model: "4 x NVIDIA H100", as written.
        cpu_model: likewise.
        ram_gib: all of the machine's memory.
        arm: whether the machine is an ARM; None where `os` does not tell.
    """

    line: int
    run_id: str
    end_ns: int | None
    duration_s: float | None
    version: str
    cpu_j: float | None
    gpu_j: float | None
    ram_j: float | None
    total_j: float | None
    power_w: Mapping[str, float]
    emissions_kg: float | None
    pue: float | None
    mode: str
    gpu_count: int | None
    gpu_model: str
    cpu_model: str
    ram_gib: float | None
    arm: bool | None

    @property
    def name(self) -> str:
        """The run's id, else its line."""
        return self.run_id or f"line {self.line}"

    @property
    def start_ns(self) -> int | None:
        """When the run began, to a second, on the clock of `end_ns`."""
        if self.end_ns is None or self.duration_s is None:
            return None
        return self.end_ns - round(self.duration_s * 1e9)

    @property
    def major(self) -> int | None:
        """CodeCarbon's major version."""
        first = self.version.partition(".")[0]
        return int(first) if first.isdigit() else None


def looks_like(head: str) -> bool:
    """Whether a file that begins so is one."""
    columns = _header(head)
    return all(name in columns for name in NEEDED)


def _header(head: str) -> list[str]:
    lines = head.splitlines()
    return next(csv.reader(lines[:1]), []) if lines else []


def parse_rows(data: bytes, where: str) -> tuple[tuple[CarbonRow, ...], tuple[str, ...]]:
    """Return the runs of a file, and what was wrong with it.

    Raises:
        BadFormat: a needed column is missing or stands twice, cells are cut at semicolons, or there is no run.
    """
    text = as_text(data, where)
    columns = _header(text)
    if len(columns) == 1 and ";" in columns[0]:
        raise BadFormat(f"{where}, line 1: cells are cut at semicolons; CodeCarbon writes commas and decimal points")
    if missing := [name for name in NEEDED if name not in columns]:
        raise BadFormat(
            f"{where}, line 1: an emissions.csv needs the columns {', '.join(NEEDED)}; {', '.join(missing)} is missing"
        )
    if twice := [name for name, count in Counter(columns).items() if count > 1]:
        raise BadFormat(f"{where}, line 1: the column {twice[0]} stands twice")
    wrong: Counter[str] = Counter()
    found = []
    reader = csv.reader(io.StringIO(text, newline=""))
    next(reader)
    for cells in reader:
        if cells == columns:
            wrong["lines repeat the header and are left out"] += 1
        elif len(cells) != len(columns):
            wrong["lines with too few or too many cells are left out"] += bool(cells)
        else:
            row = _row(dict(zip(columns, cells, strict=True)), reader.line_num, wrong)
            wrong["runs lack an energy"] += row.total_j is None
            found.append(row)
    if not found:
        raise BadFormat(f"{where}: there is no run below the header")
    if "pue" not in columns:
        wrong["runs are of a version without a PUE: it is taken as 1"] += len(found)
    return tuple(found), counted(wrong)


def _row(cells: Mapping[str, str], line: int, wrong: Counter[str]) -> CarbonRow:
    def number(name: str) -> float | None:
        text = (cells.get(name) or "").strip()
        if not text:
            return None
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or value < 0:  # none of the columns read here can be below 0
            wrong[f"cells of {name} are no number from 0 on, and count as empty"] += 1
            return None
        return value

    def joules(name: str) -> float | None:
        value = number(name)
        return None if value is None else value * KWH_J

    powers = {name: number(f"{name}_power") for name in DOMAINS}
    gpus = number("gpu_count")
    system = (cells.get("os") or "").lower()
    return CarbonRow(
        line=line,
        run_id=(cells.get("run_id") or "").strip(),
        end_ns=_moment(cells["timestamp"]),
        duration_s=number("duration"),
        version=(cells.get("codecarbon_version") or "").strip(),
        cpu_j=joules("cpu_energy"),
        gpu_j=joules("gpu_energy"),
        ram_j=joules("ram_energy"),
        total_j=joules("energy_consumed"),
        power_w={name: value for name, value in powers.items() if value is not None},
        emissions_kg=number("emissions"),
        pue=number("pue") if "pue" in cells else 1.0,
        mode=(cells.get("tracking_mode") or "").strip(),
        gpu_count=None if gpus is None else int(gpus),
        gpu_model=(cells.get("gpu_model") or "").strip(),
        cpu_model=(cells.get("cpu_model") or "").strip(),
        ram_gib=number("ram_total_size"),
        arm=any(one in system for one in ARM) if system else None,
    )


def parse(data: bytes, where: str) -> RunTable:
    """Return a row a run; what is empty stays None.

    Raises:
        BadFormat: as `parse_rows`.
    """
    rows, notes = parse_rows(data, where)
    versions = {row.version for row in rows} - {""}
    return RunTable(
        "codecarbon", ", ".join(sorted(versions)) or None, tuple(_run(one) for one in rows), SAMPLE_S, notes
    )


def _run(row: CarbonRow) -> RunRow:
    energies = {"cpu": row.cpu_j, "gpu": row.gpu_j, "dram": row.ram_j}
    return RunRow(
        name=row.name,
        start_ns=row.start_ns,
        duration_s=row.duration_s,
        energies_j={name: value for name, value in energies.items() if value is not None},
        total_j=row.total_j,
        power_w={DOMAINS[name]: value for name, value in row.power_w.items()},
        pue=row.pue,
        mode=row.mode or None,
    )


def _moment(cell: str) -> int | None:
    try:
        return moment_ns(cell)
    except ValueError:
        return None


def memory_rule_w(major: int, gib: float, *, arm: bool) -> float:
    """Return the power that a version of CodeCarbon takes for memory that it cannot measure, W.

    Version 2 and before: 3 W per 8 GB. Version 3: 5 W a module (ARM 1.5 W), modules guessed from the size, each one
    from the fifth at 90 %, from the ninth at 80 %, from the seventeenth at 70 %; at least two modules' worth (ARM 3 W).

    Args:
        major: version.
        gib: the machine's memory, `ram_total_size`; in process mode both take what the process uses.
        arm: whether the machine is an ARM.

    Source: codecarbon 2.4.3 and 3.3.2, external/ram.py.
    """
    if major < 3:
        return 3.0 * gib / 8.0
    modules = _modules(gib)
    each_w, least_w = (1.5, 3.0) if arm else (5.0, 10.0)
    shares = ((4, 1.0), (8, 0.9), (16, 0.8), (32, 0.7))
    below, total_w = 0, 0.0
    for upto, share in shares:
        total_w += each_w * share * max(0, min(modules, upto) - below)
        below = upto
    return max(least_w, total_w)


def _modules(gib: float) -> int:
    for most_gib, count in ((2, 1), (16, 2), (64, 4), (128, 8)):
        if gib <= most_gib:
            return count
    size_gib = next((size for size in (128, 64, 32, 16) if size <= gib / 8), 16)  # the largest of which there are eight
    return min(32, math.ceil(gib / size_gib))
