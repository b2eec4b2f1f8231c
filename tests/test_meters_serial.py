# SPDX-License-Identifier: Apache-2.0
"""PMD-USB and Watts Up? on a pseudo-terminal: the published stream, and silence, garbage, unplugging on the way."""

import math
import threading
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from meter_kit import Terminal, first, first_gap, meter, opened
from test_formats import pmd_frames

from powersample.errors import DeviceError, DeviceNotFound, InvalidArgument, NotSupported, Timeout
from powersample.formats import pmd, wattsup
from powersample.meters import link as links
from powersample.meters import parse_addresses
from powersample.meters.contract import NO_NUMBER
from powersample.meters.link import Chunk
from powersample.meters.pmd import Pmd
from powersample.meters.wattsup import WattsUp

MEASURED = Path(__file__).parents[2] / "shared" / "data" / "measured" / "gpu_power_benchmark"

# ---- the parsers ----


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 5000), max_size=12), st.integers(0, 40))
def test_pmd_stream_cut_anywhere_gives_the_frames_of_the_whole(cuts, junk):
    data = pmd_frames(100)
    data = data[: 30 * 18 + 5] + b"\xff" * junk + data[30 * 18 + 5 :] + pmd_frames(60)
    stream = pmd.Stream()
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [stream.feed(data[one:other]) for one, other in pairwise(edges)]
    pieces.append(stream.feed(b"", last=True))
    whole = pmd.Stream()
    assert np.array_equal(np.concatenate(pieces), whole.feed(data, last=True))
    assert stream.skipped == whole.skipped


def test_pmd_stream_of_garbage_gives_nothing_and_holds_little():
    """As at a wrong rate: a second of it, in pieces."""
    stream = pmd.Stream()
    garbage = np.random.default_rng(1).integers(0, 256, 90_000, np.uint8).tobytes()
    assert sum(len(stream.feed(garbage[at : at + 999])) for at in range(0, len(garbage), 999)) == 0
    assert stream.pending < 9 * pmd.FRAME_BYTES


def packets(data, *cuts):
    parser = wattsup.Packets()
    edges = [0, *cuts, len(data)]
    found = [one for a, b in pairwise(edges) for one in parser.feed(data[a:b])]
    return parser, found


DATA = b"#d,-,4,1191,1203,97,_;\r\n"


def test_wattsup_packet_has_tenths_of_a_watt_and_absent_is_not_zero():
    _, (packet,) = packets(DATA)
    assert wattsup.watts(packet) == pytest.approx(119.1)
    assert math.isnan(wattsup.watts(packet, ("V", "A", "Hz", "W")))
    assert math.isnan(wattsup.watts(packet, ("V",)))
    _, (absent,) = packets(b"#d,-,2,_,1203;")
    assert math.isnan(wattsup.watts(absent))


@pytest.mark.parametrize(
    ("data", "good", "bad"),
    [
        (b"noise" + DATA + b"more" + DATA, 2, 0),
        (b"#d,-,4,1191,12" + DATA, 1, 1),
        (b"#d,-,5,1191,1203,97,_;" + DATA, 1, 1),
        (b"#d,-,x,1;#;#d;" + DATA, 1, 3),
        (b"#" + b"1" * 600 + DATA, 1, 1),
        (b"#d,-,1,\xff;" + DATA, 1, 1),
        (b"", 0, 0),
    ],
)
def test_wattsup_packets_among_garbage_are_found(data, good, bad):
    parser, found = packets(data)
    assert (len(found), parser.bad_packets) == (good, bad)


@given(st.lists(st.integers(0, 60), max_size=6))
def test_wattsup_packets_cut_anywhere_are_the_same(cuts):
    data = b"x" + DATA + b"#d,-,4,1191,12" + DATA + DATA
    parser, found = packets(data, *sorted(min(cut, len(data)) for cut in cuts))
    whole, expected = packets(data)
    assert found == expected
    assert (parser.garbage_bytes, parser.bad_packets) == (whole.garbage_bytes, whole.bad_packets)


