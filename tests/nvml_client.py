# SPDX-License-Identifier: Apache-2.0
"""NVIDIA's own Python binding in a process of its own, whose NVML is a simulated node's."""

import json
import os
import subprocess
import sys
from typing import Any

from powersample.sim import Node

PRELUDE = """
import json, sys, time
import pynvml as nv
def code(call, *arguments):
    try:
        call(*arguments)
    except nv.NVMLError as error:
        return [type(error).__name__, error.value]
    return None
def done(**values):
    print(json.dumps(values))
"""


def child_environment(node: Node) -> dict[str, str]:
    return {**os.environ, **node.environment()}


def client(environment: dict[str, str], text: str) -> dict[str, Any]:
    """Run `text` in a new Python with pynvml as `nv`; returns what it hands to done()."""
    command = [sys.executable, "-c", PRELUDE + text]
    child = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert child.returncode == 0, child.stderr
    result: dict[str, Any] = json.loads(child.stdout)
    return result


def first_gpu(node: Node, text: str) -> dict[str, Any]:
    """Run `text` with NVML initialised and `gpu` the handle of GPU 0."""
    return client(child_environment(node), "nv.nvmlInit()\ngpu = nv.nvmlDeviceGetHandleByIndex(0)\n" + text)
