# SPDX-License-Identifier: Apache-2.0
"""A run by CodeCarbon put right: its constant for memory taken out, the power that no counter sees put in.

    E_meas = (cpu_energy + gpu_energy) / pue          PUE is inside CodeCarbon's energies
    E_x    = P_x duration                             P_x: P_idle, P_busy of a load, or a fitted model's
    E_sys  = E_meas + E_x
    emissions' = emissions pue_new E_sys / energy_consumed

Source: arXiv 2505.15631, section VI.D. What it keeps of CodeCarbon's own constant it does not say: see `MEMORY`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from powersample.formats.codecarbon import CarbonRow, memory_rule_w
from powersample.model import amount

INTERVAL_S = 15.0  # CodeCarbon's measure_power_secs by default
LEAST_INTERVALS = 10
ADDS_UP = 1e-6  # of a total: CodeCarbon adds what it writes
BELOW_IDLE = 0.9  # of what idle devices drew at the calibration: less is not all of them, or not measured

MEMORY = {
    "inside": "ram_energy is dropped: memory's power is inside the uncaptured power, as calibrated without DRAM",
    "rapl": "ram_energy is dropped: DRAM is inside cpu_energy (rapl_include_dram), and was measured at the calibration",
    "kept": "ram_energy, CodeCarbon's constant, is kept: the uncaptured power was calibrated without memory's",
}


class WallModel(Protocol):
    """What tells wall power of the components' mean powers."""

    def predict(self, components_w: Mapping[str, float], /) -> tuple[float, tuple[float, float] | None]:
        """Return wall power and its 95 % interval, W; None where the interval is unknown."""


@dataclass(frozen=True, slots=True)
class Uncaptured:
    """What no counter of CodeCarbon sees, of one machine.

    Attributes:
        idle_w: with the machine idle, W.
        busy_w: by load, W.
        origin: where both are from.
        memory: of `MEMORY`; what `idle_w`, `busy_w` and `model` were calibrated for.
        gpus: how many GPUs were calibrated; None where nobody told.
        idle_parts_w: what components drew idle, by "cpu", "gpu"; what is not known is absent.
        hull_w: (least, most) power of a component at the calibration, likewise.
        model: wall power of the components; None without one.
        simulated: the simulated node that it is of; None of a real machine.
    """

    idle_w: float
    busy_w: Mapping[str, float]
    origin: str
    memory: str = "inside"
    gpus: int | None = None
    idle_parts_w: Mapping[str, float] = field(default_factory=dict)
    hull_w: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    model: WallModel | None = None
    simulated: str | None = None

    @property
    def low_w(self) -> float:
        """The lowest that was calibrated, W."""
        return min(self.idle_w, *self.busy_w.values())

    @property
    def high_w(self) -> float:
        """The highest, W."""
        return max(self.idle_w, *self.busy_w.values())


@dataclass(frozen=True, slots=True)
class Asked:
    """What the file does not tell and the user does.

    Attributes:
        cpu_mode: "rapl", or whatever else CodeCarbon's log said; None: nobody told.
        interval_s: the run's measure_power_secs.
        gpus: how many GPUs its `gpu_ids` chose; None: all.
        load: which of `Uncaptured.busy_w` the run is most like; None where that is not known.
        pue: the factor to apply to what is corrected; None: the run's own.
    """

    cpu_mode: str | None = None
    interval_s: float = INTERVAL_S
    gpus: int | None = None
    load: str | None = None
    pue: float | None = None


@dataclass(frozen=True, slots=True)
class Remark:
    """Why a run is not corrected, or what to know of its figures: a code, what is so, and what helps."""

    code: str
    what: str
    fix: str