# ---- PMD-USB ----


class FakePmd(Terminal):
    """A PMD-USB: greets, tells its identity, and sends `stream` when it is told to."""

    def __init__(self, stream=b"", name=pmd.NAME, identity=b"\xee\x0a\x06"):
        self.stream, self.name, self.identity = stream, name, identity
        self.commands = []
        super().__init__(self.reply)

    def reply(self, held):
        sizes = {0: 1, 1: 1, 7: 4, 8: 17}
        size = sizes.get(held[0], 1)
        if len(held) < size:
            return 0, b""
        command = held[:size]
        self.commands.append(command)
        if command == pmd.STREAM_ON and self.stream:
            threading.Thread(target=self.send, args=(self.stream,), daemon=True).start()
        return size, {0: self.name, 1: self.identity}.get(command[0], b"")


@pytest.fixture
def terminal():
    """Call with a far end to have it closed."""
    made = []

    def keep(one):
        made.append(one)
        return one

    yield keep
    for one in made:
        one.close()


def taken(made, count, limit_s=20.0):
    readings, have, deadline_s = [], 0, time.monotonic() + limit_s
    while have < count and time.monotonic() < deadline_s:
        for one in made.read(0.1).readings:
            readings.append(one)
            have += len(one)
    arrival_ns = np.concatenate([one.arrival_ns for one in readings]) if readings else np.empty(0, np.int64)
    return arrival_ns, np.concatenate([one.watts for one in readings]) if readings else np.empty(0)


def test_pmd_over_a_serial_line_is_set_up_streams_and_is_left_as_it_was(terminal):
    far = terminal(FakePmd(pmd_frames(500)))
    made, info = opened(f"pmd:{far.path}")
    assert (info.model, info.firmware, info.channels[0].name) == ("PMD-USB", "6", "pmd.power")
    assert info.channels[0].domain == "gpu"
    arrival_ns, watts = taken(made, 500)
    assert len(watts) == 500
    assert np.all(np.diff(arrival_ns) > 0)
    made.stop()
    made.close()
    deadline_s = time.monotonic() + 5
    while pmd.set_line(115200) not in far.commands and time.monotonic() < deadline_s:
        time.sleep(0.005)
    assert far.commands[-2:] == [pmd.STREAM_OFF, pmd.set_line(115200)]
    assert pmd.set_line(921600) in far.commands


def test_pmd_samples_are_all_there_when_more_has_come_than_one_read_takes(terminal, monkeypatch):
    monkeypatch.setattr("powersample.meters.streamed.CHUNKS_A_READ", 1)
    data = pmd_frames(3000)
    made, _ = opened(f"pmd:{terminal(FakePmd(data)).path}")
    time.sleep(0.1)
    _, watts = taken(made, 3000)
    assert len(watts) == 3000
    assert made.counts()["garbage_bytes"] == 0
    made.close()


def test_pmd_samples_of_one_piece_are_placed_by_their_ticks(terminal):
    sender = Pmd(parse_addresses(["pmd:/dev/null"])[0], 921600)
    one = sender.take(Chunk(10**12, pmd_frames(100)))
    assert one.arrival_ns[-1] == 10**12
    assert np.allclose(np.diff(one.arrival_ns), 602 / pmd.TICKS_PER_MS * 1e6, atol=1)
    assert np.isnan(one.cycle_s).all()


@pytest.mark.parametrize("name", ["square_3090", "step_a100"])
def test_measured_pmd_stream_through_a_serial_line_gives_the_files_samples_exactly(terminal, monkeypatch, name):
    monkeypatch.setattr("powersample.meters.pmd.Pmd.silence_s", 60.0)  # the fake may be starved, and would send again
    path = MEASURED / name / "PMD_data.bin"
    if not path.exists():
        pytest.skip("the published traces (../shared/data) are not here")
    data = path.read_bytes()
    expected = pmd.parse(data, "file").series[0].value
    made, _ = opened(f"pmd:{terminal(FakePmd(data)).path}")
    _, watts = taken(made, len(expected))
    assert np.array_equal(watts, expected)
    assert made.counts() == {"garbage_bytes": 0, "dropped_bytes": 0}
    made.close()


