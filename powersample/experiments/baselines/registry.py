# SPDX-License-Identifier: Apache-2.0
"""All baselines by name, pointed at a board."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from powersample.errors import InvalidArgument
from powersample.experiments.baselines.base import Baseline
from powersample.experiments.baselines.carbontracker_thread import CarbontrackerThread
from powersample.experiments.baselines.codecarbon_tracker import CodecarbonTracker
from powersample.experiments.baselines.nvidia_smi import NvidiaSmiLoop
from powersample.experiments.baselines.pynvml_thread import CudaBindingsThread, PynvmlInstant, PynvmlThread
from powersample.experiments.baselines.spawn import EaHasTracer, NvidiaSmiSpawn
from powersample.experiments.baselines.zeus_monitor import ZeusMonitor


@dataclass(frozen=True, slots=True)
class Target:
    """The board that methods are pointed at.

    Attributes:
        library: Path of the NVML library; None takes the driver's.
        environment: A child's whole environment, in which its NVML is that library.
        gpu: NVML index.
        nvidia_smi: Path of NVIDIA's program; None looks on PATH and in the cache.
        meaning: What PowerUsage tells on this board and driver; "" when unknown.
    """

    library: str | os.PathLike[str] | None = None
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    gpu: int = 0
    nvidia_smi: str | os.PathLike[str] | None = None
    meaning: str = ""


BASELINES: Mapping[str, Callable[[Target], Baseline]] = MappingProxyType(
    {
        "pynvml-thread": lambda at: PynvmlThread(at.library, at.gpu, meaning=at.meaning),
        "pynvml-instant": lambda at: PynvmlInstant(at.library, at.gpu),
        "cuda-bindings": lambda at: CudaBindingsThread(at.library, at.gpu, meaning=at.meaning),
        "nvidia-smi-spawn": lambda at: NvidiaSmiSpawn(at.nvidia_smi, at.environment, at.gpu, meaning=at.meaning),
        "nvidia-smi-lms": lambda at: NvidiaSmiLoop(at.nvidia_smi, at.environment, at.gpu, meaning=at.meaning),
        "ea-has-tracer": lambda at: EaHasTracer(at.nvidia_smi, at.environment, at.gpu, meaning=at.meaning),
        "codecarbon": lambda at: CodecarbonTracker(at.library, at.gpu, nvidia_smi=at.nvidia_smi),
        "zeus": lambda at: ZeusMonitor(at.library, at.environment, at.gpu),
        "carbontracker": lambda at: CarbontrackerThread(at.library, at.gpu, meaning=at.meaning),
    }
)


def baselines_for(target: Target, names: Iterable[str] = tuple(BASELINES)) -> list[Baseline]:
    """Return methods ready to start, each for one use, in the order asked for.

    Nothing is imported, opened or looked for before `start`, which says why one cannot run.

    Raises:
        InvalidArgument: An unknown name; lists the known ones.
    """
    wanted = list(names)
    unknown = [name for name in wanted if name not in BASELINES]
    if unknown:
        raise InvalidArgument(f"method {', '.join(unknown)} is unknown; there are {', '.join(BASELINES)}")
    return [BASELINES[name](target) for name in wanted]
