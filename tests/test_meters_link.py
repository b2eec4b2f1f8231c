# SPDX-License-Identifier: Apache-2.0
"""Addresses, ports and stamped bytes, over pseudo-terminals and local TCP connections."""

import grp
import os
import pty
import socket
import threading
import time
import tty
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from unprivileged import as_nobody

from powersample import errors
from powersample.meters import connect, make_meter, modbus, parse_addresses, transport
from powersample.meters import link as links
from powersample.meters.connect import bounded, connected
from powersample.meters.contract import power_channel
from powersample.meters.link import Link, LinkLost
from powersample.meters.registry import Address
from powersample.meters.transport import (
    SerialPort,
    TcpPort,
    group_of,
    host_of,
    latency_timer_ms,
    port_of,
)
from powersample.model import Accuracy, MeterInfo


@pytest.fixture
def terminal():
    """A pseudo-terminal: (master descriptor, slave's path)."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    path = os.ttyname(slave)
    os.close(slave)
    ends = [master]
    yield ends, path
    for one in ends:
        os.close(one)


def wait_until(condition, timeout_s=5.0):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.002)


def taken(link, count, timeout_s=5.0):
    """Return `count` bytes and the stamps of their chunks."""
    data, stamps, deadline = b"", [], time.monotonic() + timeout_s
    while len(data) < count and time.monotonic() < deadline:
        chunk = link.read(0.2)
        if chunk is not None:
            data += chunk.data
            stamps.append(chunk.arrival_ns)
    return data, stamps


def test_serial_link_over_a_pty_passes_every_byte_both_ways_with_rising_stamps(terminal):
    (master, *_), path = terminal
    link = Link(SerialPort(path, rtscts=True))
    link.open()
    before_ns = time.monotonic_ns()
    for value in range(256):
        os.write(master, bytes([value]))
    data, stamps = taken(link, 256)
    assert data == bytes(range(256))
    assert stamps == sorted(stamps)
    assert before_ns <= stamps[0]
    assert stamps[-1] <= time.monotonic_ns()
    link.write(b"*IDN?\n")
    assert os.read(master, 64) == b"*IDN?\n"
    link.close()


def test_stamp_is_never_early_though_the_reader_is_held_up(terminal, monkeypatch):
    """What comes between the wake-up and the read is read with it; all that follows takes early stamps for truth."""
    (master, *_), path = terminal
    came_ns = []

    def held_up(fd, count):
        if not came_ns:
            os.write(master, b"second")
            came_ns.append(time.monotonic_ns())
        return os_read(fd, count)

    os_read = os.read
    link = Link(SerialPort(path))
    link.open()
    monkeypatch.setattr(links.os, "read", held_up)
    os.write(master, b"first ")
    data, stamps = taken(link, 12)
    monkeypatch.undo()
    link.close()
    assert data == b"first second"
    assert stamps[0] >= came_ns[0]


def test_serial_link_tolerates_what_a_pty_cannot_do(terminal):
    """send_break has no effect, and the modem lines raise OSError(25)."""
    _, path = terminal
    port = SerialPort(path, rtscts=True)
    link = Link(port)
    link.open()
    assert port.clear_to_send() is None
    assert port.send_break() in (True, False)
    link.close()
    assert port.send_break() is False
    link.close()


def test_link_whose_port_vanishes_says_so_and_writes_raise(terminal):
    ends, path = terminal
    link = Link(SerialPort(path))
    link.open()
    os.write(ends[0], b"last words")
    wait_until(lambda: link._held)
    os.close(ends.pop())
    wait_until(lambda: link.lost)
    assert link.read(0).data == b"last words"  # what came before is kept
    assert link.read(0) is None
    with pytest.raises(LinkLost, match=path):
        link.write(b"x")
    assert not link.reopen()
    link.close()


def test_link_that_nobody_takes_from_is_bounded_and_counts_what_it_lost(terminal, monkeypatch):
    (master, *_), path = terminal
    monkeypatch.setattr(links, "QUEUE_BYTES", 1000)
    link = Link(SerialPort(path))
    link.open()
    for _ in range(30):
        os.write(master, b"x" * 100)
    wait_until(lambda: link.dropped_bytes + link._held == 3000)
    assert link.dropped_bytes >= 2000
    assert link.discard() <= 1000
    link.close()


def test_write_that_the_other_side_does_not_take_ends_in_time(terminal):
    _, path = terminal
    link = Link(SerialPort(path))
    link.open()
    with pytest.raises(errors.Timeout, match="handshake"):
        link.write(b"x" * 1_000_000, timeout_s=0.1)
    link.close()


def test_tcp_link_passes_bytes_and_notices_the_end_and_comes_back():
    with socket.create_server(("127.0.0.1", 0)) as server:
        link = Link(TcpPort("127.0.0.1", server.getsockname()[1]))
        link.open()
        peer, _ = server.accept()
        peer.sendall(b"1\n")
        assert taken(link, 2)[0] == b"1\n"
        peer.close()
        wait_until(lambda: link.lost)
        assert link.reopen()
        peer, _ = server.accept()
        link.write(b"again")
        assert peer.recv(16) == b"again"
        peer.close()
        link.close()


def test_tcp_nobody_listens_is_told_with_what_to_do():
    with socket.create_server(("127.0.0.1", 0)) as server:
        number = server.getsockname()[1]
    with pytest.raises(errors.DeviceNotFound, match=r"refused.*Is the meter on"):
        TcpPort("127.0.0.1", number).open()


@pytest.fixture
def no_name_server(monkeypatch):
    """Looking a name up does not end, as behind a firewall that drops the question."""
    asked, over = [], threading.Event()

    def look_up(host, *_, **__):
        asked.append(host)
        over.wait(10)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(transport, "CONNECT_TIMEOUT_S", 0.1)
    monkeypatch.setattr(modbus, "LOOK_UP_S", 0.1)
    yield asked
    over.set()


@pytest.mark.parametrize(
    "address",
    ["lmg600:tcp://meter.lab", "ptd:meter.lab", "hioki:tcp://meter.lab", "sdm630:tcp://meter.lab,timeout=0.1",
     "shelly:http://meter.lab,timeout=0.1", "redfish:https://meter.lab,timeout=0.1"],
)  # fmt: skip
def test_name_whose_look_up_does_not_end_is_given_up(no_name_server, address):
    """The system's resolver waits 10 s and more, a server after the other, and takes no deadline."""
    if address.startswith("sdm"):
        pytest.importorskip("pymodbus", reason="pymodbus (extra modbus) is not installed")
    before_s = time.monotonic()
    with pytest.raises(errors.Timeout, match=r"(look-up of the name meter\.lab|could not be reached).*name server"):
        make_meter(parse_addresses([address])[0]).open()
    assert time.monotonic() - before_s < 5.0
    assert no_name_server == ["meter.lab"]


