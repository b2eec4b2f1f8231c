# SPDX-License-Identifier: Apache-2.0
"""Turns a spool into one Parquet file, while it is written or after a kill.

A Parquet file without its footer is worthless, so each closed part first becomes a small Parquet file of
its own inside the spool, synced before the raw part goes. At the end the small files are copied, channel
by channel, into the output, which gets its name only when it is whole; then the spool goes. A kill at any
point loses nothing that was on disk.
"""

import glob
import os
import shutil
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

from powersample.errors import AccessDenied, BadFormat, DiskFull, InvalidArgument, PowerSampleError
from powersample.model import Series
from powersample.store.lock import SpoolLock
from powersample.store.spool import Part, RawPart, Survey, open_part, part_numbers, survey
from powersample.store.stored import PathLike, StoredTrace, load
from powersample.store.writer import NEW, PART_ROWS, TraceWriter, exists, give_back_memory

DONE = ".done"  # of a folder whose recording is complete, and which is being removed
SAMPLER_ENDS_S = 5.0  # the executable notices within half a second that its recorder was killed, and writes its end


class Converter:
    """Converts one spool. Not thread-safe: `step` and `finish` come from one thread at a time.

    Args:
        spool_dir: the spool.
        out_path: the Parquet file to be.
        replace: replace an existing file.

    Raises:
        OutputExists: the file is there and `replace` is False.
        AccessDenied: its folder is missing.
    """

    def __init__(self, spool_dir: PathLike, out_path: PathLike, *, replace: bool = False) -> None:
        self.spool = Path(spool_dir)
        self.output = Path(out_path)
        self._replace = replace
        if self.output.exists() and not replace:
            raise exists(self.output)
        if not self.output.parent.is_dir():
            raise AccessDenied(f"{self.output.parent} is not a folder", "Create it first.")

    def step(self) -> int:
        """Convert the parts that are closed; return how many there were.

        Raises:
            DiskFull: no space is left; the raw parts stay.
            BadFormat: a part is malformed; it stays.
        """
        closed = [number for number in part_numbers(self.spool) if self._raw(number, ".part").exists()]
        for number in closed:
            self._convert(number)
        if closed:
            give_back_memory()
        return len(closed)

    def finish(self, extra: Iterable[Series] = (), **meta: object) -> Path:
        """Convert what is left, write the output and remove the spool. The sampler must have stopped.

        A part that cannot be read is left out, named in the metadata's `trouble`, and then the spool stays.

        Args:
            extra: readings from elsewhere, such as a simulated node's truth; in order per channel.
            meta: added to the stored metadata.

        Returns:
            The output's path.

        Raises:
            OutputExists: the output has appeared meanwhile.
            DiskFull: no space is left for the output; the spool stays.
        """
        for number in part_numbers(self.spool):
            try:
                self._convert(number)
            except BadFormat:
                continue  # the survey below names it
            except DiskFull:
                break  # here; the output may lie elsewhere, and takes raw parts as well
        found = survey(self.spool)
        found.meta |= meta
        with TraceWriter(self.output, replace=self._replace, kept=found.keep == "changes") as writer:
            for series in self._parts(found):
                writer.add(series)
            for series in extra:
                found.channels.setdefault(series.channel.name, series.channel)
                writer.add(series)
            writer.close(found.description(self.spool))
        if not found.trouble:
            _sweep(self.spool)
            _remove(self.spool)
        return self.output

    def _raw(self, number: int, suffix: str) -> Path:
        return self.spool / f"part-{number:06d}{suffix}"

    def _convert(self, number: int) -> None:
        raws = [self._raw(number, suffix) for suffix in (".part", ".open")]
        done = self._raw(number, ".parquet")
        if not done.exists():
            part, description = open_part(self.spool, number)
            assert isinstance(part, RawPart)
            with TraceWriter(done, replace=True, kept=part.kept, group_rows=PART_ROWS) as writer:
                for series in part.series():
                    writer.add(series)
                writer.close(description)
        for raw in raws:
            raw.unlink(missing_ok=True)

    def _parts(self, found: Survey) -> Iterator[Series]:
        """Yield everything, in order per channel: quiet channels part by part, then each busy one through all parts.

        So the output has few and long row groups, and whoever reads one channel of it reads on. Parts are opened anew
        each time: two days of eight GPUs leave two thousand, and their indexes held would be 30 MB.
        """
        busy: set[str] = set().union(*(self._part(number).alone() for number in found.numbers))
        quiet = {name: channel for name, channel in found.channels.items() if name not in busy}
        for number in found.numbers:
            yield from self._part(number).shared(quiet)
        for name in sorted(busy):
            for number in found.numbers:
                yield from self._part(number).chunks(found.channels[name], None, None)

    def _part(self, number: int) -> Part:
        return open_part(self.spool, number)[0]


