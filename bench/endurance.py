# SPDX-License-Identifier: Apache-2.0
"""A long recording: hours of a 100 ms sensor polled at 1 kHz, as fast as the machine goes.

The whole way, lane, ring, spool and conversion to Parquet: memory over time, bytes a record, rate. A virtual lane's
times are exact, which flatters the delta encoding; so the same conversion is also measured on times with the errors
of a real grid, made up and real.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np

from bench.figure import Bar, Figure
from bench.machine import ROOT

POLLS_PER_UPDATE = 100
STEPS = 4_000
RATE_HZ = 1000.0
RING_RECORDS = 1 << 17
MEMORY_MB = 200
GROWTH_MB = 8
BYTES = Bar("<=", 4)


class MemoryWatch(threading.Thread):
    """Notes this process's resident memory every 50 ms."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.seen_mb: list[float] = []
        self._end = threading.Event()

    def run(self) -> None:
        page_mb = os.sysconf("SC_PAGESIZE") / 1e6
        with open("/proc/self/statm", encoding="ascii") as file:
            while not self._end.wait(0.05):
                file.seek(0)
                self.seen_mb.append(int(file.read().split()[1]) * page_mb)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self.join()


def _sensor(stall_ns: int = 0) -> Any:
    """Return the script of a sensor with a new value every 100 polls: mW of a board under changing load, with noise."""
    from powersample._native import api

    chance = random.Random(1)
    level_mw, steps = 300_000.0, []
    for step in range(STEPS):
        if step % 50 == 0:
            level_mw = chance.uniform(90_000, 690_000)
        raw = round(chance.gauss(level_mw, 3_000))
        steps.append((step * POLLS_PER_UPDATE, 0, 0, raw, 0, stall_ns))
    return api.Script(steps=tuple(steps), repeat_passes=STEPS * POLLS_PER_UPDATE)


def _record(folder: Path, options: Any, *, stall_ns: int = 0, convert: bool = True) -> dict[str, Any]:
    """Record into folder/run.parquet.spool, converting meanwhile; return the lane's account and the time it took."""
    from powersample._native import api
    from powersample.store import Converter

    directory = folder / "run.parquet.spool"
    directory.mkdir()
    converter = Converter(directory, folder / "run.parquet")
    begin_s = time.monotonic()
    with api.Sampler() as sampler:
        sampler.add(api.scripted_source("gpu0", _sensor(stall_ns)), options)
        sampler.start()
        with api.Spool(directory, sampler) as spool:
            spool.start()
            while sampler.running:
                if not (convert and converter.step()):
                    time.sleep(0.02)
            lane_s = time.monotonic() - begin_s
            sampler.stop()
            spool.stop()
            stats, written = sampler.stats(0), spool.stats()
    if stats["dropped"] or written["discarded"] or stats["records"] != written["records"]:
        raise RuntimeError(f"records were lost: {stats} {written}")
    while convert and converter.step():
        pass
    converted_s = time.monotonic() - begin_s
    return {
        "records": stats["records"],
        "skipped": stats["skipped"],
        "lane_s": lane_s,
        "converted_s": converted_s,
        "converter": converter,
    }


def _finish(account: dict[str, Any]) -> float:
    """Write the output; return bytes a record, once it holds every record."""
    from powersample.store import load

    output = account["converter"].finish()
    trace = load(output)
    (name,) = trace.channels
    held = trace.extent(name).records
    if held != account["records"]:
        raise RuntimeError(f"{held} of {account['records']} records are in the file")
    return output.stat().st_size / held


def _virtual(hours: float) -> Any:
    from powersample._native import api

    return api.LaneOptions(
        mode="virtual",
        rate_hz=RATE_HZ,
        ring_records=RING_RECORDS,
        max_passes=round(hours * 3600 * RATE_HZ),
        virtual_start_ns=10**12,
    )


