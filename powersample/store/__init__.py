# SPDX-License-Identifier: Apache-2.0
"""Recordings on disk: Parquet files and spools. The only room that knows pyarrow."""

from powersample.store.convert import Converter, recover
from powersample.store.spool import read_spool
from powersample.store.stored import StoredTrace, load, save

__all__ = ["Converter", "StoredTrace", "load", "read_spool", "recover", "save"]
