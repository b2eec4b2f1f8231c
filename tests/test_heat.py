# SPDX-License-Identifier: Apache-2.0
"""Temperature and frequency under a load, of a folder that stands for /sys, and the rule that ends a load by it."""

import math

import numpy as np
import pytest
from load_tree import chip, one_core

from powersample import loads
from powersample._native import api_load
from powersample.errors import NotSupported
from powersample.loads import heat
from powersample.loads.heat import Heat, Watch


@pytest.fixture
def sysfs(tmp_path):
    chip(tmp_path, 71250, "k10temp", "Tctl")
    for cpu in loads.allowed():
        clock = tmp_path / "devices" / "system" / "cpu" / f"cpu{cpu}" / "cpufreq"
        clock.mkdir(parents=True)
        (clock / "scaling_cur_freq").write_text("2450000\n")
    return tmp_path


def test_load_records_temperature_and_frequency(sysfs):
    log = loads.run(loads.steady(0.15), level=0.1, cpus=None, sysfs=sysfs)
    assert log.heat.temperature_c.tolist() == [71.25]
    assert log.heat.hz.tolist() == [2.45e9]
    assert log.ended == ""


def test_load_ends_at_the_highest_temperature_and_says_so(sysfs):
    log = loads.run(loads.steady(3600.0), level=0.1, cpus=None, sysfs=sysfs, max_temperature_c=71.0)
    assert "71.2 degrees C, and 71 were to be the most" in log.ended
    assert log.ended in log.trouble[0]
    assert log.reached[0].duration_s < 30


def test_rule_without_a_sensor_is_refused_before_anything_runs(tmp_path):
    with pytest.raises(NotSupported, match="no temperature"):
        loads.run(loads.steady(3600.0), cpus=None, sysfs=tmp_path, max_temperature_c=90.0)


def test_sensor_that_fails_under_a_rule_ends_the_load(sysfs, monkeypatch):
    """A rule that can no longer be kept is not kept silently."""
    monkeypatch.setattr(heat, "EVERY_S", 0.0)
    watch = Watch([0], 90.0, sysfs)
    assert watch.look() == ""
    chip(sysfs, "no number", "k10temp", "Tctl")
    assert "can no longer be read" in watch.look()
    chip(sysfs, 89000, "k10temp", "Tctl")
    assert watch.look() == ""
    watch.close()


def test_watch_looks_once_a_second(sysfs):
    watch = Watch([0], None, sysfs)
    for _ in range(50):
        watch.look()
    assert len(watch.heat().t_ns) == 1


def test_machine_without_sensors_leaves_no_readings(tmp_path):
    watch = Watch([0], None, tmp_path)
    assert watch.look() == ""
    assert len(watch.heat().t_ns) == 0
    assert watch.heat().during(0, 10**18) == (None, None)


def test_heat_of_a_span_is_its_warmest_and_its_mean():
    found = Heat(np.array([1, 2, 3, 9]), np.array([50.0, math.nan, 60.0, 99.0]), np.array([1e9, 2e9, math.nan, 9e9]))
    assert found.during(1, 3) == (60.0, 1.5e9)
    assert found.during(4, 8) == (None, None)


def test_cpus_and_their_cores(tmp_path):
    mine = loads.allowed()
    assert sorted(api_load.cpus(tmp_path)) == mine
    assert api_load.second_threads(mine, tmp_path) == 0
    one_core(tmp_path)
    assert api_load.second_threads(mine, tmp_path) == len(mine) - 1
