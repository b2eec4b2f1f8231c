# SPDX-License-Identifier: Apache-2.0
"""What `pytest bench/` keeps and says of the machine.

Every run is saved by itself under build/bench/runs, for `--benchmark-compare`; `bench/run methods` writes the committed
one, bench/methods.json.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from pytest_benchmark.utils import get_tag

from bench import machine, sustained

RUNS = machine.ROOT / "build" / "bench" / "runs"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--sustain-seconds",
        type=float,
        default=2.0,
        metavar="S",
        help="how long each method of the group `sustained` samples (default 2)",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Save each run, unless the command line says otherwise; pytest-benchmark reads its options after this."""
    options: Any = config.option
    if getattr(options, "benchmark_storage", None) == "file://./.benchmarks":
        options.benchmark_storage = f"file://{RUNS}"
    if not any(getattr(options, f"benchmark_{one}", None) for one in ("save", "autosave", "json", "disable", "skip")):
        options.benchmark_autosave = get_tag()


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    """Keep what bears on these figures, and nothing that names a person or a host."""
    machine_info.clear()
    machine_info.update(machine.describe() | machine.timing())


def pytest_benchmark_update_commit_info(config: pytest.Config, commit_info: dict[str, Any]) -> None:
    """Commit and dirtiness are enough; the branch's name is nobody's business."""
    for name in ("author_time", "project", "branch"):
        commit_info.pop(name, None)


@pytest.fixture(scope="session")
def board() -> Iterator[sustained.Board]:
    """One board for all: NVIDIA's compiled binding is bound to one library in a process."""
    with sustained.simulated_board() as one:
        yield one


@pytest.fixture
def sustain_s(request: pytest.FixtureRequest) -> float:
    return float(request.config.getoption("--sustain-seconds"))


@pytest.fixture(autouse=True)
def _no_configuration_of_ones_own(monkeypatch: pytest.MonkeyPatch, tmp_path: os.PathLike[str]) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", os.fspath(tmp_path))
