# SPDX-License-Identifier: Apache-2.0
"""What MLPerf's power flow (mlcommons/power-dev) keeps beside a meter's log: zone, clocks, phases, dialogue.

The server runs on PTDaemon's host and stamps spl.txt, the client on the machine under load and stamps power_begin and
power_end; both write local time. The `timezone` field of their JSON files is the zone without daylight saving, an hour
wrong for half of a year. The session's name is the server's local time in words, and the message that made it carries
the epoch time: these two tell the zone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any

from powersample.errors import BadFormat
from powersample.formats.parsed import as_text, moment_ns
from powersample.formats.spl import stamp_ns

NAME = re.compile(r"(\d{4})-(\d\d)-(\d\d)_(\d\d)-(\d\d)-(\d\d)")
NTP = re.compile(r"^\S+ (\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d),(\d{3}) .*NTP:offset = (-?[\d.]+) s", re.MULTILINE)
QUARTER_S = 900  # zones are whole quarters of an hour
LOG_LINE = re.compile(r"(\d\d-\d\d-\d{4} \d\d:\d\d:\d\d\.\d+): (?:Time: \S+ \S+: )?(.*)")
MARKED = re.compile(r"Go with mark '([^']*)'")
MEAN = re.compile(r"Avg watts (\d+(?:\.\d+)?)")
UNCERTAIN = re.compile(r"WARNING: Uncertainty (?:(unknown)|(\d+(?:\.\d+)?) ?%)")
PROBLEM = re.compile(r"(WARNING|ERROR): (.*)")
SPAN_SLACK_NS = 5 * 10**9


@dataclass(frozen=True, slots=True)
class ClockReading:
    """At `t_s` of the client's clock it is ahead of the server's by `ahead_s`, give or take `half_s`."""

    t_s: float
    ahead_s: float
    half_s: float


@dataclass(frozen=True, slots=True)
class Session:
    """One run of the power flow.

    Attributes:
        name: the session's, which is the server's local time at its begin.
        zone_s: seconds east of UTC that the server's local time is, from the name; None where it cannot be told.
        stated_zone_s: what the server's `timezone` field says.
        client_zone_s: the client's: the server's, moved by the difference of their fields.
        clock: how far the client's clock was ahead, in the order of time.
        phases: "ranging", "testing": (client, server), each the epoch seconds of asked, started, stopped, done.
        dialogue: (command, reply) with PTDaemon.
    """

    name: str
    zone_s: int | None
    stated_zone_s: int | None
    client_zone_s: int | None
    clock: tuple[ClockReading, ...]
    phases: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]]
    dialogue: tuple[tuple[str, str], ...]

    def as_json(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return asdict(self) | {"phases": {name: [list(one) for one in both] for name, both in self.phases.items()}}


@dataclass(frozen=True, slots=True)
class Trouble:
    """Lines of one kind in the meter's console, one after the other.

    Attributes:
        start_ns: stamp of the first, local time.
        end_ns: of the last.
        count: how many.
        what: "uncertainty unknown", "uncertainty" with `worst_pct`, or the line's own words.
        worst_pct: the largest uncertainty that a line tells.
        level: "WARNING" or "ERROR".
    """

    start_ns: int
    end_ns: int
    count: int
    what: str
    level: str
    worst_pct: float | None = None


@dataclass(frozen=True, slots=True)
class Console:
    """What the meter's console (ptd_logs.txt) says.

    Attributes:
        uncertainty_checked: whether it was switched on.
        troubles: everything that it warns of.
        mean_w: of each measurement, by its mark.
    """

    uncertainty_checked: bool
    troubles: tuple[Trouble, ...]
    mean_w: Mapping[str, float]


def session(client: bytes, server: bytes, where: str) -> Session:
    """Return what client.json and server.json tell together.

    Raises:
        BadFormat: they are not such files, or of two sessions.
    """
    ours, theirs = _object(client, f"{where}/client.json"), _object(server, f"{where}/server.json")
    try:
        if ours["session_name"] != theirs["session_name"]:
            raise BadFormat(
                f"{where}: client.json is of session {ours['session_name']}, server.json of {theirs['session_name']}"
            )
        zone_s = _zone_s(theirs)
        stated, client_stated = _stated_s(theirs), _stated_s(ours)
        moved = 0 if stated is None or client_stated is None else client_stated - stated
        return Session(
            name=str(theirs["session_name"]),
            zone_s=zone_s,
            stated_zone_s=stated,
            client_zone_s=None if zone_s is None else zone_s + moved,
            clock=tuple(sorted(_clock(ours["messages"], theirs["messages"]), key=lambda one: one.t_s)),
            phases={
                name: (_instants(spans), _instants(theirs["phases"][name]))
                for name, spans in ours["phases"].items()
                if name in theirs["phases"]
            },
            dialogue=tuple((str(one["cmd"]), str(one["reply"])) for one in theirs.get("ptd_messages", ())),
        )
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        if isinstance(error, BadFormat):
            raise
        raise BadFormat(f"{where}: client.json and server.json are not of MLPerf's power flow ({error!r})") from error


def ahead_s(clock: tuple[ClockReading, ...], t_s: float) -> ClockReading | None:
    """Return how far the client's clock is ahead at an instant of its own, along lines; None where nobody measured."""
    if not clock:
        return None
    if t_s <= clock[0].t_s or len(clock) == 1:
        return clock[0]
    for one, other in pairwise(clock):
        if t_s <= other.t_s:
            share = (t_s - one.t_s) / (other.t_s - one.t_s) if other.t_s > one.t_s else 0.0
            value = one.ahead_s + share * (other.ahead_s - one.ahead_s)
            return ClockReading(t_s, value, max(one.half_s, other.half_s))
    return clock[-1]


