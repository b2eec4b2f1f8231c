# SPDX-License-Identifier: Apache-2.0
"""A watched node as others read it: OpenMetrics over HTTP, a textfile, OpenTelemetry; through faults and restarts."""

import concurrent.futures
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest

from powersample import errors
from powersample.analysis.account import Balance
from powersample.capture import Plan
from powersample.export import openmetrics
from powersample.meters import parse_addresses
from powersample.model import LaneStats
from powersample.session import serving
from powersample.session.live import State, Watch
from powersample.session.meters import Asked
from powersample.session.serving import MetricsServer, parse_listen, port_owner
from powersample.session.simulate import apply_load, make_node, simulated_plan
from powersample.sim import Latency
from powersample.store import accounts
from powersample.store.accounts import AccountFile, account_file

pytest.importorskip("prometheus_client", reason="the extra [serve] is not installed")
OPENMETRICS = "application/openmetrics-text; version=1.0.0"
TIMEOUT_S = 30.0
GPU = Balance("gpu0", "GPU-0", "gpu", 5200.5, 1.6e9, 0.0, 312.5, "gpu0.energy", "gpu0.power.instant", 0.1)
LANE = LaneStats(
    "nvml:gpu0", records=70, dropped=2, skipped=1, errors={15: 3}, reopens=1, call_hist=(0,) * 10 + (4, 2) + (0,) * 28
)
STATE = State((GPU,), (LANE,), 1.7e9, "0.1.0", "535.1", "", (), True)


def parsed(state=STATE, accept=OPENMETRICS):
    """Return (name, labels) -> value of a state's metrics, through the reference parser of either format."""
    body, kind = openmetrics.exposition(openmetrics.registry(lambda: state), accept)
    return read(body.decode(), kind)


def read(text, kind):
    from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
    from prometheus_client.parser import text_string_to_metric_families as text_families

    families = openmetrics_families(text) if "openmetrics" in kind else text_families(text)
    return {(one.name, tuple(sorted(one.labels.items()))): one.value for family in families for one in family.samples}


def values(found, name, **labels):
    return [value for (one, have), value in found.items() if one == name and labels.items() <= dict(have).items()]


@pytest.mark.parametrize("accept", [OPENMETRICS, None, "text/plain;version=0.0.4"])
def test_metrics_parse_in_both_formats_and_say_what_the_state_says(accept):
    found = parsed(accept=accept)
    gpu = {"device": "gpu0", "uuid": "GPU-0", "domain": "gpu"}
    assert values(found, "powersample_energy_joules_total", **gpu) == [5200.5]
    assert values(found, "powersample_power_watts", **gpu) == [312.5]
    assert values(found, "powersample_samples_total", source="nvml", device="gpu0") == [70]
    assert values(found, "powersample_dropouts_total", kind="dropped") == [2]
    assert values(found, "powersample_dropouts_total", kind="skipped") == [1]
    assert values(found, "powersample_read_errors_total", code="15") == [3]
    assert values(found, "powersample_build_info", version="0.1.0", driver="535.1") == [1]
    assert values(found, "powersample_account_kept") == [1]
    assert not any("simulated" in dict(labels) for _, labels in found)


def node_parts():
    """What a node has of everything: a GPU, a package with its memory and cores, and three looks at all of it."""
    names = (
        ("package-0", "package", 100.0),
        ("package-0", "dram", 10.0),
        ("package-0", "core", 60.0),
        ("gpu0", "module", 5300.0),
        ("psys", "psys", 400.0),
        ("power_meter-ACPI000D-00", "psys", 5900.0),
        ("wall", "wall", 6100.0),
        ("BAT0", "supply", 7.0),
    )
    return (GPU, *(replace(GPU, name=n, device=n, domain=d, joules=j, power_w=j / 10) for n, d, j in names))