@dataclass(frozen=True, slots=True)
class Corrected:
    """One run; energies in J at the machine's plug, without PUE, None where they cannot be told.

    Attributes:
        row: as CodeCarbon wrote it.
        refused: why it is not corrected; empty when it is.
        remarks: what to know.
        raw_j: CodeCarbon's total, its PUE undone.
        rule_w: what the version's rule takes for the memory that it names; None where it is not known.
        measured_j: what was measured: CPU and GPU; with `memory` "kept" the constant, too.
        low_j, high_j: by the lowest and highest uncaptured power.
        load_j: by that of the load that was asked for.
        model_j: by the model.
        model_low_j, model_high_j: its 95 % interval.
        pue: the factor for emissions.
    """

    row: CarbonRow
    refused: tuple[Remark, ...]
    remarks: tuple[Remark, ...] = ()
    raw_j: float | None = None
    rule_w: float | None = None
    measured_j: float | None = None
    low_j: float | None = None
    high_j: float | None = None
    load_j: float | None = None
    model_j: float | None = None
    model_low_j: float | None = None
    model_high_j: float | None = None
    pue: float | None = None

    def emissions_kg(self, joules: float | None) -> float | None:
        """Return the run's emissions if it took so many joules at the plug."""
        row = self.row
        if joules is None or self.pue is None or row.emissions_kg is None or not row.total_j:
            return None
        return row.emissions_kg * self.pue * joules / row.total_j


def correct(row: CarbonRow, added: Uncaptured, asked: Asked) -> Corrected:
    """Return a run put right, or why it cannot be."""
    rule_w = None
    if row.major is not None and row.ram_gib is not None and row.arm is not None:
        rule_w = memory_rule_w(row.major, row.ram_gib, arm=row.arm)
    raw_j = row.total_j / row.pue if row.total_j is not None and row.pue else None
    refused = tuple(_refusals(row, added, asked))
    if refused or not row.duration_s or not row.pue or row.cpu_j is None:
        return Corrected(row, refused, raw_j=raw_j, rule_w=rule_w)
    kept_j = (row.ram_j or 0.0) if added.memory == "kept" else 0.0
    measured_j = (row.cpu_j + (row.gpu_j or 0.0) + kept_j) / row.pue
    model_j = model_low_j = model_high_j = None
    if added.model is not None:
        wall_w, between_w = added.model.predict(_components_w(row))
        model_j = wall_w * row.duration_s
        if between_w is not None:
            model_low_j, model_high_j = (watts * row.duration_s for watts in between_w)
    return Corrected(
        row,
        (),
        tuple(_remarks(row, added, rule_w)),
        raw_j=raw_j,
        rule_w=rule_w,
        measured_j=measured_j,
        low_j=measured_j + added.low_w * row.duration_s,
        high_j=measured_j + added.high_w * row.duration_s,
        load_j=None if asked.load is None else measured_j + added.busy_w[asked.load] * row.duration_s,
        model_j=model_j,
        model_low_j=model_low_j,
        model_high_j=model_high_j,
        pue=row.pue if asked.pue is None else asked.pue,
    )


def _components_w(row: CarbonRow) -> dict[str, float]:
    """Return mean powers without PUE, W; of what the run measured."""
    assert row.duration_s
    assert row.pue
    energies = {"cpu": row.cpu_j, "gpu": row.gpu_j}
    return {name: joules / row.pue / row.duration_s for name, joules in energies.items() if joules is not None}


def _refusals(row: CarbonRow, added: Uncaptured, asked: Asked) -> Iterator[Remark]:
    absent = [
        name
        for name, value in (
            ("duration", row.duration_s),
            ("cpu_energy", row.cpu_j),
            ("gpu_energy", row.gpu_j),
            ("energy_consumed", row.total_j),
            ("pue", row.pue),
        )
        if value is None or (value == 0 and name in ("duration", "energy_consumed", "pue"))
    ]
    if absent:
        what = f"{', '.join(absent)} {'is' if len(absent) == 1 else 'are'} missing or 0"
        yield Remark("PSC-MISSING", what, "Nothing stands for it.")
        return
    if row.mode != "machine":
        yield Remark(
            "PSC-MODE",
            f"tracking_mode is {row.mode or 'not told'}: a process's share of CPU and memory beside whole GPUs",
            "Run CodeCarbon with tracking_mode='machine'.",
        )
    if asked.cpu_mode != "rapl":
        yield Remark("PSC-CPU", *_cpu_mode(asked.cpu_mode))
    elif row.arm:
        yield Remark("PSC-CPU", "the machine is an ARM, and those have no RAPL", "Look at CodeCarbon's log again.")
    if row.duration_s is not None and row.duration_s < LEAST_INTERVALS * asked.interval_s:
        yield Remark(
            "PSC-SHORT",
            f"{amount(row.duration_s, 4)} s are fewer than {LEAST_INTERVALS} intervals of {asked.interval_s:g} s",
            "If measure_power_secs was another, say so: --interval S.",
        )
    parts_j = [one for one in (row.cpu_j, row.gpu_j, row.ram_j) if one is not None]
    if row.ram_j is not None and row.total_j is not None and abs(sum(parts_j) - row.total_j) > ADDS_UP * row.total_j:
        what = f"CPU, GPU and memory make {amount(sum(parts_j), 6)} J of {amount(row.total_j, 6)} J"
        yield Remark("PSC-SUM", what, "The line was changed, or holds something that is not known here.")
    yield from _too_little(row, added, asked)


