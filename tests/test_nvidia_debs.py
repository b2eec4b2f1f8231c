# SPDX-License-Identifier: Apache-2.0
"""Fetching NVIDIA's nvidia-smi: by an apt that is made up, so that no test needs a network."""

import json
import os
import pty
import subprocess
import sys

import pytest

from powersample import errors
from powersample.doctor import nvidia_debs
from powersample.experiments.baselines import find_nvidia_smi

APT = """\
#!/bin/sh
echo "$*" >> "$LOG"
case "$*" in
*update*) [ "$FAULT" = network ] && { echo "E: the mirror does not answer" >&2; exit 100; } ;;
*download*) for name in $PACKAGES; do [ "$FAULT" = package ] || echo "$name" > "${name}_535.deb"; done ;;
esac
exit 0
"""
DPKG = """\
#!/bin/sh
mkdir -p "$3/usr/lib/nvidia" && cd "$3/usr/lib/nvidia"
case "$2" in
*nvidia-smi*) printf '#!/bin/sh\\necho fetched\\n' > nvidia-smi; chmod 755 nvidia-smi ;;
*) echo library > libnvidia-ml.so.1 ;;
esac
"""
DEB822 = "Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm\nComponents: main\n"
ONE_LINE = "deb [arch=amd64 signed-by=/x] http://mirror.example/debian/ bookworm main\n"


@pytest.fixture
def system(tmp_path, monkeypatch):
    """A Debian machine in a folder, with an apt that logs what it is told."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (("apt-get", APT), ("dpkg-deb", DPKG)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.setenv("LOG", str(tmp_path / "log"))
    monkeypatch.setenv("PACKAGES", " ".join(nvidia_debs.PACKAGES))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    keyring = tmp_path / "root" / nvidia_debs.KEYRING
    keyring.parent.mkdir(parents=True)
    keyring.write_text("key")
    (tmp_path / "root/etc/apt/sources.list.d").mkdir(parents=True)
    (tmp_path / "root/etc/apt/sources.list.d/debian.sources").write_text(DEB822)
    return tmp_path


def fetch(system):
    return nvidia_debs.fetch(root=system / "root")


def test_fetch_uses_the_machines_mirror_in_a_folder_of_its_own(system):
    debs = fetch(system)
    assert subprocess.run([debs.nvidia_smi], capture_output=True, text=True).stdout == "fetched\n"
    assert (debs.library_dir / "libnvidia-ml.so.1").is_file()
    assert set(debs.sha256) == {"nvidia-smi_535.deb", "libnvidia-ml1_535.deb"}
    update, download = (system / "log").read_text().splitlines()
    assert "Dir::Etc::sourceparts=/dev/null" in update
    assert download.endswith("download nvidia-smi libnvidia-ml1")
    assert sorted(path.name for path in (system / "cache/powersample").iterdir()) == ["nvidia-smi-535"]


def test_fetch_a_second_time_asks_nobody(system):
    first = fetch(system)
    (system / "log").unlink()
    assert fetch(system) == first
    assert not (system / "log").exists()


def test_fetch_over_a_broken_cache_mends_it(system):
    fetch(system).nvidia_smi.unlink()
    assert nvidia_debs.cached() is None
    assert fetch(system).nvidia_smi.is_file()


def test_fetch_reads_both_forms_of_apts_sources(system):
    (system / "root/etc/apt/sources.list.d/debian.sources").unlink()
    (system / "root/etc/apt/sources.list").write_text(f"# deb http://other.example/debian x\n{ONE_LINE}")
    assert nvidia_debs.check_possible(system / "root")[0] == "http://mirror.example/debian/"


@pytest.mark.parametrize(("fault", "told"), [("network", "the mirror does not answer"), ("package", "0 of 2 packages")])
def test_fetch_that_fails_says_why_and_leaves_nothing(system, monkeypatch, fault, told):
    monkeypatch.setenv("FAULT", fault)
    with pytest.raises(errors.NotSupported, match=told):
        fetch(system)
    assert list((system / "cache/powersample").iterdir()) == []


@pytest.mark.parametrize(
    ("lacks", "told"),
    [("tools", "no Debian system"), ("keyring", "no Debian archive keyring"), ("mirror", "no Debian mirror")],
)
def test_fetch_on_another_system_refuses_and_points_elsewhere(system, monkeypatch, lacks, told):
    if lacks == "tools":
        monkeypatch.setenv("PATH", str(system))
    elif lacks == "keyring":
        (system / "root" / nvidia_debs.KEYRING).unlink()
    else:
        (system / "root/etc/apt/sources.list.d/debian.sources").write_text("URIs: http://mirror.example/ubuntu\n")
    with pytest.raises(errors.NotSupported, match=f"{told}.* --nvidia-smi PATH"):
        fetch(system)
    assert not (system / "cache").exists()


def test_fetch_into_a_cache_that_may_not_be_written_says_so(system):
    (system / "cache").write_text("a file in its place")
    with pytest.raises(errors.NotSupported, match="cache folder"):
        fetch(system)


def test_find_nvidia_smi_takes_what_was_fetched(system, monkeypatch):
    debs = fetch(system)
    monkeypatch.setenv("PATH", str(system))
    assert find_nvidia_smi() == debs.nvidia_smi


# ---- the verb: it asks first -----------------------------------------------------------------------------------

DOCTOR = [sys.executable, "-m", "powersample.cli", "doctor", "--fetch-nvidia-smi"]


@pytest.fixture
def debian(system):
    try:
        nvidia_debs.check_possible()
    except errors.NotSupported as error:
        pytest.skip(str(error))
    return system


def answered(answer, *options):
    leader, follower = pty.openpty()
    os.write(leader, answer)
    done = subprocess.run([*DOCTOR, *options], stdin=follower, capture_output=True, text=True, timeout=60)
    os.close(leader)
    os.close(follower)
    return done


@pytest.mark.parametrize("answer", [b"n\n", b"\n", b"maybe\n"])
def test_verb_that_is_not_told_yes_fetches_nothing(debian, answer):
    done = answered(answer)
    assert done.returncode == 1
    for part in ("nvidia-smi, libnvidia-ml1", "bookworm", "non-free", "MB", "NVIDIA's proprietary licence"):
        assert part in done.stderr
    assert not (debian / "log").exists()
    assert done.stdout == ""


def test_verb_with_nobody_to_ask_fetches_nothing(debian):
    done = subprocess.run(DOCTOR, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "add --yes" in done.stderr
    assert not (debian / "log").exists()


@pytest.mark.parametrize(("answer", "options"), [(b"y\n", []), (b"", ["--yes"])])
def test_verb_that_is_told_yes_prints_the_path(debian, answer, options):
    done = answered(answer, *options)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(nvidia_debs.cached().nvidia_smi)
    assert "sha256" in done.stderr
    record = json.loads((debian / "cache/powersample/nvidia-smi-535/fetched.json").read_text())
    assert len(record["sha256"]) == 2