def test_naive_sums_count_nothing_twice():
    """`sum(...)` and `sum by (domain) (...)` as people write them: parts only; each look at the machine by itself."""
    found = parsed(replace(STATE, balances=node_parts()))
    assert sum(values(found, "powersample_energy_joules_total")) == 5200.5 + 100 + 10
    assert sum(values(found, "powersample_power_watts")) == 312.5 + 10 + 1
    overlapping = {
        dict(labels)["domain"]: value
        for (name, labels), value in found.items()
        if name == "powersample_overlapping_energy_joules_total"
    }
    assert overlapping == {"core": 60, "module": 5300, "psys": 400, "input": 5900, "wall": 6100, "supply": 7}
    assert len(values(found, "powersample_overlapping_energy_joules_total")) == len(overlapping)
    body, _ = openmetrics.exposition(openmetrics.registry(lambda: STATE), OPENMETRICS)
    assert "# HELP powersample_overlapping_energy_joules Energy of what lies in other parts" in body.decode()


def test_every_counter_tells_when_it_began():
    """Its own `_created` with the same labels, and none after now: who knows it needs no scrape of the 0."""
    body, kind = openmetrics.exposition(
        openmetrics.registry(lambda: replace(STATE, balances=node_parts())), OPENMETRICS
    )
    found = read(body.decode(), kind)
    ends = ("_total", "_count")
    counters = [(name.rpartition("_")[0], labels) for name, labels in found if name.endswith(ends)]
    assert len(counters) > 20
    for name, labels in counters:
        assert 1.6e9 <= found[f"{name}_created", labels] <= STATE.started_unix_s


def test_latency_buckets_are_cumulative_by_the_lanes_bins():
    """Four calls of 1.024 to 2.048 us and two of up to 4.096 us."""
    found = parsed()
    buckets = {
        float(dict(labels)["le"]): value
        for (name, labels), value in found.items()
        if name == "powersample_read_latency_seconds_bucket"
    }
    assert [buckets[edge] for edge in sorted(buckets)][:3] == [0, 6, 6]
    assert buckets[float("inf")] == 6
    (total_s,) = values(found, "powersample_read_latency_seconds_sum")
    assert 4 * 1.024e-6 + 2 * 2.048e-6 <= total_s <= 4 * 2.048e-6 + 2 * 4.096e-6


def test_power_that_is_unknown_is_absent_and_the_counter_stays():
    found = parsed(replace(STATE, balances=(replace(GPU, power_w=None),)))
    assert values(found, "powersample_power_watts") == []
    assert values(found, "powersample_energy_joules_total") == [5200.5]


def test_every_sample_of_a_simulated_node_says_so():
    state = replace(STATE, simulated="h100x4")
    assert all(dict(labels).get("simulated") == "h100x4" for _, labels in parsed(state))
    body, _ = openmetrics.exposition(openmetrics.registry(lambda: state))
    helps = [line for line in body.decode().splitlines() if line.startswith("# HELP") and "_created" not in line]
    assert helps
    assert all("SIMULATED NODE h100x4, not a measurement" in line for line in helps)


