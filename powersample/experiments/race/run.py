# SPDX-License-Identifier: Apache-2.0
"""The race itself: who can take part, how many epochs there is time for, the laps, and the slowdown."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from powersample import errors
from powersample.experiments.method import Cost, Lap, Method
from powersample.experiments.race.cost import Used, children, cost_of
from powersample.experiments.race.entrants import Entrant, enter
from powersample.experiments.race.ground import Ground, ground_for
from powersample.experiments.race.setup import Setup
from powersample.experiments.race.slowdown import BLOCK_S, Block, Slowdown, slowdown
from powersample.experiments.workload import Epoch, Training, plan, train, training
from powersample.model import amount

BUDGET_S = 76.0  # that is planned for everything, unless a number of epochs is asked for
SLOWDOWN_BY_S = 78.0  # after so long no further round of the slowdown begins
PAIRS = 6
SLOW_START_S = 1.0  # who takes longer to start is not timed in pairs unless they are asked for
COLD_START_S = 4.0  # who takes longer at first is not tried a second time
MARGIN_S = 0.3  # a method runs so long before and after its lap
LAP_ASIDE_S = 0.4  # what a lap takes beside its epochs, margins and starts
SETTLE_S = 0.05
MOST_EPOCHS = 40  # unless more are asked for

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Race:
    """The finished race.

    Attributes:
        setup: What it was asked to be.
        headline: What was measured; of a simulated node that it is no measurement.
        reference: What the methods are compared with.
        counter_is_reference: Whether that is the GPU's energy counter.
        simulated: Whether the node was.
        described: The node, or the GPU and its driver.
        epochs: The epochs that each method measured, in their order.
        methods: Every method, in the order asked for; those that could not run with their reason.
        slowdowns: Slowdown of the training by method.
        untimed: Methods whose slowdown was left out, because they take so long to start.
        noise: The same of nothing at all (A/A): what this machine cannot tell from no slowdown.
        took_s: How long it all took.
    """

    setup: Setup
    headline: str
    reference: str
    counter_is_reference: bool
    simulated: bool
    described: dict[str, Any]
    epochs: tuple[Epoch, ...]
    methods: tuple[Method, ...]
    slowdowns: dict[str, Slowdown] = field(default_factory=dict)
    untimed: tuple[str, ...] = ()
    noise: Slowdown | None = None
    took_s: float = 0.0


def run_race(setup: Setup, say: Say = lambda _: None) -> Race:
    """Hold the race; nothing it started is left when it ends, however it ends.

    Args:
        setup: What it is to be.
        say: Told what happens next.

    Raises:
        InvalidArgument: As `Setup` and `ground_for`.
        NotSupported: The training that was asked for is not installed.
        NothingMeasurable: No method can run; says why, each.
    """
    begin_s = time.monotonic()

    def timed(text: str) -> None:
        say(f"{time.monotonic() - begin_s:3.0f} s: {text}")

    with (
        tempfile.TemporaryDirectory(prefix="powersample-race-") as folder,
        ground_for(setup) as ground,
    ):
        chosen = training_of(setup, simulated=ground.simulated)
        setup = replace(setup, training=chosen)
        network = training(chosen, python_load=setup.python_load)
        track = _Track(setup, ground, Path(folder), network, random.Random(setup.seed), timed)
        starts_s, refused = track.probe()
        if not starts_s:
            why = "\n  ".join(f"{name}: {reason}" for name, reason in refused.items())
            raise errors.NothingMeasurable(f"no method can run here.\n  {why}")
        block = Block(network)
        planned = _epochs(setup, starts_s, BUDGET_S - (time.monotonic() - begin_s))
        epochs = tuple(track.dice.sample(planned, len(planned)))
        timed(_announce(setup, epochs, starts_s))
        ran = track.together(epochs, starts_s) if setup.together else track.in_turn(epochs, starts_s)
        slowdowns, noise = track.slowdowns(block, starts_s, begin_s + SLOWDOWN_BY_S)
        methods = [
            ran[name] if name in ran else _absent(name, setup, ground, Path(folder), refused[name])
            for name in setup.methods
        ]
        return Race(
            setup=setup,
            headline=ground.headline,
            reference=ground.reference,
            counter_is_reference=ground.counter_is_reference,
            simulated=ground.simulated,
            described=ground.describe(),
            epochs=epochs,
            methods=tuple(methods),
            slowdowns=slowdowns,
            untimed=tuple(
                name for name, start_s in starts_s.items() if not _pairs(setup, start_s) and setup.pairs != 0
            ),
            noise=noise,
            took_s=time.monotonic() - begin_s,
        )


def training_of(setup: Setup, *, simulated: bool) -> str:
    """Return what trains: what was asked for, else torch on a real GPU, which numpy would leave idle."""
    if setup.training is not None:
        return setup.training
    return "torch" if not simulated and find_spec("torch") is not None else "numpy"


def _absent(name: str, setup: Setup, ground: Ground, folder: Path, reason: str) -> Method:
    entrant = enter(name, setup, ground, folder)
    return Method(name, entrant.reads, entrant.asked_hz, reason=reason)


def _epochs(setup: Setup, starts_s: dict[str, float], left_s: float) -> tuple[Epoch, ...]:
    """Return the epochs that were asked for, else as many as there is time for, each length at least once."""
    if setup.epochs is not None:
        return plan(setup.lengths_s, setup.epochs)
    laps = 1 if setup.together else len(starts_s)
    per_lap_s = (left_s - _aside_s(setup, starts_s)) / laps
    count = len(setup.lengths_s)
    while count < MOST_EPOCHS and sum(epoch.seconds for epoch in plan(setup.lengths_s, count + 1)) <= per_lap_s:
        count += 1
    return plan(setup.lengths_s, count)


def _aside_s(setup: Setup, starts_s: dict[str, float]) -> float:
    """Return about how long everything but the epochs takes."""
    laps = 1 if setup.together else len(starts_s)
    pair_s = 2 * (BLOCK_S + SETTLE_S)
    pairs_s = sum(_pairs(setup, start_s) * (pair_s + start_s) for start_s in (0.0, *starts_s.values()))
    return laps * (2 * MARGIN_S + LAP_ASIDE_S) + sum(starts_s.values()) + pairs_s


def _pairs(setup: Setup, start_s: float) -> int:
    """Return how many pairs a method gets that takes so long to start."""
    if setup.pairs is not None:
        return setup.pairs
    return PAIRS if start_s < SLOW_START_S else 0


def _announce(setup: Setup, epochs: Sequence[Epoch], starts_s: dict[str, float]) -> str:
    lap_s = sum(epoch.seconds for epoch in epochs)
    laps = 1 if setup.together else len(starts_s)
    how = "all at once" if setup.together else "one after the other"
    about_s = laps * lap_s + _aside_s(setup, starts_s)
    return f"{len(starts_s)} methods, {how}: {len(epochs)} epochs, {amount(lap_s)} s, about {about_s:.0f} s in all"


@dataclass(frozen=True, slots=True)
class _Track:
    """What every lap needs."""

    setup: Setup
    ground: Ground
    folder: Path
    network: Training
    dice: random.Random
    say: Say

    def _enter(self, name: str) -> Entrant:
        return enter(name, self.setup, self.ground, self.folder)

    def probe(self) -> tuple[dict[str, float], dict[str, str]]:
        """Start every method; return how long a warm start took of those that can run, and why others cannot."""
        starts_s: dict[str, float] = {}
        refused: dict[str, str] = {}
        for name in self.setup.methods:
            self.say(f"trying {name}")
            try:
                cold_s = self._start_and_quit(name)
                starts_s[name] = cold_s if cold_s > COLD_START_S else self._start_and_quit(name)
            except Exception as error:  # of other people's packages it may be anything
                refused[name] = why(error)
        return starts_s, refused

    def _start_and_quit(self, name: str) -> float:
        entrant, begin_s = self._enter(name), time.monotonic()
        try:
            entrant.start()
            return time.monotonic() - begin_s
        finally:
            entrant.quit()

    def in_turn(self, epochs: Sequence[Epoch], starts_s: dict[str, float]) -> dict[str, Method]:
        """Let each method measure the same epochs by itself, the methods in random order."""
        order = self.dice.sample(list(starts_s), len(starts_s))
        ran: dict[str, Method] = {}
        for place, name in enumerate(order):
            self.say(f"lap {place + 1} of {len(order)}: {name}")
            (ran[name],) = self._lap([name], epochs)
        return ran

    def together(self, epochs: Sequence[Epoch], starts_s: dict[str, float]) -> dict[str, Method]:
        """Let all measure the same run."""
        self.say("one lap, all methods at once")
        return {method.name: method for method in self._lap(list(starts_s), epochs)}

    def _lap(self, names: Sequence[str], epochs: Sequence[Epoch]) -> list[Method]:
        """Train once, measured by these; who fails meanwhile is listed with the reason."""
        entrants = {name: self._enter(name) for name in names}
        failed: dict[str, str] = {}
        with ExitStack() as stack:
            self.ground.begin(self.folder)
            others = children()  # who observe the lap are no method's
            before, begin_s = Used.now(others), time.monotonic()
            for name, entrant in entrants.items():
                stack.callback(entrant.quit)
                _try(entrant.start, name, failed)
            started, start_s = Used.now(others), time.monotonic() - begin_s
            time.sleep(MARGIN_S)
            trained = train(epochs, self.network, node=self.ground.node, python_load=self.setup.python_load)
            time.sleep(MARGIN_S)
            ending = Used.now(others)
            for name, entrant in entrants.items():
                if name not in failed:
                    _try(entrant.stop, name, failed)
            after = Used.now(others)
            try:
                lap = self.ground.lap(trained)
            except errors.PowerSampleError as error:  # on a GPU its recorder: this lap has nothing to be compared with
                return [
                    Method(name, one.reads, one.asked_hz, f"the reference failed in its lap: {why(error)}")
                    for name, one in entrants.items()
                ]
            cost = cost_of(before, started, ending, after, start_s) if len(names) == 1 else None
            return [_made(one, lap, cost, failed.get(name)) for name, one in entrants.items()]

    def slowdowns(
        self, block: Block, starts_s: dict[str, float], by_s: float
    ) -> tuple[dict[str, Slowdown], Slowdown | None]:
        """Time the same work beside each method and alone, in turns, and alone twice (A/A)."""
        pairs: dict[str | None, list[tuple[float, float]]] = {name: [] for name in (None, *starts_s)}
        rounds = PAIRS if self.setup.pairs is None else self.setup.pairs
        for number in range(rounds):
            if self.setup.pairs is None and time.monotonic() > by_s:
                break
            self.say(f"slowdown, round {number + 1} of {rounds}")
            for name in self.dice.sample(list(pairs), len(pairs)):
                if number >= _pairs(self.setup, 0.0 if name is None else starts_s[name]):
                    continue
                first = self.dice.random() < 0.5  # whether the method comes first
                try:
                    took_s = [self._block(block, name if beside else None) for beside in (first, not first)]
                except Exception as error:  # it ran until now: a pair less
                    self.say(f"no slowdown of {name} in this round: {why(error)}")
                    continue
                pairs[name].append((took_s[0], took_s[1]) if first else (took_s[1], took_s[0]))
        found = {
            name: result for name, of in pairs.items() if (result := slowdown([a for a, _ in of], [b for _, b in of]))
        }
        noise = found.pop(None, None)
        return {name: one for name, one in found.items() if name is not None}, noise

    def _block(self, block: Block, name: str | None) -> float:
        if name is None:
            time.sleep(SETTLE_S)
            return block.run()
        entrant = self._enter(name)
        try:
            entrant.start()
            time.sleep(SETTLE_S)
            return block.run()
        finally:
            entrant.quit()


def _try(do: Callable[[], None], name: str, failed: dict[str, str]) -> None:
    try:
        do()
    except Exception as error:
        failed[name] = why(error)


def _made(entrant: Entrant, lap: Lap, cost: Cost | None, reason: str | None) -> Method:
    """Return what a method makes of a lap, or why it makes nothing."""
    if reason is None:
        try:
            return entrant.method(lap, cost)
        except Exception as error:  # its account is its package's own
            reason = why(error)
    return Method(entrant.name, entrant.reads, entrant.asked_hz, reason)


def why(error: Exception) -> str:
    """Return an error in one line; one that is not ours says what it is."""
    said = " ".join(str(error).split())
    return said if isinstance(error, errors.PowerSampleError) else f"{type(error).__name__}: {said}"
