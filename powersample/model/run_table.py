# SPDX-License-Identifier: Apache-2.0
"""Published energies of whole runs: a row a run, no samples."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class RunRow:
    """One run as its tool published it; None where it did not say.

    Attributes:
        name: of the run.
        start_ns: ns since 1970, of a clock without a zone unless the tool says otherwise.
        duration_s: of the run.
        energies_j: by domain: gpu, cpu, dram; each as measured.
        total_j: the tool's own total, PUE included where it adds one.
        power_w: mean or last power by domain, as the tool gives it.
        epochs: how many the run trained.
        pue: the factor that the tool says it applies.
        mode: what the tool says it tracked: "machine", "process".
        limit_w: the power limit that the GPU had.
    """

    name: str
    start_ns: int | None
    duration_s: float | None
    energies_j: Mapping[str, float] = field(default_factory=dict)
    total_j: float | None = None
    power_w: Mapping[str, float] = field(default_factory=dict)
    epochs: float | None = None
    pue: float | None = None
    mode: str | None = None
    limit_w: float | None = None


@dataclass(frozen=True, slots=True)
class RunTable:
    """Runs by one tool.

    Attributes:
        tool: that measured them.
        version: its version; None when it does not say.
        rows: a row a run.
        sample_s: spacing of the samples behind the energies, where it is known.
        notes: what was wrong with the file, with counts.
    """

    tool: str
    version: str | None
    rows: tuple[RunRow, ...]
    sample_s: float | None = None
    notes: tuple[str, ...] = ()
