# SPDX-License-Identifier: Apache-2.0
"""The points of a calibration, from the journal of an interrupted one to the last: recording, loads, ladder."""

from __future__ import annotations

import math
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from powersample import errors
from powersample.capture import Plan
from powersample.experiments.calibrate.climb import DISTURBED, TRIES, Climb, Progress, Taken
from powersample.experiments.calibrate.disturbance import Watch
from powersample.experiments.calibrate.ground import Ground, MachineGround, NodeGround
from powersample.experiments.calibrate.journal import Journal, counted
from powersample.experiments.calibrate.plan import FULL, GPU, Rung, Times, ladder, parse_rungs
from powersample.experiments.calibrate.seen import WALL, RecordingSeen
from powersample.experiments.calibrate.surroundings import look
from powersample.fit.follows import unsure
from powersample.model import OperatingPoint, host_of, simulated_key
from powersample.session.meters import Asked
from powersample.session.recording import NO_METERS, Recording
from powersample.session.syncing import check

if TYPE_CHECKING:
    from powersample.model import MeterInfo, Trace
    from powersample.session.syncing import SyncPlan
    from powersample.sim import Node

COARSE = ("dcmi", "redfish")  # meters that a management controller is: labelled so
R = TypeVar("R")

JOURNAL = ".journal"
SCRATCH = "powersample-calibrate-"


@dataclass(frozen=True, slots=True)
class Asking:
    """What a calibration is to be.

    Attributes:
        plan: what the sampler records, as `record` will.
        meters: at the wall.
        rungs: loads beside idle.
        seed: of their order.
        times: of each point.
        tries: how often a rung that was spoiled is measured in all.
        sync: bursts at the begin, by which the meters' clocks are told; None: their latencies bound them.
        output: where the result is kept; None: the user's own folder, by host or simulated node.
        restart: whether points of an interrupted calibration are thrown away.
        max_temperature_c: of this machine's CPUs, at which it ends; None for no such rule.
        proc: what stands for /proc.
    """

    plan: Plan = field(default_factory=Plan)
    meters: Asked = NO_METERS
    rungs: tuple[Rung, ...] = field(default_factory=lambda: parse_rungs(FULL))
    seed: int = 0
    times: Times = field(default_factory=Times)
    tries: int = TRIES
    sync: SyncPlan | None = None
    output: Path | None = None
    restart: bool = False
    max_temperature_c: float | None = None
    proc: Path = Path("/proc")


@dataclass(frozen=True, slots=True)
class Points:
    """What was measured.

    Attributes:
        points: in the order in which they were taken.
        meters: at the wall.
        host: what sets the machine apart, as `model.host_of`.
        simulated: the simulated node's name and seeds; None of a machine.
        rates_hz: of the sampler's lanes, by name.
        path: where a calibration of it belongs.
        notes: what has to be told.
        truth_w: on a simulated node the wall's mean and the exact one of every point that was taken now.
    """

    points: tuple[OperatingPoint, ...]
    meters: tuple[MeterInfo, ...]
    host: Mapping[str, Any]
    simulated: str | None
    rates_hz: Mapping[str, float]
    path: Path
    notes: tuple[str, ...]
    truth_w: tuple[tuple[float, float], ...] = ()

    @property
    def source(self) -> str:
        """Whether an instrument told the wall's power, or a management controller: "meter" or "bmc"."""
        return "bmc" if any(info.kind in COARSE for info in self.meters) else "meter"


def ground_of(node: Node | None, max_temperature_c: float | None = None) -> Ground:
    """Return what works: a simulated node's devices, or this machine's."""
    return MachineGround(max_temperature_c) if node is None else NodeGround(node)


def lacks(asking: Asking, ground: Ground) -> Mapping[str, str]:
    """Return why loads cannot run, by kernel: GPUs that work and are not recorded would look like fans."""
    if asking.plan.gpus is None:
        return ground.lacks
    return {
        **ground.lacks,
        GPU: "it works on all GPUs, and --gpus records some; choose by CUDA_VISIBLE_DEVICES instead",
    }


