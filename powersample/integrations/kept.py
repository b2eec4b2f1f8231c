# SPDX-License-Identifier: Apache-2.0
"""A file that keeps an account's sum from process to process, where a framework's checkpoints have no place for it."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from powersample.errors import BadFormat, PowerSampleError
from powersample.session.account import Cumulative
from powersample.store.replace import replace_text


class KeptState:
    """The sum in its file.

    Args:
        path: The file.
        simulated: Whether what measures now is a simulated node.
    """

    def __init__(self, path: str | os.PathLike[str], *, simulated: bool) -> None:
        self._path, self._simulated = Path(path), simulated
        self._told = False

    def read(self) -> dict[str, Any] | None:
        """Return what is kept, fit for `Account.load_state_dict`; None where there is no file yet.

        Raises:
            BadFormat: It cannot be read, or is no such sum, or one that makes no sum with what is measured now.
        """
        try:
            state: dict[str, Any] = json.loads(self._path.read_text(encoding="utf-8"))
            Cumulative.from_json(state, simulated=self._simulated)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, PowerSampleError) as error:
            why = getattr(error, "strerror", None) or str(error).partition("\n")[0]
            raise BadFormat(
                f"state={self._path} holds no sum to go on with: {why}", "Remove the file, or name another."
            ) from error
        return state

    def write(self, state: Mapping[str, Any]) -> None:
        """Keep a sum; one warning where that fails, for the training matters more."""
        try:
            replace_text(self._path, json.dumps(state))
        except OSError as error:
            if not self._told:
                self._told = True
                what = f"powersample: state={self._path} cannot be written: {error.strerror}; another process cannot"
                warnings.warn(f"{what} go on with this training's sum", RuntimeWarning, stacklevel=3)