@pytest.mark.parametrize(
    ("far", "error", "message"),
    [
        (lambda: FakePmd(name=b""), DeviceError, "no PMD-USB answers"),
        (lambda: FakePmd(name=b"ElmorLabs EVC2-XX"), DeviceError, "no PMD-USB answers"),
        (lambda: FakePmd(identity=b"\x00\x00\x01"), DeviceError, "identity"),
    ],
    ids=["silence", "another device", "unknown identity"],
)
def test_pmd_that_is_none_is_refused(terminal, far, error, message):
    with pytest.raises(error, match=message):
        meter(f"pmd:{terminal(far()).path}").open()


def test_pmd_port_that_is_not_there_or_line_too_slow_is_refused(tmp_path):
    with pytest.raises(DeviceNotFound, match="no such port"):
        meter(f"pmd:{tmp_path}/ttyUSB9").open()
    with pytest.raises(InvalidArgument, match="921600"):
        meter("pmd:/dev/ttyUSB0,baud=115200")


def test_pmd_that_falls_silent_leaves_a_gap_and_is_set_up_anew(terminal, monkeypatch):
    monkeypatch.setattr("powersample.meters.pmd.Pmd.silence_s", 0.2)
    monkeypatch.setattr("powersample.meters.streamed.RETRY_S", 0.05)
    made, _ = opened(f"pmd:{terminal(FakePmd(pmd_frames(200))).path}")
    taken(made, 200)
    gap = first_gap(made)
    assert (gap.cause, gap.end_ns) == ("silent", None)
    closed = first(made).gaps[0]  # the fake sends again when it is told to
    assert closed.start_ns == gap.start_ns < closed.end_ns
    assert made.counts()["reconnects"] == 1
    made.close()


def test_pmd_that_another_device_is_in_the_place_of_says_so_in_its_gap(terminal, monkeypatch):
    monkeypatch.setattr("powersample.meters.pmd.Pmd.silence_s", 0.2)
    monkeypatch.setattr("powersample.meters.streamed.RETRY_S", 0.05)
    far = terminal(FakePmd(pmd_frames(200)))
    made, _ = opened(f"pmd:{far.path}")
    taken(made, 200)
    far.name = b"ElmorLabs EVC2-XX"
    gap = first_gap(made)
    lasting = first_gap(made)
    assert (lasting.start_ns, lasting.end_ns, lasting.cause) == (gap.start_ns, None, "silent")
    assert lasting.text.startswith(gap.text)
    assert "no PMD-USB answers" in lasting.text
    made.close()


def test_pmd_that_is_pulled_is_told_at_once_and_ends_in_bounded_time(terminal):
    far = terminal(FakePmd(pmd_frames(200)))
    made, _ = opened(f"pmd:{far.path}")
    taken(made, 200)
    far.close()
    assert first_gap(made).cause == "unplugged"
    before_s = time.monotonic()
    made.read(0.05)
    made.stop()
    made.close()
    assert time.monotonic() - before_s < 5.0


# ---- Watts Up? ----


class FakeWattsUp(Terminal):
    """A Watts Up?: tells version and fields, and sends `readings` when it is told to start."""

    def __init__(self, readings=(), fields=b"#h,-,3,W,V,A;", version=b"#v,-,8,PRO,9,31,4,0,2008,1,0;"):
        self.readings, self.fields, self.version = readings, fields, version
        super().__init__(self.reply)

    def reply(self, held):
        end = held.find(b";") + 1
        command = held[:end]
        answers = {b"#V": self.version, b"#H": self.fields, b"#L,W": b"".join(self.readings)}
        return end, next((answers[one] for one in answers if command.startswith(one)), b"")


