# SPDX-License-Identifier: Apache-2.0
"""The simulated node: GPUs and CPUs whose true power is known exactly, seen through sensors like the real ones."""

from powersample.sim.cpu import cpu_profile_names, load_cpu_profile
from powersample.sim.faults import Latency
from powersample.sim.node import Node
from powersample.sim.profile import Profile, load_profile, profile_names
from powersample.sim.scenario import read_script
from powersample.sim.supply import node_profile_names

__all__ = [
    "Latency",
    "Node",
    "Profile",
    "cpu_profile_names",
    "load_cpu_profile",
    "load_profile",
    "node_profile_names",
    "profile_names",
    "read_script",
]
