# SPDX-License-Identifier: Apache-2.0
"""A watched node as metrics: OpenMetrics and Prometheus' text by the reference parser, and OpenTelemetry."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from watching import OPENMETRICS, read, values

from powersample import errors
from powersample.analysis.account import Balance
from powersample.export import openmetrics
from powersample.model import LaneStats
from powersample.session.live import State

pytest.importorskip("prometheus_client", reason="the extra [serve] is not installed")
GPU = Balance("gpu0", "GPU-0", "gpu", 5200.5, 1.6e9, 0.0, 312.5, "gpu0.energy", "gpu0.power.instant", 0.1)
LANE = LaneStats(
    "nvml:gpu0", records=70, dropped=2, skipped=1, errors={15: 3}, reopens=1, call_hist=(0,) * 10 + (4, 2) + (0,) * 28
)
STATE = State((GPU,), (LANE,), 1.7e9, "0.1.0", "535.1", "", (), True)


def parsed(state=STATE, accept=OPENMETRICS):
    """Return (name, labels) -> value of a state's metrics, through the reference parser of either format."""
    body, kind = openmetrics.exposition(openmetrics.registry(lambda: state), accept)
    return read(body.decode(), kind)


@pytest.mark.parametrize("accept", [OPENMETRICS, None, "text/plain;version=0.0.4"])
def test_metrics_parse_in_both_formats_and_say_what_the_state_says(accept):
    found = parsed(accept=accept)
    gpu = {"device": "gpu0", "uuid": "GPU-0", "domain": "gpu"}
    assert values(found, "powersample_energy_joules_total", **gpu) == [5200.5]
    assert values(found, "powersample_power_watts", **gpu) == [312.5]
    assert values(found, "powersample_samples_total", source="nvml", device="gpu0") == [70]
    assert values(found, "powersample_dropouts_total", kind="dropped") == [2]
    assert values(found, "powersample_dropouts_total", kind="skipped") == [1]
    assert values(found, "powersample_read_errors_total", code="15") == [3]
    assert values(found, "powersample_build_info", version="0.1.0", driver="535.1") == [1]
    assert values(found, "powersample_account_kept") == [1]
    assert not any("simulated" in dict(labels) for _, labels in found)


def node_parts():
    """What a node has of everything: a GPU, a package with its memory and cores, and three looks at all of it."""
    names = (
        ("package-0", "package", 100.0),
        ("package-0", "dram", 10.0),
        ("package-0", "core", 60.0),
        ("gpu0", "module", 5300.0),
        ("psys", "psys", 400.0),
        ("power_meter-ACPI000D-00", "psys", 5900.0),
        ("wall", "wall", 6100.0),
        ("BAT0", "supply", 7.0),
    )
    return (GPU, *(replace(GPU, name=n, device=n, domain=d, joules=j, power_w=j / 10) for n, d, j in names))


def test_naive_sums_count_nothing_twice():
    """`sum(...)` and `sum by (domain) (...)` as people write them: parts only; each look at the machine by itself."""
    found = parsed(replace(STATE, balances=node_parts()))
    assert sum(values(found, "powersample_energy_joules_total")) == 5200.5 + 100 + 10
    assert sum(values(found, "powersample_power_watts")) == 312.5 + 10 + 1
    overlapping = {
        dict(labels)["domain"]: value
        for (name, labels), value in found.items()
        if name == "powersample_overlapping_energy_joules_total"
    }
    assert overlapping == {"core": 60, "module": 5300, "psys": 400, "input": 5900, "wall": 6100, "supply": 7}
    assert len(values(found, "powersample_overlapping_energy_joules_total")) == len(overlapping)
    body, _ = openmetrics.exposition(openmetrics.registry(lambda: STATE), OPENMETRICS)
    assert "# HELP powersample_overlapping_energy_joules Energy of what lies in a part" in body.decode()


def test_every_counter_tells_when_it_began():
    """Its own `_created` with the same labels, and none after now: who knows it needs no scrape of the 0."""
    body, kind = openmetrics.exposition(
        openmetrics.registry(lambda: replace(STATE, balances=node_parts())), OPENMETRICS
    )
    found = read(body.decode(), kind)
    ends = ("_total", "_count")
    counters = [(name.rpartition("_")[0], labels) for name, labels in found if name.endswith(ends)]
    assert len(counters) > 20
    for name, labels in counters:
        assert 1.6e9 <= found[f"{name}_created", labels] <= STATE.started_unix_s


