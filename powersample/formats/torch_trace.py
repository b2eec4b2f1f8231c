# SPDX-License-Identifier: Apache-2.0
"""torch.profiler's JSON (Kineto's Chrome trace): where its events end, when they are, and whose they are.

Its `ts` and `dur` are microseconds after `baseTimeNanoseconds`, which is ns since 1970 (torch 2.4 and later).
The text is walked event by event and never built up as a whole: memory is the text's size.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

from powersample.errors import BadFormat

EVENTS, BASE = "traceEvents", "baseTimeNanoseconds"
_SPACE = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder(strict=False)  # Python stack frames bring control characters into names


@dataclass(frozen=True, slots=True)
class TorchTrace:
    """What is to be known of a profile in order to write into it.

    Attributes:
        base_ns: ns since 1970 of its `ts` 0.
        start_ns: since 1970, where its first timed event begins; None without one.
        end_ns: where its last one ends.
        events: how many there are, metadata included.
        insert_at: where in the text its last event ends; inside the empty list where there is none.
        pids: the process numbers that its events use.
    """

    base_ns: int
    start_ns: int | None
    end_ns: int | None
    events: int
    insert_at: int
    pids: frozenset[int]


def parse(text: str, where: str) -> TorchTrace:
    """Walk through a profile.

    Raises:
        BadFormat: it is torn, no JSON, no profile, or of a torch that does not tell when it began; with `where`.
    """
    try:
        base, events = _walk(text)
    except json.JSONDecodeError as error:
        whole = text.rstrip()
        if whole.lstrip().startswith("{") and (not whole.endswith("}") or error.pos >= len(whole)):
            raise BadFormat(f"{where} ends in the middle", "Let the profiler export it to its end.") from None
        raise BadFormat(f"{where} is no JSON ({error})") from None
    if events is None:
        raise BadFormat(f"{where} is no profile of torch: it has no list of {EVENTS}")
    if isinstance(base, bool) or not isinstance(base, int) or base <= 0:
        raise BadFormat(
            f"{where} does not tell when it began: {BASE} is missing, so nothing can be laid beside it",
            "torch 2.4 and later write it: profile again with one of those.",
        )
    first, last = (None if one is None else base + round(one * 1000) for one in (events.first_us, events.last_us))
    return TorchTrace(base, first, last, events.count, events.insert_at, frozenset(events.pids))


@dataclass(slots=True)
class _Events:
    """What a walk through the events gathers."""

    insert_at: int
    count: int = 0
    first_us: float | None = None
    last_us: float | None = None
    pids: set[int] = field(default_factory=set)

    def add(self, event: Any) -> None:
        self.count += 1
        if not isinstance(event, dict):
            return
        pid, start_us, long_us = event.get("pid"), event.get("ts"), event.get("dur", 0)
        if isinstance(pid, int):
            self.pids.add(pid)
        if event.get("ph") == "X" and isinstance(start_us, int | float) and isinstance(long_us, int | float):
            self.first_us = start_us if self.first_us is None else min(self.first_us, start_us)
            self.last_us = start_us + long_us if self.last_us is None else max(self.last_us, start_us + long_us)


def _walk(text: str) -> tuple[Any, _Events | None]:
    """Return the base, None when it is not there, and what the events are, None when they are no list."""
    base: Any = None
    events: _Events | None = None
    at = _skip(text, 0)
    if text[at : at + 1] == "[":  # Chrome's other form: nothing but events
        _list(text, at, _Events(at))
        return None, None
    at = _expect(text, at, "{")
    while text[at : at + 1] != "}":
        _expect(text, at, '"')
        key, at = _DECODER.raw_decode(text, at)
        at = _expect(text, _skip(text, at), ":")
        if key == EVENTS and text[at : at + 1] == "[":
            events = _Events(at)
            at = _list(text, at, events)
        else:
            value, at = _DECODER.raw_decode(text, at)
            base = value if key == BASE else base
        at = _next(text, at, "}")
    if text[at + 1 :].strip():
        raise json.JSONDecodeError("Extra data", text, at + 1)
    return base, events


def _list(text: str, at: int, events: _Events) -> int:
    """Walk through a list and return where it ends."""
    at = _expect(text, at, "[")
    events.insert_at = at
    while text[at : at + 1] != "]":
        event, at = _DECODER.raw_decode(text, at)
        events.add(event)
        events.insert_at = at
        at = _next(text, at, "]")
    return at + 1


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


def _expect(text: str, at: int, letter: str) -> int:
    if text[at : at + 1] != letter:
        raise json.JSONDecodeError(f"Expecting {letter!r}", text, at)
    return _skip(text, at + 1)


def _next(text: str, at: int, closing: str) -> int:
    """Return where the next member begins, or the closing bracket stands."""
    at = _skip(text, at)
    return at if text[at : at + 1] == closing else _expect(text, at, ",")
