# SPDX-License-Identifier: Apache-2.0
"""One recording from spool to Parquet, shared by `measure` and `record`.

Order matters for what a kill leaves: the spool with its session file exists before the first lane runs, closed parts
are converted while it goes on, and the spool is removed only once the output is complete.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shlex
import shutil
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from powersample import errors
from powersample._native import api
from powersample.capture import Plan, Recorder, discover, recorder_for, sources_of
from powersample.session.about import describe, known_sensors
from powersample.session.meters import Asked, Meters

if TYPE_CHECKING:
    from powersample.model import Series
    from powersample.session.syncing import Syncing, SyncPlan
    from powersample.sim import Node
    from powersample.store import Converter, StoredTrace
    from powersample.store.lock import SpoolLock
    from powersample.store.samplers import Registration, Sampler
    from powersample.store.spool import Known

# Recording goes on around every window: what covers an edge is published up to a period and a window later.
MARGIN_S = 0.3
CONVERT_EVERY_S = 2.0
REST_S = 1.0  # after a burst, beside the margin
NO_METERS = Asked()


def spool_of(output: Path) -> Path:
    """Return the spool directory that belongs to `output`."""
    return output.with_name(output.name + ".spool")


def check_output(output: Path, *, replace: bool) -> None:
    """Raise when `output` could not be written at the end, before anything is recorded.

    Raises:
        OutputExists: The file, or a spool of an earlier recording, is there.
        AccessDenied: Its folder is missing or not writable.
    """
    if output.exists() and not replace:
        raise errors.OutputExists(
            f"{output} exists; choose another name, or add --force (in Python replace=True) to replace it"
        )
    folder = output.parent
    if not folder.is_dir():
        raise errors.AccessDenied(f"{folder} is not a folder; create it first")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise errors.AccessDenied(f"{folder} is not writable for this user; record into another folder")
    spool = spool_of(output)
    if spool.exists():
        from powersample.store.lock import holder

        if pid := holder(spool):
            raise errors.OutputExists(f"{output} is being recorded by process {pid} right now; choose another name")
        raise errors.OutputExists(
            f"{spool} is left from a recording that was killed; "
            f"get it back with `powersample recover {shlex.quote(str(spool))}`, or remove it"
        )


class Recording:
    """A spool, its recorder and its conversion.

    Args:
        plan: What to record. With `node`, its library is used.
        output: The Parquet file to write at the end.
        node: The simulated node, or None on real devices.
        in_process: True for lanes in this process, False for the executable.
        replace: Replace an existing output.
        command: Program and arguments; stored as the program's name and a hash unless `store_command`.
        store_command: Store the arguments too.
        meters: The meters to record beside.
    """

    def __init__(
        self,
        plan: Plan,
        output: Path,
        *,
        node: Node | None = None,
        in_process: bool = True,
        replace: bool = False,
        command: Sequence[str] = (),
        store_command: bool = False,
        meters: Asked = NO_METERS,
    ) -> None:
        check_output(output, replace=replace)
        self.plan, self.output, self.node = plan, output, node
        self.meters = Meters(meters, node)
        self.inventory = discover(plan, others=bool(meters.addresses))
        self.spool = spool_of(output)
        self.marks = self.spool / "marks"
        self._replace = replace
        self._meta = describe(plan, self.inventory, node, command, store_command)
        self.recorder: Recorder = recorder_for(plan, self.inventory, self.spool, in_process=in_process)
        self._background: threading.Thread | None = None
        self._ending = threading.Event()
        self._converter: Converter | None = None
        self._lock: SpoolLock | None = None
        self._place: Registration | None = None
        self._made = False
        self._known: Known | None = None
        self._trouble: list[str] = []
        self._find_calibration()
        self._syncing: Syncing | None = None

    def _find_calibration(self) -> None:
        """Put what is kept of this node into the metadata: what is calibrated later must not change old energies."""
        from powersample.store.calibrations import calibration_for

        try:
            found = calibration_for(self._meta)
        except errors.PowerSampleError as error:
            self._meta["notes"].append(f"what is kept of this node's calibration is passed over: {error}")
            return
        if found is not None:
            calibration, path = found
            self._meta["calibration"] = {"origin": os.fspath(path), **calibration.as_json()}

    def start(self) -> None:
        """Create the spool, open the meters and start the lanes; nothing is left behind when that fails.

        Raises:
            OutputExists: Another recording of the same output has begun meanwhile.
            StateError: Another process of this job samples this node.
            PowerSampleError: A meter cannot be used; see `meters.contract.Meter.open`.
        """
        from powersample.store import Converter
        from powersample.store.lock import SpoolLock
        from powersample.store.samplers import Registration

        try:
            self.spool.mkdir()
        except FileExistsError:
            self.meters.close()
            raise errors.OutputExists(f"{self.output} is being recorded already; choose another name") from None
        self._made = True
        try:
            self._lock = SpoolLock(self.spool, patience_s=1.0)  # who looks whether it is held holds it for a moment
            self.meters.open()
            self._meta["notes"] += self.meters.notes
            if not (self.meters.recorder.infos or sources_of(self.inventory)):
                raise errors.NothingMeasurable("\n  ".join(["nothing here can be measured.", *self._meta["notes"]]))
            self._write_meta()
            self.marks.touch()
            self._place = Registration(self._sampler(), self.marks)
            self._converter = Converter(self.spool, self.output, replace=self._replace)
            self.recorder.start(keep=(self._lock.fd,))
            self.meters.recorder.start(self.spool)
            self._background = threading.Thread(
                target=self._convert, args=(self._converter,), name="powersample-convert", daemon=True
            )
            self._background.start()
        except BaseException:
            self.discard()
            raise

    def _sampler(self) -> Sampler:
        from powersample.marks import boot_id
        from powersample.marks.job import job, local_rank
        from powersample.store.samplers import Sampler

        if self.node is None:
            node = kind = f"{boot_id()} {self.plan.sysfs or '/sys'} {self.plan.nvml_library or ''}"
        else:
            node = os.fspath(self.node.directory)
            kind = f"{boot_id()} simulated {self.node.name} {self.node.describe()['seed']}"
        gpus = tuple(one.uuid for one in self.inventory.devices)
        parts = (
            *(f"package-{one.number}" for one in self.inventory.packages),
            *(one.id for one in self.inventory.chips),
        )
        return Sampler(os.getpid(), node, kind, job(), api.now_ns(), local_rank(), gpus, parts)

    def _convert(self, converter: Converter) -> None:
        while not self._ending.wait(CONVERT_EVERY_S):
            try:
                converter.step()
            except (errors.PowerSampleError, OSError, MemoryError) as error:
                # Kept raw; the end tries again and reports.
                self._trouble.append(f"converting while recording: {str(error) or 'out of memory'}")
                return

    @property
    def margin_s(self) -> float:
        """How long recording goes on before and after a window, s."""
        return max(MARGIN_S, self.meters.recorder.margin_s)

    def synchronise_by(self, plan: SyncPlan) -> float:
        """Tell the meters' clocks from bursts that `burst` makes; return how long each is, s: 0 without a meter."""
        from powersample.session.syncing import Syncing

        self._syncing = Syncing(plan, self.meters.recorder.infos, self.node)
        return self._syncing.duration_s if self.meters.recorder.infos else 0.0

    def burst(self, stop: Callable[[], bool]) -> None:
        """Make one burst of load, and rest as long as the meters need to tell of it; ends early once `stop` is true."""
        if self._syncing is not None:
            self._syncing.burst(self.margin_s + REST_S, stop)

    def tell_clocks(self) -> list[str]:
        """Tell the meters' clocks from the bursts so far, for who reads `so_far`; return what went wrong with it."""
        if self._syncing is None:
            return []
        before = len(self._meta.setdefault("trouble", []))
        self._meta.update(self._clock_fits(self._syncing))
        self._write_meta()
        return list(self._meta["trouble"][before:])

    def trouble(self) -> list[str]:
        """Return what has failed so far; the rest is recorded all the same. May be asked at any time."""
        return [text for text in (self.recorder.failure(), *self._trouble, *self.meters.recorder.trouble()) if text]

    def so_far(self) -> StoredTrace:
        """Return a trace of what has been recorded until now."""
        self.recorder.sync()
        return self._read()

    def _read(self) -> StoredTrace:
        from powersample import store
        from powersample.store.spool import Known

        if self._known is None:
            self._known = Known()
        return store.read_spool(self.spool, self._known)

    def finish(self, **more: object) -> StoredTrace:
        """Stop the lanes, write the output and open it.

        Args:
            more: Added to the stored metadata, such as the program's exit code.
        """
        from powersample import store

        assert self._converter is not None
        assert self._lock is not None
        self._stop()
        end_ns = api.now_ns()
        self._meta.update(more, ended_ns=end_ns, trouble=self.trouble())
        if self._place is not None and (others := self._place.others()):
            named = {one.uuid: f"gpu{one.index}" for one in self.inventory.devices}
            self._meta["other_samplers"] = [
                {
                    "pid": one.pid,
                    "started_ns": one.started_ns,
                    "shared": [named.get(part, part) for part in self._place.me.shared(one)],
                }
                for one in others
            ]
        extra: Iterable[Series] = ()
        if self.node is not None:
            from powersample.session.simulate import truth_series

            self._meta["simulated_node"].update(self.node.truth_state())
            extra = truth_series(self.node, self._meta["started_ns"], end_ns)
        self._meta["sensor_models"] = self._sensor_models()
        if self._syncing is not None:
            self._meta.update(self._clock_fits(self._syncing))
        self._write_meta()
        self._converter.finish(extra)
        self._lock.release()
        return store.load(self.output)

    def _sensor_models(self) -> dict[str, Any]:
        """Return what is known today of every channel's sensor: what a later table says must not change old energies.

        What was measured of this very board under this driver goes over the table.
        """
        with contextlib.suppress(errors.PowerSampleError):  # a spool that cannot be read is the conversion's to tell
            models, notes = known_sensors(self._read())
            self._meta["notes"] += notes
            return {name: model.as_json() for name, model in models.items()}
        return {}

    def _clock_fits(self, syncing: Syncing) -> dict[str, Any]:
        from powersample.session.syncing import told_by_bursts

        self._meta["trouble"] += syncing.trouble
        self._meta["notes"] += syncing.notes
        try:
            ends_ns = self.meters.true_ends_ns()
            return told_by_bursts(self._read(), self.meters.recorder.infos, syncing, ends_ns)
        except Exception as error:  # the recording is worth more than the fit
            self._meta["trouble"].append(f"the meters' clocks could not be told: {error or type(error).__name__}")
            return {}

    def abandon(self) -> None:
        """Stop without an output; the spool stays for `powersample recover`."""
        self._stop()
        if self._lock is not None:
            self._lock.release()

    def discard(self) -> None:
        """Stop and leave nothing behind."""
        self.abandon()
        if self._made:  # else it is another recording's
            shutil.rmtree(self.spool, ignore_errors=True)

    def _stop(self) -> None:
        self._ending.set()
        self.recorder.stop()
        self.meters.close()
        if self._background is not None:
            self._background.join()
        if self._place is not None:
            self._place.release()

    def what_is_left(self) -> str:
        """Say where the recording is that could not be finished, and how to get it."""
        if not self.spool.exists():
            return f"the recording is complete in {self.output}"
        return f"the recording is in {self.spool}; get it with `powersample recover {shlex.quote(str(self.spool))}`"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        if kind is not None:
            self.abandon()

    def _write_meta(self) -> None:
        temporary = self.spool / "session.json.new"
        try:
            temporary.write_text(json.dumps(self._meta, indent=1), encoding="utf-8")
            temporary.replace(self.spool / "session.json")
        except OSError as error:
            temporary.unlink(missing_ok=True)
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise errors.DiskFull(f"no space left in {self.spool}", "Free space there.") from error
            raise
