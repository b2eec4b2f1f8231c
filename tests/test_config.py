# SPDX-License-Identifier: Apache-2.0
"""The configuration file: what it may say, what wins over it, and that it never costs a recording by surprise."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from unprivileged import unprivileged_python

from powersample import errors, measure, store
from powersample.capture import PACE, ROOTS, plan_with_defaults
from powersample.sim import Node
from powersample.store.config import KEYS, load_configuration, user_file

ABSENT = Path("/nonexistent/powersample/config.toml")


@pytest.fixture
def home(tmp_path):
    """An environment with a configuration folder, and a function that writes the file in it."""
    folder = tmp_path / "config" / "powersample"
    folder.mkdir(parents=True)

    def write(text):
        content = text if isinstance(text, bytes) else text.encode()
        (folder / "config.toml").write_bytes(content)
        return folder / "config.toml"

    write.environment = {"XDG_CONFIG_HOME": str(tmp_path / "config")}
    return write


def load(home, system_file=ABSENT):
    return load_configuration(home.environment, system_file=system_file)


def test_every_key_is_either_a_root_or_a_matter_of_taste():
    assert sorted([*ROOTS, *PACE, "meters"]) == sorted(KEYS)  # meters are no plan's: the session takes them


def test_configuration_without_a_file_is_empty(tmp_path):
    found = load_configuration({"XDG_CONFIG_HOME": str(tmp_path)}, system_file=ABSENT)
    assert (dict(found.values), found.files, found.notes) == ({}, (), ())


@pytest.mark.parametrize(
    ("line", "key", "value"),
    [
        ('sources = ["nvml", "rapl"]', "sources", ("nvml", "rapl")),
        ('sources = "nvml, rapl"', "sources", ("nvml", "rapl")),
        ("rate_hz = 100", "rate_hz", 100.0),
        ('rate_hz = "auto"', "rate_hz", None),
        ('mode = "tight"', "mode", "tight"),
        ("cpu = 0", "cpu", 0),
        ('meters = ["lmg450:/dev/ttyUSB0,i=5"]', "meters", ("lmg450:/dev/ttyUSB0,i=5",)),
        ("fifo = 10", "fifo", 10),
        ('keep = "changes"', "keep", "changes"),
        ('devfs = "/host-dev"', "devfs", "/host-dev"),
        ('nvml_lib = "libnvidia-ml.so.1"', "nvml_lib", "libnvidia-ml.so.1"),
        ('sysfs = "/host-sys"', "sysfs", "/host-sys"),
    ],
)
def test_configuration_key_is_read(home, line, key, value):
    path = home(line)
    found = load(home)
    assert (dict(found.values), dict(found.origins)) == ({key: value}, {key: path})


def test_configuration_of_the_user_beats_the_systems_key_by_key(home, tmp_path):
    system = tmp_path / "etc.toml"
    system.write_text('rate_hz = 10\nsources = ["rapl"]\n')
    mine = home("rate_hz = 20")
    found = load(home, system)
    assert dict(found.values) == {"rate_hz": 20.0, "sources": ("rapl",)}
    assert dict(found.origins) == {"rate_hz": mine, "sources": system}
    assert found.files == (mine, system)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("rate_hz = 1\nmode = paced\n", "line 2"),
        ("rate_hz", "end of document"),
        (b"# caf\xe9\n", "line 1 is not UTF-8"),
        ("rate = 100", "unknown key 'rate'; known are sources, rate_hz"),
        ("[record]\nrate_hz = 1", "unknown key 'record'"),
        ("rate_hz = true", "rate_hz = True: it must be a number of Hz"),
        ('rate_hz = "fast"', "rate_hz = 'fast'"),
        ('cpu = "0"', "cpu = '0': it must be the number of a CPU"),
        ("sources = [1]", "sources"),
        ('sysfs = "sys"', "sysfs = 'sys': it must be the absolute path"),
        ('nvml_lib = "lib/libnvidia-ml.so.1"', "nvml_lib"),
    ],
)
def test_configuration_that_nobody_understands_names_file_and_line_or_key(home, text, told):
    path = home(text)
    with pytest.raises(errors.ConfigurationError) as caught:
        load(home)
    assert str(caught.value).startswith(f"{path}: ")
    assert told in str(caught.value)


def test_configuration_that_cannot_be_read_is_a_note(home):
    """A folder in the file's place stands for a refusal that even root meets."""
    path = home("rate_hz = 1")
    path.unlink()
    path.mkdir()
    found = load(home)
    assert dict(found.values) == {}
    assert found.notes == (f"{path} cannot be read and is passed over [errno 21: Is a directory]",)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"XDG_CONFIG_HOME": "/c", "HOME": "/h"}, Path("/c/powersample/config.toml")),
        ({"XDG_CONFIG_HOME": "c", "HOME": "/h"}, Path("/h/.config/powersample/config.toml")),
        ({"HOME": "/h"}, Path("/h/.config/powersample/config.toml")),
    ],
)
def test_user_file_follows_the_base_directory_specification(environment, expected):
    assert user_file(environment) == expected


