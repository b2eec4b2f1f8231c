# SPDX-License-Identifier: Apache-2.0
"""Plugs and Redfish against a local server that fails as such things do; DCMI against an ipmitool that is not one."""

import contextlib
import json
import math
import socket
import ssl
import subprocess
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from meter_kit import first, first_gap, meter, opened

from powersample.errors import (
    AccessDenied,
    BadFormat,
    DeviceError,
    DeviceNotFound,
    InvalidArgument,
    NotSupported,
    PowerSampleError,
    Timeout,
)
from powersample.formats import bmc, plugs
from powersample.meters import http
from powersample.meters.contract import NO_NUMBER
from powersample.meters.http import PASSWORD, USER, Http

DEVICE = {"model": "SNPL-00112EU", "mac": "A8032AB1", "ver": "1.4.4"}
SWITCH = {"switch:0": {"id": 0, "output": True, "apower": 123.4, "voltage": 230.1, "aenergy": {"total": 5.0}}}
TASMOTA = {"StatusSNS": {"Time": "2026-11-25T20:00:00", "ENERGY": {"Power": 87, "Voltage": 229}}}


class Server:
    """Answers by path: an object as JSON, bytes as they are, a number as a status, a function by calling it."""

    def __init__(self):
        self.answers, self.seen = {}, []

    def handle(self, handler):
        self.seen.append((handler.path, dict(handler.headers)))
        answer = self.answers.get(handler.path, 404)
        if callable(answer):
            answer = answer(handler)
        if answer is None:
            return
        if isinstance(answer, int):
            handler.send_response(answer)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)


@contextmanager
def serving(tls=None, shake_s=0.0):
    """A local server; `tls`: its context; `shake_s`: how long it waits before it shakes hands."""
    made = Server()

    class Handler(BaseHTTPRequestHandler):
        def setup(self):
            if tls is not None:
                time.sleep(shake_s)
                self.request = tls.wrap_socket(self.request, server_side=True)
            super().setup()

        def finish(self):
            with self.request:
                super().finish()

        def do_GET(self):
            made.handle(self)

        def log_message(self, *_):
            pass

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_):
            pass  # clients that hang up are the point of some tests

    server = Quiet(("127.0.0.1", 0), Handler)
    made.base = f"http{'s' if tls else ''}://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def server():
    with serving() as made:
        made.answers = {
            "/rpc/Shelly.GetDeviceInfo": DEVICE,
            "/rpc/Shelly.GetStatus": SWITCH,
            "/cm?cmnd=Status%202": {"StatusFWR": {"Version": "14.2.0"}},
            "/cm?cmnd=Status%208": TASMOTA,
        }
        yield made


# ---- plugs ----


def test_shelly_gives_its_power_and_says_who_it_is(server):
    made, info = opened(f"shelly:{server.base},period=0.01")
    assert (info.maker, info.model, info.firmware) == ("Shelly", "SNPL-00112EU", "1.4.4")
    assert info.channels[0].name == "wall.power"
    assert info.accuracy.offset_w == 1.0
    assert float(first(made).readings[0].watts[0]) == 123.4
    made.stop()
    made.close()


def test_shelly_with_several_powers_wants_one_named(server):
    server.answers["/rpc/Shelly.GetStatus"] = {"em1:0": {"act_power": 10.5}, "em1:1": {"act_power": -3.0}, "sys": {}}
    with pytest.raises(NotSupported, match="component=em1:0"):
        meter(f"shelly:{server.base}").open()
    made, _ = opened(f"shelly:{server.base},component=em1:1,period=0.01")
    assert float(first(made).readings[0].watts[0]) == -3.0


def test_shelly_without_metering_is_refused_and_one_that_loses_its_number_is_not_zero(server):
    server.answers["/rpc/Shelly.GetStatus"] = {"switch:0": {"id": 0, "output": True}}
    with pytest.raises(NotSupported, match="does not meter"):
        meter(f"shelly:{server.base}").open()
    server.answers["/rpc/Shelly.GetStatus"] = SWITCH
    made, _ = opened(f"shelly:{server.base},period=0.01")
    server.answers["/rpc/Shelly.GetStatus"] = {"switch:0": {"apower": None}}
    assert int(first(made).readings[0].flags[0]) == NO_NUMBER


