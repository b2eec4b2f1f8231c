# SPDX-License-Identifier: Apache-2.0
"""No test, and no program that a test starts, reads the configuration of whoever runs it; tests find `bench`."""

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))  # last: an installed powersample goes before the one beside it


@pytest.fixture(scope="session", autouse=True)
def _no_configuration_of_ones_own() -> Iterator[None]:
    before = os.environ.get("XDG_CONFIG_HOME")
    with tempfile.TemporaryDirectory(prefix="powersample-config-") as name:
        os.environ["XDG_CONFIG_HOME"] = name
        yield
    if before is None:
        del os.environ["XDG_CONFIG_HOME"]
    else:
        os.environ["XDG_CONFIG_HOME"] = before
