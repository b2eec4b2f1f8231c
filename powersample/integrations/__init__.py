# SPDX-License-Identifier: Apache-2.0
"""One line in a training script, joules per epoch in its log: adapters of `powersample.session.training`.

Each framework is imported by its own module here and by nothing else.
"""

from __future__ import annotations

import re
import sys
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from powersample.errors import PackageMissing

EXTRA = "frameworks"


def framework(least: str, *names: str) -> Any:
    """Import a framework, by the first of its names that the program uses, else that is installed.

    Args:
        least: Its least version, as "2.2".
        names: What it can be called: ("lightning.pytorch", "pytorch_lightning").

    Raises:
        PackageMissing: It is not installed, cannot be imported, or is older. It is an ImportError, too.
    """
    package = names[0].partition(".")[0]
    remedy = f"Install it: pip install 'powersample[{EXTRA}]'"
    troubles = []
    for name in sorted(names, key=lambda one: one not in sys.modules):
        try:
            module = import_module(name)
        except ImportError as error:
            troubles.append(str(error))
            continue
        version = str(module.__version__)
        if _numbers(version) < _numbers(least):
            raise PackageMissing(f"powersample works with {package} {least} or newer, and this is {version}", remedy)
        return module
    if find_spec(package) is not None:  # Keras' backend, mostly
        raise PackageMissing(f"{package} cannot be imported ({'; '.join(troubles)})", "Mend that first.")
    raise PackageMissing(f"this needs {package} {least} or newer ({'; '.join(troubles)})", remedy)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(word) for word in re.findall(r"\d+", version)[:2])
