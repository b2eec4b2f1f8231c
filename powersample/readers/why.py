# SPDX-License-Identifier: Apache-2.0
"""Why a file is none of the formats that are known: what each of them misses in it."""

from __future__ import annotations

from pathlib import Path

from powersample.errors import BadFormat
from powersample.formats import codecarbon, nvidia_smi, power_csv

REMEDY = "Say what it is with --format, or what its columns are with --columns time=t_s,P=power_w."


def unrecognised(path: Path, head: bytes) -> BadFormat:
    """Return the error that tells why nothing reads a file that begins so.

    Args:
        path: the file.
        head: its first bytes.
    """
    if not head:
        return BadFormat(f"{path} is empty", "Was it cut short, or is it still being written?")
    try:
        text = head.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        text = head[: error.start].decode("utf-8-sig") if error.start >= len(head) - 4 else ""
        if head.startswith((b"\xff\xfe", b"\xfe\xff")):
            what = "it is UTF-16, as PowerShell's > writes"
            return BadFormat(f"what {path} holds is not certain: {what}", "Write it anew as UTF-8.")
    if not text.strip():
        what = "it is no text, no stream of a PMD-USB, no Parquet file, and no LPM01A record called *.bin"
        return BadFormat(f"what {path} holds is not certain: {what}", "Say what it is with --format.")
    smi = nvidia_smi.why_not(text)
    if smi.startswith(nvidia_smi.FAILED):
        return BadFormat(f"{path} is no log: {smi}", "Log again once `nvidia-smi` works.")
    lacking = [name for name in codecarbon.NEEDED if name not in text.splitlines()[0].split(",")]
    tried = {
        "csv": power_csv.why_not(text) or "other formats fit as well",
        "nvidia-smi": smi or "other formats fit as well",
        "codecarbon": f"no column {', '.join(lacking)}" if lacking else "other formats fit as well",
        "mllog": "no line has :::MLLOG",
        "ptdaemon": "its first line is not Time,MM-DD-YYYY hh:mm:ss,Watts,...",
        "ecnas": "it is no JSON with total_energy (kWh)",
    }
    reasons = "".join(f"\n  {name}: {why}" for name, why in tried.items())
    return BadFormat(f"what {path} holds is not certain:{reasons}\n{REMEDY}")
