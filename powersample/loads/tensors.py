# SPDX-License-Identifier: Apache-2.0
"""Matrix products on GPUs by whichever library is installed: torch, or else cupy."""

from __future__ import annotations

from typing import Any, Protocol

from powersample.errors import NotSupported


class Library(Protocol):
    """What a load needs of one; `gpu` is CUDA's index."""

    name: str
    count: int  # of GPUs

    def put(self, plain: Any, gpu: int) -> Any:
        """Return a float32 array on a GPU, in half precision."""

    def like(self, matrix: Any, gpu: int) -> Any:
        """Return room for a product."""

    def multiply(self, matrix: Any, product: Any, gpu: int) -> None:
        """Launch matrix times itself."""

    def wait(self, gpu: int) -> None:
        """Return once all that was launched is done."""

    def copy(self, matrix: Any, gpu: int) -> Any:
        """Return another with the same numbers."""

    def same(self, one: Any, other: Any, gpu: int) -> bool:
        """Return whether all numbers of two are equal."""


def library() -> Library:
    """Return the first library that is installed and sees a GPU.

    Raises:
        NotSupported: there is none; says why, of each.
    """
    why = []
    for make in (_Torch, _Cupy):
        try:
            return make()
        except NotSupported as error:
            why.append(str(error))
    raise NotSupported(f"bursts on GPUs: {'; '.join(why)}", "Install torch or cupy for your CUDA, or use CPUs.")


class _Torch:
    name = "torch"

    def __init__(self) -> None:
        try:
            import torch
        except ImportError as error:
            raise NotSupported(f"torch is not there ({error})") from error
        if not torch.cuda.is_available():
            built = "is built without CUDA" if torch.version.cuda is None else "sees no GPU"
            raise NotSupported(f"this torch ({torch.__version__}) {built}")
        self._torch: Any = torch
        self.count = int(torch.cuda.device_count())

    def put(self, plain: Any, gpu: int) -> Any:
        return self._torch.from_numpy(plain).to(device=f"cuda:{gpu}", dtype=self._torch.float16)

    def like(self, matrix: Any, gpu: int) -> Any:
        return self._torch.empty_like(matrix)

    def multiply(self, matrix: Any, product: Any, gpu: int) -> None:
        self._torch.mm(matrix, matrix, out=product)

    def wait(self, gpu: int) -> None:
        self._torch.cuda.synchronize(gpu)

    def copy(self, matrix: Any, gpu: int) -> Any:
        return matrix.clone()

    def same(self, one: Any, other: Any, gpu: int) -> bool:
        return bool(self._torch.equal(one, other))


class _Cupy:
    name = "cupy"

    def __init__(self) -> None:
        try:
            import cupy
        except ImportError as error:
            raise NotSupported(f"cupy is not there ({error})") from error
        try:
            self.count = int(cupy.cuda.runtime.getDeviceCount())
        except cupy.cuda.runtime.CUDARuntimeError as error:
            raise NotSupported(f"this cupy ({cupy.__version__}) sees no GPU: {error}") from error
        if not self.count:
            raise NotSupported(f"this cupy ({cupy.__version__}) sees no GPU")
        self._cupy: Any = cupy

    def put(self, plain: Any, gpu: int) -> Any:
        with self._cupy.cuda.Device(gpu):
            return self._cupy.asarray(plain).astype(self._cupy.float16)

    def like(self, matrix: Any, gpu: int) -> Any:
        with self._cupy.cuda.Device(gpu):
            return self._cupy.empty_like(matrix)

    def multiply(self, matrix: Any, product: Any, gpu: int) -> None:
        with self._cupy.cuda.Device(gpu):
            self._cupy.matmul(matrix, matrix, out=product)

    def wait(self, gpu: int) -> None:
        self._cupy.cuda.Device(gpu).synchronize()

    def copy(self, matrix: Any, gpu: int) -> Any:
        with self._cupy.cuda.Device(gpu):
            return matrix.copy()

    def same(self, one: Any, other: Any, gpu: int) -> bool:
        with self._cupy.cuda.Device(gpu):
            return bool((one == other).all())