def long_run(folder: Path, hours: float) -> dict[str, Any]:
    """Record `hours` of simulated time; return memory, rate and size."""
    import pyarrow  # noqa: F401  its libraries are part of what is measured from the start

    begin_s = time.monotonic()
    with MemoryWatch() as watch:
        account = _record(folder, _virtual(hours))
        recording = len(watch.seen_mb)
        bytes_each = _finish(account)
    seen = watch.seen_mb
    first, second = seen[recording // 10 : recording // 2], seen[recording // 2 : recording]
    return {
        "records": account["records"],
        "peak_mb": max(seen),
        "first_half_peak_mb": max(first),
        "second_half_peak_mb": max(second),
        "finish_peak_mb": max(seen[recording:]),
        "records_per_s": account["records"] / account["converted_s"],
        "lane_s": account["lane_s"],
        "converted_s": account["converted_s"],
        "total_s": time.monotonic() - begin_s,
        "bytes": bytes_each,
    }


def jittered(folder: Path, hours: float, wake_us: float, call_us: float) -> float:
    """Return bytes a record where each poll starts late and lasts by an exponential of these means."""
    account = _record(folder, _virtual(hours), convert=False)
    chance = np.random.default_rng(1)
    from powersample.model import SAMPLE_DTYPE

    for part in sorted((folder / "run.parquet.spool").glob("part-*.part")):
        with part.open("rb") as file:
            offset = int(json.loads(file.readline())["header_bytes"])
        records = np.memmap(part, SAMPLE_DTYPE, "r+", offset)
        records["t0_ns"] += chance.exponential(wake_us * 1e3, len(records)).astype(np.int64)
        records["t1_ns"] = records["t0_ns"] + chance.exponential(call_us * 1e3, len(records)).astype(np.int64)
        records.flush()
    return _finish(account)


def eight_gpus(folder: Path, hours: float) -> dict[str, float]:
    """Convert and merge what eight GPUs with three power channels at 1 kHz leave in `hours`, in parts of 64 MiB."""
    import pyarrow.parquet as pq

    from powersample.model import SAMPLE_DTYPE
    from powersample.store import Converter, load

    directory = folder / "run.parquet.spool"
    directory.mkdir()
    (directory / "session.json").write_text("{}")
    names = [f"gpu{gpu}.power.{field}" for gpu in range(8) for field in ("instant", "average", "usage")]
    channels = [
        {"id": i, "name": name, "device": name[:4], "domain": "gpu", "unit": "W", "scale": 1e-3,
         "kind": 1, "lane": 0, "divisor": 1}
        for i, name in enumerate(names)
    ]  # fmt: skip
    chance, slices = np.random.default_rng(1), 16
    passes = (64 << 20) // SAMPLE_DTYPE.itemsize // len(names) // slices
    parts = max(1, round(hours * 3600 * RATE_HZ / passes / slices))
    records = np.zeros((passes, len(names)), SAMPLE_DTYPE)
    records["channel"] = np.arange(len(names))
    header = {"powersample_spool": 1, "header_bytes": 16384, "record_bytes": 32, "channels": channels}
    converter = Converter(directory, folder / "run.parquet")
    converted_s = 0.0
    with MemoryWatch() as watch:
        for part in range(parts):
            with (directory / f"part-{part:06d}.part").open("wb") as file:
                file.write(json.dumps(header).encode().ljust(16383) + b"\n")
                for piece in range(slices):  # this program's own memory is not what is measured
                    slots = ((part * slices + piece) * passes + np.arange(passes, dtype=np.int64))[:, None]
                    late_ns = chance.exponential(50e3, (passes, 1)) + 5e3 * np.arange(len(names))
                    records["t0_ns"] = 10**12 + slots * 10**6 + late_ns.astype(np.int64)
                    records["t1_ns"] = records["t0_ns"] + 4_000
                    records["raw"] = 300_000 + 500 * (slots // POLLS_PER_UPDATE * 7919 % 101) + np.arange(len(names))
                    records["seq"] = (slots * len(names) + np.arange(len(names))) % 2**32
                    records.tofile(file)
            begin_s = time.monotonic()
            converter.step()
            converted_s += time.monotonic() - begin_s
        merging, begin_s = len(watch.seen_mb), time.monotonic()
        output = converter.finish()
        merged_s = time.monotonic() - begin_s
    held = sum(load(output).extent(name).records for name in names)
    made = parts * slices * records.size
    if held != made:
        raise RuntimeError(f"{held} of {made} records are in the file")
    return {
        "records": held,
        "convert_peak_mb": max(watch.seen_mb[:merging]),
        "merge_peak_mb": max(watch.seen_mb[merging:]),
        "converted_s": converted_s,
        "merged_s": merged_s,
        "groups": pq.read_metadata(output).num_row_groups,
    }


def footer(folder: Path, groups: float) -> dict[str, float]:
    """Return what a writer holds for each row group until its file is closed."""
    import pyarrow.parquet as pq

    from powersample.model import Channel, Kind, Series
    from powersample.store.schema import SCHEMA, WRITE_OPTIONS, to_table

    few, channel = np.arange(20), Channel("gpu0.power.instant", "GPU-0", "gpu", Kind.POWER, "W", 1e-3)
    table = to_table([Series(channel, few, few, few, np.zeros(20), few)])
    with pq.ParquetWriter(folder / "x.parquet", SCHEMA, **WRITE_OPTIONS) as writer, MemoryWatch() as watch:
        time.sleep(0.2)
        for _ in range(round(groups)):
            writer.write_table(table)
        time.sleep(0.2)
        return {"group_kb": (watch.seen_mb[-1] - watch.seen_mb[0]) * 1e3 / groups}


def _information_bytes(*means_us: float) -> float:
    """Return the entropy of exponentials in whole ns, which no encoding can go below."""
    return float(sum(np.log2(np.e * mean_us * 1e3) for mean_us in means_us) / 8)


def real_time(folder: Path, seconds: float) -> dict[str, float]:
    """Return bytes a record of a recording in real time, its calls busy for 20 us each."""
    from powersample._native import api

    options = api.LaneOptions(rate_hz=RATE_HZ, max_passes=round(seconds * RATE_HZ))
    account = _record(folder, options, stall_ns=20_000)
    return {"bytes": _finish(account), "skipped": account["skipped"], "records": account["records"]}


def _in_a_process(*arguments: object) -> Any:
    """Run a part of this module by itself: memory is to be its own."""
    command = [sys.executable, "-m", "bench.endurance", *map(str, arguments)]
    done = subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def figures(quick: bool, hours: float) -> Iterator[Figure]:
    """Yield memory, growth, bytes a record three ways, and the rate."""
    hours = min(hours, 1.0) if quick else hours
    ring_mb = RING_RECORDS * 32 / 1e6
    run = _in_a_process("long", hours)
    what = f"{hours:g} simulated hours at 1 kHz ({run['records'] / 1e6:.1f} M records)"
    yield Figure(
        "endurance",
        f"resident memory, peak of the process, {what}",
        "MB",
        Bar("<=", round(MEMORY_MB + ring_mb, 1)),
        [run["peak_mb"]],
        [
            f"{MEMORY_MB} MB plus the ring's {ring_mb:.1f}; interpreter, numpy and pyarrow included",
            f"while recording {max(run['first_half_peak_mb'], run['second_half_peak_mb']):.0f}, "
            f"at the end {run['finish_peak_mb']:.0f}",
        ],
    )
    yield Figure(
        "endurance",
        "peak of the second half of that recording over the peak of its first half",
        "MB",
        Bar("<=", GROWTH_MB),
        [run["second_half_peak_mb"] - run["first_half_peak_mb"]],
        [f"{run['first_half_peak_mb']:.0f} and {run['second_half_peak_mb']:.0f} MB; the first tenth is left out"],
    )
    yield Figure(
        "endurance",
        "on disk, a record of it",
        "bytes",
        BYTES,
        [run["bytes"]],
        ["a new value each 100 polls; a virtual lane's times are exact, which flatters: see the next two rows"],
    )
    wake_us, call_us = 50, 5
    yield Figure(
        "endurance",
        "on disk, a record with the times of a real grid, synthetic",
        "bytes",
        BYTES,
        [_in_a_process("jitter", min(hours, 1.0), wake_us, call_us)],
        [
            f"start late by an exponential of {wake_us} us on average, call lasting one of {call_us} us",
            f"the information in such times is {_information_bytes(wake_us, call_us):.2f} bytes a record, "
            "and t1_ns repeats t0_ns's part of it",
        ],
    )
    seconds = 3 if quick else 20
    real = _in_a_process("real", seconds)
    yield Figure(
        "endurance",
        "on disk, a record of a recording in real time",
        "bytes",
        BYTES,
        [real["bytes"]],
        [
            f"{seconds} s at 1 kHz, stand-in: scripted source, 20 us a call; {real['skipped']:.0f} slots skipped",
            f"a file of {real['records']:.0f} records, so its fixed few KB weigh",
        ],
    )
    run_8 = _in_a_process("gpus", 0.2 if quick else 2.0)
    from powersample.store.writer import GROUP_ROWS

    group_kb = _in_a_process("footer", 4000)["group_kb"]
    all_records = 48 * 3600 * RATE_HZ * 24
    all_groups = all_records / GROUP_ROWS
    more_mb = max(0.0, all_groups - run_8["groups"]) * group_kb / 1e3
    yield Figure(
        "endurance",
        "resident memory, peak while 48 hours of 8 GPUs with 3 power channels at 1 kHz are converted and merged",
        "MB",
        Bar("<=", round(MEMORY_MB + 8 * ring_mb, 1)),
        [8 * ring_mb + max(run_8["convert_peak_mb"], run_8["merge_peak_mb"] + more_mb)],
        [
            f"{MEMORY_MB} MB plus eight rings of {ring_mb:.1f} MB, which are added to what was measured",
            f"carried on from {run_8['records'] / 1e6:.0f} M records: {run_8['convert_peak_mb']:.0f} MB while "
            "converting, "
            f"{run_8['merge_peak_mb']:.0f} while merging {run_8['groups']:.0f} row groups, and pyarrow's "
            f"{group_kb:.1f} KB for each of {all_groups:.0f} until the file is closed",
            f"conversion {run_8['records'] / run_8['converted_s'] / 1e6:.1f}, merge "
            f"{run_8['records'] / run_8['merged_s'] / 1e6:.1f} M records/s: 48 hours are merged in "
            f"{all_records / run_8['records'] * run_8['merged_s'] / 60:.0f} minutes",
        ],
    )
    yield Figure(
        "endurance",
        "records recorded and converted in a second",
        "records/s",
        None,
        [run["records_per_s"]],
        [
            f"lane and spool done after {run['lane_s']:.0f} s, conversion after {run['converted_s']:.0f} s, "
            f"one file after {run['total_s']:.0f} s"
        ],
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.endurance", description=long_run.__doc__)
    parser.add_argument("part", choices=["long", "jitter", "real", "gpus", "footer"])
    parser.add_argument("numbers", type=float, nargs="+")
    asked = parser.parse_args()
    parts: dict[str, Any] = {
        "long": long_run,
        "jitter": jittered,
        "real": real_time,
        "gpus": eight_gpus,
        "footer": footer,
    }
    with tempfile.TemporaryDirectory(prefix="powersample-bench-") as folder:
        print(json.dumps(parts[asked.part](Path(folder), *asked.numbers)))


if __name__ == "__main__":
    main()
