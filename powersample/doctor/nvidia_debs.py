# SPDX-License-Identifier: Apache-2.0
"""NVIDIA's own `nvidia-smi` and `libnvidia-ml.so.1` 535, from Debian's non-free section into the user's cache folder.

Nothing is installed and nothing of the machine's apt is touched: a private apt folder points at the mirror that the
machine already uses, and apt checks its signatures. The packages are NVIDIA's and not free: they are fetched where
they are wanted and asked for, and never kept with the project.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from powersample import errors

SUITE = "bookworm"  # the one that carries the 535 branch
PACKAGES = ("nvidia-smi", "libnvidia-ml1")
KEYRING = Path("usr/share/keyrings/debian-archive-keyring.gpg")
SIZE_MB = 1.2  # both packages together
LICENCE = "NVIDIA's proprietary licence; it is kept with the files"
RECORD = "fetched.json"


@dataclass(frozen=True, slots=True)
class NvidiaDebs:
    """The unpacked packages.

    Attributes:
        nvidia_smi: The program.
        library_dir: Folder of the real `libnvidia-ml.so.1`.
        sha256: Digest of each package file as it was fetched.
    """

    nvidia_smi: Path
    library_dir: Path
    sha256: dict[str, str]


def cache_dir(environment: Mapping[str, str] | None = None) -> Path:
    """Return the folder that holds, or will hold, the unpacked packages."""
    variables = os.environ if environment is None else environment
    base = variables.get("XDG_CACHE_HOME") or os.path.join(variables.get("HOME") or os.path.expanduser("~"), ".cache")
    return Path(base) / "powersample" / "nvidia-smi-535"


def find_nvidia_smi(path: str | os.PathLike[str] | None = None) -> Path:
    """Return nvidia-smi: the given path, else PATH, else what `fetch` left in the cache folder.

    Raises:
        NotSupported: There is none.
    """
    if path is not None:
        if not os.access(path, os.X_OK):
            raise errors.NotSupported(f"{os.fspath(path)} is not an executable nvidia-smi")
        return Path(path)
    found = shutil.which("nvidia-smi")
    if found:
        return Path(found)
    there = cached()
    if there is None:
        raise errors.NotSupported(
            "no nvidia-smi on PATH; name one with --nvidia-smi, or get NVIDIA's with `powersample doctor "
            "--fetch-nvidia-smi`"
        )
    return there.nvidia_smi


def cached(folder: Path | None = None) -> NvidiaDebs | None:
    """Return what an earlier `fetch` left, or None."""
    folder = folder or cache_dir()
    record = folder / RECORD
    if not record.is_file():
        return None
    programs = [path for path in sorted((folder / "root").glob("**/nvidia-smi")) if os.access(path, os.X_OK)]
    programs = [path for path in programs if path.is_file()]
    libraries = [path for path in sorted((folder / "root").glob("**/libnvidia-ml.so.1")) if path.is_file()]
    if not programs or not libraries:
        return None
    digests = json.loads(record.read_text(encoding="utf-8"))["sha256"]
    return NvidiaDebs(programs[0], libraries[0].parent, digests)


def check_possible(root: Path = Path("/")) -> tuple[str, Path]:
    """Return the mirror and the keyring that `fetch` would use, before anything is fetched or even asked.

    Args:
        root: Where this machine's /etc and /usr lie.

    Raises:
        NotSupported: This is no Debian machine with a mirror of its own; says what to do instead.
    """
    remedy = "Take nvidia-smi from this system's own packages, or name one with --nvidia-smi PATH."
    for tool in ("apt-get", "dpkg-deb"):
        if not shutil.which(tool):
            raise errors.NotSupported(f"{tool} is not installed: this is no Debian system", remedy)
    keyring = root / KEYRING
    if not keyring.is_file():
        raise errors.NotSupported("no Debian archive keyring on this machine", remedy)
    etc = root / "etc/apt"
    files = [etc / "sources.list", *sorted((etc / "sources.list.d").glob("*"))]
    text = "\n".join(f.read_text(encoding="utf-8", errors="replace") for f in files if f.is_file())
    for url in re.findall(r"^(?:URIs:|deb\s+(?:\[[^]]*\]\s+)?)\s*(\S+)", text, flags=re.MULTILINE):
        if url.rstrip("/").endswith("/debian"):
            return url, keyring
    raise errors.NotSupported("no Debian mirror in this machine's apt sources", remedy)


def fetch(folder: Path | None = None, *, timeout_s: float = 120.0, root: Path = Path("/")) -> NvidiaDebs:
    """Return the packages, from the cache if they are there.

    Args:
        folder: Cache folder; `cache_dir()` when None.
        timeout_s: For each of apt's two runs.
        root: Where this machine's /etc and /usr lie.

    Raises:
        NotSupported: Not Debian, no network, no such package, or an unwritable cache.
    """
    folder = folder or cache_dir()
    if there := cached(folder):
        return there
    mirror, keyring = check_possible(root)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix="fetching-", dir=folder.parent))
    except OSError as error:
        raise errors.NotSupported(f"cache folder: {error}") from error
    try:
        debs = _download(work, mirror, keyring, timeout_s)
        result = work / "result"
        result.mkdir()
        for deb in debs:
            _run(["dpkg-deb", "-x", str(deb), str(result / "root")], work, timeout_s)
        digests = {deb.name: hashlib.sha256(deb.read_bytes()).hexdigest() for deb in debs}
        (result / RECORD).write_text(json.dumps({"sha256": digests}, indent=1) + "\n", encoding="utf-8")
        try:
            result.rename(folder)
        except OSError:  # another process was faster, or an older, broken cache lies there
            if not cached(folder):
                shutil.rmtree(folder, ignore_errors=True)
                result.rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    there = cached(folder)
    if there is None:
        raise errors.NotSupported("the packages hold no nvidia-smi or no libnvidia-ml.so.1")
    return there


def _download(work: Path, mirror: str, keyring: Path, timeout_s: float) -> list[Path]:
    for name in ("lists/partial", "cache/archives/partial"):
        (work / name).mkdir(parents=True)
    (work / "sources.list").write_text(f"deb [signed-by={keyring}] {mirror} {SUITE} non-free\n", encoding="utf-8")
    options = {
        "Dir::Etc::sourcelist": work / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State::lists": work / "lists",
        "Dir::Cache": work / "cache",
        "APT::Sandbox::User": "",
        "Acquire::Retries": 1,
        "Acquire::http::Timeout": 20,
    }
    apt = ["apt-get", "-q", *(word for key, value in options.items() for word in ("-o", f"{key}={value}"))]
    _run([*apt, "update"], work, timeout_s)
    _run([*apt, "download", *PACKAGES], work, timeout_s)
    debs = sorted(work.glob("*.deb"))
    if len(debs) != len(PACKAGES):
        raise errors.NotSupported(f"apt fetched {len(debs)} of {len(PACKAGES)} packages")
    return debs


def _run(command: list[str], cwd: Path, timeout_s: float) -> None:
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise errors.NotSupported(f"{command[0]}: {error}") from error
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise errors.NotSupported(f"{command[0]} failed: {lines[-1] if lines else f'exit {done.returncode}'}")
