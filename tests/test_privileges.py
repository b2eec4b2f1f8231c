# SPDX-License-Identifier: Apache-2.0
"""A sampler with file capabilities in an unprivileged user's hands: what it does for him, and what it refuses."""

import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import bearers
import pytest
from bearers import as_nobody, give, status
from rapl_tree import Tree, software_pmu

from powersample import store
from powersample.capture import privileged, sampler_path

TIMEOUT_S = 30.0
ALL = ("cap_perfmon", "cap_dac_read_search", "cap_sys_rawio", "cap_sys_nice")
NONE = {"CapInh", "CapPrm", "CapEff", "CapAmb"}
# Tells what the process may do at the very moment at which a library of somebody else's is loaded into it.
WITNESS = r"""
#include <stdio.h>
#include <string.h>
__attribute__((constructor)) static void look(void)
{
    char line[256];
    FILE *file = fopen("/proc/self/status", "r");
    while (file && fgets(line, sizeof line, file))
        if (!strncmp(line, "Cap", 3) || !strncmp(line, "NoNewPrivs", 10))
            fprintf(stderr, "witness %s", line);
}
"""


@pytest.fixture(scope="module")
def public():
    """A folder that any user may enter."""
    folder = Path(tempfile.mkdtemp(prefix="powersample-bearers-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def bearer(public):
    """Makes sampler executables that bear the capabilities named."""
    if why := bearers.lacking(public):
        pytest.skip(why)

    def make(*names, effective=True):
        path = Path(shutil.copy(sampler_path(), public / "-".join(("sampler", *names))))
        path.chmod(0o755)
        return give(path, *names, effective=effective) if names else path

    return make


@pytest.fixture
def machine(public):
    """A /sys with one CPU package: its powercap file is root's, its perf event needs CAP_PERFMON."""
    if why := bearers.lacking_mounts(public):
        pytest.skip(why)
    root = Path(tempfile.mkdtemp(prefix="sys-", dir=public))
    root.chmod(0o755)
    (root / "powersample-simulated").write_text("made by a test\n")
    tree = Tree(root)
    tree.zone("intel-rapl:0", "package-0", 20).chmod(0o400)
    with tree.moving():
        yield tree


@pytest.fixture(scope="module")
def witness(public):
    """A libnvidia-ml.so.1 that tells with which capabilities it was loaded, and a loader's cache that knows it."""
    compiler, ldconfig = shutil.which("cc"), shutil.which("ldconfig", path="/sbin:/usr/sbin")
    if compiler is None or ldconfig is None:
        pytest.skip("needs a C compiler and ldconfig")
    folder = public / "driver"
    folder.mkdir()
    library, cache = folder / "libnvidia-ml.so.1", folder / "cache"
    command = [compiler, "-shared", "-fPIC", "-Wl,-soname,libnvidia-ml.so.1", "-x", "c", "-", "-o", library]
    subprocess.run(command, input=WITNESS, text=True, check=True)
    (folder / "conf").write_text(f"{folder}\ninclude /etc/ld.so.conf\n")
    subprocess.run([ldconfig, "-X", "-C", cache, "-f", folder / "conf"], check=True, stderr=subprocess.DEVNULL)
    cache.chmod(0o644)
    return library, cache


@pytest.fixture
def secret(public):
    """A file that only root may read, in a folder that only root may enter."""
    folder = Path(tempfile.mkdtemp(prefix="secret-", dir=public))
    (folder / "number").write_text("31415926535\n")
    return folder / "number"


def listed(command, **options):
    """Run the sampler's --list --json; return what it printed, and what it complained of."""
    done = subprocess.run([*command, "--list", "--json"], capture_output=True, text=True, timeout=TIMEOUT_S, **options)
    assert done.returncode in (0, 3), done.stderr
    return json.loads(done.stdout), done.stderr


@contextmanager
def sampling(command, **options):
    """Start it with its stream; yield the process once it samples."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
    try:
        line = process.stdout.readline()
        assert line.startswith(b'{"ready":true'), process.communicate()[1]
        yield process
    finally:
        process.kill()
        process.communicate()


# ---- what it is for ---------------------------------------------------------------------------------------------


def test_bearer_opens_powercap_that_its_caller_may_not(bearer, machine):
    program = bearer("cap_dac_read_search")
    found, trouble = listed(as_nobody(program, "--sources", "rapl", sys=machine.root))
    assert found["capabilities"] == "cap_dac_read_search"
    assert [one["name"] for one in found["channels"]] == ["package-0.energy"]
    assert found["packages"][0]["route"] == "powercap"
    assert found["packages"][0]["moved"]
    assert trouble == ""


def test_bearer_opens_perf_that_its_caller_may_not(bearer, machine):
    software_pmu(machine)
    plain, _ = listed(as_nobody(bearer(), "--sources", "rapl", sys=machine.root))
    if plain["packages"][0]["route"] == "perf":
        pytest.skip("perf lets every user count system-wide here")
    found, _ = listed(as_nobody(bearer("cap_perfmon"), "--sources", "rapl", sys=machine.root))
    assert found["packages"][0]["route"] == "perf"


def test_sampler_without_capabilities_says_what_was_refused(bearer, machine):
    found, trouble = listed(as_nobody(bearer(), "--sources", "rapl", sys=machine.root))
    assert (found["capabilities"], found["channels"]) == ("", [])
    refusal = next(one for one in found["packages"][0]["refused"] if one["route"] == "powercap")
    assert refusal["errno"] == 13
    assert "rapl package-0 by powercap" in trouble


def classes(pid):
    """Return {name of thread: its scheduling class and priority} of a process."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        fields = (task / "stat").read_text().rpartition(")")[2].split()
        found[(task / "comm").read_text().strip()] = (int(fields[38]), int(fields[37]))
    return found


@pytest.fixture(scope="module")
def real_time():
    """Skips where control groups keep everybody out of the real-time class."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    except OSError as error:
        pytest.skip(f"SCHED_FIFO is refused to root: {error.strerror}")


def test_bearer_gives_its_lanes_the_real_time_class_after_it_has_nothing_left(bearer, real_time):
    """A thread may stay in the class that it was born into; the lanes are, and nothing else is."""
    program = bearer("cap_sys_nice")
    command = as_nobody("prlimit", "--rtprio=0", program, "--sources", "scripted", "--fifo=7", "--spool", "-")
    with sampling(command) as process:
        assert int(status(process.pid)["CapPrm"], 16) == 0
        found = classes(process.pid)
        assert found.pop("ps-lane") == (os.SCHED_FIFO, 7)
        assert set(found.values()) == {(os.SCHED_OTHER, 0)}


def test_bearer_whose_lane_would_take_a_whole_cpu_gives_the_class_back(bearer):
    command = as_nobody(bearer("cap_sys_nice"), "--sources", "scripted", "--mode", "tight", "--fifo", "--spool", "-")
    with sampling(command) as process:
        assert classes(process.pid)["ps-lane"] == (os.SCHED_OTHER, 0)


def test_bearer_without_that_capability_records_that_it_was_refused(bearer):
    command = as_nobody(
        "prlimit", "--rtprio=0", bearer("cap_perfmon"), "--sources", "scripted", "--fifo", "--spool", "-"
    )
    with sampling(command) as process:
        assert classes(process.pid)["ps-lane"] == (os.SCHED_OTHER, 0)
        process.send_signal(signal.SIGTERM)
        last = json.loads(process.stdout.read().splitlines()[-1])
    assert (last["lanes"][0]["fifo_priority"], last["lanes"][0]["fifo_errno"]) == (0, 1)


# ---- through Python ----------------------------------------------------------------------------------------------

MEASURE = """
import json, sys, time
from powersample import measure
from powersample.sim import Node
with Node("h100") as node:
    node.load_script(0, [(0.0, 300.0)])
    with measure(nvml_library=node.library) as run:
        with run.window("early"):
            time.sleep(0.3)
        live = run.energy("early", "package-0", domain="package").joules
    trace = run.trace
    print(json.dumps({
        "window": run.report().data["windows"][0],
        "live": live,
        "later": run.energy("early", "package-0", domain="package").joules,
        "lanes": [lane.as_json() for lane in trace.lanes],
        "channels": {name: channel.sensor for name, channel in trace.channels.items()},
        "meta": dict(trace.meta),
    }))
"""


@pytest.fixture(scope="module")
def reach(public):
    """What a mount namespace must open for another user to run this very Python with this very package."""
    if why := bearers.lacking_mounts(public):
        pytest.skip(why)
    package = Path(privileged.__file__).parents[2]
    opened = bearers.opened([os.path.realpath(sys.base_prefix), sys.prefix, package], public)
    command = as_nobody(sys.executable, "-B", "-c", "import numpy, powersample._native", sys="/sys", opened=opened)
    tried = subprocess.run(command, cwd=public, capture_output=True, text=True, timeout=TIMEOUT_S)
    if tried.returncode != 0:
        pytest.skip(f"another user cannot use this environment: {tried.stderr.strip().splitlines()[-1]}")
    return opened


@pytest.fixture
def python_as_nobody(public, machine, reach):
    """Runs Python as the unprivileged user on the made machine, with a sampler of the caller's choice."""
    home = Path(tempfile.mkdtemp(prefix="home-", dir=public))
    os.chown(home, bearers.NOBODY, bearers.NOBODY)

    def run(sampler, *arguments):
        environment = {"PATH": os.defpath, "HOME": home, "TMPDIR": home, "POWERSAMPLE_SAMPLER": sampler}
        words = [f"{name}={value}" for name, value in environment.items()]
        command = as_nobody("env", "-i", *words, sys.executable, "-B", *arguments, sys=machine.root, opened=reach)
        return subprocess.run(command, cwd=home, capture_output=True, text=True, timeout=2 * TIMEOUT_S)

    run.home = home
    return run


def test_unprivileged_measure_reads_the_package_through_the_bearer(bearer, python_as_nobody):
    """One trace: the GPU's lane of this process, the package's of the executable."""
    program = bearer("cap_dac_read_search")
    done = python_as_nobody(program, "-W", "error", "-c", MEASURE)
    assert done.returncode == 0, done.stderr
    got = json.loads(done.stdout)
    seconds = got["window"]["duration_s"]
    assert got["window"]["totals"]["cpu_j"] == pytest.approx(20 * seconds, rel=0.1)
    assert got["window"]["totals"]["gpu_j"] == pytest.approx(300 * seconds, rel=0.15)
    assert got["live"] == pytest.approx(got["later"], rel=0.05)
    assert [lane["name"] for lane in got["lanes"]] == ["nvml:gpu0", "rapl:package-0"]
    assert all(lane["records"] == lane["drained"] + lane["dropped"] + lane["in_ring"] for lane in got["lanes"])
    assert got["channels"]["package-0.energy"] == "powercap.intel-rapl:0"
    assert (got["meta"]["simulated"], got["meta"]["trouble"]) == (True, [])
    refused, granted = got["meta"]["privileges"]
    assert (refused["capability"], refused["errno"], refused["granted_by"]) == ("cap_dac_read_search", 13, None)
    assert (granted["device"], granted["route"], granted["granted_by"]) == ("package-0", "powercap", str(program))
    assert "energy_uj" in refused["text"]


@pytest.mark.parametrize(("perf", "capability"), [(False, "cap_dac_read_search"), (True, "cap_perfmon")])
def test_unprivileged_measure_without_a_bearer_says_the_two_lines(bearer, machine, python_as_nobody, perf, capability):
    """One capability, that of the first route: it reads all that the second one does."""
    if perf:
        software_pmu(machine)
    code = "import powersample as ps\nwith ps.measure(sources='rapl'): pass"
    done = python_as_nobody(bearer(), "-c", code)
    if perf and done.returncode == 0:
        pytest.skip("perf lets every user count system-wide here")
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    at = next(number for number, line in enumerate(lines) if "for the sampler alone" in line)
    assert "powercap: open" in lines[at]
    assert lines[at + 1].strip() == f"sudo setcap {capability}+ep {bearer()}"
    assert lines[at + 2].strip() == "powersample doctor"


def test_unprivileged_record_has_everything_in_the_bearer(bearer, python_as_nobody):
    command = ("-m", "powersample.cli", "record", "--sources", "rapl", "-o", "run.parquet", "--", "sleep", "0.5")
    done = python_as_nobody(bearer("cap_dac_read_search"), *command)
    assert done.returncode == 0, done.stderr
    trace = store.load(python_as_nobody.home / "run.parquet")
    (lane,) = trace.lanes
    assert lane.drained == len(trace.series("package-0.energy")) > 300
    assert trace.meta["privileges"][-1]["granted_by"] is not None
    assert not list(python_as_nobody.home.glob("*.spool"))


def test_unprivileged_measure_in_the_real_time_class_runs_all_lanes_in_the_bearer(
    bearer, machine, python_as_nobody, real_time
):
    for path in machine.zones:
        path.chmod(0o444)  # this process could read it, and not as urgently
    code = (
        "import json, time, powersample as ps\n"
        "with ps.measure(sources='rapl', fifo=5) as run: time.sleep(0.2)\n"
        "print(json.dumps([run.trace.lanes[0].fifo_priority, run.trace.meta['privileges']]))"
    )
    done = python_as_nobody(bearer("cap_sys_nice"), "-W", "error", "-c", code)
    assert done.returncode == 0, done.stderr
    priority, (granted,) = json.loads(done.stdout)
    assert (granted["device"], granted["route"], granted["capability"]) == ("lanes", "fifo", "cap_sys_nice")
    assert priority == 5


def test_bearer_that_may_not_have_its_capability_is_a_reason(bearer, python_as_nobody):
    """As in a container, or under no_new_privs: the file says one thing and the kernel grants another."""
    program = bearer("cap_dac_read_search")
    no_new_privs = "import ctypes; ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)"
    code = f"{no_new_privs}; import powersample; powersample.measure(sources='rapl').start()"
    done = python_as_nobody(program, "-c", code)
    assert done.returncode == 1
    assert "bears cap_dac_read_search and the kernel did not grant it" in done.stderr


@pytest.mark.parametrize(
    ("value", "names"),
    [
        (struct.pack("<5I", 0x02000001, 1 << 2, 0, 1 << 6, 0), {"cap_dac_read_search", "cap_perfmon"}),
        (struct.pack("<5I", 0x02000000, 1 << 23, 0, 0, 0), {"cap_sys_nice"}),
        (struct.pack("<5I", 0x02000001, 1 << 12, 0, 0, 0), set()),
        (struct.pack("<6I", 0x03000001, 1 << 2, 0, 0, 0, 0), {"cap_dac_read_search"}),
        (struct.pack("<6I", 0x03000001, 1 << 2, 0, 0, 0, 1000), set()),
        (b"\1\0\0\2", set()),
    ],
)
def test_file_capabilities_are_read_as_the_kernel_reads_them(monkeypatch, tmp_path, value, names):
    monkeypatch.setattr(os, "getxattr", lambda path, name: value)
    assert privileged.file_capabilities(tmp_path) == names


def test_file_capabilities_of_an_ordinary_file_are_none(tmp_path):
    assert privileged.file_capabilities(tmp_path) == frozenset()
    assert privileged.file_capabilities(tmp_path / "none") == frozenset()


@pytest.mark.parametrize(
    ("denied", "capability"),
    [
        ({"perf"}, "cap_perfmon"),
        ({"powercap", "perf"}, "cap_dac_read_search,cap_perfmon"),
        ({"msr"}, "cap_dac_read_search,cap_sys_rawio"),
    ],
)
def test_recipe_gives_what_the_routes_need_and_no_more(tmp_path, monkeypatch, denied, capability):
    monkeypatch.setattr(privileged, "_keeps_capabilities", lambda path: True)
    first, _ = privileged.recipe(denied, tmp_path / "the sampler")
    assert first == f"sudo setcap {capability}+ep '{tmp_path}/the sampler'"


def test_recipe_where_no_capability_can_be_kept_makes_a_copy_and_names_it(tmp_path, monkeypatch):
    monkeypatch.setattr(privileged, "_keeps_capabilities", lambda path: False)
    first, second = privileged.recipe({"perf"}, tmp_path / "sampler")
    place = "/usr/local/libexec/powersample-sampler"
    assert first == f"sudo install -D -m 755 {tmp_path}/sampler {place} && sudo setcap cap_perfmon+ep {place}"
    assert second == f"export POWERSAMPLE_SAMPLER={place}"


# ---- and then it is nobody ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["+ep", "+p", "set-user-ID"])
def test_bearer_has_nothing_left_once_it_samples(bearer, machine, how):
    program = bearer(*ALL, effective=how == "+ep") if how != "set-user-ID" else bearer()
    if how == "set-user-ID":
        program.chmod(0o6755)
    with sampling(as_nobody(program, "--sources", "rapl", "--spool", "-", sys=machine.root)) as process:
        now = status(process.pid)
        assert {name: int(now[name], 16) for name in NONE} == dict.fromkeys(NONE, 0)
        assert now["NoNewPrivs"] == "1"
        assert (now["Uid"].split(), now["Gid"].split()) == ([str(bearers.NOBODY)] * 4,) * 2
        # What is held open may not be taken out by a debugger: the process is closed to its own user.
        assert os.stat(f"/proc/{process.pid}/mem").st_uid == 0
        for line in process.stdout:
            if line.startswith(b'{"event":"records"'):
                break  # and still it reads
        else:
            pytest.fail("no record came")


def test_bearer_loads_nvml_only_when_nothing_is_left(bearer, machine, witness):
    (machine.root / "module" / "nvidia").mkdir(parents=True)  # the sign of a driver
    command = as_nobody(bearer(*ALL), "--sources", "nvml,rapl", sys=machine.root, libraries=witness[1])
    found, trouble = listed(command)
    assert found["packages"][0]["route"] == "powercap"
    seen = dict(line.split()[1:] for line in trouble.splitlines() if line.startswith("witness "))
    assert {name: int(seen[f"{name}:"], 16) for name in NONE} == dict.fromkeys(NONE, 0)
    assert seen["NoNewPrivs:"] == "1"


# ---- what it is not for ------------------------------------------------------------------------------------------


def farm(root, target):
    """Make a /sys whose counter and whose zone's name are links to `target`."""
    zone = root / "class" / "powercap" / "intel-rapl:0"
    zone.mkdir(parents=True)
    for name in ("name", "energy_uj", "max_energy_range_uj"):
        (zone / name).symlink_to(target)
    (zone / "name").unlink()
    (zone / "name").write_text("package-0\n")
    return root


def test_bearer_reads_no_secret_through_sysfs(bearer, secret, public):
    program = bearer(*ALL)
    root = farm(public / "farm", secret)
    command = as_nobody(program, "--sources", "rapl", "--sysfs", root)
    found, trouble = listed(command)
    assert found["channels"] == []
    assert "--sysfs names a path of yours" in trouble
    assert "31415926535" not in trouble
    before = [one["errno"] for one in found["packages"][0]["refused"]]
    secret.unlink()
    after, _ = listed(command)
    assert before == [one["errno"] for one in after["packages"][0]["refused"]]  # nor does it tell whether there is one

    open_root = farm(public / "open", public / "open-number")
    (public / "open-number").write_text("31415926535\n")
    allowed, _ = listed(as_nobody(program, "--sources", "rapl", "--sysfs", open_root))
    assert [one["modulus"] for one in allowed["channels"]] == [31415926535 + 1]  # else the links would prove nothing


def test_bearer_takes_no_devfs_and_no_root_of_the_environment(bearer, public):
    program = bearer(*ALL)
    _, trouble = listed(as_nobody(program, "--sources", "rapl", "--devfs", public))
    assert "--devfs names a path of yours" in trouble
    root = farm(public / "named", public / "named-number")
    (public / "named-number").write_text("27182818284\n")
    environment = os.environ | {"POWERSAMPLE_SYSFS_ROOT": str(root)}
    found, _ = listed(as_nobody(program, "--sources", "rapl"), env=environment)
    assert 27182818285 not in [one["modulus"] for one in found["channels"]]
    found, _ = listed(as_nobody(bearer(), "--sources", "rapl"), env=environment)  # without capabilities it is welcome
    assert [one["modulus"] for one in found["channels"]] == [27182818285]


def test_bearer_takes_no_root_from_the_environment(bearer, machine, public):
    zone = farm(public / "other", public / "other-number")
    (public / "other-number").write_text("31415926535\n")

    def turns_at(program):
        words = ("env", f"POWERSAMPLE_SYSFS_ROOT={zone}", program, "--sources", "rapl")
        return [one["modulus"] for one in listed(as_nobody(*words, sys=machine.root))[0]["channels"]]

    assert turns_at(bearer("cap_dac_read_search")) == [machine.range_uj + 1]
    assert turns_at(bearer()) == [31415926536]  # an ordinary one does


def test_bearer_tells_nothing_of_a_secret_through_nvml_lib(bearer, secret):
    command = as_nobody(bearer(*ALL), "--sources", "nvml", "--nvml-lib", secret)
    _, before = listed(command)
    secret.unlink()
    _, after = listed(command)
    assert before == after
    assert "31415926535" not in before
    assert "Permission denied" in before


def test_bearer_gives_a_library_of_the_callers_no_counter(bearer, machine, witness):
    """With one in the process nothing may be open that the caller could not open himself."""
    command = as_nobody(bearer(*ALL), "--sources", "rapl,nvml", "--nvml-lib", witness[0], sys=machine.root)
    found, trouble = listed(command)
    assert found["packages"][0]["route"] is None
    assert "witness CapEff:\t0000000000000000" in trouble


def test_bearer_ignores_a_preloaded_library(bearer, witness):
    def said(program):
        words = ("env", f"LD_PRELOAD={witness[0]}", program, "--sources", "scripted")
        return listed(as_nobody(*words))[1]

    assert said(bearer(*ALL)) == ""
    assert "witness" in said(bearer())  # an ordinary program does load it


def test_bearer_writes_nowhere_that_its_caller_may_not(bearer, secret):
    spool = secret.parent / "spool"
    command = as_nobody(bearer(*ALL), "--sources", "scripted", "--duration", "0.1", "--spool", spool)
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert done.returncode == 1
    assert "Permission denied" in done.stderr
    assert not spool.exists()


def test_bearer_with_a_path_of_the_callers_is_an_ordinary_program(bearer, public):
    spool = Path(tempfile.mkdtemp(prefix="spool-", dir=public))
    os.chown(spool, bearers.NOBODY, bearers.NOBODY)
    command = as_nobody(bearer(*ALL), "--sources", "scripted", "--duration", "0.1", "--spool", spool)
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert done.returncode == 0
    assert "--spool names a path of yours, so cap_perfmon,cap_dac_read_search" in done.stderr
    assert (spool / "part-000000.part").exists()


def test_bearer_without_standard_output_fails_and_writes_into_nothing_else(bearer, machine):
    command = as_nobody(bearer(*ALL), "--sources", "rapl", "--spool", "-", sys=machine.root)
    closed = ["sh", "-c", 'exec "$@" >&-', "sh", *command]
    done = subprocess.run(closed, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, timeout=TIMEOUT_S)
    assert done.returncode == 1
    assert "--spool" in done.stderr


def test_bearer_s_load_has_nothing_left_when_its_threads_begin(bearer, machine, public):
    """The edges go to a descriptor that the caller opened; the counter was opened before, with capabilities."""
    with open(public / "edges.csv", "wb") as edges:
        load = ("--stress", "primes:0.02", "--duration", "0.4", "--edges", f"fd:{edges.fileno()}")
        command = as_nobody(bearer(*ALL), "--sources", "rapl", *load, sys=machine.root)
        with sampling(command, pass_fds=[edges.fileno()]) as process:
            names = set()
            for task in Path(f"/proc/{process.pid}/task").iterdir():
                now = status(f"{process.pid}/task/{task.name}")
                names.add(now["Name"])
                assert {name: int(now[name], 16) for name in NONE} == dict.fromkeys(NONE, 0)
            assert "ps-load" in names
            out, trouble = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, trouble
    assert json.loads(out)["lanes"][0]["passes"] > 0
    assert json.loads(out)["load"]["wrong"] == 0
    assert (public / "edges.csv").read_text().startswith("# powersample edges ")


def test_bearer_writes_no_edges_where_its_caller_may_not(bearer, secret):
    edges = secret.parent / "edges.csv"
    load = ("--stress", "primes:0.02", "--duration", "9", "--edges", edges)
    command = as_nobody(bearer(*ALL), "--sources", "scripted", *load)
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert done.returncode == 1
    assert "--edges names a path of yours, so cap_perfmon" in done.stderr
    assert "or give --edges fd:N" in done.stderr
    assert "Permission denied" in done.stderr
    assert not edges.exists()


def test_bearer_reads_no_secret_as_a_pattern(bearer, secret):
    load = ("--stress", "primes", "--pattern", f"file:{secret}")
    command = as_nobody(bearer(*ALL), "--sources", "scripted", *load)
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert done.returncode == 1
    assert "Permission denied" in done.stderr


# ---- the stream --------------------------------------------------------------------------------------------------


def test_sampler_whose_reader_goes_ends_and_says_so():
    with sampling([sampler_path(), "--sources", "scripted", "--spool", "-"]) as process:
        process.stdout.close()
        assert process.wait(TIMEOUT_S) == 1
        assert "Broken pipe" in process.stderr.read().decode()


def test_sampler_stream_ends_with_what_a_spool_ends_with():
    with sampling([sampler_path(), "--sources", "scripted", "--spool", "-"]) as process:
        process.send_signal(signal.SIGTERM)
        rest = process.stdout.read()
        assert process.wait(TIMEOUT_S) == 0
    assert b'{"event":"end",' in rest
    assert json.loads(rest.splitlines()[-1])["reason"] == "signal"


def test_sampler_stream_is_not_for_a_terminal():
    primary, secondary = os.openpty()
    done = subprocess.run(
        [sampler_path(), "--sources", "scripted", "--spool", "-"], stdout=secondary, stderr=subprocess.PIPE, text=True
    )
    os.close(primary)
    os.close(secondary)
    assert done.returncode == 2
    assert "terminal" in done.stderr
