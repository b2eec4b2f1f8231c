# SPDX-License-Identifier: Apache-2.0
"""A torch.cuda without a GPU: a queue that runs behind the program, and events timed by a clock of its own.

Its clock has an offset and a drift against the host's, and tells differences as CUDA does: float32 ms, in steps of
half a microsecond. `fails` names calls that raise.
"""

import time
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np


class VirtualTime:
    """A host clock that moves when it is told to, and a little with every reading."""

    def __init__(self, call_ns=1000):
        self.ns, self.call_ns = 10**12, call_ns

    def now_ns(self):
        self.ns += self.call_ns
        return self.ns

    def sleep(self, seconds):
        self.ns += round(seconds * 1e9)


class Event:
    """`t_ns` is its true instant on the host's clock."""

    made = 0

    def __init__(self, gpu):
        self.gpu, self.t_ns = gpu, None
        gpu.events += 1

    def record(self, stream=None):
        self.gpu.call("record")
        now = self.gpu.now_ns()
        self.t_ns = now + self.gpu.launch_ns if stream else max(now + self.gpu.launch_ns, self.gpu.busy_until_ns)

    def query(self):
        self.gpu.call("query")
        return self.gpu.now_ns() >= self.t_ns

    def synchronize(self):
        self.gpu.call("synchronize")
        self.gpu.waited_ns += max(0, self.t_ns - self.gpu.now_ns())
        self.gpu.wait_until(self.t_ns)

    def elapsed_time(self, later):
        self.gpu.call("elapsed_time")
        steps = [round(event.t_ns * (1 + self.gpu.drift) / 500) for event in (self, later)]
        return float(np.float32((steps[1] - steps[0]) * 500 / 1e6))


class Gpu:
    """Takes kernels into a queue; stands for torch.cuda too."""

    def __init__(self, clock=None, *, drift=0.0, launch_ns=2000):
        self._clock, self.drift, self.launch_ns = clock, drift, launch_ns
        self.busy_until_ns = self.events = self.waited_ns = 0
        self.fails, self.capturing = set(), False
        self.now_ns = clock.now_ns if clock else time.monotonic_ns

    def launch(self, seconds):
        """Queue a kernel; return its true begin and end."""
        begin = max(self.now_ns(), self.busy_until_ns)
        self.busy_until_ns = begin + round(seconds * 1e9)
        return begin, self.busy_until_ns

    def wait_until(self, t_ns):
        left_s = (t_ns - self.now_ns()) / 1e9
        if left_s > 0:
            (self._clock.sleep if self._clock else time.sleep)(left_s)

    def call(self, name):
        if name in self.fails:
            raise RuntimeError("CUDA error: device lost\nmore about it")

    # ---- torch.cuda ----

    def is_initialized(self):
        return True

    def is_current_stream_capturing(self):
        return self.capturing

    def current_device(self):
        return 0

    def device_count(self):
        return 1

    def memory_reserved(self, _index):
        return 1

    def synchronize(self, _index):
        self.call("synchronize")
        self.wait_until(self.busy_until_ns)

    def Stream(self, _index):  # noqa: N802 (torch's name)
        return "a stream of its own"

    def Event(self, *, enable_timing):  # noqa: N802
        assert enable_timing
        return Event(self)

    @contextmanager
    def device(self, _index):
        yield

    def as_torch(self):
        return SimpleNamespace(cuda=self)
