# SPDX-License-Identifier: Apache-2.0
"""The simulated node by itself, for other people's programs: it runs, and its exact energies are told at the end."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from powersample import errors
from powersample.capture.defaults import VARIABLES
from powersample.session.child import Child, until_asked_to_end
from powersample.session.simulate import apply_load

if TYPE_CHECKING:
    from powersample.sim import Node

SETTLE_S = 0.06  # loads have begun by then


@dataclass(frozen=True, slots=True)
class NodeRun:
    """A run of a simulated node.

    Attributes:
        start_ns: CLOCK_MONOTONIC; with a program its start.
        end_ns: The same, its end.
        truth_j: Exact energy in J of everything that has one, by name; sums such as "node" included.
        state: `Node.truth_state` at the end.
        exit_code: The program's; None without one.
    """

    start_ns: int
    end_ns: int
    truth_j: Mapping[str, float]
    state: Mapping[str, Any]
    exit_code: int | None


def environment_of(node: Node) -> dict[str, str]:
    """Return what a program's environment needs to meet `node` in place of this machine's devices.

    The search path is for any program; this package's own look for a driver first, and find none here.
    """
    roots = {VARIABLES["nvml_lib"]: str(node.library)}
    if node.sysfs is not None:
        roots[VARIABLES["sysfs"]] = str(node.sysfs)
    return node.environment() | roots


def run_node(
    node: Node,
    loads: Sequence[str],
    *,
    command: Sequence[str] = (),
    duration_s: float | None = None,
    ready: Callable[[], None] = lambda: None,
) -> NodeRun:
    """Let `node` draw its loads until `command` ends; without one for `duration_s`, or until SIGINT, SIGTERM or SIGHUP.

    Must be called in the main thread. Signals sent to this process reach the program.

    Args:
        node: The node; it stays open.
        loads: As `apply_load`; none is "cpu" with a command, else "idle".
        command: Program and arguments; it finds the node in its environment.
        duration_s: Seconds; None for no end of its own.
        ready: Called once, when the node draws its loads, signals end it and the program is about to start.

    Raises:
        InvalidArgument: A load or the duration is outside its range.
        CommandNotFound: The command cannot be started.
    """
    if duration_s is not None and not duration_s > 0:
        raise errors.InvalidArgument(f"a duration of {duration_s} s: it must be above 0")
    if not command:
        return _run_for(node, loads or ("idle",), duration_s, ready)
    with Child(command, {**os.environ, **environment_of(node)}) as child:
        for load in loads or ("cpu",):
            apply_load(node, load, child.pid)
        time.sleep(SETTLE_S)
        ready()
        start_ns = time.monotonic_ns()
        child.release()
        code = child.wait(lambda: None)
        return _told(node, start_ns, code)


def _run_for(node: Node, loads: Sequence[str], duration_s: float | None, ready: Callable[[], None]) -> NodeRun:
    with until_asked_to_end() as asked:
        for load in loads:
            apply_load(node, load, 0)
        ready()
        start_ns = time.monotonic_ns()
        asked.wait(duration_s)
        return _told(node, start_ns, None)


def _told(node: Node, start_ns: int, code: int | None) -> NodeRun:
    end_ns = time.monotonic_ns()
    truth_j = {name: node.truth_j(name, start_ns, end_ns) for name in node.devices}
    return NodeRun(start_ns, end_ns, truth_j, node.truth_state(), code)
