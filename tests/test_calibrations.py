# SPDX-License-Identifier: Apache-2.0
"""Where calibrations are kept: one a host, a simulated node's apart, and never half a file."""

import json
from dataclasses import replace

import pytest
from test_calibration_model import FOUND
from unprivileged import as_nobody

from powersample import errors
from powersample.model import host_of, simulated_key, simulated_name
from powersample.session.simulate import make_node
from powersample.sim import Node
from powersample.store.calibrations import (
    calibration_file,
    calibrations_folder,
    find_calibration,
    load_calibration,
    save_calibration,
    this_host,
)


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return calibrations_folder()


def test_kept_by_host_and_found_for_that_host_alone(home):
    path = save_calibration(FOUND)
    assert path.parent == home
    found, where = find_calibration(home, {"name": "a"})
    assert (found.as_json(), where) == (FOUND.as_json(), path)
    assert find_calibration(home, {"name": "b"}) is None


def test_kept_of_a_simulated_node_is_not_found_for_a_real_one(home):
    path = save_calibration(replace(FOUND, simulated="paper-nodex4"))
    assert path.parent == home / "simulated"
    assert find_calibration(home, FOUND.host) is None
    assert find_calibration(home, {}, "paper-nodex4")[1] == path
    assert find_calibration(home, {}, "paper-nodex4-node3") is None


def test_simulated_nodes_that_differ_have_different_keys():
    keys = set()
    for seeds in ({}, {"node_seed": 1}, {"board_seed": 1}, {"gpus": 2}):
        with Node("paper-node", **seeds) as node:
            keys.add(simulated_key(node.describe()))
    assert len(keys) == 4


def test_host_is_told_by_a_hash_of_its_id_and_not_by_the_id(tmp_path):
    (tmp_path / "id").write_text("0123456789abcdef0123456789abcdef\n")
    host = this_host(tmp_path / "id")
    assert len(host["id"]) == 16
    assert host["id"] not in "0123456789abcdef0123456789abcdef"
    assert set(this_host(tmp_path / "none")) == {"name"}


@pytest.mark.parametrize("text", ["", "{}", '{"schema_version": 2}', '{"schema_version": 1}', "[1]"])
def test_damaged_file_is_refused_by_name(home, text):
    path = save_calibration(FOUND)
    path.write_text(text)
    with pytest.raises(errors.BadFormat, match=path.name):
        load_calibration(path)


def test_folder_that_may_not_be_written_is_said_and_nothing_is_left(tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    with as_nobody(), pytest.raises(errors.AccessDenied, match="-o FILE"):
        save_calibration(FOUND, closed / "it.json")
    assert list(closed.iterdir()) == []


def test_name_of_a_host_cannot_leave_the_folder(home):
    assert calibration_file(home, {"name": "../../etc/passwd"}).parent == home


def test_file_is_plain_json_with_a_version(home):
    data = json.loads(save_calibration(FOUND).read_text())
    assert (data["schema_version"], data["best"]) == (1, "node")


def test_host_of_a_recording_leaves_out_what_its_metadata_do_not_tell():
    meta = {
        "host": "a",
        "host_id": None,
        "devices": [{"uuid": "GPU-1"}, {"uuid": "GPU-2"}],
        "packages": [{"number": 0}],
    }
    assert host_of(meta) == {"name": "a", "gpus": ["GPU-1", "GPU-2"], "packages": [0]}
    assert host_of({}) == {}


@pytest.mark.parametrize(
    ("spec", "name"), [("h100", "h100"), ("h100x4", "h100x4"), ("h100x2+none", "h100x2"), ("paper-node", "paper-node")]
)
def test_simulated_name_has_the_number_of_gpus_that_was_asked_for(spec, name):
    with make_node(spec) as node:
        assert simulated_name(node.describe()) == name


def test_simulated_name_of_what_is_not_known_is_empty():
    assert simulated_name({}) == ""
