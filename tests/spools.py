# SPDX-License-Identifier: Apache-2.0
"""Writes spool folders as the sampler does, byte for byte, for tests of everything that reads them."""

import json

import numpy as np

from powersample.model import SAMPLE_DTYPE

BOOT = "0f0f-boot"


def channel(name="gpu0.power.instant", number=0, **more):
    return {
        "name": name,
        "device": "GPU-0",
        "domain": "gpu",
        "unit": "W",
        "sensor": "nvml.field.186",
        "scale": 1e-3,
        "kind": 1,
        "lane": 0,
        "group": 0,
        "divisor": 1,
        "id": number,
    } | more


def records(t_ns, raw, number=0, status=0, seq=0):
    found = np.zeros(len(t_ns), SAMPLE_DTYPE)
    found["t0_ns"], found["t1_ns"], found["raw"] = t_ns, np.asarray(t_ns) + 20_000, raw
    found["seq"] = np.arange(seq, seq + len(t_ns))
    found["channel"], found["status"] = number, status
    return found


def anchor(mono_ns):
    real_ns = mono_ns + 1_700_000_000_000_000_000
    return {
        "monotonic_ns": mono_ns,
        "monotonic_raw_ns": mono_ns,
        "realtime_ns": real_ns,
        "boottime_ns": mono_ns,
        "width_ns": 100,
    }


def write_part(folder, number, samples, channels, *, suffix="part", tail=b""):
    header = {
        "powersample_spool": 1,
        "header_bytes": 4096,
        "record_bytes": 32,
        "part": number,
        "boot_id": BOOT,
        "anchor": anchor(0),
        "channels": channels,
        "lanes": [{"name": "nvml:gpu0", "mode": 1, "rate_hz": 1000.0}],
    }
    line = json.dumps(header).encode().ljust(4095) + b"\n"
    path = folder / f"part-{number:06d}.{suffix}"
    path.write_bytes(line + samples.tobytes() + tail)
    return path


def write_events(folder, *events):
    (folder / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))


def write_session(folder, **meta):
    (folder / "session.json").write_text(json.dumps(meta))
