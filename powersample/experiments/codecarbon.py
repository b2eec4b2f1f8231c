# SPDX-License-Identifier: Apache-2.0
"""CodeCarbon and powersample around one workload on a simulated node, both against the node's exact truth."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from powersample.analysis import totals, window_energies
from powersample.analysis.codecarbon import Asked, Corrected, Uncaptured, correct
from powersample.experiments.baselines.codecarbon_process import CodecarbonProcess, CodecarbonRun
from powersample.model import Window
from powersample.report.table import DASH, number, table
from powersample.session import measure
from powersample.session.simulate import make_node

if TYPE_CHECKING:
    from powersample.sim import Node

PAPER_NODE, PAPER_GIB = "paper-node", 2048.0  # arXiv 2505.15631: 2 TB
GPU_W, CPU_W = (146.0, 305.0), 230.0  # its range of a training's power; what feeds the GPUs is assumed
BATCH_S, SHARE = 0.4, 0.7
AFTER_S = 0.4  # of recording behind CodeCarbon's end: what sensors publish of it
WIDTH = 110
SCHEMA_VERSION = 1
GROUPS = {"gpu": "gpu_j", "cpu": "cpu_j", "dram": "dram_j", "wall": "node_j"}

Load = Callable[["Node"], None]


@dataclass(frozen=True, slots=True)
class CodecarbonLive:
    """What came of it; energies in J over CodeCarbon's own account of the run.

    Attributes:
        node: the node's name.
        run: what CodeCarbon said.
        interval_s: its measure_power_secs.
        time_scale: how many times as quick as real ones fans and supply were.
        truth_j: exact, by "gpu", "cpu", "dram", "wall".
        ours_j: powersample's, likewise; the wall's by the node's meter. None where it could not be told.
        low_j, high_j: their 95 % interval, of the wall.
        corrected: CodeCarbon put right; None without an uncaptured power.
        void: why the truth cannot be trusted; None when it can.
    """

    node: str
    run: CodecarbonRun
    interval_s: float
    time_scale: float
    truth_j: Mapping[str, float]
    ours_j: Mapping[str, float | None]
    low_j: float | None
    high_j: float | None
    corrected: Corrected | None
    void: str | None

    @property
    def theirs_j(self) -> dict[str, float | None]:
        """CodeCarbon's own; what it takes for memory is a constant."""
        row = self.run.row
        return {"gpu": row.gpu_j, "cpu": row.cpu_j, "dram": row.ram_j, "wall": row.total_j}

    def error_pct(self, joules: float | None, group: str = "wall") -> float | None:
        """Return how far a figure is from the truth, %; None where there is none."""
        truth_j = self.truth_j[group]
        return None if joules is None or self.void or not truth_j else 100 * (joules / truth_j - 1)

    def as_json(self) -> dict[str, Any]:
        """Return the verb's JSON object."""
        theirs = self.theirs_j
        fixed = self.corrected
        return {
            "schema_version": SCHEMA_VERSION,
            "simulated": True,
            "simulated_node": self.node,
            "codecarbon_version": self.run.row.version,
            "cpu_mode": self.run.cpu_mode,
            "interval_s": self.interval_s,
            "time_scale": self.time_scale,
            "duration_s": self.run.row.duration_s,
            "truth_j": dict(self.truth_j),
            "truth_void": self.void,
            "powersample_j": dict(self.ours_j),
            "powersample_low_j": self.low_j,
            "powersample_high_j": self.high_j,
            "codecarbon_j": theirs,
            "error_pct": {
                "powersample": {group: self.error_pct(self.ours_j[group], group) for group in GROUPS},
                "codecarbon": {group: self.error_pct(theirs[group], group) for group in GROUPS},
                "corrected": {name: self.error_pct(joules) for name, joules in _corrections(fixed)},
            },
            "corrected_j": dict(_corrections(fixed)),
            "model_low_j": None if fixed is None else fixed.model_low_j,
            "model_high_j": None if fixed is None else fixed.model_high_j,
            "refused": [] if fixed is None else [f"{one.code} {one.what}" for one in fixed.refused],
            "emissions_csv": self.run.text,
            "notes": list(self.run.notes),
        }

    def __str__(self) -> str:
        return "\n".join(_lines(self))


def _corrections(fixed: Corrected | None) -> list[tuple[str, float | None]]:
    if fixed is None:
        return []
    middle = None if fixed.low_j is None or fixed.high_j is None else (fixed.low_j + fixed.high_j) / 2
    named = [("low", fixed.low_j), ("high", fixed.high_j), ("middle", middle)]
    return [*named, ("load known", fixed.load_j), ("model", fixed.model_j)]


def training(node: Node) -> None:
    """Give a node GPUs at the paper's least and greatest power in turns, and CPUs that feed them."""
    start_ns = time.monotonic_ns() + 50_000_000
    for gpu in range(len(node.gpu_uuids)):
        node.load_wave(gpu, GPU_W[1] - 10 * gpu, GPU_W[0], period_s=BATCH_S, duty=SHARE, start_ns=start_ns)
    for name in node.devices:
        if name.startswith("package-") and "." not in name:
            node.load_script(name, [(0.0, CPU_W)], start_ns=start_ns)


