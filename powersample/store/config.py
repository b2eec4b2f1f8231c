# SPDX-License-Identifier: Apache-2.0
"""The configuration file: what a person or a site wants by default, below every option that is given.

Two files, the user's over the system's, key by key:

    $XDG_CONFIG_HOME/powersample/config.toml     (~/.config/powersample/config.toml)
    /etc/powersample/config.toml

A file that is not there is no problem, and one that this user may not read is a note; one that says what nobody
understands is an error before anything is recorded. Nothing is ever written to them.
"""

from __future__ import annotations

import errno
import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from powersample.errors import ConfigurationError

SYSTEM_FILE = Path("/etc/powersample/config.toml")
ABSENT = (errno.ENOENT, errno.ENOTDIR)


@dataclass(frozen=True, slots=True)
class Configuration:
    """What the files say.

    Attributes:
        values: By key, each in the form that `capture.Plan` takes.
        origins: The file of each key.
        files: Those that were read, the user's first.
        notes: Those that could not be read, each with its reason.
    """

    values: Mapping[str, Any]
    origins: Mapping[str, Path]
    files: tuple[Path, ...]
    notes: tuple[str, ...]


def user_file(environment: Mapping[str, str]) -> Path | None:
    """Return where the user's file is looked for; None when nothing tells where their home is."""
    folder = user_folder(environment)
    return None if folder is None else folder / "config.toml"


def user_folder(environment: Mapping[str, str]) -> Path | None:
    """Return the user's own folder of powersample; None when nothing tells where their home is."""
    base = environment.get("XDG_CONFIG_HOME", "")
    if not os.path.isabs(base):  # its specification: what is not absolute is ignored
        home = environment.get("HOME") or os.path.expanduser("~")
        if not os.path.isabs(home):
            return None
        base = os.path.join(home, ".config")
    return Path(base) / "powersample"


def load_configuration(
    environment: Mapping[str, str] | None = None, *, system_file: Path = SYSTEM_FILE
) -> Configuration:
    """Return what the configuration files say; an empty one when there are none.

    Args:
        environment: Where XDG_CONFIG_HOME and HOME are looked up; `os.environ` unless told.
        system_file: The file below the user's.

    Raises:
        ConfigurationError: A file is no TOML, or has a key or a value that is unknown; names file and line or key.
    """
    values: dict[str, Any] = {}
    origins: dict[str, Path] = {}
    files: list[Path] = []
    notes: list[str] = []
    for path in (user_file(os.environ if environment is None else environment), system_file):
        if path is None:
            continue
        try:
            found = _read(path)
        except OSError as error:
            if error.errno not in ABSENT:
                notes.append(f"{path} cannot be read and is passed over [errno {error.errno}: {error.strerror}]")
            continue
        files.append(path)
        for key, value in found.items():
            if key not in values:
                values[key], origins[key] = value, path
    return Configuration(MappingProxyType(values), MappingProxyType(origins), tuple(files), tuple(notes))


def _read(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    try:
        table = tomllib.loads(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigurationError(f"{path}: line {line} is not UTF-8 text") from error
    except tomllib.TOMLDecodeError as error:  # its text ends in "(at line 3, column 7)"
        raise ConfigurationError(f"{path}: {error}", "Correct it as TOML, or remove the file.") from error
    unknown = [key for key in table if key not in KEYS]
    if unknown:
        raise ConfigurationError(f"{path}: unknown key {', '.join(map(repr, unknown))}; known are {', '.join(KEYS)}")
    return {key: _understood(path, key, value) for key, value in table.items()}


def _understood(path: Path, key: str, value: object) -> Any:
    understand, wanted = KEYS[key]
    try:
        return understand(value)
    except (TypeError, ValueError):
        raise ConfigurationError(f"{path}: {key} = {value!r}: it must be {wanted}") from None


# ---- one function a kind of value: raises TypeError or ValueError for any other ---------------------------------


def _names(value: object) -> tuple[str, ...]:
    words = value.split(",") if isinstance(value, str) else value
    if not isinstance(words, list) or not all(isinstance(word, str) and word.strip() for word in words):
        raise TypeError
    return tuple(word.strip() for word in words)


def _addresses(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(word, str) and word.strip() for word in value):
        raise TypeError  # no comma-separated text: addresses have commas
    return tuple(word.strip() for word in value)


def _rate(value: object) -> float | None:
    if value == "auto":
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError
    return float(value)


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError
    return value


def _number(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError
    return value


def _folder(value: object) -> str:
    if not os.path.isabs(_text(value)):  # else it would mean another folder wherever a program is started
        raise ValueError
    return _text(value)


def _library(value: object) -> str:
    if "/" in _text(value):  # a bare name is looked for by the dynamic loader
        return _folder(value)
    return _text(value)


# Spelled as the options of `record`; what each value may be is said once more, and exactly, by `capture.Plan`.
KEYS: Mapping[str, tuple[Callable[[object], Any], str]] = MappingProxyType(
    {
        "sources": (_names, 'a list of names, such as ["nvml", "rapl", "hwmon"]'),
        "rate_hz": (_rate, 'a number of Hz, or "auto"'),
        "mode": (_text, "the name of a mode"),
        "cpu": (_number, "the number of a CPU"),
        "fifo": (_number, "a real-time priority"),
        "keep": (_text, 'one of "all" and "changes"'),
        "nvml_lib": (_library, "the absolute path of a library, or its name"),
        "sysfs": (_folder, "the absolute path of a folder"),
        "devfs": (_folder, "the absolute path of a folder"),
        "meters": (_addresses, 'a list of addresses, such as ["lmg450:/dev/ttyUSB0"]'),
    }
)
