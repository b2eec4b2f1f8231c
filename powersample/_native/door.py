# SPDX-License-Identifier: Apache-2.0
"""The only importer of the compiled module; everything else in `_native` takes `ffi` and `lib` from here."""

from __future__ import annotations

try:
    from powersample._native._powersample import ffi, lib
except ImportError as error:
    raise ImportError(
        f"the compiled part of powersample cannot be loaded ({error}); "
        "reinstall powersample, or run `pip install -e .` again in a source tree"
    ) from error

__all__ = ["ffi", "lib"]
