# SPDX-License-Identifier: Apache-2.0
"""Where a running account is kept, so that its counters go on after a restart.

    $STATE_DIRECTORY/account-HOST.json, as systemd gives it; else
    $XDG_STATE_HOME/powersample/account-HOST.json     (~/.local/state/powersample/)

HOST is a hash of the machine's id: a home that many machines share keeps them apart. One process holds a file at once.
It is
replaced as a whole, and reaches the disk every `SYNC_S` and at the end: a process that is killed loses nothing of what
it has shown. After a crash of the machine counters begin again at 0, which every reader takes for a restart; one that
went back a little would be taken for all of its joules once more.
"""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from powersample.errors import AccessDenied, BadFormat, InvalidArgument, StateError
from powersample.store.calibrations import this_host

SCHEMA_VERSION = 1
SYNC_S = 30.0
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
FIELDS = {"channel": str, "joules": float, "unseen_s": float, "raw": int, "last_unix_s": float}

BEGUN_AGAIN = 1 << 63  # more than any counter says


def account_file(environment: Mapping[str, str] | None = None) -> Path | None:
    """Return where this machine's account is kept; None when nothing tells where the user's state goes."""
    variables = os.environ if environment is None else environment
    host = this_host()
    name = f"account-{host.get('id', host['name'])}.json"
    if given := variables.get("STATE_DIRECTORY"):
        return Path(given.split(":")[0]) / name
    if base := variables.get("XDG_STATE_HOME"):
        return Path(base) / "powersample" / name
    home = variables.get("HOME")
    return Path(home) / ".local" / "state" / "powersample" / name if home else None


class AccountFile:
    """One account's file, held until it is closed.

    Args:
        path: The file; its folder is made.
        simulated: The simulated node that is accounted for, or None for this machine.

    Attributes:
        kept: What an earlier process kept; None where there was nothing to go on from.
        notes: What a reader should know of that.

    Raises:
        StateError: Another process holds it; names it.
        AccessDenied: It may not be written there.
        BadFormat: It is no account.
        InvalidArgument: It is another machine's, or a simulated node's.
    """

    def __init__(self, path: Path, simulated: str | None = None) -> None:
        self.path = path
        self.notes: list[str] = []
        self._about = {"schema_version": SCHEMA_VERSION, "host": this_host(), "simulated": simulated}
        self._synced_s = -SYNC_S
        self._lock = _hold(path)
        try:
            self.kept = self._read()
        except BaseException:
            os.close(self._lock)
            raise

    def _read(self) -> dict[str, Any] | None:
        try:
            data = json.loads(self.path.read_text(encoding="utf-8"))
            about = {key: data[key] for key in self._about}
            accounts = data["accounts"]
            for one in accounts.values():
                if not all(isinstance(one[key], kind) for key, kind in FIELDS.items()):
                    raise ValueError("a value of another kind")
                if one["created_unix_s"] is not None:
                    float(one["created_unix_s"])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadFormat(
                f"{self.path} is no account of powersample's ({error})", "Remove it to begin anew."
            ) from error
        if (about["simulated"], about["host"].get("id")) != (self._about["simulated"], this_host().get("id")):
            whose = (
                f"the simulated node {about['simulated']}" if about["simulated"] else f"host {about['host']['name']}"
            )
            raise InvalidArgument(f"{self.path} is the account of {whose}", "Name another file: --state FILE.")
        if not data["closed"] and data["boot_id"] != _boot_id():
            self.notes.append(f"the machine ended without closing {self.path}: its counters begin again at 0")
            return None
        if data["boot_id"] != _boot_id():  # what counts since boot has begun again, wherever it stands by now
            accounts = {name: one | {"raw": BEGUN_AGAIN} for name, one in accounts.items()}
        return dict(accounts)

    def save(self, accounts: Mapping[str, Any], *, closed: bool = False) -> None:
        """Replace what is kept.

        Raises:
            OSError: It cannot be written; what was kept before stands.
        """
        data = self._about | {"boot_id": _boot_id(), "closed": closed, "accounts": accounts}
        now_s = time.monotonic()
        due = closed or now_s - self._synced_s >= SYNC_S
        write_whole(self.path, json.dumps(data).encode(), sync=due)
        self._synced_s = now_s if due else self._synced_s

    def close(self) -> None:
        """Let go of the file; harmless when repeated."""
        lock, self._lock = self._lock, -1
        if lock >= 0:
            os.close(lock)


def write_whole(path: Path, data: bytes, *, sync: bool, mode: int = 0o644) -> None:
    """Replace a file by rename, so that a reader finds the old or the new one and never a part.

    Raises:
        OSError: It cannot be written; the old file stands.
    """
    temporary = path.with_name(f".{path.name}.new")
    try:
        temporary.unlink(missing_ok=True)  # of a killed process; or a link that somebody planted in a shared folder
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with open(fd, "wb") as file:
            file.write(data)
            if sync:
                file.flush()
                os.fsync(fd)
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def _hold(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise AccessDenied(
            f"{path} cannot be kept: {error.strerror}", "Name another file: --state FILE, or `--state none`."
        ) from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.pread(fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(fd)
        raise StateError(
            f"{path} is kept by process {pid} already", "End that one, or name another file: --state FILE."
        ) from None
    except OSError:  # a file system without locks: better unguarded than refused
        pass
    with contextlib.suppress(OSError):  # on a full disk the holder is not named, and holds it all the same
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd


def _boot_id() -> str:
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""
