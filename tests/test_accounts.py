# SPDX-License-Identifier: Apache-2.0
"""Energies that outlive a process: the file that they are kept in."""

import os
import re

import pytest
from watching import closing

from powersample import errors
from powersample.store import accounts
from powersample.store.accounts import AccountFile, account_file

ONE = {"channel": "x", "joules": 5.0, "created_unix_s": 1.0, "unseen_s": 0.0, "raw": 7, "last_unix_s": 2.0}


def test_account_is_kept_and_found_again(tmp_path):
    path = tmp_path / "new" / "account.json"
    with closing(path) as file:
        assert file.kept is None
        file.save({"GPU-0/gpu": ONE})
    with closing(path) as file:
        assert file.kept == {"GPU-0/gpu": ONE}
        assert file.notes == []


def test_account_of_a_machine_that_crashed_begins_anew(tmp_path, monkeypatch):
    with closing(tmp_path / "a.json") as file:
        file.save({"x/y": ONE})
    monkeypatch.setattr(accounts, "_boot_id", lambda: "another")
    with closing(tmp_path / "a.json") as file:
        assert file.kept is None
        assert "begin again at 0" in file.notes[0]


def test_account_that_was_closed_outlives_a_reboot(tmp_path, monkeypatch):
    with closing(tmp_path / "a.json") as file:
        file.save({"x/y": ONE}, closed=True)
    monkeypatch.setattr(accounts, "_boot_id", lambda: "another")
    with closing(tmp_path / "a.json") as file:
        assert file.kept["x/y"] | {"raw": ONE["raw"]} == ONE
        assert file.kept["x/y"]["raw"] > 10**18  # what counts since boot has begun again, whatever it stands at


def test_account_that_another_process_keeps_is_refused_with_its_pid(tmp_path):
    with closing(tmp_path / "a.json"), pytest.raises(errors.StateError, match=f"by process {os.getpid()}"):
        AccountFile(tmp_path / "a.json")


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"accounts": {"a": {"joules": 1}}}', "\xff"])
def test_account_that_is_none_is_refused_and_left_as_it_is(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(errors.BadFormat, match="no account"):
        AccountFile(path)
    assert path.read_text(encoding="latin-1") == text


def test_account_of_a_simulated_node_is_no_machines(tmp_path):
    with closing(tmp_path / "a.json", "h100") as file:
        file.save({"x/y": ONE})
    with pytest.raises(errors.InvalidArgument, match="simulated node h100"):
        AccountFile(tmp_path / "a.json")


def test_account_lies_where_systemd_says_else_where_state_goes(tmp_path):
    host = re.escape(accounts.this_host().get("id", accounts.this_host()["name"]))
    assert re.fullmatch(rf"/a/account-{host}\.json", str(account_file({"STATE_DIRECTORY": "/a:/b", "HOME": "/h"})))
    assert account_file({"XDG_STATE_HOME": "/x", "HOME": "/h"}).parent.as_posix() == "/x/powersample"
    assert account_file({"HOME": "/h"}).parent.as_posix() == "/h/.local/state/powersample"
    assert account_file({}) is None


def test_other_peoples_links_in_a_shared_folder_are_not_followed(tmp_path):
    mine, planted = tmp_path / "mine", tmp_path / "shared"
    planted.mkdir()
    mine.write_text("keep me")
    (planted / ".m.prom.new").symlink_to(mine)
    (planted / "a.json.lock").symlink_to(mine)
    accounts.write_whole(planted / "m.prom", b"figures", sync=False)
    with pytest.raises(errors.AccessDenied):
        AccountFile(planted / "a.json")
    assert mine.read_text() == "keep me"
    assert not (planted / "m.prom").is_symlink()
