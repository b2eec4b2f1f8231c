# SPDX-License-Identifier: Apache-2.0
r"""A trace as InfluxDB's line protocol, which VictoriaMetrics, QuestDB and Telegraf read too.

`power,channel=...,device=...,domain=...,host=...,simulated=false watts=101.2 1764187201000000000`: measurement `power`,
`energy` or `aux`; the field is the quantity in its unit; ns since 1970. The channel is a tag, because a board has
several powers of one domain, and points of equal tags and stamps replace each other. By the protocol, measurements,
tags and keys escape commas, spaces and equals signs by a backslash. What it cannot say is replaced: line feeds and the
like by what Python writes for them (`\n`), and a backslash that would escape what follows gets a `_` behind it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import numpy as np

from powersample.errors import InvalidArgument
from powersample.export.changes import changes
from powersample.export.selection import Selection, clock_of, made_up, quantity, realtime_ns, utf8
from powersample.model import Channel

FIELDS = {"w": "watts", "j": "joules", "hz": "hertz", "pct": "percent", "degc": "celsius"}
NOT_OF_DAY = "this record does not know the time of day, which every point of InfluxDB bears"


def influx_chunks(
    chosen: Selection, *, only_changes: bool = False, tags: Mapping[str, str] | None = None
) -> Iterator[bytes]:
    """Return lines in pieces, at bounded memory. Failed reads are no points.

    Args:
        chosen: what is written.
        only_changes: leave out readings that say the same as the one before; the last one of a channel stays.
        tags: more tags on every point.

    Raises:
        InvalidArgument: the record does not know UTC.
    """
    if clock_of(chosen.trace) not in ("monotonic", "utc"):
        raise InvalidArgument(NOT_OF_DAY)
    return _chunks(chosen, only_changes=only_changes, tags=dict(tags or {}))


def _chunks(chosen: Selection, *, only_changes: bool, tags: dict[str, str]) -> Iterator[bytes]:
    for channel in chosen.channels:
        head = _head(chosen, channel, tags)
        series = chosen.chunks(channel)
        for piece in changes(series) if only_changes else series:
            kept = piece.take(piece.good)
            stamps = realtime_ns(chosen.trace, kept.t_ns)
            pairs = zip(kept.value.tolist(), np.asarray(stamps).tolist(), strict=True)
            text = "".join([f"{head}{value!r} {at_ns}\n" for value, at_ns in pairs])
            if text:
                yield text.encode()


def _head(chosen: Selection, channel: Channel, tags: dict[str, str]) -> str:
    kind, unit = quantity(channel)
    told = {
        "host": str(chosen.trace.meta.get("host") or ""),
        "device": channel.device,
        "domain": channel.domain,
        "channel": channel.name,
        "simulated": "true" if made_up(chosen.trace, channel) else "false",
        **tags,
    }
    words = [f"{escaped(key)}={escaped(value)}" for key, value in sorted(told.items()) if value]
    return f"{','.join([kind, *words])} {FIELDS.get(unit, unit)}="


def escaped(text: str) -> str:
    """Return a measurement, a tag's key or its value as the protocol wants it; not "", which it cannot say."""
    text = "".join(one if one.isprintable() else repr(one)[1:-1] for one in utf8(text))
    text = re.sub(r"\\(?=[, =]|$)", r"\\_", text)
    return re.sub(r"([, =])", r"\\\1", text)