def test_package_that_is_missing_names_its_extra(monkeypatch):
    monkeypatch.setattr(openmetrics.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(errors.NotSupported, match=r"pip install 'powersample\[serve\]'"):
        openmetrics.registry(lambda: STATE)


# ---- HTTP ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def serving_of(exposition=lambda accept: (b"powersample_x 1\n", "text/plain")):
    server = MetricsServer("127.0.0.1", 0, exposition)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def fetch(url, method="GET", **headers):
    with urllib.request.urlopen(urllib.request.Request(url, method=method, headers=headers), timeout=TIMEOUT_S) as got:
        return got.status, dict(got.headers), got.read()


def test_head_has_the_headers_of_get_and_no_body():
    with serving_of() as server:
        status, headers, body = fetch(server.url)
        assert (status, body) == (200, b"powersample_x 1\n")
        assert fetch(server.url, "HEAD") == (200, headers, b"")


def test_unknown_path_is_not_found_and_the_root_leads_to_the_metrics():
    with serving_of() as server:
        with pytest.raises(urllib.error.HTTPError) as refused:
            fetch(server.url + "x")
        assert refused.value.code == 404
        refused.value.close()
        assert b"/metrics" in fetch(server.url.removesuffix("/metrics"))[2]
        assert fetch(server.url + "?name=x")[0] == 200


def test_more_clients_than_there_is_room_for_are_told_to_come_again(monkeypatch):
    monkeypatch.setattr(serving, "AT_ONCE", 2)
    held, entered = threading.Event(), threading.Semaphore(0)

    def slow(accept):
        entered.release()
        held.wait(TIMEOUT_S)
        return b"x 1\n", "text/plain"

    with serving_of(slow) as server, concurrent.futures.ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(fetch, server.url) for _ in range(2)]
        assert all(entered.acquire(timeout=TIMEOUT_S) for _ in waiting)
        try:
            with pytest.raises(urllib.error.HTTPError) as refused:
                fetch(server.url)
        finally:
            held.set()
        assert refused.value.code == 503
        refused.value.close()
        assert [one.result(TIMEOUT_S)[0] for one in waiting] == [200, 200]


@pytest.mark.parametrize("request_line", [b"GET /metrics HTTP/1.0\r\nX-Slow: ", b"GET /metrics HTTP/1.0\r\n\r\n", b""])
def test_client_that_takes_its_time_is_hung_up_on_and_leaves_its_place(monkeypatch, request_line):
    """A header a byte at a time, an answer that is never taken, and silence: none holds a thread for long."""
    monkeypatch.setattr(serving, "AT_ONCE", 1)
    monkeypatch.setattr(serving, "PATIENCE_S", 0.3)
    with serving_of(lambda accept: (b"x" * (64 << 20), "text/plain")) as server:
        with socket.create_connection(server.server_address[:2], timeout=TIMEOUT_S) as client:
            client.sendall(request_line)
            for held in (True, False):  # the one place there is
                deadline = time.monotonic() + TIMEOUT_S
                while held == bool(server.slots._value):
                    assert time.monotonic() < deadline
                    with contextlib.suppress(OSError):
                        client.send(b"a" if request_line.endswith(b" ") else b"")
                    time.sleep(0.02)
        with socket.create_connection(server.server_address[:2], timeout=TIMEOUT_S) as client:
            client.sendall(b"HEAD /metrics HTTP/1.0\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.0 200")


def test_port_that_is_taken_names_its_owner():
    with serving_of() as server:
        port = server.server_address[1]
        with pytest.raises(errors.SystemFailure, match=rf"127.0.0.1:{port} is taken by .*\(pid {os.getpid()}\)"):
            MetricsServer("127.0.0.1", port, lambda accept: (b"", ""))
    assert port_owner(port) is None


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("127.0.0.1:9", ("127.0.0.1", 9)),
        (":9", ("127.0.0.1", 9)),
        ("[::1]:10188", ("::1", 10188)),
        ("0.0.0.0:0", ("0.0.0.0", 0)),
    ],
)
def test_listen_is_a_host_and_a_port(text, where):
    assert parse_listen(text) == where


@pytest.mark.parametrize("text", ["", "9188", "host", "::1:9188", "host:99999", "[::1]", "a:b:1"])
def test_listen_that_is_none_is_refused(text):
    with pytest.raises(errors.InvalidArgument, match="HOST:PORT"):
        parse_listen(text)


# ---- a node through faults -----------------------------------------------------------------------------------------


@contextlib.contextmanager
def watched(spec, load="idle", **options):
    with make_node(spec) as node:
        apply_load(node, load, 0)
        with Watch(simulated_plan(Plan(rate_hz=20.0), node), node=node, simulated=spec, **options) as watch:
            watch.start()
            yield node, watch


def until(watch, is_so):
    """Return the first state that is so."""
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        state = watch.state()
        if is_so({(one.name, one.domain): one for one in state.balances}):
            return state
        time.sleep(0.05)
    raise AssertionError(f"not within {TIMEOUT_S} s: {state}")


