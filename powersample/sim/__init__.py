# SPDX-License-Identifier: Apache-2.0
"""The simulated node: boards whose true power is known exactly, seen through sensors like the real ones."""

from powersample.sim.faults import Latency
from powersample.sim.node import Node
from powersample.sim.profile import Profile, load_profile, profile_names
from powersample.sim.scenario import read_script

__all__ = ["Latency", "Node", "Profile", "load_profile", "profile_names", "read_script"]