def codecarbon_live(
    simulate: str = PAPER_NODE,
    *,
    seconds: float = 5.0,
    interval_s: float = 0.1,
    time_scale: float = 20.0,
    added: Uncaptured | None = None,
    load: str | None = None,
    work: Load = training,
    memory_gib: float | None = None,
    **settings: Any,
) -> CodecarbonLive:
    """Let both measure a workload.

    Args:
        simulate: the node, as of `record --simulate`; it needs CPUs.
        seconds: how long, from CodeCarbon's begin.
        interval_s: CodeCarbon's measure_power_secs; the paper takes 0.1 s.
        time_scale: the node's fans and supply are so many times as quick, so that a short load is a steady one.
        added: the uncaptured power by which CodeCarbon is corrected; None: it is not.
        load: the load of `added` that is taken as known.
        work: gives the node its load.
        memory_gib: the node's; None is the paper's for its node, this machine's for others.
        settings: of `Node`.

    Raises:
        NotSupported: CodeCarbon cannot run here; says why.
    """
    if memory_gib is None and simulate.startswith(PAPER_NODE):
        memory_gib = PAPER_GIB
    with (
        make_node(simulate, time_scale=time_scale, **settings) as node,
        CodecarbonProcess(node, interval_s, memory_gib) as tracker,
    ):
        work(node)
        with measure(simulate=node, meters="sim") as recording:
            tracker.start()
            time.sleep(seconds)
            said = tracker.stop()
            time.sleep(AFTER_S)
        window = Window("CodeCarbon's run", said.start_ns, said.end_ns)
        names = {"wall": ["wall"], "gpu": [f"gpu{gpu}" for gpu in range(len(node.gpu_uuids))]}
        packages = [name for name in node.devices if name.startswith("package-")]
        names |= {
            "cpu": [one for one in packages if "." not in one],
            "dram": [one for one in packages if ".dram" in one],
        }
        truth_j = {
            group: sum(node.truth_j(name, window.start_ns, window.end_ns) for name in devices)
            for group, devices in names.items()
        }
        void = "the simulated load came late" if node.truth_state()["truth_void"] else None
        name = node.name
    (measured,) = window_energies(recording.trace, [window])
    sums = totals(measured, window)
    wall = next((one.energy for one in measured if one.primary and one.energy.domain == "wall"), None)
    return CodecarbonLive(
        node=name,
        run=said,
        interval_s=interval_s,
        time_scale=time_scale,
        truth_j=truth_j,
        ours_j={group: sums[key] for group, key in GROUPS.items()},
        low_j=wall.low_j if wall else None,
        high_j=wall.high_j if wall else None,
        corrected=None if added is None else correct(said.row, added, Asked(said.cpu_mode, interval_s, None, load)),
        void=void,
    )


def _lines(live: CodecarbonLive) -> Iterator[str]:
    row = live.run.row
    yield f"SIMULATED NODE {live.node}, not a measurement"
    yield ""
    yield (
        f"CodeCarbon {row.version} itself, every {live.interval_s:g} s, CPU by {live.run.cpu_mode}, around "
        f"{number(row.duration_s)} s of load"
    )
    if live.time_scale != 1:
        yield f"fans and supply {live.time_scale:g} times as quick as real ones, so that a short load is a steady one"
    yield ""
    yield from table(("mean W of", "truth", "powersample", "error %", "CodeCarbon", "error %"), _parts(live), "lrrrrr")
    if live.low_j is not None and live.high_j is not None and row.duration_s:
        low, high = (number(joules / row.duration_s) for joules in (live.low_j, live.high_j))
        yield f"powersample's wall is the node's simulated meter: 95 %: {low} to {high} W."
    fixed = live.corrected
    if fixed is not None and fixed.refused:
        for one in fixed.refused:
            yield from wrap(f"CodeCarbon is not corrected: {one.code} {one.what}. {one.fix}", WIDTH)
    elif fixed is not None and row.duration_s:
        yield ""
        yield "CodeCarbon corrected by the uncaptured power:"
        yield from table(
            ("", "mean W", "95 %", "error %"),
            [
                (
                    name,
                    number(joules / row.duration_s),
                    _sure(name, fixed, row.duration_s),
                    _pct(live.error_pct(joules)),
                )
                for name, joules in _corrections(fixed)
                if joules is not None
            ],
            "lrrr",
            indent=2,
        )
    for note in (*live.run.notes, *([f"no errors are told: {live.void}"] if live.void else [])):
        yield from wrap(f"note: {note}", WIDTH)


def _parts(live: CodecarbonLive) -> Sequence[tuple[str, ...]]:
    seconds = live.run.row.duration_s or float("nan")

    def watts(joules: float | None) -> str:
        return DASH if joules is None else number(joules / seconds)

    words = {"gpu": "GPUs", "cpu": "CPUs", "dram": "memory (CodeCarbon: a constant)", "wall": "the wall"}
    return [
        (
            words[group],
            watts(live.truth_j[group]),
            watts(live.ours_j[group]),
            _pct(live.error_pct(live.ours_j[group], group)),
            watts(live.theirs_j[group]),
            _pct(live.error_pct(live.theirs_j[group], group)),
        )
        for group in GROUPS
    ]


def _sure(name: str, fixed: Corrected, seconds: float) -> str:
    if name != "model" or fixed.model_low_j is None or fixed.model_high_j is None:
        return ""
    return f"{number(fixed.model_low_j / seconds)} to {number(fixed.model_high_j / seconds)}"


def _pct(value: float | None) -> str:
    return DASH if value is None else f"{value:+.2f}"