def test_lost_gpu_keeps_its_counter_loses_its_power_and_is_counted():
    with watched("h100x2+none", "wave:200,200,1,0.5") as (node, watch):
        before = until(watch, lambda found: found and all(one.power_w and one.joules for one in found.values()))
        node.inject("any", 15, gpu=0)
        after = until(watch, lambda found: found["gpu0", "gpu"].power_w is None)
        lost, other = after.balances
        assert lost.joules >= before.balances[0].joules
        assert other.power_w is not None
        assert next(lane for lane in after.lanes if lane.name == "nvml:gpu0").errors[15] > 0
        node.clear_faults()
        again = until(watch, lambda found: found["gpu0", "gpu"].power_w is not None)
        assert again.balances[0].joules >= lost.joules


def test_scrape_never_waits_for_a_device_that_hangs():
    with watched("h100+none") as (node, watch):
        until(watch, lambda found: found and all(one.joules for one in found.values()))
        node.inject("any", 0, hang_s=5.0)
        time.sleep(0.3)
        begun_s = time.monotonic()
        state = watch.state()
        assert time.monotonic() - begun_s < 4.0  # and not the 5 s
        assert state.balances[0].joules > 0
        node.clear_faults()


def test_energies_agree_with_the_nodes_truth():
    with watched("h100+none", "wave:100,300,0.2,0.5") as (node, watch):
        first = until(watch, lambda found: found and all(one.joules for one in found.values()))
        began_ns = time.monotonic_ns()
        time.sleep(0.4)
        time.sleep(0.4)
        last, ended_ns = watch.state(), time.monotonic_ns()
        truth_j = node.truth_j(0, began_ns, ended_ns)
        got_j = last.balances[0].joules - first.balances[0].joules
        assert got_j == pytest.approx(truth_j, abs=300 * 0.8)  # an edge may be 0.25 s old, and a counter's step 0.1 s


def test_slow_calls_and_sixteen_gpus_leave_a_scrape_quick():
    """The figure is bench/serve.py's; here only that 16 slow devices do not add up."""
    with make_node("h100x16+none") as node:
        node.set_latency("any", Latency.fixed(400e-6))
        with Watch(simulated_plan(Plan(rate_hz=10.0), node), node=node, simulated="h100x16") as watch:
            watch.start()
            until(watch, lambda found: len(found) == 16 and all(one.joules for one in found.values()))
            registry = openmetrics.registry(watch.state)
            begun_s = time.monotonic()
            body, kind = openmetrics.exposition(registry, OPENMETRICS)
            assert time.monotonic() - begun_s < 5  # never one after the other
    assert len(values(read(body.decode(), kind), "powersample_energy_joules_total")) == 16


def test_two_scrapers_at_once_see_counters_that_only_rise():
    with watched("h100+intel_spr") as (_, watch):
        registry = openmetrics.registry(watch.state)
        until(watch, lambda found: found and all(one.joules for one in found.values()))
        with serving_of(lambda accept: openmetrics.exposition(registry, accept)) as server:

            def scrape(_):
                got = [read(fetch(server.url, Accept=OPENMETRICS)[2].decode(), "openmetrics") for _ in range(5)]
                return [values(one, "powersample_energy_joules_total", domain="package")[0] for one in got]

            with concurrent.futures.ThreadPoolExecutor(2) as pool:
                for seen in pool.map(scrape, range(2)):
                    assert seen == sorted(seen)


def test_other_peoples_links_in_a_shared_folder_are_not_followed(tmp_path):
    mine, planted = tmp_path / "mine", tmp_path / "shared"
    planted.mkdir()
    mine.write_text("keep me")
    (planted / ".m.prom.new").symlink_to(mine)
    (planted / "a.json.lock").symlink_to(mine)
    accounts.write_whole(planted / "m.prom", b"figures", sync=False)
    with pytest.raises(errors.AccessDenied):
        AccountFile(planted / "a.json")
    assert mine.read_text() == "keep me"
    assert not (planted / "m.prom").is_symlink()


