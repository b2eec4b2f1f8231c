# SPDX-License-Identifier: Apache-2.0
"""The ways power is usually sampled, re-created behind one interface to be compared with."""

from powersample.doctor.nvidia_debs import find_nvidia_smi
from powersample.experiments.baselines.base import Baseline, Samples, trapezoid_j
from powersample.experiments.baselines.nvidia_smi import NvidiaSmiLoop
from powersample.experiments.baselines.pynvml_thread import PynvmlThread

__all__ = ["Baseline", "NvidiaSmiLoop", "PynvmlThread", "Samples", "find_nvidia_smi", "trapezoid_j"]
