# SPDX-License-Identifier: Apache-2.0
"""Somebody's tool: prints the joules and seconds of GPU 0 while a program runs, by polling its power."""

import subprocess
import sys
import time

import pynvml


def main(command):
    pynvml.nvmlInit()
    gpu = pynvml.nvmlDeviceGetHandleByIndex(0)
    watts, begin = [], time.monotonic()
    process = subprocess.Popen(command)
    while process.poll() is None:
        watts.append(pynvml.nvmlDeviceGetPowerUsage(gpu) / 1e3)
        time.sleep(0.02)
    seconds = time.monotonic() - begin
    print(sum(watts) / len(watts) * seconds, seconds)


if __name__ == "__main__":
    main(sys.argv[1:])
