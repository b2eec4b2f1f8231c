# SPDX-License-Identifier: Apache-2.0
"""A plan from what was asked for, over the environment, over what the configuration files say."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from powersample import errors
from powersample.capture.plan import RATELESS, Plan

if TYPE_CHECKING:
    from powersample.store.config import Configuration

ROOTS = ("sources", "nvml_lib", "sysfs", "devfs")  # where and what this machine's devices are
PACE = ("rate_hz", "mode", "cpu", "fifo", "keep")  # how they are read: a matter of taste
VARIABLES = {  # by key: as in a container, whose own /sys hides the counters, or beside a simulated node
    "sysfs": "POWERSAMPLE_SYSFS_ROOT",
    "nvml_lib": "POWERSAMPLE_NVML_LIB",
}
FIELDS = {"nvml_lib": "nvml_library"}  # where a key is called otherwise


def plan_with_defaults(
    given: Mapping[str, Any],
    configuration: Configuration,
    keys: Collection[str] = (*ROOTS, *PACE),
    environment: Mapping[str, str] | None = None,
) -> Plan:
    """Return the plan of `given`, completed by the environment and the configuration.

    Args:
        given: Fields of `Plan` that were asked for; one that is not in it was not.
        configuration: What the files say.
        keys: Which of its keys may count: `ROOTS`, `PACE` or both.
        environment: Where `VARIABLES` are looked up; `os.environ` unless told.

    Raises:
        InvalidArgument: A field outside its range.
        ConfigurationError: The same, of the configuration; names its file and key.
    """
    variables = os.environ if environment is None else environment
    fields = dict(given)
    notes = list(configuration.notes)
    for key, variable in VARIABLES.items():
        root, field = variables.get(variable), FIELDS.get(key, key)
        if root and key in keys and field not in given:
            fields[field] = root
            notes.append(f"{key} = {root!r} from {variable}")
    for key, value in configuration.values.items():
        field = FIELDS.get(key, key)
        if key not in keys or field in fields:
            continue
        if (key == "rate_hz" and given.get("mode") in RATELESS) or (
            key == "mode" and value in RATELESS and given.get("rate_hz") is not None
        ):
            continue  # it belongs to what was not asked for
        try:
            Plan(**{field: value})
        except errors.InvalidArgument as error:
            raise errors.ConfigurationError(f"{configuration.origins[key]}: {key}: {error}") from None
        fields[field] = value
        notes.append(f"{key} = {value if value is not None else 'auto'!r} from {configuration.origins[key]}")
    try:
        return Plan(**fields, notes=tuple(notes))
    except errors.InvalidArgument as error:  # of values that do not go together
        Plan(**given)  # what was asked for is wrong by itself
        raise errors.ConfigurationError(f"{', '.join(map(str, configuration.files))}: {error}") from None
