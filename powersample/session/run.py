# SPDX-License-Identifier: Apache-2.0
"""`measure()`: a recording around a block of Python, with windows marked now and integrated later."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from powersample import errors
from powersample._native import api
from powersample.capture import ROOTS, Plan, plan_with_defaults
from powersample.marks import MarkWriter, dismiss, enlist
from powersample.session.meters import Asked, asked_meters
from powersample.session.recording import NO_METERS, Recording
from powersample.session.windows import PAUSED, Windows

if TYPE_CHECKING:
    from powersample.analysis import Energies, Holistic, Training
    from powersample.model import Calibration, Energy, Window
    from powersample.report import Report
    from powersample.sim import Node
    from powersample.store import StoredTrace


def measure(
    *,
    simulate: str | Node | None = None,
    load: str = "cpu",
    output: str | os.PathLike[str] | None = None,
    rate_hz: float | None = None,
    mode: str = "paced",
    sources: str | Sequence[str] | None = None,
    gpus: str | int | Sequence[str | int] | None = None,
    nvml_library: str | os.PathLike[str] | None = None,
    sysfs: str | os.PathLike[str] | None = None,
    devfs: str | os.PathLike[str] | None = None,
    cpu: int | None = None,
    fifo: int | None = None,
    keep: str = "all",
    meters: str | Sequence[str] | None = None,
    replace: bool = False,
) -> Run:
    """Return a recording to be used as a context manager around the work to be measured.

    What is left out of `sources`, `nvml_library`, `sysfs` and `meters`, which tell where this machine's devices are,
    comes from the configuration file if that has it (see `powersample record --help`); nothing else does, so that a
    program measures alike for everybody.

    Args:
        simulate: A profile ("h100", "h100x4", "h100x4+amd_milanx2", "h100+none" ...) or a `powersample.sim.Node`:
            measure the simulated node, GPUs and CPUs, instead of this machine. Its results say so wherever they appear.
        load: Of a node given by profile: "cpu" (this process's own CPU use), "idle", "script:FILE", "trace:FILE" or
            "wave:WATTS,WATTS,PERIOD_S,SHARE". A `Node` object keeps whatever load it was given.
        output: Parquet file to write at the end, with the spool beside it meanwhile. None keeps both in a folder
            under $TMPDIR (else /tmp, which may be memory: about 32 bytes a reading) for the life of the `Run` and its
            trace; name an output for a long recording.
        rate_hz: Passes a second of every lane; None lets the cost of the device calls decide, at most 1 kHz.
        mode: "paced", "tight" for back-to-back reads, or "follow" for a few polls around each update of a GPU's power:
            as sharp as 1 kHz, for a twentieth of its calls. A lane that cannot follow is paced; the report says why.
        sources: Ways to read devices, as a sequence or comma-separated: "nvml" (GPUs), "rapl" (CPU and memory
            energy), "hwmon" (boards, other GPUs, firmware meters, batteries); None is all. One that has nothing is a
            note in the trace as long as another has something. A simulated node brings its own.
        gpus: NVML indices or UUIDs, as a sequence or comma-separated; None takes what CUDA_VISIBLE_DEVICES shows, else
            all.
        nvml_library: Path of libnvidia-ml; None is $POWERSAMPLE_NVML_LIB, else the driver's.
        sysfs: Where RAPL and hwmon are looked for; None is $POWERSAMPLE_SYSFS_ROOT, else /sys.
        devfs: Where cpu/N/msr is; None is /dev, or nowhere beside another sysfs.
        cpu: Pin the lanes to this CPU.
        fifo: Run the lanes under SCHED_FIFO at this priority, 1 to 99, before all ordinary programs. Where the kernel
            refuses they run without, and the report says so.
        keep: "all", or "changes" for long recordings: of readings that repeat themselves the first and the last are
            stored, and how many lie between; energies, updates and gaps come out the same.
        meters: External meters to record beside, each "[NAME=]KIND:WHERE[,KEY=VALUE...]": "lmg450:/dev/ttyUSB0",
            "lmg600:tcp://HOST", "shelly:http://HOST", or "sim", the simulated node's own. One that cannot be used is
            an error; one of the configuration's, a note.
        replace: Replace an existing `output`.

    Returns:
        A `Run`; nothing is opened before it is entered.

    Raises:
        InvalidArgument: An option is outside its range.
        ConfigurationError: The configuration file cannot be understood.
    """
    given = {
        "sources": None if sources is None else _names(sources),
        "nvml_library": None if nvml_library is None else os.fspath(nvml_library),
        "sysfs": None if sysfs is None else os.fspath(sysfs),
        "devfs": None if devfs is None else os.fspath(devfs),
        "gpus": None if gpus is None else _names(gpus),
        "rate_hz": rate_hz,
        "mode": mode,
        "cpu": cpu,
        "fifo": fifo,
        "keep": keep,
    }
    asked: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    texts = [meters] if isinstance(meters, str) else meters
    if simulate is not None:  # it brings devices of its own
        plan, wanted = Plan(**asked), asked_meters(texts, None)
    else:
        from powersample.store.config import load_configuration

        configuration = load_configuration()
        plan = plan_with_defaults(asked, configuration, keys=ROOTS)
        wanted = asked_meters(texts, configuration)
    return Run(plan, simulate=simulate, load=load, output=output, replace=replace, meters=wanted)


def _names(value: str | int | Sequence[str | int]) -> tuple[str, ...]:
    if isinstance(value, str):  # a sequence of letters is never meant
        return tuple(name.strip() for name in value.split(",") if name.strip())
    return (str(value),) if isinstance(value, int) else tuple(str(one) for one in value)


class Run(Windows):
    """A recording in progress or done. Get one from `measure()`; see `Windows` for what is marked in it."""

    def __init__(
        self,
        plan: Plan,
        *,
        simulate: str | Node | None,
        load: str,
        output: str | os.PathLike[str] | None,
        replace: bool,
        meters: Asked = NO_METERS,
    ) -> None:
        super().__init__()
        self._plan, self._simulate, self._load, self._replace = plan, simulate, load, replace
        self._meters = meters
        self._output = None if output is None else Path(output)
        self._scratch: _Scratch | None = None
        self._node: Node | None = None
        self._recording: Recording | None = None
        self._trace: StoredTrace | None = None
        self._run_mark = self._started_ns = 0
        self._marked_before: str | None = None
        self._pid = os.getpid()
        self._source: list[str] = []
        self._state = threading.RLock()  # a signal handler may stop what its own thread is just about to stop
        self._starting = False

    # ---- life --------------------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Open devices and start recording.

        Raises:
            NothingMeasurable: No device; the message says what was tried and how to go on without.
            StateError: Started before.
            OutputExists, AccessDenied: The output cannot be written.
        """
        with self._state:
            if self._starting or self._recording is not None or self._trace is not None:
                raise errors.StateError("this Run was started before; call measure() for another")
            recording: Recording | None = None
            self._starting = True
            try:
                plan, node = self._plan, self._make_node()
                if node is not None:
                    from powersample.session.simulate import simulated_plan

                    plan = simulated_plan(plan, node)
                output = self._output_path()
                recording = Recording(plan, output, node=node, replace=self._replace, meters=self._meters)
                recording.start()
                time.sleep(recording.margin_s)
                writer = MarkWriter(recording.marks)
                self._run_mark = writer.begin("run", "auto")
            except BaseException:  # a Ctrl-C too: no lane may run on that nobody can stop
                if recording is not None:
                    recording.discard()
                self._close_node()
                raise
            finally:
                self._starting = False
            self._pid, self._recording = os.getpid(), recording
            self._started_ns = time.monotonic_ns()
            self._source = ["marks", "pid", str(self._pid)]
            self._enter(writer)
            self._marked_before = enlist(writer)
        return self

    def stop(self) -> None:
        """End the recording and write the trace; harmless when repeated or in a forked child."""
        with self._state:
            if self._pid != os.getpid():
                return
            recording = self._recording
            writer, self._writer = self._writer, None  # no thread may mark what is being finished
            if recording is None or writer is None:  # a signal handler's stop() in the midst of this one: it is ending
                return
            dismiss(writer, self._marked_before)
            try:
                writer.end(self._run_mark)
                writer.close()
                time.sleep(recording.margin_s)
                self._trace = recording.finish()
                self._trace.keep = self._scratch  # who returns the trace out of the run's reach can still read it
            except BaseException as error:
                recording.abandon()
                error.add_note(recording.what_is_left())
                raise
            finally:
                self._recording = None
                self._close_node()
        for trouble in self._trace.meta.get("trouble", ()):
            warnings.warn(f"powersample: {trouble}", RuntimeWarning, stacklevel=2)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    def _output_path(self) -> Path:
        if self._output is not None:
            return self._output
        self._scratch = _Scratch()
        return self._scratch.path / "run.parquet"

    def _make_node(self) -> Node | None:
        if self._simulate is None:
            return None
        if not isinstance(self._simulate, str):
            return self._simulate
        from powersample.session.simulate import apply_load, make_node

        self._node = make_node(self._simulate)
        apply_load(self._node, self._load, 0)
        return self._node

    def _close_node(self) -> None:
        if self._node is not None:
            self._node.close()
            self._node = None

    # ---- results -----------------------------------------------------------------------------------------------

    @property
    def trace(self) -> StoredTrace:
        """The trace: of the whole run once it has ended, until then of what was recorded so far."""
        if self._trace is not None:
            return self._trace
        if self._recording is None:
            raise errors.StateError("this Run has not recorded anything yet")
        if (writer := self._writer) is not None:
            writer.find_out()
        return self._recording.so_far()

    @property
    def windows(self) -> tuple[Window, ...]:
        """The windows so far, in the order of their beginning; the first is "run"."""
        return self.trace.windows

    def energy(self, window: str | Window = "run", device: str | None = None, *, domain: str | None = None) -> Energy:
        """Return the energy of one device and domain over a window, by its primary channel; or of all together.

        While the run goes on this waits until the sensor's update after the window has been recorded (at most 0.3 s;
        beside a slow meter two of its cycles).

        Args:
            window: A window's name, if only one bears it, or only one of this process's; or the window.
            device: "gpu0", "package-0" or a UUID; None when there is only one GPU; "total" is the node's GPUs,
                packages and memories together. It has no joules where one of them is missing, or known for a part of
                the window.
            domain: "gpu", "module", "package", "dram", ...; None is "gpu", of another device what it measures itself,
                and of "total" everything. Of "total" "gpu", "package" or "dram" is all devices of that domain together.

        Raises:
            InvalidArgument: No such window, device or domain, or several.
            StateError: The window is still open.
        """
        from powersample.analysis import energy

        trace, found = self.settled(window)
        return energy(trace, found, device, domain=domain)

    def energies(
        self, windows: str | Iterable[Window], device: str | None = None, *, domain: str | None = None
    ) -> Energies:
        """Return the energies of every window of a name, in one pass over the recording; it waits as `energy` does.

        `len`, indices and loops give each window's `Energy`; `joules`, `low_j`, `high_j` and `duration_s` are arrays;
        `mean()` and `sum()` have intervals; `to_pandas()` is a table.

        Args:
            windows: A name that any number of windows bears, or a pattern of names: "step", "epoch *"; or windows. Of
                those that several ranks mark, this process's; while the run goes on, those that have ended.
            device: As `energy`.
            domain: As `energy`.

        Raises:
            InvalidArgument: No such window, device or domain, or several devices.
            StateError: None of the windows has ended yet.
        """
        from powersample.analysis import energies, windows_called
        from powersample.model.energy import OPEN

        def choose(trace: StoredTrace) -> list[Window]:
            if not isinstance(windows, str):
                return list(windows)
            found = windows_called(trace, windows, self._is_mine)
            ended = [one for one in found if self._recording is None or OPEN not in one.flags]
            if not ended:
                raise errors.StateError(f"no window called {windows!r} has ended yet", "End one first.")
            return ended

        trace, found = self._settled(choose)
        return energies(trace, found, device, domain=domain)

    def unpaused(self, window: str | Window = "run") -> Training:
        """Return the energies of a window, or a lap, without the spans in which the run was paused.

        Of every device and of all together, each interval a sum over the spans. While the run goes on it waits as
        `energy` does.

        Args:
            window: As `energy`.

        Raises:
            InvalidArgument: No such window, or several.
            StateError: The window is still open.
        """
        from powersample.analysis import training

        trace, found = self.settled(window)
        return training(trace, found, [one for one in trace.windows if one.name == PAUSED and self._is_mine(one)])

    def holistic(
        self,
        window: str | Window = "run",
        calibration: Calibration | None = None,
        *,
        load_like: str | None = None,
        anyway: bool = False,
    ) -> Holistic:
        """Return the energy of the whole node over a window: what counters saw, and what a calibration adds.

        While the run goes on it waits as `energy` does. Args and Raises as `powersample.analysis.holistic`, and:

        Raises:
            StateError: The window is still open.
        """
        from powersample.analysis import holistic

        trace, found = self.settled(window)
        return holistic(trace, found, calibration, load_like=load_like, anyway=anyway)

    def __repr__(self) -> str:
        if self._trace is not None:
            return f"<Run, ended: {self._trace!r}>"
        node = "" if self._simulate is None else f"SIMULATED {getattr(self._simulate, 'name', self._simulate)}, "
        output = "" if self._output is None else f", to {self._output.name}"
        if self._recording is None:
            return f"<Run {node}not started{output}>"
        from powersample.model import amount

        return f"<Run {node}recording for {amount((time.monotonic_ns() - self._started_ns) / 1e9, 4)} s{output}>"

    def _repr_html_(self) -> str | None:
        """Return the table of the report, as a notebook shows it, once the run has ended; else there is its `repr`."""
        return None if self._trace is None else self.report()._repr_html_()

    def report(self) -> Report:
        """Return the report over all windows; `print` it, or take `.data` for the JSON form."""
        from powersample.report import build

        return build(self.trace)

    def settled(self, window: str | Window) -> tuple[StoredTrace, Window]:
        """Return a trace that holds all that a window's energies need, and the window; waits as `energy` does.

        Raises:
            InvalidArgument: No such window, or several.
            StateError: The window is still open.
        """
        from powersample.analysis import find_window
        from powersample.model.energy import OPEN

        def choose(trace: StoredTrace) -> list[Window]:
            found = find_window(trace, self._mine(trace, window))
            if self._recording is not None and OPEN in found.flags:
                raise errors.StateError(f"window {found.name!r} is still open", "End it first.")
            return [found]

        trace, found = self._settled(choose)
        return trace, found[0]

    def _settled(self, choose: Callable[[StoredTrace], list[Window]]) -> tuple[StoredTrace, list[Window]]:
        """Return a trace that holds all that the energies of some windows need, and the windows."""
        from powersample.model.energy import UNRESOLVED

        trace = self.trace
        found = choose(trace)
        if (writer := self._writer) is not None and any(UNRESOLVED in one.flags for one in found):
            writer.find_out(wait=True)
            trace = self.trace
            found = choose(trace)
        if self._recording is not None and found:
            missing_s = self._recording.margin_s - (api.now_ns() - max(one.end_ns for one in found)) / 1e9
            if missing_s > 0:
                time.sleep(missing_s)
                trace = self.trace
        return trace, found

    def _mine(self, trace: StoredTrace, window: str | Window) -> str | Window:
        """Return, of windows that several ranks call the same, this process's."""
        own = [one for one in trace.windows if one.name == window and self._is_mine(one)]
        return own[0] if len(own) == 1 else window

    def _is_mine(self, window: Window) -> bool:
        """Whether this process marked it; other ranks, and programs started from here, mark in the same recording."""
        return window.source.split()[:3] == self._source


class _Scratch:
    """A temporary folder, for as long as this object lives."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="powersample-"))
        weakref.finalize(self, _remove_own, self.path, os.getpid())


def _remove_own(path: Path, owner: int) -> None:
    if os.getpid() == owner:  # a forked child that exits must leave its parent's recording alone
        shutil.rmtree(path, ignore_errors=True)