def test_meter_is_the_wall_and_goes_on_after_a_restart(tmp_path):
    wall = ("wall", "wall")
    meters = Asked(parse_addresses(["sim"]))
    shown = []
    for least_j in (100, 0):
        with (
            closing(tmp_path / "a.json", "paper-node") as file,
            watched("paper-node", account=file, meters=meters) as (node, watch),
        ):
            state = until(watch, lambda found, j=least_j: wall in found and (found[wall].joules or 0) > j)
            shown += [one for one in state.balances if one.domain == "wall"]
            true_w = float(node.truth_power_w("wall", [time.monotonic_ns()])[0])
    before, after = shown
    assert before.power_w == pytest.approx(true_w, rel=0.1)
    assert before.energy_from == "wall.power"
    assert after.joules > before.joules
    assert after.created_unix_s == before.created_unix_s
    assert after.unseen_s > 0


# ---- restarts ------------------------------------------------------------------------------------------------------

ONE = {"channel": "x", "joules": 5.0, "created_unix_s": 1.0, "unseen_s": 0.0, "raw": 7, "last_unix_s": 2.0}


def closing(path, simulated=None):
    return contextlib.closing(AccountFile(path, simulated))


def test_account_is_kept_and_found_again(tmp_path):
    path = tmp_path / "new" / "account.json"
    with closing(path) as file:
        assert file.kept is None
        file.save({"GPU-0/gpu": ONE})
    with closing(path) as file:
        assert file.kept == {"GPU-0/gpu": ONE}
        assert file.notes == []


def test_account_of_a_machine_that_crashed_begins_anew(tmp_path, monkeypatch):
    with closing(tmp_path / "a.json") as file:
        file.save({"x/y": ONE})
    monkeypatch.setattr(accounts, "_boot_id", lambda: "another")
    with closing(tmp_path / "a.json") as file:
        assert file.kept is None
        assert "begin again at 0" in file.notes[0]


def test_account_that_was_closed_outlives_a_reboot(tmp_path, monkeypatch):
    with closing(tmp_path / "a.json") as file:
        file.save({"x/y": ONE}, closed=True)
    monkeypatch.setattr(accounts, "_boot_id", lambda: "another")
    with closing(tmp_path / "a.json") as file:
        assert file.kept["x/y"] | {"raw": ONE["raw"]} == ONE
        assert file.kept["x/y"]["raw"] > 10**18  # what counts since boot has begun again, whatever it stands at


