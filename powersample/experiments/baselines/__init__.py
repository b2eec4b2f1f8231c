# SPDX-License-Identifier: Apache-2.0
"""The ways power is usually sampled, re-created behind one interface to be compared with."""

from powersample.doctor.nvidia_debs import find_nvidia_smi
from powersample.experiments.baselines.base import Account, Baseline, Samples, mean_j, trapezoid_j
from powersample.experiments.baselines.nvidia_smi import NvidiaSmiLoop
from powersample.experiments.baselines.pynvml_thread import PynvmlInstant, PynvmlThread
from powersample.experiments.baselines.registry import BASELINES, Target, baselines_for
from powersample.experiments.baselines.spawn import EaHasTracer, NvidiaSmiSpawn

__all__ = [
    "BASELINES",
    "Account",
    "Baseline",
    "EaHasTracer",
    "NvidiaSmiLoop",
    "NvidiaSmiSpawn",
    "PynvmlInstant",
    "PynvmlThread",
    "Samples",
    "Target",
    "baselines_for",
    "find_nvidia_smi",
    "mean_j",
    "trapezoid_j",
]
