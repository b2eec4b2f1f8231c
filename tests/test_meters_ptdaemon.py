# SPDX-License-Identifier: Apache-2.0
"""PTDaemon over TCP against a server that speaks as it does, refuses, stammers, falls silent and hangs up."""

import math
import time

import numpy as np
import pytest
from meter_kit import LineServer, first, first_gap, meter, opened
from ptd_run import spl_line

from powersample.errors import BadFormat, DeviceError, DeviceNotFound, InvalidArgument, Timeout
from powersample.formats import ptdaemon as words
from powersample.meters.contract import NO_NUMBER

IDENTIFY = (
    "YokogawaWT310,1000,1,1,1,1,0,0,1,version=1.11.1-5d2,OS=Linux,mode=power,1,1,1,0,0,no_cal_date,YOKOGAWA;WT310"
)
STARTED = "Starting untimed measurement, maximum 500000 samples at 1000ms with 0 rampup samples"
START_S = 1_750_000_000.0

# ---- words ----


def test_replies_are_understood():
    who = words.identity(IDENTIFY)
    assert (who.model, who.version, who.instrument, who.simulated) == (
        "YokogawaWT310",
        "1.11.1",
        "YOKOGAWA;WT310",
        False,
    )
    assert words.ranges("Ranges,1,5.000000,0,300.000000") == words.Ranges(None, 300.0)
    assert words.ranges("Ranges,0,2,-1,300") == words.Ranges(2.0, None)
    assert words.interval_ms(STARTED) == 1000
    assert words.lines_to_come("Last 12 samples") == 12
    assert [words.set_range("A", 2.0), words.set_range("V", None)] == ["SR,A,2", "SR,V,Auto"]
    assert words.go(1000, "a b") == "Go,1000,0,a b"


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: words.identity("Error: not ready"), BadFormat),
        (lambda: words.identity(""), BadFormat),
        (lambda: words.ranges("Ranges,1,5"), BadFormat),
        (lambda: words.ranges("Watts,1,5,1,3"), BadFormat),
        (lambda: words.interval_ms("Error: measurement in progress"), DeviceError),
        (lambda: words.interval_ms("Starting"), BadFormat),
        (lambda: words.lines_to_come("Error: no data"), DeviceError),
        (lambda: words.lines_to_come("Last 9999999 samples"), BadFormat),
        (lambda: words.accepted("Hello", "SSH-2.0", words.HELLO), BadFormat),
        (lambda: words.accepted("SR,A,9", "Error: no such range", "Range"), DeviceError),
        (lambda: words.go(1000, "a,b"), InvalidArgument),
        (lambda: words.go(1000, "a\nStop"), InvalidArgument),
    ],
)
def test_replies_and_marks_that_are_none_are_refused(call, error):
    with pytest.raises(error):
        call()


# ---- the driver ----


class Daemon(LineServer):
    """A PTDaemon: `answers` by command or its first word; `samples` are what RL gives."""

    def __init__(self):
        self.answers = {
            "Hello": words.HELLO,
            "Identify": IDENTIFY,
            "Go": STARTED,
            "Stop": "Stopping untimed measurement",
        }
        self.ranges = {"A": "1,5.000000", "V": "1,300.000000"}
        self.samples = []
        super().__init__()

    def answer(self, command):
        word = command.split(",")[0]
        for key in (command, word):
            if key in self.answers:
                return self.answers[key]
        if word == "RR":
            return f"Ranges,{self.ranges['A']},{self.ranges['V']}"
        if word == "SR":
            _, what, value = command.split(",")
            self.ranges[what] = "1,5" if value == "Auto" else f"0,{float(value):.6f}"
            return f"Range {what} changed"
        if word == "RL":
            return "\r\n".join([f"Last {len(self.samples)} samples", *self.samples])
        return "Error: unknown command"


@pytest.fixture
def daemon():
    made = Daemon()
    yield made
    made.close()