def take_points(
    asking: Asking,
    finish: Callable[[Points], R],
    node: Node | None = None,
    *,
    ground: Ground | None = None,
    tell: Callable[[Progress], None] = lambda _: None,
    note: Callable[[str], None] = lambda _: None,
) -> R:
    """Climb the ladder; interrupted, it goes on where it was when it is called again.

    Args:
        asking: what it is to be.
        finish: makes of the points what is returned; until it has, they are kept for another try.
        node: the simulated node; None calibrates this machine.
        ground: what works; None: as `ground_of`.
        tell: told how it stands.
        note: told what has to be said at once, a sentence each.

    Raises:
        InvalidArgument: no meter measures the wall.
        NothingMeasurable: no component is measured, so that nothing could be added to.
        MeterLost: the meter did not come back; what was measured is kept.
        StateError: it is being calibrated, or another calibration was interrupted, or one with other GPUs or meters.
        Everything that a `Recording` and the loads raise.
    """
    if asking.sync is not None:
        check(asking.sync, len(asking.meters.addresses))
    ground = ground or ground_of(node, asking.max_temperature_c)
    rungs, notes = ladder(asking.rungs, lacks(asking, ground), asking.seed)
    for text in notes:
        note(text)
    path = asking.output or _own_file(node)
    with Journal(path.with_name(path.name + JOURNAL), _about(asking, rungs, node), restart=asking.restart) as journal:
        points = [OperatingPoint.from_json(one) for one in journal.kept]
        todo = remaining(rungs, points)
        if points:
            note(f"{journal.path} keeps {counted(len(points))}, {len(todo)} more to be measured")
        with _recording(asking, node, journal) as recording:
            recording.start()
            walls = _walls(recording)
            _refuse_foreign(asking, recording, walls, node)
            journal.match_devices(_devices(recording, walls))
            trouble = _synchronise(recording, asking)
            truth_w: list[tuple[float, float]] = []

            def keep(taken: Taken) -> None:
                points.append(point_of(taken))
                journal.add(points[-1].as_json())
                if node is not None:
                    span = taken.window.start_ns, taken.window.end_ns
                    truth_w.append((taken.means.wall_w, node.truth_j(WALL, *span) / taken.window.duration_s))

            sysfs = Path(asking.plan.sysfs or "/sys")
            climb = Climb(
                ground,
                RecordingSeen(recording),
                asking.times.fitting(max((info.cycle_s for info in walls if math.isfinite(info.cycle_s)), default=0.0)),
                _watch(asking.proc, note) if node is None else None,
                lambda: look(sysfs),
                tell,
                asking.tries,
            )
            try:
                climb.run(todo, keep, trouble)
            except BaseException:
                trouble.append(f"{journal.path} keeps {counted(len(points))}: the same command goes on from there")
                raise
            finally:
                for text in trouble:
                    note(text)
            trace = recording.so_far()
        made = finish(
            Points(
                tuple(points),
                tuple(walls),
                host_of(trace.meta),
                _simulated(trace, walls, node),
                {lane.name: lane.rate_hz for lane in trace.lanes if lane.rate_hz is not None},
                path,
                (*notes, *trouble),
                tuple(truth_w),
            )
        )
        journal.remove()
    return made


def remaining(rungs: tuple[Rung, ...], points: list[OperatingPoint]) -> list[Rung]:
    """Return what is left of a ladder: idle comes again before and after, as another day's."""
    done = {point.name for point in points}
    if not done:
        return list(rungs)
    left = [one for one in rungs[1:-1] if one.name not in done]
    return [rungs[0], *left, rungs[-1]] if left else [rungs[-1]]


def point_of(taken: Taken) -> OperatingPoint:
    """Return the operating point of a rung, with what its fans had still to do at the wall.

    One that others disturbed is no point of the load that it names.
    """
    means, window = taken.means, taken.window
    return OperatingPoint(
        name=taken.rung.name,
        kernel=taken.rung.kernel,
        level=taken.rung.level,
        components_w=dict(means.components_w),
        components_u_w=dict(means.components_u_w),
        wall_w=means.wall_w + taken.to_come_w,
        wall_u_w=math.hypot(means.wall_u_w, taken.to_come_u_w),
        accuracy_w=means.accuracy_w if math.isfinite(means.accuracy_w) else None,
        duration_s=window.duration_s,
        start_ns=window.start_ns + time.time_ns() - time.monotonic_ns(),
        temperature_c=taken.around.temperature_c,
        fan_rpm=taken.around.fan_rpm,
        marks=(*taken.marks, *unsure(means.components_u_w.get(group, math.nan) for group in means.components_w)),
        used=DISTURBED not in taken.marks,
    )