def test_account_that_another_process_keeps_is_refused_with_its_pid(tmp_path):
    with closing(tmp_path / "a.json"), pytest.raises(errors.StateError, match=f"by process {os.getpid()}"):
        AccountFile(tmp_path / "a.json")


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"accounts": {"a": {"joules": 1}}}', "\xff"])
def test_account_that_is_none_is_refused_and_left_as_it_is(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(errors.BadFormat, match="no account"):
        AccountFile(path)
    assert path.read_text(encoding="latin-1") == text


def test_account_of_a_simulated_node_is_no_machines(tmp_path):
    with closing(tmp_path / "a.json", "h100") as file:
        file.save({"x/y": ONE})
    with pytest.raises(errors.InvalidArgument, match="simulated node h100"):
        AccountFile(tmp_path / "a.json")


def test_account_lies_where_systemd_says_else_where_state_goes(tmp_path):
    host = re.escape(accounts.this_host().get("id", accounts.this_host()["name"]))
    assert re.fullmatch(rf"/a/account-{host}\.json", str(account_file({"STATE_DIRECTORY": "/a:/b", "HOME": "/h"})))
    assert account_file({"XDG_STATE_HOME": "/x", "HOME": "/h"}).parent.as_posix() == "/x/powersample"
    assert account_file({"HOME": "/h"}).parent.as_posix() == "/h/.local/state/powersample"
    assert account_file({}) is None


def test_state_that_cannot_be_written_is_told_and_serving_goes_on(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    told = []
    with (
        closing(tmp_path / "a.json", "h100+none") as file,
        watched("h100+none", account=file, on_trouble=told.append) as (_, watch),
    ):
        until(watch, lambda found: found and all(one.joules for one in found.values()))
        monkeypatch.setattr(accounts, "write_whole", full)
        state = watch.state()
        assert state.kept is False
        assert state.balances[0].joules > 0
        assert len(watch.state().trouble) == 1
        monkeypatch.undo()
        assert watch.state().kept is True
        assert watch.state().trouble == ()
    assert len(told) == 1
    assert "No space left" in told[0]


# ---- the command ---------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def command(*options):
    """Start `powersample serve`; yield it and the URL that it serves."""
    arguments = [sys.executable, "-m", "powersample.cli", "serve", "--listen", "127.0.0.1:0", *options]
    process = subprocess.Popen(arguments, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    said = []
    try:
        for line in process.stderr:
            said.append(line)
            if found := re.search(r"serving (http://\S+)", line):
                yield process, found[1]
                break
        else:
            raise AssertionError("".join(said))
    finally:
        process.kill()
        process.communicate()


def package_j(url):
    """Return the package's energy, once there is one."""
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        found = read(fetch(url, Accept=OPENMETRICS)[2].decode(), "openmetrics")
        if got := values(found, "powersample_energy_joules_total", device="package-0", domain="package"):
            return got[0]
        time.sleep(0.1)
    raise AssertionError("no energy")


def test_counter_goes_on_after_the_server_was_killed_or_ended(tmp_path):
    """Killed first, with the account open; then ended in order, which closes it."""
    state = ("--simulate", "h100+intel_spr", "--state", str(tmp_path / "a.json"))
    with command(*state) as (process, url):
        before_j = package_j(url)
        process.kill()
        process.communicate(timeout=TIMEOUT_S)
    with command(*state) as (process, url):
        after_j = package_j(url)
        assert after_j >= before_j > 0
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=TIMEOUT_S)
        assert process.returncode == 0
        assert "Traceback" not in said
    with closing(tmp_path / "a.json", "h100+intel_spr") as file:
        assert file.kept["package-0/package"]["joules"] >= after_j
        assert file.kept["package-0/package"]["unseen_s"] > 0
    assert json.loads((tmp_path / "a.json").read_text())["closed"]


def test_command_writes_a_textfile_as_a_whole_and_ends_by_itself(tmp_path, capsys):
    from powersample.cli import main

    path = tmp_path / "powersample.prom"
    options = ["--textfile", str(path), "--every", "0.2", "--duration", "0.7"]
    assert main(["serve", "--simulate", "h100+none", *options]) == 0
    found = read(path.read_text(), "text/plain")
    assert values(found, "powersample_energy_joules_total", device="gpu0", simulated="h100+none")
    assert path.stat().st_mode & 0o444 == 0o444
    assert sorted(one.name for one in tmp_path.iterdir()) == ["powersample.prom"]
    said = capsys.readouterr().err
    assert said.startswith("powersample: SIMULATED NODE h100+none, not a measurement\n")
    assert "serving" not in said


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--textfile", "x.txt"], 2, "end in .prom"),
        (["--textfile", "/nowhere/x.prom"], 1, "not a folder"),
        (["--every", "0"], 2, "above 0"),
        (["--load", "idle"], 2, "--simulate"),
        (["--simulate", "h100", "--load", "cpu"], 2, "program"),
        (["--simulate", "h100", "--listen", "nowhere"], 2, "HOST:PORT"),
        (["--nvml-lib", "/nowhere/libnvidia-ml.so.1", "--sources", "nvml", "--state", "none"], 3, "doctor"),
    ],
)
def test_command_refuses_what_cannot_be(options, code, said, capsys):
    from powersample.cli import main

    assert main(["serve", *options]) == code
    assert said in capsys.readouterr().err