def test_user_file_without_a_home_is_none(monkeypatch):
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # what it answers for a user without an entry
    assert user_file({}) is None
    assert load_configuration({}, system_file=ABSENT).files == ()


def test_plan_takes_what_was_given_before_what_is_configured(home):
    path = home('rate_hz = 100\nmode = "tight"\ncpu = 1\n')
    plan = plan_with_defaults({"rate_hz": None, "cpu": 0}, load(home), environment={})
    assert (plan.rate_hz, plan.mode, plan.cpu) == (None, "tight", 0)
    assert plan.notes == (f"mode = 'tight' from {path}",)


def test_plan_takes_only_the_keys_that_may_count(home):
    home('rate_hz = 100\nsysfs = "/host-sys"\nnvml_lib = "/lib/x.so"\n')
    plan = plan_with_defaults({}, load(home), keys=ROOTS, environment={})
    assert (plan.rate_hz, plan.sysfs, plan.nvml_library) == (None, "/host-sys", "/lib/x.so")


def test_plan_lets_the_environment_choose_the_root(home):
    home('sysfs = "/host-sys"')
    environment = {"POWERSAMPLE_SYSFS_ROOT": "/elsewhere"}
    assert plan_with_defaults({}, load(home), environment=environment).sysfs == "/elsewhere"
    assert plan_with_defaults({"sysfs": "/given"}, load(home), environment=environment).sysfs == "/given"
    assert plan_with_defaults({}, load(home), keys=PACE, environment=environment).sysfs is None


def test_plan_lets_the_environment_choose_the_library(home):
    home('nvml_lib = "/lib/x.so"')
    environment = {"POWERSAMPLE_NVML_LIB": "/sim/libnvidia-ml.so.1"}
    plan = plan_with_defaults({}, load(home), environment=environment)
    assert plan.nvml_library == "/sim/libnvidia-ml.so.1"
    assert plan.notes == ("nvml_lib = '/sim/libnvidia-ml.so.1' from POWERSAMPLE_NVML_LIB",)
    assert plan_with_defaults({"nvml_library": "/x"}, load(home), environment=environment).nvml_library == "/x"
    assert plan_with_defaults({}, load(home), keys=PACE, environment=environment).nvml_library is None


def test_plan_of_a_mode_without_a_grid_forgets_the_configured_rate(home):
    home("rate_hz = 100")
    assert plan_with_defaults({"mode": "tight"}, load(home), environment={}).rate_hz is None


def test_plan_names_the_file_whose_values_do_not_go_together(home):
    path = home('rate_hz = 100\nmode = "tight"\n')
    with pytest.raises(errors.ConfigurationError, match=f"^{path}: "):
        plan_with_defaults({}, load(home), environment={})


@pytest.mark.parametrize("line", ["rate_hz = -1", 'mode = "burst"', 'sources = ["gpu"]', "fifo = 1000", 'keep = "x"'])
def test_plan_names_the_file_of_a_value_outside_its_range(home, line):
    path = home(line)
    key = line.split()[0]
    with pytest.raises(errors.ConfigurationError, match=f"^{path}: {key}: "):
        plan_with_defaults({}, load(home))


# ---- the command and measure() ---------------------------------------------------------------------------------