# ---- before ----------------------------------------------------------------------------------------------------


def _own_file(node: Node | None) -> Path:
    from powersample.store.calibrations import calibration_file, calibrations_folder, this_host

    folder = calibrations_folder()
    if folder is None:
        raise errors.AccessDenied("nothing tells where your home is", "Set HOME, or name a file: -o FILE.")
    return calibration_file(folder, this_host(), None if node is None else simulated_key(node.describe()))


def _about(asking: Asking, rungs: tuple[Rung, ...], node: Node | None) -> dict[str, Any]:
    """Return what points must share to be of one calibration; a simulated node's folder is another each time."""
    from powersample.store.calibrations import this_host

    plan = asking.plan if node is None else replace(asking.plan, nvml_library=None, sysfs=None, devfs=None)
    return {
        "host": this_host(),
        "simulated": None if node is None else simulated_key(node.describe()),
        "ladder": [one.name for one in rungs],
        "times": asdict(asking.times),
        "sampling": asdict(plan),
        "meters": [str(one) for one in asking.meters.addresses],
    }


def _devices(recording: Recording, walls: list[MeterInfo]) -> dict[str, Any]:
    """Return what a point's powers are read from, where it tells: a card or meter that was swapped is another."""
    found = recording.inventory
    return {
        "GPUs": [one.uuid for one in found.devices],
        "driver": found.driver,
        "meters at the wall": [f"{one.maker} {one.model} {one.serial}".strip() for one in walls],
    }


@contextmanager
def _recording(asking: Asking, node: Node | None, journal: Journal) -> Iterator[Recording]:
    """Give a recording that leaves nothing behind; what one that was killed has left goes, too."""
    if journal.scratch is not None and journal.scratch.name.startswith(SCRATCH):
        shutil.rmtree(journal.scratch, ignore_errors=True)
    scratch = Path(tempfile.mkdtemp(prefix=SCRATCH))
    journal.note_scratch(scratch)
    try:
        recording = Recording(asking.plan, scratch / "run.parquet", node=node, meters=asking.meters)
        try:
            yield recording
        finally:
            recording.discard()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _walls(recording: Recording) -> list[MeterInfo]:
    """Return the meters at the wall, where there is something to calibrate."""
    walls = [info for info in recording.meters.recorder.infos if info.channels[0].domain == WALL]
    if not walls:
        raise errors.InvalidArgument(
            "no meter measures the wall, and the rest can only be told from that",
            "Add --meter ADDRESS, or give a data sheet's figures: --p-idle W --p-busy LOAD=W.",
        )
    found = recording.inventory
    if not (found.devices or found.packages):
        raise errors.NothingMeasurable(
            "\n  ".join(["neither GPUs nor CPUs are measured: the wall is then all there is.", *found.notes])
        )
    return walls


def _refuse_foreign(asking: Asking, recording: Recording, walls: list[MeterInfo], node: Node | None) -> None:
    """Refuse to keep for this machine what simulated devices, that are no node's of ours, say."""
    simulated = recording.inventory.simulated or any(info.simulated for info in walls)
    if node is None and simulated and asking.output is None:
        raise errors.InvalidArgument(
            "these devices, or this meter, are a simulated node's, and no calibration of this machine comes of them",
            "Use --simulate NODE, or name a file for it: -o FILE.",
        )


def _watch(proc: Path, note: Callable[[str], None]) -> Watch | None:
    try:
        return Watch(proc)
    except (errors.NotSupported, errors.BadFormat) as error:
        note(f"whether others work here meanwhile cannot be told: {error}")
        return None


def _synchronise(recording: Recording, asking: Asking) -> list[str]:
    time.sleep(recording.margin_s)
    if asking.sync is None:
        return []
    recording.synchronise_by(asking.sync)
    recording.burst(lambda: False)
    return recording.tell_clocks()


def _simulated(trace: Trace, walls: list[MeterInfo], node: Node | None) -> str | None:
    """Return the simulated node's name; also where somebody else's node was taken for this machine."""
    if node is not None:
        return simulated_key(node.describe())
    return "elsewhere" if trace.simulated or any(info.simulated for info in walls) else None