def test_tasmota_gives_one_power_or_several(server):
    made, info = opened(f"tasmota:{server.base},period=0.01")
    assert info.firmware == "14.2.0"
    assert float(first(made).readings[0].watts[0]) == 87
    server.answers["/cm?cmnd=Status%208"] = {"StatusSNS": {"ENERGY": {"Power": [5, 7.5]}}}
    made, info = opened(f"tasmota:{server.base},period=0.01")
    assert [one.name for one in info.channels] == ["wall.power.ch1", "wall.power.ch2"]
    assert [float(one.watts[0]) for one in first(made).readings] == [5, 7.5]


@pytest.mark.parametrize(
    ("status", "error"),
    [
        ({"StatusSNS": {"Time": "x"}}, NotSupported),
        ({"WARNING": "Need user=<username>&password=<password>"}, BadFormat),
        ({"StatusSNS": {"ENERGY": {"Power": "87"}}}, BadFormat),
    ],
)
def test_tasmota_without_power_is_refused(status, error):
    with pytest.raises(error):
        plugs.tasmota_watts(status)


def hang(handler):
    time.sleep(0.3)


def trickle(handler):
    handler.send_response(200)
    handler.end_headers()
    for _ in range(40):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.01)


def trickle_headers(handler):
    with contextlib.suppress(OSError):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
        for _ in range(40):
            handler.wfile.write(b"X-A: b\r\n")
            handler.wfile.flush()
            time.sleep(0.01)


def hang_up(handler):
    handler.connection.close()


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (hang, Timeout),
        (trickle, Timeout),
        (trickle_headers, Timeout),
        (hang_up, (DeviceError, BadFormat, DeviceNotFound)),
        (b"<html>login</html>", BadFormat),
        (b"[1, 2]", BadFormat),
        (b'{"switch:0": {"apower": "12"}}', BadFormat),
        (b" " * ((1 << 20) + 5), BadFormat),
        (401, AccessDenied),
        (404, NotSupported),
        (503, DeviceError),
    ],
    ids=lambda one: getattr(one, "__name__", str(one)[:12]) if not isinstance(one, type | tuple) else "",
)
def test_plug_that_fails_does_so_by_name_and_in_bounded_time(server, answer, error):
    server.answers["/rpc/Shelly.GetStatus"] = answer
    before_s = time.monotonic()
    timeout = ",timeout=0.15" if error is Timeout else ""
    with pytest.raises(error):
        meter(f"shelly:{server.base},component=switch:0{timeout}").open()
    assert time.monotonic() - before_s < 3.0


def test_plug_that_fails_while_it_records_leaves_a_gap_and_comes_back(server):
    made, _ = opened(f"shelly:{server.base},period=0.01")
    first(made)
    server.answers["/rpc/Shelly.GetStatus"] = b"rubbish"
    gap = first_gap(made)
    server.answers["/rpc/Shelly.GetStatus"] = SWITCH
    closed = first(made).gaps[0]
    assert (gap.cause, gap.end_ns) == ("garbage", None)
    assert closed.start_ns == gap.start_ns < closed.end_ns


def test_plug_that_is_not_there_is_not_found():
    with pytest.raises(DeviceNotFound, match="Check its address"):
        meter("shelly:http://127.0.0.1:9").open()


@pytest.mark.parametrize("where", ["10.0.0.7", "ftp://h", "http://", "http://admin:secret@h"])
def test_address_that_is_none_or_holds_a_password_is_refused(where):
    with pytest.raises(InvalidArgument):
        meter(f"redfish:{where}")


def test_redirect_to_another_host_is_not_followed(server):
    """It would take the password along."""
    with serving() as other:

        def away(handler):
            handler.send_response(302)
            handler.send_header("Location", f"{other.base}/rpc/Shelly.GetStatus")
            handler.end_headers()

        server.answers["/x"] = away
        with pytest.raises(DeviceError, match="302"):
            Http(server.base, 1.0).get("/x")
        assert other.seen == []


# ---- Redfish ----

CHASSIS = {
    "/redfish/v1/Chassis": {"Members": [{"@odata.id": f"/redfish/v1/Chassis/{one}"} for one in (1, 2)]},
    "/redfish/v1/Chassis/1": {"Power": {"@odata.id": "/redfish/v1/Chassis/1/Power"}},
    "/redfish/v1/Chassis/1/Power": {"PowerSupplies": []},
    "/redfish/v1/Chassis/2": {
        "Manufacturer": "ACME", "Model": "GPU-8", "SerialNumber": None,
        "EnvironmentMetrics": {"@odata.id": "/redfish/v1/Chassis/2/EnvironmentMetrics"},
    },
    "/redfish/v1/Chassis/2/EnvironmentMetrics": {"PowerWatts": {"Reading": 2345}},
}  # fmt: skip


