# SPDX-License-Identifier: Apache-2.0
"""What a race is asked to be."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

from powersample.errors import InvalidArgument
from powersample.experiments.race.entrants import METHODS
from powersample.experiments.workload import plan

LENGTHS_S = (0.3, 1.0)
MOST_PAIRS = 1000
MOST_CALL_US = 1e6


@dataclass(frozen=True, slots=True)
class Setup:
    """The options of a race.

    Attributes:
        methods: Who takes part, of `METHODS`.
        lengths_s: Lengths of the epochs in s.
        epochs: How many epochs each method measures; None: as many as fit into a minute and a half for all.
        together: All measure one run at once; else each measures the same epochs by itself.
        python_load: The training prepares its data in pure Python instead of waiting for them.
        training: "numpy", or "torch" where that is installed; None: torch on a real GPU if it is, else numpy.
        simulate: The simulated node, as of `powersample record --simulate`; None takes this machine's GPU, or an
            h100 where there is none.
        board_seed: Draws the simulated board's gain, offset and phase; None is a perfect one.
        call_us: How long every call of the simulated driver takes.
        nvml_library: Path of libnvidia-ml; None takes the driver's.
        nvidia_smi: Path of NVIDIA's program; None looks on PATH and in the cache.
        gpu: NVML index of the GPU on a real machine.
        pairs: Pairs of blocks by which the slowdown is measured; 0 leaves it out; None: 3 to 6, as time allows.
        seed: Draws every order.

    Raises:
        InvalidArgument: An option is outside its range, or two contradict each other.
    """

    methods: tuple[str, ...] = METHODS
    lengths_s: tuple[float, ...] = LENGTHS_S
    epochs: int | None = None
    together: bool = False
    python_load: bool = False
    training: str | None = None
    simulate: str | None = None
    board_seed: int | None = None
    call_us: float | None = None
    nvml_library: str | os.PathLike[str] | None = None
    nvidia_smi: str | os.PathLike[str] | None = None
    gpu: int = 0
    pairs: int | None = None
    seed: int = 1

    def __post_init__(self) -> None:
        unknown = [name for name in self.methods if name not in METHODS]
        if unknown or not self.methods:
            raise InvalidArgument(f"method {', '.join(unknown) or '(none)'} is unknown; there are {', '.join(METHODS)}")
        if len(set(self.methods)) < len(self.methods):
            raise InvalidArgument(f"a method is named twice: {', '.join(self.methods)}")
        plan(
            self.lengths_s, len(self.lengths_s) if self.epochs is None else self.epochs
        )  # says what is wrong with them
        if self.pairs is not None and not 0 <= self.pairs <= MOST_PAIRS:
            raise InvalidArgument(f"{self.pairs} pairs: it takes 0 to {MOST_PAIRS}")
        if self.call_us is not None and not (math.isfinite(self.call_us) and 0 <= self.call_us <= MOST_CALL_US):
            raise InvalidArgument(f"calls of {self.call_us:g} us: it must be from 0 to {MOST_CALL_US:g}")
        if self.gpu < 0:
            raise InvalidArgument(f"no GPU {self.gpu}; the first is 0")
        if self.simulate is not None and self.simulate.partition("+")[2] not in ("", "none"):
            raise InvalidArgument(
                f"a race is about GPUs: name the node without CPUs, {self.simulate.partition('+')[0]}"
            )
        if self.gpu and self.wants_node:
            raise InvalidArgument("--gpus is for a real machine; of a simulated node the load is GPU 0's")
        if self.simulate is not None and self.nvml_library is not None:
            raise InvalidArgument("a simulated node brings its own NVML library; leave --simulate or --nvml-lib out")

    @property
    def wants_node(self) -> bool:
        """Whether an option was given that only a simulated node can follow."""
        return self.simulate is not None or self.board_seed is not None or self.call_us is not None
