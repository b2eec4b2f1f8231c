# SPDX-License-Identifier: Apache-2.0
"""Power analysers: answers as text, a simulated instrument behind pyvisa, and a plain socket that fails."""

import contextlib
import math
import threading
import time
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from meter_kit import LineServer, first, first_gap, meter

from powersample.errors import BadFormat, DeviceError, DeviceNotFound, InvalidArgument, NotSupported, Timeout
from powersample.formats import scpi
from powersample.meters import visa
from powersample.meters.contract import NO_NUMBER, OVER_RANGE

# ---- answers ----


@pytest.mark.parametrize(
    ("reply", "watts"),
    [
        ("783.50E+00", 783.5),
        (" +0.2301E+3;1.2E0", 230.1),
        ("126.86,2.0199,256.07\r\n", 126.86),
        ("P +1.234E+2", 123.4),
        ("-5", -5.0),
        ("0.0", 0.0),
        ("NAN", math.nan),
        ("9.91E+37", math.nan),
        ("INF", math.inf),
        ("9.9E+37", math.inf),
        ("+9999.9E+9", math.inf),
    ],
)
def test_power_of_an_answer(reply, watts):
    assert scpi.power(reply) == pytest.approx(watts, nan_ok=True)


@pytest.mark.parametrize("reply", ["", "error", "12 W", "1,5".replace("1", "x"), "0x10", "1e"])
def test_power_of_an_answer_that_is_none_is_refused(reply):
    with pytest.raises(BadFormat):
        scpi.power(reply)


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=40))
def test_power_of_any_text_is_a_number_or_refused(text):
    with contextlib.suppress(BadFormat):
        assert isinstance(scpi.power(text), float)


def test_identity_of_an_answer():
    assert scpi.identity("YOKOGAWA,WT310,C2QG,F1.02\n") == ("YOKOGAWA", "WT310", "C2QG", "F1.02")
    assert scpi.identity("HIOKI,PW3335") == ("HIOKI", "PW3335", "", "")
    with pytest.raises(BadFormat):
        scpi.identity("hello")


# ---- pyvisa, on its simulator ----

SIMULATED = """
spec: "1.1"
devices:
  wt310:
    eom:
      USB INSTR: {{q: "\\n", r: "\\n"}}
    error: "ERROR"
    dialogues:
      - {{q: "*IDN?", r: "YOKOGAWA,WT310E,C3UJ15,F1.05"}}
      - {{q: ":NUMeric:NORMal:VALue?", r: "{value}"}}
      - {{q: ":INPut:VOLTage:RANGe?", r: "300.0E+00"}}
      - {{q: ":INPut:CURRent:RANGe?", r: "{amps}"}}
      - {{q: ":COMMunicate:REMote ON"}}
      - {{q: ":NUMeric:FORMat ASCii"}}
      - {{q: ":NUMeric:NORMal:NUMber 1"}}
      - {{q: ":NUMeric:NORMal:ITEM1 P,1"}}
      - {{q: ":RATE 100MS"}}
resources:
  USB0::0x0B21::0x0025::C3UJ15::0::INSTR: {{device: wt310}}
"""
RESOURCE = "USB0::0x0B21::0x0025::C3UJ15::0::INSTR"


@pytest.fixture
def simulated(tmp_path):
    """The backend's name of a simulated WT310E; called with the value that it answers."""
    pytest.importorskip("pyvisa", reason="pyvisa (extra visa) is not installed")
    pytest.importorskip("pyvisa_sim", reason="pyvisa-sim (extra test) is not installed")

    def write(value="783.50E+00", amps="5.0E+00", name="wt.yaml"):
        (tmp_path / name).write_text(SIMULATED.format(value=value, amps=amps))
        return f"{tmp_path / name}@sim"

    return write


def test_wt310_over_visa_gives_watts_identity_and_limits_of_error(simulated):
    made = meter(f"wt310:{RESOURCE},rate=0.1,backend={simulated()}")
    info = made.open()
    assert (info.maker, info.model, info.serial, info.firmware) == ("YOKOGAWA", "WT310E", "C3UJ15", "F1.05")
    assert info.accuracy.range_w == 1500
    assert info.accuracy.limit_w(783.5) == pytest.approx(0.7835 + 0.75)
    assert info.latency_max_s == pytest.approx(0.2)
    made.start()
    reading = first(made).readings[0]
    assert float(reading.watts[0]) == 783.5
    made.close()
    made.close()


@pytest.mark.parametrize(("value", "flag"), [("NAN", NO_NUMBER), ("INF", OVER_RANGE)])
def test_wt310_without_a_value_is_flagged(simulated, value, flag):
    made = meter(f"wt310:{RESOURCE},rate=0.1,backend={simulated(value)}")
    made.open()
    made.start()
    assert int(first(made).readings[0].flags[0]) == flag
    made.close()


def test_wt310_whose_range_is_no_number_has_no_limit_of_error(simulated):
    made = meter(f"wt310:{RESOURCE},rate=0.1,backend={simulated(amps='AUTO')}")
    assert made.open().accuracy.offset_w is None
    made.close()


@pytest.mark.parametrize(
    ("kind", "value", "error"),
    [("wt310", "garbage", BadFormat), ("wt5000", "1", DeviceError)],
    ids=["garbage", "another model"],
)
def test_analyser_over_visa_that_is_not_what_it_should_be_is_refused(simulated, kind, value, error):
    with pytest.raises(error):
        meter(f"{kind}:{RESOURCE},rate=0.1,backend={simulated(value)}").open()