def at(daemon, more=""):
    return f"ptd:127.0.0.1:{daemon.port},interval=0.04{more}"


def test_ptd_gives_each_sample_once_by_the_daemons_own_stamps(daemon):
    """RL repeats what it gave before, as far as anybody knows; new is what has a later stamp."""
    made, info = opened(at(daemon))
    assert (info.maker, info.model, info.firmware) == ("YOKOGAWA", "YokogawaWT310", "PTDaemon 1.11.1")
    assert "Go,40,0,powersample" in daemon.asked
    watts, stamps = [], []
    for second in range(5):
        daemon.samples.append(spl_line(START_S + second, 100 + second))
        (one,) = first(made).readings
        watts += list(one.watts)
        stamps += list(one.arrival_ns)
    assert watts == [100, 101, 102, 103, 104]
    assert np.all(np.diff(stamps) > 0)
    made.close()
    assert "Stop" in daemon.asked


def test_ptd_arrivals_are_as_even_as_the_daemons_clock(daemon):
    """Samples that come together, late, lie apart by their stamps."""
    made, _ = opened(at(daemon))
    daemon.samples = [spl_line(START_S)]
    first(made)
    daemon.samples += [spl_line(START_S + 0.001 * one) for one in (1, 2, 3)]
    arrival_ns = np.concatenate([one.arrival_ns for one in first(made).readings])
    assert np.all(np.abs(np.diff(arrival_ns) - 10**6) < 2)
    made.close()


def test_ptd_ranges_are_set_and_given_back(daemon):
    daemon.ranges["V"] = "0,150.000000"
    made, info = opened(at(daemon, ",volts=230,amps=5"))
    assert (info.settings["volts"], info.settings["amps"]) == (230.0, 5.0)
    made.close()
    assert daemon.ranges == {"V": "0,150.000000", "A": "1,5"}


def test_ptd_ranges_are_given_back_when_nothing_was_measured(daemon):
    """As when another meter of the same recording cannot be opened."""
    daemon.ranges["V"] = "0,150.000000"
    made = meter(at(daemon, ",volts=230"))
    made.open()
    assert daemon.ranges["V"] == "0,230.000000"
    made.close()
    made.close()
    assert daemon.ranges["V"] == "0,150.000000"


@pytest.mark.parametrize("lives", [True, False])
def test_ptd_ranges_are_given_back_to_a_daemon_whose_connection_was_lost(daemon, lives):
    made, _ = opened(at(daemon, ",volts=230"))
    daemon.hang_up()
    first_gap(made)
    if not lives:
        daemon.answers["Hello"] = "SSH-2.0"  # it is gone, and another is there
    made.close()
    assert daemon.ranges["V"] == ("1,5" if lives else "0,230.000000")
    assert made.counts().get("errors", 0) == (not lives)


def test_ptd_samples_since_the_last_question_come_at_the_stop(daemon):
    """Late in a long measurement answers are long, and questions far between."""
    made, _ = opened(at(daemon))
    daemon.samples = [spl_line(START_S)]
    first(made)
    made._due_s += 3600
    daemon.samples.append(spl_line(START_S + 1, 77.0))
    made.stop()
    assert list(made.read(0.0).readings[0].watts) == [77]
    assert not made.read(0.0)
    made.close()
    assert daemon.asked[-1] == "Stop"


def test_ptd_is_stopped_though_its_last_answer_was_garbage(daemon):
    made, _ = opened(at(daemon))
    daemon.answers["RL"] = "nonsense"
    made.close()
    assert daemon.asked[-1] == "Stop"
    assert made.counts()["errors"] == 1


def test_ptd_without_a_number_is_flagged(daemon):
    made, _ = opened(at(daemon))
    daemon.samples = [spl_line(START_S).replace("Watts,500.000000", "Watts,nan"), spl_line(START_S + 1)]
    (one,) = first(made).readings
    assert list(one.flags) == [NO_NUMBER, 0]
    assert math.isnan(one.watts[0])
    made.close()