def test_redfish_finds_the_chassis_that_tells_its_power(server):
    server.answers = dict(CHASSIS)
    made, info = opened(f"redfish:{server.base},period=0.01")
    assert (info.maker, info.model, info.serial) == ("ACME", "GPU-8", "")
    assert info.settings["path"] == "/redfish/v1/Chassis/2/EnvironmentMetrics"
    assert info.accuracy is None
    assert float(first(made).readings[0].watts[0]) == 2345


def test_redfish_of_no_chassis_with_power_says_so(server):
    server.answers = {"/redfish/v1/Chassis": {"Members": []}}
    with pytest.raises(NotSupported, match="path=/redfish"):
        meter(f"redfish:{server.base}").open()


@pytest.mark.parametrize(
    ("resource", "watts"),
    [
        ({"PowerControl": [{"PowerConsumedWatts": 186}]}, 186.0),
        ({"PowerControl": [{"PowerConsumedWatts": 0}]}, 0.0),
        ({"PowerControl": [{"PowerConsumedWatts": None}]}, None),
        ({"PowerWatts": {"Reading": 5.5}, "PowerControl": []}, 5.5),
        ({"PowerControl": [{}]}, NotSupported),
        ({"PowerControl": [{"PowerConsumedWatts": "186 W"}]}, BadFormat),
        ({}, NotSupported),
    ],
)
def test_redfish_power_absent_is_not_zero(resource, watts):
    if isinstance(watts, type):
        with pytest.raises(watts):
            bmc.redfish_watts(resource)
    else:
        assert bmc.redfish_watts(resource) == pytest.approx(math.nan if watts is None else watts, nan_ok=True)


@pytest.fixture
def certificate(tmp_path):
    """A certificate that nobody has signed."""
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    try:
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
             "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert],
            check=True, capture_output=True,
        )  # fmt: skip
    except FileNotFoundError:
        pytest.skip("there is no openssl to make a certificate")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return context


def test_redfish_verifies_certificates_and_insecure_is_kept_in_the_record(certificate, monkeypatch):
    monkeypatch.setenv(USER, "operator")
    monkeypatch.setenv(PASSWORD, "hunter2")
    with serving(certificate) as server:
        server.answers = dict(CHASSIS)
        with pytest.raises(AccessDenied, match="insecure=yes"):
            meter(f"redfish:{server.base}").open()
        assert server.seen == []  # no password went to a stranger
        made, info = opened(f"redfish:{server.base},insecure=yes")
        assert any("not verified" in note for note in info.notes)
        assert server.seen[0][1]["Authorization"] == "Basic b3BlcmF0b3I6aHVudGVyMg=="
        assert "hunter2" not in json.dumps(info.as_json())
        made.close()


def test_redfish_s_handshake_and_answer_have_one_deadline(certificate):
    """Each alone is in time; together they are not."""
    with serving(certificate, shake_s=0.3) as server:
        server.answers = {"/x": hang}
        with pytest.raises(Timeout, match=r"within 0\.5 s"):
            Http(server.base, 0.5, insecure=True).get("/x")
        assert [path for path, _ in server.seen] == ["/x"]


def test_connection_that_cannot_be_wrapped_in_tls_is_closed(monkeypatch):
    plain, other = socket.socketpair()
    monkeypatch.setattr(http, "connected", lambda *_: plain)

    def refuse(*_, **__):
        raise ssl.SSLError("no such protocol")

    monkeypatch.setattr(ssl.SSLContext, "wrap_socket", refuse)
    with other, pytest.raises(PowerSampleError, match="no such protocol"):
        Http("https://meter.lab", 0.2).get("/x")
    assert plain.fileno() == -1


def test_redfish_whose_handshake_does_not_end_times_out():
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(Timeout, match=r"within 0\.2 s"):
        Http(f"https://127.0.0.1:{server.getsockname()[1]}", 0.2).get("/x")


def test_redfish_password_does_not_go_over_http(monkeypatch):
    monkeypatch.setenv(USER, "operator")
    with pytest.raises(InvalidArgument, match="https"):
        meter("redfish:http://127.0.0.1:1")