def _cpu_mode(told: str | None) -> tuple[str, str]:
    if told is None:
        what = "the file does not tell whether the CPU was measured, or guessed from its load or a constant"
        return what, "Look for 'CPU Tracking Method' in CodeCarbon's log; if it is RAPL: --cpu-mode rapl."
    what = f"the CPU's energy is no measurement ({told})"
    return what, "Give CodeCarbon the RAPL files to read (powersample doctor says how), and run again."


def _too_little(row: CarbonRow, added: Uncaptured, asked: Asked) -> Iterator[Remark]:
    """Yield a refusal for GPUs that are fewer than were calibrated, and for power below that of idle devices."""
    seen = asked.gpus if asked.gpus is not None else row.gpu_count
    if added.gpus is not None and seen is not None and seen != added.gpus:
        where = "were chosen" if asked.gpus is not None else "are in the machine"
        yield Remark(
            "PSC-GPUS",
            f"{seen} GPUs {where}, {added.gpus} were calibrated",
            "Calibrate with the same ones: what the others draw would count as uncaptured.",
        )
        return
    powers_w = _components_w(row)
    for name, code, why in (
        ("gpu", "PSC-GPUS", "Was gpu_ids a part of them? The file does not tell."),
        ("cpu", "PSC-CPU", "It was not measured by RAPL, or not on the calibrated machine."),
    ):
        idle_w = added.idle_parts_w.get(name)
        if idle_w is not None and powers_w[name] < BELOW_IDLE * idle_w:
            drew, idle = amount(powers_w[name], 4), amount(idle_w, 4)
            what = f"{name.upper()}s drew {drew} W on average, idle ones {idle} W at the calibration"
            yield Remark(code, what, why)


def _remarks(row: CarbonRow, added: Uncaptured, rule_w: float | None) -> Iterator[Remark]:
    if added.low_w < added.idle_w:
        load = min(added.busy_w, key=lambda one: added.busy_w[one])
        low, idle = amount(added.low_w, 4), amount(added.idle_w, 4)
        what = f"the uncaptured power under {load}, {low} W, is below the idle node's, {idle} W"
        yield Remark(
            "PSC-BUSY", what, "No supply or fan takes less under load: look at both, and whether they are swapped."
        )
    for name, watts in _components_w(row).items():
        low_w, high_w = added.hull_w.get(name, (watts, watts))
        if not low_w <= watts <= high_w:
            calibrated = f"{amount(low_w, 4)} to {amount(high_w, 4)} W"
            what = f"{name.upper()}s drew {amount(watts, 4)} W on average; calibrated is {calibrated}"
            yield Remark("PSC-HULL", what, "Calibrate with loads like this one.")
    if row.ram_j and rule_w and row.ram_gib and row.pue and row.duration_s:
        watts = row.ram_j / row.pue / row.duration_s
        if abs(watts / rule_w - 1) > 0.05:
            rule = f"version {row.version} takes {amount(rule_w, 4)} W for {amount(row.ram_gib, 4)} GiB"
            what = f"memory was taken for {amount(watts, 4)} W; {rule}"
            yield Remark("PSC-MEMORY", what, "A forced value, or Slurm's; it is no measurement either way.")