def test_ptd_dummy_device_is_said_to_measure_nothing(daemon):
    daemon.answers["Identify"] = "DummyPTD,0,version=1.11.1-a,x"
    made = meter(at(daemon))
    info = made.open()
    made.close()
    assert info.simulated
    assert any("measures nothing" in note for note in info.notes)


def test_ptd_that_measures_already_is_stopped_and_started(daemon):
    replies = iter(["Error: measurement in progress", STARTED])
    daemon.answer = lambda command, given=daemon.answer: next(replies) if command.startswith("Go") else given(command)
    made, _ = opened(at(daemon))
    daemon.samples = [spl_line(START_S)]
    assert first(made).readings[0].watts[0] == 500
    made.close()


@pytest.mark.parametrize(
    ("command", "answer", "error"),
    [
        ("Hello", "SSH-2.0-OpenSSH", BadFormat),
        ("Hello", None, Timeout),
        ("Hello", b"Hello, PTD", Timeout),
        ("Identify", "Error: no meter", BadFormat),
        ("RR", b"\xff\xfe\r\n", BadFormat),
        ("SR", "Error: range not available", DeviceError),
    ],
)
def test_ptd_that_is_not_what_it_should_be_is_refused_by_name(daemon, command, answer, error):
    daemon.answers[command] = answer
    before_s = time.monotonic()
    with pytest.raises(error):
        meter(at(daemon, ",amps=5" + (",timeout=0.15" if error is Timeout else ""))).open()
    assert time.monotonic() - before_s < 5.0


def test_ptd_that_is_not_there_is_not_found():
    with pytest.raises(DeviceNotFound):
        meter("ptd:127.0.0.1:9").open()


@pytest.mark.parametrize(
    ("fail", "cause"),
    [
        (lambda daemon: daemon.hang_up(), "unplugged"),
        (lambda daemon: daemon.answers.update(RL="nonsense"), "garbage"),
        (lambda daemon: daemon.answers.update(RL="Last 1 samples\r\nnonsense"), "garbage"),
        (lambda daemon: daemon.answers.update(RL=b"Last 3 samples\r\nTime,06"), "unplugged"),
    ],
    ids=["hangs up", "garbage", "no sample", "half an answer"],
)
def test_ptd_that_fails_while_it_measures_leaves_a_gap_and_comes_back(daemon, monkeypatch, fail, cause):
    monkeypatch.setattr("powersample.meters.ptdaemon.RETRY_S", 0.02)
    made, _ = opened(at(daemon, ",timeout=0.3"))
    daemon.samples = [spl_line(START_S)]
    first(made)
    fail(daemon)
    gap = first_gap(made)
    assert gap.cause == cause
    daemon.answers.pop("RL", None)
    daemon.samples.append(spl_line(START_S + 9, 77.0))
    back = first(made)
    assert back.readings[0].watts[-1] == 77
    assert (back.gaps[0].start_ns, back.gaps[0].end_ns) == (gap.start_ns, back.readings[0].arrival_ns[0])
    made.close()


def test_ptd_that_gives_no_samples_for_long_is_silent(daemon, monkeypatch):
    monkeypatch.setattr("powersample.meters.ptdaemon.SILENT_S", 0.1)
    made, _ = opened(at(daemon))
    assert first_gap(made).cause == "silent"
    made.close()


def test_ptd_whose_clock_is_set_goes_on_from_there(daemon):
    """As when daylight saving ends on the daemon's host: the same hour of local time comes twice."""
    made, _ = opened(at(daemon))
    daemon.samples = [spl_line(START_S)]
    first(made)
    daemon.samples = [spl_line(START_S - 3599, 42.0)]
    assert first(made).readings[0].watts[0] == 42
    assert made.counts()["clock_jumps"] == 1
    made.close()