def powersample(*arguments, cwd, environment):
    return subprocess.run(
        [sys.executable, "-m", "powersample.cli", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
    )


@pytest.fixture
def node():
    with Node("h100") as made:
        yield made


def test_record_takes_its_defaults_from_the_file_and_says_so(home, node, tmp_path):
    path = home(f'rate_hz = 50\nnvml_lib = "{node.library}"\nsources = "nvml"\n')
    done = powersample("record", "--duration", "0.3", "-o", "x.parquet", cwd=tmp_path, environment=home.environment)
    assert done.returncode == 0, done.stderr
    trace = store.load(tmp_path / "x.parquet")
    assert trace.meta["plan"]["rate_hz"] == 50
    assert f"rate_hz = 50.0 from {path}" in trace.meta["notes"]
    assert f"rate_hz = 50.0 from {path}" in done.stderr


def test_record_simulated_leaves_the_machines_roots_alone(home, tmp_path):
    home('rate_hz = 50\nsources = "rapl"\nnvml_lib = "/nowhere.so"\n')
    arguments = ("record", "--simulate", "h100", "--duration", "0.3", "-o", "x.parquet")
    done = powersample(*arguments, cwd=tmp_path, environment=home.environment)
    assert done.returncode == 0, done.stderr
    assert store.load(tmp_path / "x.parquet").meta["plan"]["rate_hz"] == 50


@pytest.mark.parametrize("text", ["rate_hz = \n", 'mode = "burst"\n'])
def test_record_stops_before_recording_at_a_bad_file(home, tmp_path, text):
    path = home(text)
    arguments = ("record", "--simulate", "h100", "-o", "x.parquet", "--", "touch", "ran")
    done = powersample(*arguments, cwd=tmp_path, environment=home.environment)
    assert done.returncode == 2
    assert done.stderr.startswith(f"powersample: {path}: ")
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "x.parquet.spool").exists()


def test_report_of_an_old_recording_does_not_read_the_file(home, tmp_path):
    with measure(simulate="h100", output=tmp_path / "x.parquet"):
        pass
    home("this is no TOML")
    done = powersample("report", "x.parquet", "--json", cwd=tmp_path, environment=home.environment)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["simulated"]


def test_measure_takes_the_roots_from_the_file_and_nothing_else(home, node, monkeypatch):
    home(f'rate_hz = 50\nnvml_lib = "{node.library}"\nsources = "nvml"\n')
    monkeypatch.setenv("XDG_CONFIG_HOME", home.environment["XDG_CONFIG_HOME"])
    with measure() as run:
        pass
    plan = run.trace.meta["plan"]
    assert (plan["rate_hz"], plan["nvml_library"], plan["sources"]) == (None, str(node.library), ["nvml"])


def test_measure_simulated_does_not_read_the_file(home, monkeypatch):
    home("this is no TOML")
    monkeypatch.setenv("XDG_CONFIG_HOME", home.environment["XDG_CONFIG_HOME"])
    with measure(simulate="h100") as run:
        pass
    assert run.trace.simulated


def test_measure_at_a_bad_file_says_so_at_once(home, monkeypatch):
    path = home("cpu = 'one'")
    monkeypatch.setenv("XDG_CONFIG_HOME", home.environment["XDG_CONFIG_HOME"])
    with pytest.raises(errors.ConfigurationError, match=str(path)):
        measure()


@pytest.fixture
def locked_home():
    """A home of somebody else: nothing can be written in it, and its configuration cannot be read."""
    folder = Path(tempfile.mkdtemp(prefix="powersample-home-"))
    config = folder / ".config" / "powersample"
    config.mkdir(parents=True)
    (config / "config.toml").write_text("rate_hz = 50\n")
    config.chmod(0)
    folder.chmod(0o555)
    yield folder
    folder.chmod(0o755)
    config.chmod(0o755)
    shutil.rmtree(folder)


@pytest.mark.parametrize("home", ["locked", "missing", None])
def test_record_needs_no_home(locked_home, home):
    """It is read-only, it is not there, or nobody says where it is."""
    environment = {"locked": [f"HOME={locked_home}"], "missing": ["HOME=/nonexistent"], None: ["-u", "HOME"]}[home]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        done = subprocess.run(
            [
                *unprivileged_python("-u", "XDG_CONFIG_HOME", *environment),
                *("-m", "powersample.cli", "record", "--simulate", "h100", "--duration", "0.3", "-o", "x.parquet"),
            ],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        trace = store.load(folder / "x.parquet")
        assert trace.meta["plan"]["rate_hz"] is None
        told = [note for note in trace.meta["notes"] if "cannot be read and is passed over [errno 13" in note]
        assert len(told) == (home == "locked")
    if home == "locked":
        assert sorted(path.name for path in locked_home.iterdir()) == [".config"]
