# SPDX-License-Identifier: Apache-2.0
"""Meters that are asked, whatever they are: the period, readings that are none, losses and recovery."""

import math
import re
import time
from pathlib import Path

import numpy as np
import pytest

from powersample.errors import BadFormat, DeviceError, InvalidArgument, NotSupported, Timeout
from powersample.meters import parse_addresses
from powersample.meters.contract import NO_NUMBER, OVER_RANGE, MeterInfo, power_channel
from powersample.meters.polled import Polled
from powersample.meters.registry import DRIVERS, make_meter

PERIOD_S = 0.005
KIND = re.compile(r"`(\w+)`")


class Answers:
    """An instrument that answers as it is told: watts, or an error to raise; the last one for ever."""

    def __init__(self, *answers):
        self.answers, self.connects, self.disconnects = [100.0, *answers], 0, 0  # the first is `open`'s

    def connect(self):
        self.connects += 1
        return MeterInfo("wall", "x", "x:", "", "", "", "", (power_channel("wall", "x.P", span="none"),), math.nan)

    def ask(self):
        one = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(one, Exception):
            raise one
        return (one,)

    def disconnect(self):
        self.disconnects += 1


def started(*answers, period_s=PERIOD_S):
    instrument = Answers(*answers)
    meter = Polled(instrument, period_s)
    meter.open()
    meter.start()
    return instrument, meter


def taken(meter, count, limit_s=5.0):
    """Return the readings' watts and flags, and all gaps, until there are `count` readings."""
    readings, gaps = [], []
    deadline_s = time.monotonic() + limit_s
    while len(readings) < count and time.monotonic() < deadline_s:
        batch = meter.read(0.05)
        readings += batch.readings
        gaps += batch.gaps
    assert len(readings) >= count
    return readings, gaps


def test_polled_meter_gives_a_reading_a_period_with_rising_stamps():
    _, meter = started(1.0, 2.0, 3.0)
    readings, gaps = taken(meter, 3)
    assert [float(one.watts[0]) for one in readings] == [1, 2, 3]
    assert np.all(np.diff([one.arrival_ns[0] for one in readings]) > 0)
    assert all(math.isnan(one.cycle_s[0]) for one in readings)
    assert not gaps


def test_polled_meter_waits_no_longer_than_it_is_told():
    _, meter = started(1.0, period_s=30.0)
    taken(meter, 1)
    before_s = time.monotonic()
    assert not meter.read(0.02)
    assert time.monotonic() - before_s < 1.0


def test_polled_meter_that_was_not_read_for_long_counts_the_periods_and_does_not_catch_up():
    _, meter = started(1.0)
    taken(meter, 1)
    time.sleep(10.5 * PERIOD_S)
    before = meter.counts()["missed_periods"]
    taken(meter, 1)
    assert meter.counts()["missed_periods"] >= before + 9


def test_polled_readings_without_a_number_are_flagged_and_no_zeros():
    _, meter = started(math.nan, math.inf, 5.0)
    readings, gaps = taken(meter, 3)
    assert [int(one.flags[0]) for one in readings] == [NO_NUMBER, OVER_RANGE, 0]
    assert [math.isnan(one.watts[0]) for one in readings] == [True, True, False]
    assert not gaps


@pytest.mark.parametrize(
    ("error", "cause", "count"),
    [
        (Timeout("silence"), "silent", "timeouts"),
        (BadFormat("rubbish"), "garbage", "bad_answers"),
        (DeviceError("pulled"), "lost", "losses"),
    ],
)
def test_polled_meter_that_fails_opens_one_gap_and_closes_it(error, cause, count):
    instrument, meter = started(1.0, error, error, 2.0)
    readings, gaps = taken(meter, 2)
    assert [float(one.watts[0]) for one in readings] == [1, 2]
    opened, closed = gaps
    assert (opened.cause, opened.start_ns, opened.end_ns) == (cause, readings[0].arrival_ns[0], None)
    assert (closed.start_ns, closed.end_ns) == (opened.start_ns, readings[1].arrival_ns[0])
    assert str(error) in opened.text
    assert meter.counts()[count] == 2
    assert instrument.connects == (3 if cause == "lost" else 1)


def test_polled_meter_is_connected_anew_after_three_silent_periods():
    instrument, meter = started(Timeout("a"), Timeout("b"), Timeout("c"), 7.0)
    readings, _ = taken(meter, 1)
    assert float(readings[0].watts[0]) == 7
    assert instrument.connects == 2
    assert meter.counts()["reconnects"] == 1


def test_polled_meter_without_power_is_refused_at_its_opening():
    instrument = Answers()
    instrument.answers = [NotSupported("no metering")]
    with pytest.raises(NotSupported, match="no metering"):
        Polled(instrument, PERIOD_S).open()
    assert instrument.disconnects == 1


@pytest.mark.parametrize("kind", [kind for kind, one in DRIVERS.items() if not one.where.endswith("lmg:make")])
def test_every_kind_of_meter_is_made_without_opening_anything_and_refuses_options_it_lacks(kind):
    where = {"shelly": "http://h", "tasmota": "http://h", "redfish": "https://h", "ptd": "h"}.get(kind, "/dev/null")
    if DRIVERS[kind].extra:
        pytest.importorskip({"visa": "pyvisa", "modbus": "pymodbus"}[DRIVERS[kind].extra])
    make_meter(parse_addresses([f"{kind}:{where}"])[0]).close()
    with pytest.raises(ValueError, match="colour"):
        make_meter(parse_addresses([f"{kind}:{where},colour=red"])[0])


@pytest.mark.parametrize(
    ("kind", "source"), [("hwmon", "hwmon"), ("acpi", "hwmon"), ("ina3221", "hwmon"), ("rapl", "rapl")]
)
def test_kinds_that_the_sampler_reads_itself_say_so(kind, source):
    with pytest.raises(InvalidArgument, match=f"--sources {source}"):
        parse_addresses([f"{kind}:"])


def test_meter_of_a_card_is_not_called_wall_unless_it_is_named_so():
    assert [one.name for one in parse_addresses(["pmd:/a", "pmd:/b", "shelly:http://h", "x=pmd:/c"])] == [
        "pmd", "pmd1", "wall", "x",
    ]  # fmt: skip


def test_docs_have_a_row_for_every_kind_of_meter_and_no_other():
    text = (Path(__file__).parents[1] / "docs" / "meters.md").read_text("utf-8")
    table = text.split("## Kinds", 1)[1].split("\n## ", 1)[0]
    documented = [
        kind for line in table.splitlines() if line.startswith("| `") for kind in KIND.findall(line.split("|")[1])
    ]
    assert sorted(documented) == sorted([*DRIVERS, "sim"])