def test_command_on_a_port_that_is_taken_says_whose_it_is_and_keeps_no_lane(capsys):
    from powersample.cli import main

    with serving_of() as server:
        where = f"127.0.0.1:{server.server_address[1]}"
        assert main(["serve", "--simulate", "h100+none", "--listen", where]) == 1
    said = capsys.readouterr().err
    assert f"{where} is taken by" in said
    assert "--listen 127.0.0.1:PORT" in said


# ---- OpenTelemetry -------------------------------------------------------------------------------------------------


def test_opentelemetry_has_parts_that_add_up_and_the_whole_machine_apart():
    pytest.importorskip("opentelemetry.sdk.metrics", reason="the extra [otel] is not installed")
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    from powersample.export.otel import provider

    parts = [
        GPU,
        replace(GPU, name="package-0", device="package-0", domain="package", joules=100.0, power_w=None),
        replace(GPU, name="package-0", device="package-0", domain="dram", joules=10.0, power_w=5.0),
        replace(GPU, name="package-0", device="package-0", domain="core", joules=60.0),
        replace(GPU, name="psys", device="psys", domain="psys", joules=900.0, power_w=450.0),
    ]
    reader = InMemoryMetricReader()
    made = provider(lambda: replace(STATE, balances=tuple(parts), simulated="h100"), reader)
    (resource,) = reader.get_metrics_data().resource_metrics
    made.shutdown()
    found = {}
    units = {}
    for metric in resource.scope_metrics[0].metrics:
        units[metric.name] = metric.unit
        for point in metric.data.data_points:
            assert point.attributes["powersample.simulated"] == "h100"
            found[metric.name, point.attributes["hw.id"], point.attributes.get("hw.type")] = point.value
            assert metric.name.startswith("hw.host.") or point.attributes["hw.type"]
    assert resource.resource.attributes["service.name"] == "powersample"
    assert units == {"hw.energy": "J", "hw.power": "W", "hw.host.energy": "J", "hw.host.power": "W"}
    assert found == {
        ("hw.energy", "GPU-0", "gpu"): 5200.5,
        ("hw.energy", "package-0", "cpu"): 100.0,
        ("hw.energy", "package-0/dram", "memory"): 10.0,
        ("hw.power", "GPU-0", "gpu"): 312.5,
        ("hw.power", "package-0/dram", "memory"): 5.0,
        ("hw.host.energy", "psys", None): 900.0,
        ("hw.host.power", "psys", None): 450.0,
    }


def test_opentelemetry_asks_for_one_state_a_collection():
    """Energies and powers of one moment, and an account that is kept once."""
    pytest.importorskip("opentelemetry.sdk.metrics", reason="the extra [otel] is not installed")
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    from powersample.export.otel import provider

    told = []

    def state():
        told.append(replace(GPU, joules=float(len(told)), power_w=float(len(told))))
        return replace(STATE, balances=(told[-1],))

    reader = InMemoryMetricReader()
    made = provider(state, reader)
    for round_ in range(3):
        (resource,) = reader.get_metrics_data().resource_metrics
        metrics = resource.scope_metrics[0].metrics
        assert {p.value for one in metrics for p in one.data.data_points} == {float(round_)}
        assert len(told) == round_ + 1
    made.shutdown()


def test_page_has_every_metric_and_no_other():
    page = (Path(__file__).parents[1] / "docs" / "serve.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^\| `(powersample_\w+)` \|", page, re.MULTILINE))
    found = parsed(replace(STATE, balances=node_parts()))
    shown = {re.sub("_(bucket|count|sum)$", "", name) for name, _ in found if not name.endswith("_created")}
    assert documented == shown
    assert set(re.findall(r"(?<!:)powersample_\w+_(?:joules|seconds|watts)\w*", page)) <= documented
