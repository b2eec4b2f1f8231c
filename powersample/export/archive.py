# SPDX-License-Identifier: Apache-2.0
"""A profile of torch and a trace in one TAR that Perfetto opens as one timeline, by a manifest that relates the clocks.

Chrome's JSON has no clock, and Perfetto takes its numbers as they are: of a manifest only versions of 2026 know. So the
power's instants are told in torch's numbers, ns after the profile's `baseTimeNanoseconds`, and lie right without one.
The manifest (version 1, perfetto.dev/docs/reference/perfetto-manifest) says the same: it pins what torch calls 0 to
that instant of the recording's CLOCK_REALTIME.
"""

from __future__ import annotations

import json
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

from powersample.export.chrome import refuse_apart
from powersample.export.perfetto_trace import perfetto_chunks
from powersample.export.selection import Selection, headline
from powersample.formats.torch_trace import TorchTrace

TORCH, POWER, MANIFEST = "torch.json", "power.pftrace", "perfetto_manifest.json"
PIECE = 1 << 20


def archive_chunks(chosen: Selection, torch: tuple[str, TorchTrace], folder: Path | None = None) -> Iterator[bytes]:
    """Yield the archive in pieces.

    Args:
        chosen: what is written.
        torch: a profile's text and what is known of it (`readers.read_torch`).
        folder: where the power's part lies until its size is known; None is the system's for temporary files.

    Raises:
        InvalidArgument: as `refuse_apart`.
        NotSupported: the package `perfetto` is not installed.
    """
    refuse_apart(chosen, torch[1])
    return _chunks(chosen, torch, perfetto_chunks(chosen, torch[1].base_ns), folder)


def manifest(chosen: Selection, base_ns: int) -> str:
    """Return the manifest's JSON."""
    clocks = {"sync_to": {"file": POWER, "clock": "REALTIME"}, "offset_ns": base_ns}
    told: dict[str, object] = {"version": 1, "files": [{"path": TORCH, "clocks": clocks}, {"path": POWER}]}
    said = headline(chosen.trace)
    if said:
        told["attributes"] = {"powersample.simulated": said}
    return json.dumps({"perfetto_manifest": told}, indent=1)


def _chunks(
    chosen: Selection, torch: tuple[str, TorchTrace], power: Iterator[bytes], folder: Path | None
) -> Iterator[bytes]:
    text, known = torch
    with tempfile.TemporaryFile(dir=folder) as file:
        file.writelines(power)
        size = file.tell()
        file.seek(0)
        yield from _member(MANIFEST, iter([manifest(chosen, known.base_ns).encode()]))
        yield from _member(POWER, iter(lambda: file.read(PIECE), b""), size)
    yield from _member(TORCH, iter([text.encode("utf-8", "surrogateescape")]))
    yield bytes(2 * tarfile.BLOCKSIZE)


def _member(name: str, pieces: Iterator[bytes], size: int | None = None) -> Iterator[bytes]:
    if size is None:
        whole = b"".join(pieces)
        size, pieces = len(whole), iter([whole])
    info = tarfile.TarInfo(name)
    info.size = size
    yield info.tobuf(tarfile.GNU_FORMAT)
    yield from pieces
    yield bytes(-size % tarfile.BLOCKSIZE)