def test_analyser_over_visa_that_is_not_there_is_refused():
    """By pyvisa-py itself: nobody listens there, which it finds at once or at the first question."""
    pytest.importorskip("pyvisa_py", reason="pyvisa-py (extra visa) is not installed")
    with pytest.raises((DeviceNotFound, DeviceError), match="TCPIP0"):
        meter("wt310:TCPIP0::127.0.0.1::9::SOCKET,timeout=1").open()


def test_analyser_over_pyvisa_py_on_a_socket_gives_watts(hioki):
    pytest.importorskip("pyvisa_py", reason="pyvisa-py (extra visa) is not installed")
    made = meter(f"hioki:TCPIP0::127.0.0.1::{hioki.port}::SOCKET,rate=0.02")
    made.open()
    made.start()
    assert float(first(made).readings[0].watts[0]) == 123.4
    hioki.answers[":MEASure? P"] = None
    made.close()


def test_analyser_over_visa_that_is_silent_times_out(simulated, tmp_path):
    backend = simulated()
    path = tmp_path / "wt.yaml"
    path.write_text(path.read_text().replace('- {q: "*IDN?", r: "YOKOGAWA,WT310E,C3UJ15,F1.05"}', '- {q: "*IDN?"}'))
    with pytest.raises(Timeout, match=r"\*IDN"):
        meter(f"wt310:{RESOURCE},timeout=0.1,backend={backend}").open()


def test_analyser_whose_opening_does_not_end_is_given_up_and_given_back(simulated, monkeypatch):
    """pyvisa-py asks a silent port mapper for 5 s whatever it is told, and looks names up without a deadline."""
    pyvisa = pytest.importorskip("pyvisa", reason="pyvisa (extra visa) is not installed")
    let_go, closed, order = threading.Event(), threading.Event(), []
    close = pyvisa.ResourceManager.close

    def never(self, *_, **__):
        let_go.wait(10)
        order.append("opened")
        return SimpleNamespace(close=pulled)

    def pulled():
        raise ValueError("a backend's own words")

    def manager_closed(self):
        order.append("manager closed")
        closed.set()
        close(self)

    monkeypatch.setattr(pyvisa.ResourceManager, "close", manager_closed)
    monkeypatch.setattr(pyvisa.ResourceManager, "open_resource", never)
    monkeypatch.setattr(visa, "LEAST_OPEN_S", 0.1)
    before_s = time.monotonic()
    with pytest.raises(Timeout, match=r"could not be opened within 0\.1 s.*Check address"):
        meter(f"wt310:{RESOURCE},timeout=0.1,backend={simulated()}").open()
    assert time.monotonic() - before_s < 5.0
    assert order == []  # nobody closes a manager that another thread opens by
    let_go.set()
    assert closed.wait(5)
    assert order == ["opened", "manager closed"]


def test_analyser_options_that_it_has_not_are_refused():
    pytest.importorskip("pyvisa", reason="pyvisa (extra visa) is not installed")
    with pytest.raises(InvalidArgument, match=r"0\.1, 0\.25"):
        meter(f"wt310:{RESOURCE},rate=0.3")
    with pytest.raises(InvalidArgument, match="names no instrument"):
        meter("gpm:")


def test_analyser_without_pyvisa_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyvisa", None)
    with pytest.raises(NotSupported, match=r"powersample\[visa\]"):
        meter(f"wt310:{RESOURCE}")


# ---- a plain socket ----


class Instrument(LineServer):
    """A Hioki: answers by question."""

    def __init__(self):
        self.answers = {
            "*IDN?": "HIOKI,PW3335,V1.01",
            ":MEASure? P": "+0.1234E+3",
            ":VOLTage:RANGe?": "300",
            ":CURRent:RANGe?": "5",
        }
        super().__init__()

    def answer(self, line):
        return self.answers.get(line)


@pytest.fixture
def hioki():
    made = Instrument()
    yield made
    made.close()


def at(hioki, more=""):
    return f"hioki:tcp://127.0.0.1:{hioki.port},rate=0.02{more}"


def test_hioki_over_its_socket_gives_watts(hioki):
    made = meter(at(hioki))
    info = made.open()
    assert (info.model, info.accuracy.range_w) == ("PW3335", 1500)
    assert ":HEADer OFF" in hioki.asked
    made.start()
    assert float(first(made).readings[0].watts[0]) == 123.4
    made.close()


def test_gpm_over_a_socket_is_asked_for_its_first_item(hioki):
    hioki.answers = {"*IDN?": "GWInstek,GPM-8310,GEU123,V1.00", ":NUMeric:NORMal:VALue?": "126.86"}
    made = meter(f"gpm:tcp://127.0.0.1:{hioki.port}")
    info = made.open()
    assert (info.model, info.accuracy.offset_w) == ("GPM-8310", None)
    assert hioki.asked[1:4] == [":NUMeric:NORMal:NUMber 1", ":NUMeric:NORMal:ITEM1 P,1", ":NUMeric:NORMal:VALue?"]
    made.start()
    assert float(first(made).readings[0].watts[0]) == 126.86
    made.close()


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (None, Timeout),
        (b"+0.12", Timeout),
        (b"\xff\xfe\n", BadFormat),
        ("ERROR", BadFormat),
    ],
    ids=["silence", "half a line", "no text", "garbage"],
)
def test_hioki_that_fails_does_so_by_name(hioki, answer, error):
    hioki.answers[":MEASure? P"] = answer
    with pytest.raises(error):
        meter(at(hioki, ",timeout=0.15")).open()


def test_hioki_that_hangs_up_leaves_a_gap_and_is_connected_again(hioki):
    made = meter(at(hioki))
    made.open()
    made.start()
    first(made)
    hioki.hang_up()
    assert first_gap(made).cause == "lost"
    assert first(made).gaps[0].end_ns is not None
    assert made.counts()["reconnects"] == 1
    made.close()
