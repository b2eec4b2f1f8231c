# SPDX-License-Identifier: Apache-2.0
"""Short trainings of an architecture search, as loads of a simulated GPU.

The paper trains RegNets and tells the range of their power (146 to 305 W on one H100, 75 W at rest); it tells neither
the lengths of its epochs nor what lies inside them. What is assumed here: lengths drawn log-uniformly from 0.3 to 3 s
and alike within a training; a loader that starts for the first moments of an epoch; then batches, each computing at the
training's power for a share of its time and waiting for data in the rest; and between epochs the pause that the tracer
itself makes, as the program waits for the reading in progress.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

REST_W = 75.0  # the paper's base, arXiv 2505.15631 section VI.C
LEAST_W, MOST_W = 146.0, 305.0  # and the range of its trainings
WAIT_W = 95.0  # assumed: a GPU whose clocks stay up while it waits for data
LENGTHS_S = (0.3, 3.0)
ALIKE = 0.05  # epochs of one training differ in length by up to this share
BATCH_S = (0.06, 0.5)
SHARES = (0.35, 0.95)
LOADER_S, LOADER_SHARE = 0.15, 0.2  # the loader starts so long, at most this share of the epoch
PAUSE_S = 0.1  # between epochs, beside the tracer's own end
SLEEP_S = 0.1  # of the tracer before every reading
BETWEEN_S = 0.3  # more, between trainings
LEAD_S = 1.2  # at rest before the first, longer than any sensor looks back


@dataclass(frozen=True, slots=True)
class PaperEpoch:
    """One epoch.

    Attributes:
        training: Number of its training.
        number: Its own number within that.
        begin_s: When it begins, s from the beginning of the load.
        seconds: Its length.
        power_w: Power while it computes.
        batch_s: Length of a batch.
        share: Share of a batch that computes.
    """

    training: int
    number: int
    begin_s: float
    seconds: float
    power_w: float
    batch_s: float
    share: float

    @property
    def end_s(self) -> float:
        """When it ends, s from the beginning of the load."""
        return self.begin_s + self.seconds

    def load(self) -> list[tuple[float, float]]:
        """Return (s from the beginning of the load, W from then on); at rest behind its end."""
        steps = {self.begin_s: REST_W}
        begins_s = np.arange(self.begin_s + min(LOADER_S, LOADER_SHARE * self.seconds), self.end_s - 1e-6, self.batch_s)
        for begin_s in begins_s.tolist():
            steps[begin_s] = self.power_w
            waits_s = begin_s + self.share * self.batch_s
            if waits_s < self.end_s - 1e-6:
                steps[waits_s] = WAIT_W
        return [*steps.items(), (self.end_s, REST_W)]


def trainings(
    count: int,
    epochs: int,
    *,
    seed: int,
    call_s: float,
    lengths_s: tuple[float, float] = LENGTHS_S,
    even: bool = False,
) -> tuple[PaperEpoch, ...]:
    """Return the epochs of `count` trainings, `epochs` each, in order of time; the same for the same seed.

    Args:
        count: Of trainings.
        epochs: Of each.
        seed: Of all that is drawn.
        call_s: What a reading takes; every pause has room for the longest that can be in progress.
        lengths_s: Between which the epochs' lengths lie.
        even: One training's lengths in each of `count` equal parts of that range, so that few have the shares of many.
    """
    pause_s = PAUSE_S + SLEEP_S + call_s
    dice = np.random.default_rng(seed)
    parts = np.random.default_rng(seed).permutation(count)
    found: list[PaperEpoch] = []
    at_s = LEAD_S
    for training in range(count):
        seconds, batch_s = (float(np.exp(dice.uniform(*np.log(span)))) for span in (lengths_s, BATCH_S))
        if even:
            place = (parts[training] + dice.uniform()) / count
            seconds = float(lengths_s[0] * (lengths_s[1] / lengths_s[0]) ** place)
        power_w = float(dice.uniform(LEAST_W, MOST_W))
        for number in range(epochs):
            length_s = seconds * float(dice.uniform(1 - ALIKE, 1 + ALIKE))
            share = float(dice.uniform(*SHARES))
            found.append(PaperEpoch(training, number, at_s, length_s, power_w, batch_s, share))
            at_s += length_s + pause_s
        at_s += BETWEEN_S
    return tuple(found)


def load(epochs: Sequence[PaperEpoch]) -> list[tuple[float, float]]:
    """Return the whole load, as `Node.load_script` takes it."""
    steps = {0.0: REST_W}
    for epoch in epochs:
        steps |= dict(epoch.load())
    return list(steps.items())