def ntp_offsets(data: bytes, where: str) -> list[tuple[int, float]]:
    """Return the NTP offsets that client.log or server.log tells: local time in ns, and s."""
    text = as_text(data, where)
    return [(moment_ns(f"{day}T{time}.{ms}"), float(offset)) for day, time, ms, offset in NTP.findall(text)]


def console(data: bytes, where: str) -> Console:
    """Return what ptd_logs.txt tells.

    Raises:
        BadFormat: it is no text.
    """
    checked, mark = False, ""
    found: list[Trouble] = []
    means: dict[str, float] = {}
    last: dict[str, int] = {}
    for line in as_text(data, where).splitlines():
        stamped = LOG_LINE.match(line)
        if stamped is None:
            continue
        said = stamped[2].strip()
        checked |= said.startswith("Uncertainty checking for") and said.endswith("activated")
        if marked := MARKED.match(said):
            mark = marked[1]
        elif mean := MEAN.match(said):
            means[mark] = float(mean[1])
        if problem := PROBLEM.match(said):
            _trouble(found, last, stamp_ns(stamped[1]), problem)
    return Console(checked, tuple(found), means)


def _trouble(found: list[Trouble], last: dict[str, int], at_ns: int, problem: re.Match[str]) -> None:
    """Add a line to those of its kind that came just before it, or begin a new span."""
    uncertain = UNCERTAIN.match(problem[0])
    pct = float(uncertain[2]) if uncertain and uncertain[2] else None
    what = "uncertainty" + (" unknown" if uncertain[1] else "") if uncertain else problem[2]
    one = found[last[what]] if what in last else None
    if one is not None and 0 <= at_ns - one.end_ns <= SPAN_SLACK_NS:
        worst = pct if one.worst_pct is None else max(one.worst_pct, pct or 0.0)
        found[last[what]] = Trouble(one.start_ns, at_ns, one.count + 1, what, problem[1], worst)
    else:
        last[what] = len(found)
        found.append(Trouble(at_ns, at_ns, 1, what, problem[1], pct))


def _object(data: bytes, where: str) -> dict[str, Any]:
    try:
        found = json.loads(as_text(data, where))
    except ValueError as error:
        raise BadFormat(f"{where} is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise BadFormat(f"{where} is no JSON object")
    return found


def _stated_s(one: Mapping[str, Any]) -> int | None:
    west_s = one.get("timezone")
    return None if west_s is None else -int(west_s)


def _zone_s(server: Mapping[str, Any]) -> int | None:
    """Return the server's local time less UTC when it made the session's name, to a quarter of an hour."""
    named = NAME.match(str(server["session_name"]))
    made = next((one for one in server["messages"] if str(one["cmd"]).startswith("new,")), None)
    if named is None or made is None:
        return None
    local_s = (datetime(*(int(cell) for cell in named.groups())) - datetime(1970, 1, 1)).total_seconds()  # type: ignore[arg-type]
    off_s = local_s - float(made["cmd_time"])
    zone_s = round(off_s / QUARTER_S) * QUARTER_S
    return zone_s if abs(off_s - zone_s) < QUARTER_S / 3 and abs(zone_s) <= 14 * 3600 else None


def _clock(client: list[Mapping[str, Any]], server: list[Mapping[str, Any]]) -> Iterator[ClockReading]:
    """Yield the difference of the clocks: `time` is answered between two stamps of the client.

    The stop of a phase has no answer with a time, but both stamp it: the command as it leaves and arrives, the reply
    likewise; the truth lies between the two, but for the grain of their clocks (16 ms of some Windows hosts).
    """
    for one, other in zip(client, server, strict=False):
        if one["cmd"] != other["cmd"]:
            return
        asked, answered = float(one["cmd_time"]), float(one["reply_time"])
        if one["cmd"] == "time":
            yield ClockReading(
                (asked + answered) / 2, (asked + answered) / 2 - float(one["reply"]), (answered - asked) / 2
            )
        elif str(one["cmd"]).startswith("session,") and ",stop," in one["cmd"]:
            sent, came = asked - float(other["cmd_time"]), answered - float(other["reply_time"])
            yield ClockReading(asked, (sent + came) / 2, abs(came - sent) / 2)


def _instants(spans: list[list[float]]) -> tuple[float, ...]:
    return tuple(float(one[0]) for one in spans)
