# SPDX-License-Identifier: Apache-2.0
"""A sampler with file capabilities in an unprivileged user's hands: what it does for him, and what it refuses."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

import bearers
import pytest
from bearers import as_nobody, give, status
from test_rapl import Tree, software_pmu

from powersample.capture.recorder import sampler_path

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