def test_latency_buckets_are_cumulative_by_the_lanes_bins():
    """Four calls of 1.024 to 2.048 us and two of up to 4.096 us."""
    found = parsed()
    buckets = {
        float(dict(labels)["le"]): value
        for (name, labels), value in found.items()
        if name == "powersample_read_latency_seconds_bucket"
    }
    assert [buckets[edge] for edge in sorted(buckets)][:3] == [0, 6, 6]
    assert buckets[float("inf")] == 6
    (total_s,) = values(found, "powersample_read_latency_seconds_sum")
    assert 4 * 1.024e-6 + 2 * 2.048e-6 <= total_s <= 4 * 2.048e-6 + 2 * 4.096e-6


def test_power_that_is_unknown_is_absent_and_the_counter_stays():
    found = parsed(replace(STATE, balances=(replace(GPU, power_w=None),)))
    assert values(found, "powersample_power_watts") == []
    assert values(found, "powersample_energy_joules_total") == [5200.5]


def test_every_sample_of_a_simulated_node_says_so():
    state = replace(STATE, simulated="h100x4")
    assert all(dict(labels).get("simulated") == "h100x4" for _, labels in parsed(state))
    body, _ = openmetrics.exposition(openmetrics.registry(lambda: state))
    helps = [line for line in body.decode().splitlines() if line.startswith("# HELP") and "_created" not in line]
    assert helps
    assert all("SIMULATED NODE h100x4, not a measurement" in line for line in helps)


def test_package_that_is_missing_names_its_extra(monkeypatch):
    monkeypatch.setattr(openmetrics.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(errors.NotSupported, match=r"pip install 'powersample\[serve\]'"):
        openmetrics.registry(lambda: STATE)


# ---- OpenTelemetry -------------------------------------------------------------------------------------------------


def test_opentelemetry_has_parts_that_add_up_and_the_whole_machine_apart():
    pytest.importorskip("opentelemetry.sdk.metrics", reason="the extra [otel] is not installed")
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    from powersample.export.otel import provider

    parts = [
        GPU,
        replace(GPU, name="package-0", device="package-0", domain="package", joules=100.0, power_w=None),
        replace(GPU, name="package-0", device="package-0", domain="dram", joules=10.0, power_w=5.0),
        replace(GPU, name="package-0", device="package-0", domain="core", joules=60.0),
        replace(GPU, name="psys", device="psys", domain="psys", joules=900.0, power_w=450.0),
    ]
    reader = InMemoryMetricReader()
    made = provider(lambda: replace(STATE, balances=tuple(parts), simulated="h100"), reader)
    (resource,) = reader.get_metrics_data().resource_metrics
    made.shutdown()
    found = {}
    units = {}
    for metric in resource.scope_metrics[0].metrics:
        units[metric.name] = metric.unit
        for point in metric.data.data_points:
            assert point.attributes["powersample.simulated"] == "h100"
            found[metric.name, point.attributes["hw.id"], point.attributes.get("hw.type")] = point.value
            assert metric.name.startswith("hw.host.") or point.attributes["hw.type"]
    assert resource.resource.attributes["service.name"] == "powersample"
    assert units == {"hw.energy": "J", "hw.power": "W", "hw.host.energy": "J", "hw.host.power": "W"}
    assert found == {
        ("hw.energy", "GPU-0", "gpu"): 5200.5,
        ("hw.energy", "package-0", "cpu"): 100.0,
        ("hw.energy", "package-0/dram", "memory"): 10.0,
        ("hw.power", "GPU-0", "gpu"): 312.5,
        ("hw.power", "package-0/dram", "memory"): 5.0,
        ("hw.host.energy", "psys", None): 900.0,
        ("hw.host.power", "psys", None): 450.0,
    }


def test_opentelemetry_asks_for_one_state_a_collection():
    """Energies and powers of one moment, and an account that is kept once."""
    pytest.importorskip("opentelemetry.sdk.metrics", reason="the extra [otel] is not installed")
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    from powersample.export.otel import provider

    told = []

    def state():
        told.append(replace(GPU, joules=float(len(told)), power_w=float(len(told))))
        return replace(STATE, balances=(told[-1],))

    reader = InMemoryMetricReader()
    made = provider(state, reader)
    for round_ in range(3):
        (resource,) = reader.get_metrics_data().resource_metrics
        metrics = resource.scope_metrics[0].metrics
        assert {p.value for one in metrics for p in one.data.data_points} == {float(round_)}
        assert len(told) == round_ + 1
    made.shutdown()


def test_page_has_every_metric_and_no_other():
    page = (Path(__file__).parents[1] / "docs" / "serve.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^\| `(powersample_\w+)` \|", page, re.MULTILINE))
    found = parsed(replace(STATE, balances=node_parts()))
    shown = {re.sub("_(bucket|count|sum)$", "", name) for name, _ in found if not name.endswith("_created")}
    assert documented == shown
    assert set(re.findall(r"(?<!:)powersample_\w+_(?:joules|seconds|watts)\w*", page)) <= documented
