# SPDX-License-Identifier: Apache-2.0
"""A made-up run of MLPerf's power flow as files: what is right in it, and one thing at a time that is wrong."""

import json
from datetime import UTC, datetime, timedelta, timezone

SERVER_START_S = 1_750_000_000.0  # 2025-06-15 15:06:40 UTC: summer time in Chicago, UTC-5, which the field calls UTC-6
ZONE_S = -5 * 3600
WATTS = 500.0


def local(epoch_s, zone_s=ZONE_S):
    return datetime.fromtimestamp(epoch_s, UTC).astimezone(timezone(timedelta(seconds=zone_s)))


def stamp(epoch_s, zone_s=ZONE_S):
    return f"{local(epoch_s, zone_s):%m-%d-%Y %H:%M:%S.%f}"[:-3]


def spl_line(epoch_s, watts=WATTS, mark="x_testing"):
    volts, amps = "230.000000", f"{watts / 230:.6f}"
    return f"Time,{stamp(epoch_s)},Watts,{watts:.6f},Volts,{volts},Amps,{amps},PF,0.990000,Mark,{mark}"


def write(
    folder,
    *,
    ahead_s=0.05,
    stated_zone_s=-6 * 3600,
    window=(20.0, 80.0),
    lines=None,
    phase_apart_s=0.0,
    ntp_s=0.002,
    console=(),
    checked=True,
    means=(500.0, 499.0),
    ranges=("SR,V,230", "SR,A,5"),
    replies=None,
):
    """Write a run whose testing phase begins 100 s after the session, and is sampled for 100 s; return its spl.txt."""
    start_s, test_s = SERVER_START_S, SERVER_START_S + 100
    name = f"{local(start_s):%Y-%m-%d_%H-%M-%S}"

    def asked(cmd, at_s, reply="OK"):
        ours = {"cmd": cmd, "cmd_time": at_s + ahead_s, "reply": reply, "reply_time": at_s + ahead_s + 0.002}
        return ours, {"cmd": cmd, "cmd_time": at_s + 0.001, "reply": reply, "reply_time": at_s + 0.001}

    times = [start_s + 0.001, test_s - 4.999]
    pairs = [
        asked("time", times[0] - 0.001, str(times[0])),
        asked("new,,a", start_s, f"OK {name},b"),
        asked("time", times[1] - 0.001, str(times[1])),
        asked(f"session,{name},start,testing", test_s - 4),
        asked(f"session,{name},stop,testing", test_s + 99),
    ]
    instants = [test_s - 5, test_s - 2, test_s + 99, test_s + 101]
    dialogue = [("Hello", "Hello, PTDaemon here!"), ("RR", "Ranges,1,5,1,300")]
    dialogue += [(one, f"Range {one[3]} changed") for one in ranges]
    dialogue += [(f"Go,1000,0,{name}_testing", "Starting untimed measurement, maximum 500000 samples at 1000ms ...")]
    dialogue += [("Stop", "Stopping untimed measurement"), ("Stop", "Error: no measurement to stop")]
    common = {"version": "1.0", "timezone": -stated_zone_s, "session_name": name}
    client = common | {
        "messages": [one for one, _ in pairs],
        "phases": {"testing": [[one + ahead_s + phase_apart_s, 0] for one in instants]},
    }
    server = common | {
        "messages": [one for _, one in pairs],
        "phases": {"testing": [[one, 0] for one in instants]},
        "ptd_messages": [{"cmd": cmd, "reply": (replies or {}).get(cmd, reply)} for cmd, reply in dialogue],
    }
    (folder / "client.json").write_text(json.dumps(client))
    (folder / "server.json").write_text(json.dumps(server))
    when = f"{local(test_s):%Y-%m-%d %H:%M:%S},000"
    (folder / "client.log").write_text(f"client {when} [INFO] NTP:offset = {ntp_s:.3f} s, delay = 0.001 s\n")
    said = [(0.0, "Uncertainty checking for YokogawaWT310 is activated")] if checked else []
    for phase, mean_w in zip(("ranging", "testing"), means, strict=True):
        said += [(1.0, f"Go with mark '{name}_{phase}'"), (2.0, f"Avg watts {mean_w}, min watts 1, samples 9")]
    said += [(100 + at_s, text) for at_s, text in console]
    (folder / "ptd_logs.txt").write_text("".join(f"{stamp(start_s + at_s)}: {text}\n" for at_s, text in said))
    marks = zip(("power_begin", "power_end"), window, strict=True)
    (folder / "mlperf_log_detail.txt").write_text(
        "".join(
            f":::MLLOG {json.dumps({'key': key, 'value': stamp(test_s + at_s + ahead_s), 'time_ms': 5.5})}\n"
            for key, at_s in marks
        )
    )
    path = folder / "spl.txt"
    path.write_text("\n".join(lines or [spl_line(test_s + second) for second in range(100)]) + "\n")
    return path
