# SPDX-License-Identifier: Apache-2.0
"""Timelines opened in Perfetto's own trace processor, and asked by SQL what it sees."""

import pytest
from perfetto_ui import ask
from timelines import ANCHORS, torch_of, torch_text, trace
from traces import S

from powersample.export import archive_chunks, chrome_chunks, perfetto_chunks, select

pytest.importorskip("perfetto", reason="the package perfetto is not installed")

AGREE_NS = 2_000_000
SLICES = "SELECT s.name, s.ts, s.dur, t.name AS track FROM slice s LEFT JOIN track t ON s.track_id = t.id"
COUNTERS = "SELECT t.name, t.unit, c.ts, c.value FROM counter c JOIN counter_track t ON c.track_id = t.id ORDER BY c.ts"
LOST = "SELECT name, value FROM stats WHERE severity IN ('error', 'data_loss') AND value > 0"


def opened(path, pieces):
    path.write_bytes(b"".join(pieces))
    slices, counters, lost = ask(path, SLICES, COUNTERS, LOST)
    assert lost == []
    return slices, counters


def test_perfetto_sees_counters_with_units_windows_as_they_nest_and_what_was_not_read(tmp_path):
    slices, counters = opened(tmp_path / "power.pftrace", perfetto_chunks(select(trace())))
    steps = [(one["ts"], one["value"]) for one in counters if one["name"] == "gpu0.power.instant"]
    boot_ns = ANCHORS[0].boottime_ns
    assert steps == [
        (boot_ns + round(at_s * S), watts) for at_s, watts in ((0, 20), (1, 100), (2.2, 100), (3, 20), (4, 20))
    ]
    assert {(one["name"], one["unit"]) for one in counters} == {
        ("gpu0.power.instant", "W"),
        ("gpu0.energy", "J"),
        ("gpu0.energy: mean power over 1 s", "W"),
    }
    spans = {one["name"]: (one["track"], one["ts"] - boot_ns, one["dur"]) for one in slices}
    assert spans["run"] == ("windows", 0, 4 * S)
    assert spans["epoch"] == ("windows", 1 * S, 2 * S)
    assert spans["overlaps"] == ("windows", 2 * S, 3 * S // 2)
    assert spans["gap: errors, code 15"] == ("not read: gpu0.power.instant", 2 * S, S // 5)


def kernel_and_edges(slices, counters):
    """Return the kernel's begin and end and the power's rise and fall, ns."""
    ((begin_ns, end_ns),) = {(one["ts"], one["ts"] + one["dur"]) for one in slices if one["name"] == "gemm"}
    steps = [one for one in counters if one["name"].startswith("gpu0.power.instant")]
    rise_ns = next(one["ts"] for one in steps if one["value"] == 100)
    fall_ns = next(one["ts"] for one in steps if one["value"] == 20 and one["ts"] > rise_ns)
    return (begin_ns, end_ns), (rise_ns, fall_ns)


@pytest.mark.parametrize(
    ("name", "made", "track"),
    [("both.tar", archive_chunks, "gpu0.power.instant"), ("both.json", chrome_chunks, "gpu0.power.instant W")],
)
def test_perfetto_sees_a_kernel_and_its_load_within_2_ms(tmp_path, name, made, track):
    """Whether it knows manifests or not: version 52, which does not, saw 7 s between the two."""
    slices, counters = opened(tmp_path / name, made(select(trace()), torch_of(torch_text())))
    assert track in {one["name"] for one in counters}
    kernel, edges = kernel_and_edges(slices, counters)
    assert edges == pytest.approx(kernel, abs=AGREE_NS)


def test_perfetto_sees_a_profile_of_another_time_where_it_was(tmp_path):
    """The same, half a second late: agreement is not what this reader says of everything."""
    late = torch_text(1.5, 3.5)
    kernel, edges = kernel_and_edges(*opened(tmp_path / "both.tar", archive_chunks(select(trace()), torch_of(late))))
    assert [one - other for one, other in zip(kernel, edges, strict=True)] == pytest.approx([S // 2] * 2, abs=AGREE_NS)


def test_what_is_no_trace_is_refused_in_perfettos_words(tmp_path):
    (tmp_path / "no.pftrace").write_bytes(b"no trace at all")
    with pytest.raises(AssertionError, match="trace"):
        ask(tmp_path / "no.pftrace", SLICES)