def _remove(spool: Path) -> None:
    """Remove a spool whose output is complete; trouble with that is worth a warning and no more."""
    aside = spool.with_name(f"{spool.name}.{os.getpid()}{DONE}")
    try:
        spool.rename(aside)  # in one step, so that a program's late mark finds no file instead of a half-removed folder
        shutil.rmtree(aside)
    except OSError as error:
        left = aside if aside.exists() else spool
        warnings.warn(
            f"powersample: the recording is complete; {left} could not be removed ({error.strerror})",
            RuntimeWarning,
            stacklevel=3,
        )


def _sweep(spool: Path) -> bool:
    """Remove what is left of spools whose removal was killed; return whether there was any."""
    left = list(spool.parent.glob(f"{glob.escape(spool.name)}.*{DONE}"))
    for path in left:
        shutil.rmtree(path, ignore_errors=True)
    return bool(left)


def _is_written(found: Survey, out: Path) -> bool:
    """Whether `out` holds all of this very spool: its recorder was killed before it could remove the spool."""
    try:
        trace = load(out)
    except PowerSampleError:
        return False
    return (
        not found.trouble
        and trace.anchors[:1] == tuple(sorted(found.anchors, key=lambda anchor: anchor.monotonic_ns)[:1])
        and trace.meta.get("started_ns") == found.meta.get("started_ns")
        and all(trace.channels.get(name) and trace.extent(name) == one for name, one in found.extents.items())
    )


def recover(spool_dir: PathLike, out: PathLike | None = None, *, replace: bool = False) -> StoredTrace:
    """Turn what a killed recording left into a Parquet file.

    Args:
        spool_dir: the spool, OUT.spool.
        out: the file to write; None takes OUT.
        replace: replace an existing file.

    Returns:
        The recovered trace; its metadata has `recovered` set. Where the recording was killed only after its output was
        complete, that output, and the rest of the spool goes.

    Raises:
        InputNotFound, BadFormat: there is no spool.
        OutputExists: the file is there and `replace` is False.
        InvalidArgument: the spool's name does not tell the output's.
        StateError: it is still being recorded.
        AccessDenied: it, or the folder of `out`, may not be written.
    """
    directory = Path(spool_dir)
    if out is None:
        if directory.suffix != ".spool":
            raise InvalidArgument(f"{directory} does not end in .spool", "Name the output with -o OUT.")
        out = directory.with_suffix("")
    new = Path(out).with_name(Path(out).name + NEW)
    if not directory.exists() and _sweep(directory) and Path(out).exists():
        return load(out)
    survey(directory, scan=False)  # that it is a spool, before anything is made inside
    with SpoolLock(directory, patience_s=SAMPLER_ENDS_S):
        if Path(out).exists() and not replace and _is_written(survey(directory), Path(out)):
            new.unlink(missing_ok=True)
            _remove(directory)
            return load(out)
        found: Survey = survey(directory, scan=False)
        if found.trouble and not found.numbers:
            raise BadFormat(f"{directory}: no part can be read; {found.trouble[0]}")
        return load(Converter(directory, out, replace=replace).finish(recovered=True))