def test_wattsup_over_a_serial_line_gives_its_readings(terminal):
    far = terminal(FakeWattsUp([b"#d,-,3,1191,1203,97;", b"junk", b"#d,-,3,_,1203,97;"]))
    made, info = opened(f"wattsup:{far.path}")
    assert (info.model, info.firmware, info.settings["fields"]) == ("Watts Up? PRO", "4.0", ["W", "V", "A"])
    readings = []
    while len(readings) < 2:
        readings += [
            (float(w), int(f)) for one in first(made).readings for w, f in zip(one.watts, one.flags, strict=True)
        ]
    assert readings[0] == (pytest.approx(119.1), 0)
    assert math.isnan(readings[1][0])
    assert readings[1][1] == NO_NUMBER
    assert made.counts()["garbage_bytes"] == 4
    made.close()
    deadline_s = time.monotonic() + 5
    while not far.seen.endswith(b"#L,R,0;") and time.monotonic() < deadline_s:
        time.sleep(0.005)
    assert far.seen.endswith(b"#L,R,0;")


@pytest.mark.parametrize(
    ("far", "error"),
    [
        (lambda: FakeWattsUp(version=b"", fields=b""), Timeout),
        (lambda: FakeWattsUp(version=b"garbage" * 100, fields=b"#h,-,9,W;"), Timeout),
        (lambda: FakeWattsUp(fields=b"#h,-,2,V,A;"), NotSupported),
    ],
    ids=["silence", "garbage", "no watts"],
)
def test_wattsup_that_is_none_is_refused(terminal, monkeypatch, far, error):
    monkeypatch.setattr("powersample.meters.wattsup.ANSWER_S", 0.1 if error is Timeout else 1.0)
    with pytest.raises(error):
        meter(f"wattsup:{terminal(far()).path}").open()


def test_wattsup_that_falls_silent_leaves_a_gap(terminal, monkeypatch):
    monkeypatch.setattr("powersample.meters.wattsup.WattsUp.silence_s", 0.15)
    made, _ = opened(f"wattsup:{terminal(FakeWattsUp([DATA])).path}")
    first(made)
    assert first_gap(made).cause == "silent"
    made.close()


def test_wattsup_without_fields_takes_the_usual_ones(terminal, monkeypatch):
    monkeypatch.setattr("powersample.meters.wattsup.ANSWER_S", 0.3)
    made, _ = opened(f"wattsup:{terminal(FakeWattsUp([DATA], fields=b'')).path}")
    assert first(made).readings[0].watts[0] == pytest.approx(119.1)
    made.close()


# ---- both ----


@pytest.mark.parametrize(("kind", "fake"), [("pmd", FakePmd), ("wattsup", FakeWattsUp)])
def test_sender_that_is_set_up_anew_keeps_count_of_what_was_lost_before(terminal, monkeypatch, kind, fake):
    """A line that was lost is a reason to look at the counts, not to begin them anew."""
    made = {"pmd": Pmd, "wattsup": WattsUp}[kind]
    far = terminal(fake())
    address = parse_addresses([f"{kind}:{far.path}"])[0]
    sender = made(address, 921600) if kind == "pmd" else made(address)
    sender.connect()
    sender.begin()
    with monkeypatch.context() as full:
        full.setattr(links, "QUEUE_BYTES", 0)
        far.send(b"\x55" * 40)
        deadline_s = time.monotonic() + 5
        while sender.link.dropped_bytes < 40 and time.monotonic() < deadline_s:
            time.sleep(0.005)
    sender.take(Chunk(1, b"\x55" * 900))
    garbage = sender.counts()["garbage_bytes"]
    assert garbage > 0
    sender.connect()
    sender.begin()
    assert (sender.link.dropped_bytes, sender.counts()["garbage_bytes"]) == (40, garbage)
    sender.link.close()