# ---- DCMI ----

DCMI = """
    Instantaneous power reading:                   {watts} Watts
    Minimum during sampling period:                 12 Watts
    Maximum during sampling period:                468 Watts
    Average power reading over sample period:      220 Watts
    IPMI timestamp:                           {stamp}    Sampling period:                          00000005 Seconds.
    Power reading state is:                   {state}


"""


def said(watts=216, stamp="Wed Nov 25 20:00:00 2026\n", state="activated"):
    return DCMI.format(watts=watts, stamp=stamp, state=state)


def test_dcmi_text_gives_watts_stamp_and_period():
    found = bmc.dcmi(said())
    assert (found.watts, found.stamp, found.sampling_s) == (216, "Wed Nov 25 20:00:00 2026", 5.0)
    assert bmc.dcmi(said(watts=0)).watts == 0
    assert math.isnan(bmc.dcmi(said(state="deactivated")).watts)


@pytest.mark.parametrize("text", ["", "DCMI request failed", said().replace("Instantaneous", "Average"), said("n/a")])
def test_dcmi_text_without_a_reading_is_refused(text):
    with pytest.raises(BadFormat):
        bmc.dcmi(text)


@pytest.fixture
def ipmitool(tmp_path, monkeypatch):
    """A program of that name first on PATH; call with its script."""

    def write(script):
        path = tmp_path / "ipmitool"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    return write


def test_dcmi_gives_whole_watts_and_counts_stale_answers(ipmitool, tmp_path):
    (tmp_path / "said").write_text(said())
    ipmitool(f"cat {tmp_path}/said")
    made, info = opened("dcmi:,period=0.01")
    assert info.settings["sampling_period_s"] == 5.0
    assert float(first(made).readings[0].watts[0]) == 216
    first(made)
    assert made.counts()["stale"] >= 2
    stale = made.counts()["stale"]
    (tmp_path / "said").write_text(said(220, "Wed Nov 25 20:00:05 2026\n"))
    assert float(first(made).readings[0].watts[0]) == 220
    assert made.counts()["stale"] == stale


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ("echo 'Could not open device at /dev/ipmi0: No such file or directory' >&2; exit 1", AccessDenied),
        ("echo 'Invalid command: 0xc1' >&2; exit 1", NotSupported),
        ("echo 'Error: Unable to establish IPMI v2 / RMCP+ session' >&2; exit 1", DeviceError),
        ("echo rubbish", BadFormat),
        ("exec sleep 5", Timeout),
        ("setsid sleep 5 &", Timeout),  # it has ended, and something of it that nobody can find holds the pipe
    ],
)
def test_dcmi_that_fails_does_so_by_name(ipmitool, script, error):
    ipmitool(script)
    before_s = time.monotonic()
    with pytest.raises(error):
        meter("dcmi:,timeout=0.2").open()
    assert time.monotonic() - before_s < 3.0


def test_dcmi_that_hangs_is_ended_with_all_that_it_started(ipmitool, tmp_path):
    """A wrapper's ipmitool waits for a controller that never answers: one more at each question, else."""
    ipmitool(f"sleep 60 & echo $! >{tmp_path}/child; wait")
    with pytest.raises(Timeout, match=r"0\.3 s"):
        meter("dcmi:,timeout=0.3").open()
    child = int((tmp_path / "child").read_text())
    deadline_s = time.monotonic() + 5
    while alive(child):
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def alive(number):
    """Whether a process is there and no zombie that nobody has taken leave of."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_dcmi_without_the_program_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DeviceNotFound, match="Install it"):
        meter("dcmi:").open()


def test_dcmi_over_the_network_has_its_password_in_the_environment_alone(ipmitool, tmp_path, monkeypatch):
    monkeypatch.setenv(USER, "operator")
    monkeypatch.setenv(PASSWORD, "hunter2")
    (tmp_path / "said").write_text(said())
    ipmitool(f'echo "$@" >{tmp_path}/argv; echo "$IPMI_PASSWORD" >{tmp_path}/secret; cat {tmp_path}/said')
    meter("dcmi:bmc-7").open()
    argv = (tmp_path / "argv").read_text()
    assert "-I lanplus -H bmc-7 -U operator -E" in argv
    assert "hunter2" not in argv
    assert (tmp_path / "secret").read_text().strip() == "hunter2"
