# SPDX-License-Identifier: Apache-2.0
"""GPU bursts through a torch and a cupy that are made up: no GPU is here."""

import sys
import time
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest

from powersample import loads
from powersample.errors import InvalidArgument, NotSupported
from powersample.loads import Pattern, gpu

SHORT = Pattern("three bursts", np.array([0.0, 0.01, 0.02, 0.03, 0.05, 0.06]))


class Card:
    """An array on a made-up GPU."""

    def __init__(self, value=1.0):
        self.value = value

    def to(self, **_):
        return Card(self.value)

    def clone(self):
        return Card(self.value)

    copy = clone

    def astype(self, _):
        return Card(self.value)

    def __eq__(self, other):
        return np.array(self.value == other.value)

    __hash__ = None


def products(value):
    """Return a product that takes a while, as on a GPU, and may go wrong: `value` is a number, or of its number."""
    rounds = iter(range(10**9))

    def multiply(_left, _right, out):
        out.value = value if isinstance(value, float) else value(next(rounds))
        time.sleep(0.0005)

    return multiply


def made_up_torch(gpus, product=7.0):
    cuda = SimpleNamespace(device_count=lambda: gpus, is_available=lambda: gpus > 0, synchronize=lambda gpu: None)
    return SimpleNamespace(
        __version__="9.9", version=SimpleNamespace(cuda="12.0" if gpus else None), cuda=cuda, mm=products(product),
        float16="half", from_numpy=lambda plain: Card(), empty_like=lambda one: Card(),
        equal=lambda a, b: a.value == b.value,
    )  # fmt: skip


class Device(nullcontext):
    """A made-up cupy.cuda.Device, which is a context and can be waited for."""

    def synchronize(self):
        pass


def made_up_cupy(gpus, product=7.0):
    class CUDARuntimeError(RuntimeError):
        pass

    def count():
        if gpus is None:
            raise CUDARuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected")
        return gpus

    runtime = SimpleNamespace(getDeviceCount=count, CUDARuntimeError=CUDARuntimeError)
    return SimpleNamespace(
        __version__="13.0", cuda=SimpleNamespace(runtime=runtime, Device=Device), matmul=products(product),
        float16="half", asarray=lambda plain: Card(), empty_like=lambda one: Card(),
    )  # fmt: skip


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(gpu, "SIZE", 8)


@pytest.fixture(params=["torch", "cupy"])
def install(request, monkeypatch):
    """Put one of the two in place, and the other out of reach."""

    def put(*arguments, **options):
        made = {"torch": made_up_torch, "cupy": made_up_cupy}
        for name, make in made.items():
            monkeypatch.setitem(sys.modules, name, make(*arguments, **options) if name == request.param else None)
        return request.param

    return put


def test_gpu_bursts_are_logged_like_the_native_ones(install):
    install(2)
    log = gpu.run(SHORT)
    assert len(log) + log.missed == 6
    assert set(log.thread) <= {0, 1}
    assert (log.late_ns >= 0).all()
    assert (log.fall_ns > log.rise_ns).all()
    assert log.wrong == 0
    assert log.kernel == "gpu"
    assert [one.bursts + one.missed for one in log.reached] == [2, 2, 2]
    assert "2 GPUs" in log.name


def test_gpu_levels_are_shares_of_the_time(install):
    install(1)
    log = gpu.run(loads.ladder([0.5, 0.0], 0.1), level=0.5, period_s=0.02)
    asked, rest = log.reached
    assert (asked.level, rest.level) == (0.25, 0.0)
    assert 0.2 < asked.duty < 0.5
    assert rest.duty == 0
    assert set(log.step) == {0}


def test_gpu_level_robbed_by_a_stall_is_made_up_for(install):
    """A product that hangs for two periods counts as work: the slices behind it are left out."""
    install(1, product=lambda number: time.sleep(0.05 * (number == 8)) or 7.0)
    log = gpu.run(loads.ladder([0.5], 0.2), period_s=0.02)
    assert log.reached[0].duty < 0.65
    assert log.stalled_ns >= 50_000_000


def test_gpu_that_multiplies_wrongly_is_told(install):
    install(1, product=lambda number: float(number > 3))
    assert gpu.run(SHORT).wrong == 1


def test_gpu_bursts_stop_when_they_are_told_to(install):
    install(1)
    asked = iter([False] * 5 + [True] * 9)
    began = time.monotonic()
    log = gpu.run(Pattern("an hour", np.array([0.0, 3600.0, 3700.0, 3800.0])), stop=lambda: next(asked))
    assert time.monotonic() - began < 30
    assert log.reached[0].duration_s < 30


def test_gpu_that_is_not_there_or_a_level_that_is_none_is_refused(install):
    name = install(1)
    with pytest.raises(InvalidArgument, match=f"{name} sees 1"):
        gpu.run(SHORT, gpus=[1])
    with pytest.raises(InvalidArgument, match="level"):
        gpu.run(SHORT, level=1.5)


def test_gpu_bursts_without_a_library_or_a_gpu_say_why_of_each(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", made_up_torch(0))
    monkeypatch.setitem(sys.modules, "cupy", made_up_cupy(None))
    with pytest.raises(NotSupported, match=r"without CUDA.*no CUDA-capable device"):
        gpu.run(SHORT)
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(NotSupported, match=r"torch is not there.*cupy is not there"):
        gpu.run(SHORT)
    assert "torch is not there" in gpu.why_not()
    monkeypatch.setitem(sys.modules, "cupy", made_up_cupy(0))
    assert "sees no GPU" in gpu.why_not()


def test_gpu_bursts_by_cupy_where_torch_sees_no_gpu(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", made_up_torch(0))
    monkeypatch.setitem(sys.modules, "cupy", made_up_cupy(3))
    assert gpu.why_not() == ""
    assert "3 GPUs" in gpu.run(SHORT).name
