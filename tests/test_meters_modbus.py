# SPDX-License-Identifier: Apache-2.0
"""Eastron SDM against pymodbus's own server: RTU on a serial line and in TCP, Modbus TCP, and each way of failing."""

import asyncio
import math
import os
import struct
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st
from meter_kit import Terminal, first, first_gap, meter

from powersample.errors import AccessDenied, BadFormat, DeviceError, DeviceNotFound, NotSupported, Timeout
from powersample.formats import sdm
from powersample.meters.contract import NO_NUMBER

UNIT = 1


def words(value):
    return list(struct.unpack(">HH", struct.pack(">f", value)))


# ---- registers ----


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_registers_hold_a_float_with_its_high_word_first(value):
    assert sdm.watts(words(value)) == value


@pytest.mark.parametrize("pattern", [[0x7FC0, 0], [0x7F80, 0], [0xFFFF, 0xFFFF]])
def test_registers_without_a_number_are_no_zero(pattern):
    assert math.isnan(sdm.watts(pattern))


@pytest.mark.parametrize("registers", [[], [1], [1, 2, 3], [-1, 0], [1 << 16, 0]])
def test_registers_that_are_none_are_refused(registers):
    with pytest.raises(BadFormat):
        sdm.watts(registers)


# ---- against pymodbus's server ----


@pytest.fixture(autouse=True)
def pymodbus():
    return pytest.importorskip("pymodbus", reason="pymodbus (extra modbus) is not installed")


@contextmanager
def serving(watts, register=0x000C, framer="rtu"):
    """A server in a thread of its own; yields its port and a function that stops it."""
    from pymodbus import FramerType
    from pymodbus.server import ModbusTcpServer
    from pymodbus.simulator import DataType, SimData, SimDevice

    device = SimDevice(UNIT, [SimData(register, values=float(watts), datatype=DataType.FLOAT32)])
    loop = asyncio.new_event_loop()
    ready = threading.Event()
    kept = {}

    async def serve():
        kept["server"] = server = ModbusTcpServer(device, framer=FramerType(framer), address=("127.0.0.1", 0))
        await server.listen()
        kept["port"] = server.transport.sockets[0].getsockname()[1]
        ready.set()
        await server.serving

    def run():
        asyncio.set_event_loop(loop)
        loop.run_until_complete(serve())

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(10)

    def stop():
        if thread.is_alive():
            asyncio.run_coroutine_threadsafe(kept["server"].shutdown(), loop).result(10)
            thread.join(10)

    try:
        yield kept["port"], stop
    finally:
        stop()
        loop.close()


@pytest.mark.parametrize(
    ("kind", "register", "scheme", "framer"),
    [
        ("sdm120", 0x000C, "tcp", "rtu"),
        ("sdm630", 0x0034, "tcp", "rtu"),
        ("sdm230", 0x000C, "modbus-tcp", "socket"),
    ],
)
def test_sdm_over_tcp_gives_the_float_of_its_register(kind, register, scheme, framer):
    with serving(783.5, register, framer) as (port, _):
        made = meter(f"{kind}:{scheme}://127.0.0.1:{port},period=0.01,timeout=3")
        info = made.open()
        assert (info.settings["register"], info.accuracy.reading_pct) == (register, 1.0)
        made.start()
        assert float(first(made).readings[0].watts[0]) == 783.5
        made.close()
        made.close()


def test_sdm_of_another_model_answers_with_an_exception_code():
    with serving(1.0, 0x000C) as (port, _), pytest.raises(NotSupported, match="exception code 2"):
        meter(f"sdm630:tcp://127.0.0.1:{port},timeout=3").open()


def test_sdm_that_is_not_there_is_not_found(tmp_path):
    with pytest.raises(DeviceNotFound):
        meter("sdm120:tcp://127.0.0.1:9").open()
    with pytest.raises(DeviceNotFound):
        meter(f"sdm120:{tmp_path}/ttyUSB7").open()


def test_sdm_server_that_goes_away_leaves_a_gap():
    with serving(5.0) as (port, stop):
        made = meter(f"sdm120:tcp://127.0.0.1:{port},period=0.01,timeout=0.3")
        made.open()
        made.start()
        first(made)
        stop()
        assert first_gap(made).cause in ("lost", "silent")
        made.close()


# ---- a serial line, byte by byte ----


def crc(data):
    value = 0xFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0xA001 if value & 1 else 0)
    return struct.pack("<H", value)


REQUEST_BYTES = 8


@pytest.fixture
def line():
    """A serial line; called with what answers a request."""
    made = []

    def answering(answer):
        def by_request(held):
            whole = len(held) >= REQUEST_BYTES
            return (REQUEST_BYTES, answer(held[:REQUEST_BYTES])) if whole else (0, b"")

        made.append(Terminal(by_request))
        return made[0]

    yield answering
    for one in made:
        one.close()


def framed(unit, function, payload):
    body = bytes([unit, function]) + payload
    return body + crc(body)


def good(value):
    return lambda request: framed(request[0], 4, b"\x04" + struct.pack(">f", value))


def test_sdm_over_a_serial_line_asks_for_two_registers_and_gives_the_float(line):
    far = line(good(230.25))
    made = meter(f"sdm120:{far.path},baud=9600,unit=3,period=0.01,timeout=3")
    info = made.open()
    made.start()
    assert float(first(made).readings[0].watts[0]) == 230.25
    assert far.seen[:REQUEST_BYTES] == framed(3, 4, b"\x00\x0c\x00\x02")
    assert info.latency_s == pytest.approx(9 * 11 / 9600)
    made.close()


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (lambda _: b"", Timeout),
        (lambda request: good(1.0)(request)[:5], Timeout),
        (lambda request: good(1.0)(request)[:-1] + b"\x00", Timeout),
        (lambda _: os.urandom(40), (Timeout, BadFormat)),
        (lambda request: framed(request[0] + 1, 4, b"\x04" + bytes(4)), (Timeout, BadFormat)),
        (lambda request: framed(request[0], 0x84, b"\x02"), NotSupported),
        (lambda request: framed(request[0], 4, b"\x02\x00\x00"), (BadFormat, Timeout)),
    ],
    ids=["silence", "half", "wrong checksum", "noise", "another unit", "exception", "one register"],
)
def test_sdm_over_a_serial_line_that_fails_does_so_by_name_and_in_bounded_time(line, answer, error):
    far = line(answer)
    before_s = time.monotonic()
    with pytest.raises(error):
        meter(f"sdm120:{far.path},timeout={0.15 if error is Timeout else 0.5}").open()
    assert time.monotonic() - before_s < 5.0


def test_sdm_that_times_out_prints_nothing(line):
    """pymodbus logs each timeout as an error, and Python prints what no handler takes."""
    far = line(lambda _: b"")
    code = f"""
from powersample.meters import make_meter, parse_addresses
try:
    make_meter(parse_addresses(["sdm120:{far.path},timeout=0.1"])[0]).open()
except TimeoutError:
    pass
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_sdm_register_without_a_number_is_flagged(line):
    made = meter(f"sdm120:{line(good(math.nan)).path},period=0.01,timeout=3")
    made.open()
    made.start()
    assert int(first(made).readings[0].flags[0]) == NO_NUMBER
    made.close()


def test_sdm_port_that_is_no_port_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises((DeviceError, AccessDenied)):
        meter(f"sdm120:{tmp_path}/file").open()