def test_connection_goes_to_the_next_address_where_one_does_not_take_it(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        number = server.getsockname()[1]
        there = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (host, number)) for host in ("127.0.0.2", "127.0.0.1")]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: there)
        connected("meter.lab", number, 2.0).close()
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: there[:1])
        with pytest.raises(ConnectionRefusedError):
            connected("meter.lab", number, 2.0)


def test_what_comes_after_it_was_given_up_is_given_back(monkeypatch):
    let_go, back = threading.Event(), []
    with pytest.raises(TimeoutError):
        bounded(lambda: let_go.wait(10), 0.05, back.append)
    assert back == []
    let_go.set()
    wait_until(lambda: back == [True])
    assert bounded(lambda: 3, 5.0) == 3

    class Interrupted(threading.Event):
        def wait(self, timeout=None):
            super().wait(timeout)  # until the result is there, which nobody takes now
            raise KeyboardInterrupt

    mine = SimpleNamespace(Event=Interrupted, Lock=threading.Lock, Thread=threading.Thread)
    monkeypatch.setattr(connect, "threading", mine)
    with pytest.raises(KeyboardInterrupt):
        bounded(lambda: 4, 5.0, back.append)
    assert back[-1] == 4
    monkeypatch.undo()
    with pytest.raises(ZeroDivisionError):
        bounded(lambda: 1 // 0, 5.0)


def test_tcp_break_goes_over_its_own_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = TcpPort("127.0.0.1", 1, break_port=server.getsockname()[1])
        heard = []

        def answer():
            peer, _ = server.accept()
            heard.append(peer.recv(16))
            peer.sendall(b"0 ok\n")
            peer.close()

        thread = threading.Thread(target=answer)
        thread.start()
        assert port.send_break()
        thread.join()
    assert heard == [b"break\n"]
    assert not port.send_break()  # nobody there any more
    assert not TcpPort("127.0.0.1", 1).send_break()


def test_port_that_is_missing_in_use_or_no_port_is_told(terminal, tmp_path):
    _, path = terminal
    with pytest.raises(errors.DeviceNotFound, match="powersample doctor"):
        SerialPort(str(tmp_path / "ttyUSB9")).open()
    plain = tmp_path / "file"
    plain.write_text("")
    with pytest.raises(errors.DeviceError, match="no serial port"):
        SerialPort(str(plain)).open()
    first = Link(SerialPort(path))
    first.open()
    with pytest.raises(errors.DeviceError, match="in use by another program"):
        SerialPort(path).open()
    first.close()


def test_port_without_permission_names_the_group(terminal):
    _, path = terminal
    group = group_of(path)
    with (
        as_nobody(Path(path)),
        pytest.raises(errors.AccessDenied, match=rf"{path} may not be used .*\(group") as caught,
    ):
        SerialPort(path).open()
    assert f"usermod -aG {group}" in str(caught.value) or "usermod -aG dialout" in str(caught.value)
    assert isinstance(caught.value, PermissionError)
    assert group_of("/nowhere") == "dialout"
    os.chmod(path, 0o620)
    assert group_of(path) == grp.getgrgid(os.stat(path).st_gid).gr_name


def test_latency_timer_of_an_ftdi_adapter_is_read(tmp_path):
    device = tmp_path / "ttyUSB0/device"
    device.mkdir(parents=True)
    (device / "latency_timer").write_text("16\n")
    assert latency_timer_ms("/dev/ttyUSB0", tmp_path) == 16
    (device / "latency_timer").write_text("fast\n")
    assert latency_timer_ms("/dev/ttyUSB0", tmp_path) is None
    assert latency_timer_ms("/dev/ttyS0", tmp_path) is None


def test_port_of_an_address():
    assert isinstance(port_of("/dev/ttyUSB0", baud=9600, rtscts=False, tcp_port=1), SerialPort)
    assert port_of("tcp://meter", baud=9600, rtscts=False, tcp_port=5025).name == "tcp://meter:5025"
    assert host_of("tcp://[::1]:2101", "tcp", 1) == ("::1", 2101)
    for wrong in ("http://meter", "tcp://", "tcp://meter:99999"):
        with pytest.raises(errors.InvalidArgument):
            host_of(wrong, "tcp", 5025)
    with pytest.raises(errors.InvalidArgument, match="names no port"):
        port_of("", baud=9600, rtscts=False, tcp_port=1)


def test_addresses_are_taken_apart_and_named():
    found = parse_addresses(
        ["lmg450:/dev/ttyUSB0,baud=57600,i=10", "lmg600:tcp://10.0.0.7:5025", "rack=LMG95:/dev/ttyS0"]
    )
    assert found == (
        Address("wall", "lmg450", "/dev/ttyUSB0", {"baud": "57600", "i": "10"}),
        Address("wall1", "lmg600", "tcp://10.0.0.7:5025"),
        Address("rack", "lmg95", "/dev/ttyS0"),
    )
    assert str(found[0]) == "lmg450:/dev/ttyUSB0,baud=57600,i=10"
    assert found[0].number("baud", 1.0) == 57600
    assert found[0].number("cycle", 0.05) == 0.05
    assert parse_addresses(["sim"])[0].kind == "sim"


@pytest.mark.parametrize(
    ("texts", "what"),
    [
        (["lmg9999:/dev/ttyUSB0"], "unknown kind 'lmg9999'; known are lmg450"),
        (["/dev/ttyUSB0"], "no address"),
        ([""], "no address"),
        (["lmg450:/dev/ttyUSB0,fast"], "no option"),
        (["1=lmg450:/dev/ttyUSB0"], "no name"),
        (["a=lmg450:/dev/ttyUSB0", "a=lmg450:/dev/ttyUSB1"], "called 'a'"),
    ],
)
def test_addresses_that_are_none_say_what_is_wrong(texts, what):
    with pytest.raises(errors.InvalidArgument, match=what):
        parse_addresses(texts)


def test_option_that_is_no_number_is_told():
    with pytest.raises(errors.InvalidArgument, match="cycle=fast is no number above 0"):
        Address("wall", "lmg450", "x", {"cycle": "fast"}).number("cycle", 0.05)
    with pytest.raises(errors.InvalidArgument, match="unknown option baut; it has baud"):
        Address("wall", "lmg450", "x", {"baut": "1"}).refuse_unknown(("baud",))


def test_simulated_meter_without_a_node_is_refused():
    with pytest.raises(errors.InvalidArgument, match="--simulate"):
        make_meter(Address("wall", "sim"))


def test_accuracy_of_the_manuals_example():
    """LMG450 manual p. 241: 54.625 W in peak ranges of 400 V and 3.75 A are good to 0.638 W, which is 1.16 %."""
    accuracy = Accuracy(0.07, 0.04, 400 * 3.75)
    assert accuracy.limit_w(54.625) == pytest.approx(0.638, abs=1e-3)
    assert 100 * accuracy.limit_w(54.625) / 54.625 == pytest.approx(1.168, abs=0.005)
    assert np.isnan(Accuracy(0.07, 0.04).limit_w(54.625))  # a range that nobody knows gives no limit
    assert Accuracy(0.5, floor_w=0.5).limit_w(100) == 1.0


@given(st.floats(-1e4, 1e4), st.floats(0, 5), st.floats(0, 5), st.floats(0, 1e5), st.floats(0, 10))
def test_accuracy_is_linear_in_reading_and_range(watts, reading_pct, range_pct, range_w, floor_w):
    limit = Accuracy(reading_pct, range_pct, range_w, floor_w).limit_w([watts, -watts])
    assert limit == pytest.approx(2 * [reading_pct / 100 * abs(watts) + range_pct / 100 * range_w + floor_w])


def test_meter_info_returns_from_json():
    info = MeterInfo(
        "wall", "lmg450", "lmg450:x", "ZES", "LMG450", "1", "2.1", (power_channel("wall", "lmg450.P"),), 0.05,
        latency_s=0.002, accuracy=Accuracy(0.07, 0.04, 1500.0), settings={"baud": 115200}, notes=("a",),
    )  # fmt: skip
    assert MeterInfo.from_json(info.as_json() | {"new": 1}) == info
    with pytest.raises(errors.BadFormat):
        MeterInfo.from_json({"name": "wall"})
