# SPDX-License-Identifier: Apache-2.0
"""What is kept of a user's own boards: found again for that board and driver only, whole or not at all."""

import json
import tempfile
from pathlib import Path

import pytest
from traces import S, channel, series
from unprivileged import as_nobody

from powersample.errors import AccessDenied, BadFormat, InvalidArgument, StateError, SystemFailure
from powersample.model import Trace
from powersample.sensors import look_up
from powersample.session.about import known_sensors
from powersample.store.boards import BoardField, board_file, load_board, save_board, sensors_folder

UUID, DRIVER = "GPU-5c1c3a0b-0000-4242-8888-0123456789ab", "535.247.01"
QUICK = BoardField({"response": "part-time", "period_s": 0.1012, "window_s": 0.0254}, "characterized 2026-11-25")
SLOW = BoardField({"period_s": 0.1012}, "characterized 2026-11-24")


def keep(folder, field="instant", measured=QUICK, driver=DRIVER, simulated=False):
    return save_board(folder, UUID, driver, field, measured, simulated=simulated)


def load(folder, driver=DRIVER, simulated=False):
    return load_board(folder, UUID, driver, simulated=simulated)


def test_what_is_kept_comes_back_field_by_field(tmp_path):
    folder = tmp_path / "not" / "yet"
    keep(folder)
    keep(folder, "average", SLOW)
    assert load(folder) == {"instant": QUICK, "average": SLOW}
    newer = BoardField({"period_s": 0.1013}, "characterized 2026-12-01")
    keep(folder, measured=newer)
    assert load(folder) == {"instant": newer, "average": SLOW}
    assert [path.name for path in folder.iterdir()] == [f"{UUID}_{DRIVER}.json"]


def test_what_is_kept_is_not_another_drivers_or_boards(tmp_path):
    keep(tmp_path)
    assert load(tmp_path, driver="550.54.15") == {}
    assert load_board(tmp_path, "GPU-another", DRIVER, simulated=False) == {}
    assert load_board(tmp_path / "nowhere", UUID, DRIVER, simulated=False) == {}
    board_file(tmp_path, UUID, DRIVER).rename(board_file(tmp_path, UUID, "550.54.15"))
    with pytest.raises(BadFormat, match="another"):
        load(tmp_path, driver="550.54.15")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"schema_version": 9}', "null", '{"schema_version": 1}', "\udc80"])
def test_damaged_file_is_named_and_never_replaced(tmp_path, content):
    path = board_file(tmp_path, UUID, DRIVER)
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(BadFormat, match=path.name):
        load(tmp_path)
    with pytest.raises(BadFormat, match=path.name):
        keep(tmp_path)
    assert path.read_bytes() == content.encode("utf-8", "surrogateescape")


def test_simulated_board_is_refused_by_the_users_own_store(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    with pytest.raises(StateError, match="--directory"):
        keep(None, simulated=True)
    assert list(tmp_path.iterdir()) == []
    path = keep(None)
    assert path.parent == tmp_path / "powersample" / "sensors" == sensors_folder()


def test_simulated_and_real_boards_do_not_answer_for_each_other(tmp_path):
    keep(tmp_path, simulated=True)
    assert load(tmp_path, simulated=True) == {"instant": QUICK}
    assert load(tmp_path) == {}


@pytest.mark.parametrize(
    ("uuid", "driver"),
    [("../x", "535.1"), ("GPU-1", ""), ("", "535.1"), ("GPU-1", "535/1"), (".", "5"), ("gpu0", "535.1")],
)
def test_board_without_a_name_or_driver_is_refused(tmp_path, uuid, driver):
    with pytest.raises(InvalidArgument, match="one UUID and one driver"):
        save_board(tmp_path, uuid, driver, "instant", QUICK, simulated=False)


def test_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemFailure, match="file"):
        keep(tmp_path / "file" / "sensors")


def test_read_only_home_is_an_error_that_says_what_to_do():
    """In a folder of its own: pytest's are closed to everybody but their owner."""
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        home.chmod(0o755)
        (home / "sensors").mkdir(mode=0o555)
        with as_nobody(), pytest.raises(AccessDenied, match="--directory"):
            keep(home / "sensors")
        assert list((home / "sensors").iterdir()) == []


def trace(driver=DRIVER, simulated=False):
    chan = channel(sensor="nvml.field.186", device=UUID)
    board = {"uuid": UUID, "name": "NVIDIA H100 PCIe", "architecture": "hopper"}
    meta = {"devices": [board], "driver": driver, "simulated": simulated}
    return Trace.of([series(chan, [0, S], [1, 2])], meta=meta), chan.name


@pytest.fixture
def own(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path / "powersample" / "sensors"


def test_recording_takes_what_is_kept_before_the_table_and_keeps_its_spread(own):
    keep(own)
    recorded, name = trace()
    table = look_up("instant", name="NVIDIA H100 PCIe", architecture="hopper", driver=DRIVER)
    models, notes = known_sensors(recorded)
    assert notes == []
    assert (models[name].period_s, models[name].window_s) == (0.1012, 0.0254)
    assert (models[name].gain_sd, models[name].offset_sd_w, models[name].tau_s) == (
        table.gain_sd,
        table.offset_sd_w,
        table.tau_s,
    )
    assert models[name].origin["window_s"] == "characterized 2026-11-25"


@pytest.mark.parametrize(("driver", "simulated"), [("550.54.15", False), (DRIVER, True), (None, False)])
def test_recording_of_another_driver_or_sort_takes_the_table(own, driver, simulated):
    keep(own)
    recorded, name = trace(driver, simulated)
    models, notes = known_sensors(recorded)
    assert (models[name].window_s, notes) == (0.025, [])


@pytest.mark.parametrize("content", ["{", json.dumps({"wrong": 1})])
def test_recording_beside_a_damaged_file_takes_the_table_and_notes_it(own, content):
    own.mkdir(parents=True)
    board_file(own, UUID, DRIVER).write_text(content)
    recorded, name = trace()
    models, notes = known_sensors(recorded)
    assert models[name].window_s == 0.025
    assert len(notes) == 1
    assert UUID in notes[0]


def test_recording_beside_a_figure_that_is_none_takes_the_table_and_notes_it(own):
    keep(own, measured=BoardField({"response": "quick"}, "by hand"))
    recorded, name = trace()
    models, notes = known_sensors(recorded)
    assert models[name].window_s == 0.025
    assert "malformed" in notes[0]
    assert board_file(own, UUID, DRIVER).name in notes[0]


def test_unreadable_file_is_an_error_of_its_own(tmp_path):
    board_file(tmp_path, UUID, DRIVER).mkdir()
    with pytest.raises(AccessDenied, match=DRIVER):
        load(tmp_path)
