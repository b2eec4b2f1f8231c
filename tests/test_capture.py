# SPDX-License-Identifier: Apache-2.0
"""Which devices a plan means, on simulated nodes and on a machine without any."""

import pytest

from powersample import errors
from powersample.capture import Plan, discover
from powersample.sim import Node


def plan(node, **options):
    return Plan(nvml_library=str(node.library), **options)


def indices(inventory):
    return [device.index for device in inventory.devices]


@pytest.fixture(scope="module")
def four():
    with Node("h100", gpus=4) as node:
        yield node


def test_discover_without_a_word_takes_all(four):
    found = discover(plan(four), {})
    assert indices(found) == [0, 1, 2, 3]
    assert found.simulated
    assert [device.uuid for device in found.devices] == list(four.gpu_uuids)


@pytest.mark.parametrize(
    ("visible", "chosen"),
    [("2", [2]), ("3,1", [1, 3]), ("0,1,2,3", [0, 1, 2, 3]), ("1,-1,2", [1]), ("0,9,1", [0])],
)
def test_discover_cuda_visible_devices_selects_and_never_renumbers(four, visible, chosen):
    """CUDA stops at the first entry that is not there; the numbers stay NVML's."""
    assert indices(discover(plan(four), {"CUDA_VISIBLE_DEVICES": visible})) == chosen


def test_discover_cuda_visible_devices_by_uuid(four):
    assert indices(discover(plan(four), {"CUDA_VISIBLE_DEVICES": four.gpu_uuids[2]})) == [2]


@pytest.mark.parametrize("visible", ["", "-1", "MIG-1234"])
def test_discover_records_all_with_a_note_when_nothing_else_is_right(four, visible):
    found = discover(plan(four), {"CUDA_VISIBLE_DEVICES": visible})
    assert indices(found) == [0, 1, 2, 3]
    assert found.notes


def test_discover_named_gpus_beat_the_environment(four):
    found = discover(plan(four, gpus=("gpu1", "3")), {"CUDA_VISIBLE_DEVICES": "0"})
    assert indices(found) == [1, 3]


@pytest.mark.parametrize("name", ["7", "GPU-nowhere", "first"])
def test_discover_a_gpu_that_is_not_there_lists_those_that_are(four, name):
    with pytest.raises(errors.DeviceNotFound, match=four.gpu_uuids[0]):
        discover(plan(four, gpus=(name,)))


def test_discover_without_a_library_offers_the_simulated_node(tmp_path):
    with pytest.raises(errors.NothingMeasurable, match="--simulate h100"):
        discover(Plan(nvml_library=str(tmp_path / "libnvidia-ml.so.1")))


def test_discover_with_one_lost_gpu_records_the_others_and_says_so():
    with Node("h100", gpus=4) as node:
        node.inject("any", 15, gpu=2)
        found = discover(plan(node), {})
        assert indices(found) == [0, 1, 3]
        assert len(found.notes) == 1
        assert "gpu2 is left out" in found.notes[0]
        with pytest.raises(errors.DeviceNotFound, match="gpu2 is left out"):
            discover(plan(node, gpus=("gpu2",)))


def test_discover_with_every_gpu_lost_has_nothing_to_measure():
    with Node("h100", gpus=2) as node:
        node.inject("any", 15)
        with pytest.raises(errors.NothingMeasurable, match="15"):
            discover(plan(node), {})


def test_discover_with_a_driver_that_refuses_says_its_code(four):
    with Node("h100") as node:
        node.inject("init", 9)
        with pytest.raises(errors.NothingMeasurable, match="9"):
            discover(plan(node))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sources": ("rapl", "nvml", "geiger")}, "geiger"),
        ({"sources": ()}, "unknown"),
        ({"rate_hz": 0.0}, "rate"),
        ({"rate_hz": -5.0}, "rate"),
        ({"rate_hz": float("nan")}, "rate"),
        ({"rate_hz": 1e9}, "rate"),
        ({"cpu": -3}, "CPU -3"),
        ({"cpu": 1 << 20}, "CPU 1048576"),
        ({"rate_hz": "10"}, "no number"),
        ({"cpu": "1"}, "no number"),
        ({"mode": "burst"}, "burst.*use one of paced, tight, follow$"),
        ({"mode": "virtual"}, "use one of paced, tight, follow$"),
    ],
)
def test_plan_with_a_senseless_option_is_refused(options, words):
    with pytest.raises(errors.InvalidArgument, match=words):
        Plan(**options)
