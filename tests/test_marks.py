# SPDX-License-Identifier: Apache-2.0
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from powersample import marks
from powersample.errors import InvalidArgument, StateError
from powersample.marks import lines
from powersample.marks.lines import line as line_of
from powersample.marks.lines import parse_line
from powersample.model import Window

BOOT = "3c0a"


def line(verb, mark, t_ns, name='""', *, boot=BOOT, pid=7):
    return f"v1 {verb} {mark} {t_ns} {boot} {pid} {pid} {name}\n".encode()


def written(path, end_ns=None):
    return marks.parse(path.read_bytes().splitlines(keepends=True), marks.boot_id(), end_ns)


@pytest.fixture
def marks_file(tmp_path, monkeypatch):
    path = tmp_path / "marks"
    path.touch()
    monkeypatch.setenv(marks.ENVIRONMENT, str(path))
    return path


def test_parse_nested_and_overlapping_windows_in_order_of_begin():
    lines = [
        line("begin", 1, 100, '"run"'),
        line("begin", 2, 110, '"a"'),
        line("begin", 3, 120, '"b"'),
        line("end", 2, 130),
        line("end", 3, 140),
        line("event", 4, 145, '"now"'),
        line("end", 1, 150),
    ]
    found = marks.parse(lines, BOOT, 1000)
    assert [(w.name, w.start_ns, w.end_ns, w.flags) for w in found.windows] == [
        ("run", 100, 150, ()),
        ("a", 110, 130, ()),
        ("b", 120, 140, ()),
    ]
    assert found.events == (("now", 145),)
    assert (found.unknown, found.unmatched, found.other_boot) == (0, 0, 0)


def test_parse_same_id_of_two_processes_are_two_windows():
    lines = [line("begin", 1, 1, '"a"', pid=1), line("begin", 1, 2, '"b"', pid=2), line("end", 1, 3, pid=1)]
    found = marks.parse([*lines, line("end", 1, 4, pid=2)], BOOT, None)
    assert [(w.name, w.start_ns, w.end_ns) for w in found.windows] == [("a", 1, 3), ("b", 2, 4)]


def test_parse_killed_writer_leaves_an_open_window_to_the_records_end():
    found = marks.parse([line("begin", 1, 100, '"a"'), b'v1 end 1 200 3c0a 7 7 "'], BOOT, 900)
    assert found.windows == (Window("a", 100, 900, ("open",), "marks pid 7"),)
    assert found.unknown == 1


def test_parse_end_without_begin_is_counted():
    assert marks.parse([line("end", 9, 100)], BOOT, None).unmatched == 1


def test_parse_marks_of_another_boot_are_refused():
    lines = [line("begin", 1, 1, '"a"', boot="other"), line("end", 1, 2, boot="other")]
    found = marks.parse(lines, BOOT, None)
    assert (found.windows, found.other_boot) == ((), 2)


@pytest.mark.parametrize(
    "bad",
    [
        b"hello\n",
        b'v2 begin 1 2 3c0a 7 7 "a"\n',
        b'v1 begun 1 2 3c0a 7 7 "a"\n',
        b'v1 begin x 2 3c0a 7 7 "a"\n',
        b"v1 begin 1 2 3c0a 7 7 a\n",
        b"v1 begin 1 2 3c0a 7 7 5\n",
        b"v1 begin 1 2 3c0a 7 7\n",
        b'v1 begin 1 2 \xff\xfe 7 7 "a"\n',
        b'v1 begin 1 2 3c0a 7 7 "' + b"x" * 600 + b'"\n',
    ],
)
def test_parse_unknown_lines_are_skipped_and_counted(bad):
    found = marks.parse([bad, line("begin", 1, 1, '"a"'), line("end", 1, 2)], BOOT, None)
    assert (len(found.windows), found.unknown) == (1, 1)


@given(st.lists(st.binary(max_size=80)))
def test_parse_never_raises(lines):
    marks.parse(lines, None, None)


@given(st.text(max_size=900))
def test_line_of_any_name_is_one_short_line_that_reads_back(name):
    made = line_of("begin", 1, 5, 7, name, ("device",), pid=7)
    assert len(made) <= marks.LINE_BYTES
    assert made.count(b"\n") == 1
    read = parse_line(made)
    assert read is not None
    assert read.name == name or (read.name.endswith("...") and name.startswith(read.name[:-3]))
    assert read.notes == ("device",)


def test_window_without_a_recording_does_nothing(monkeypatch, tmp_path):
    monkeypatch.delenv(marks.ENVIRONMENT, raising=False)
    with marks.window("a"):
        marks.event("b")
    assert marks.begin("c") == 0
    marks.end(0)
    assert list(tmp_path.iterdir()) == []


def test_window_as_context_and_decorator_holds_the_time_inside(marks_file):
    before = time.monotonic_ns()

    @marks.window("call")
    def work():
        return 5

    with marks.window("outer"):
        assert work() + work() == 10
    found = written(marks_file)
    assert sorted(w.name for w in found.windows) == ["call", "call", "outer"]
    assert all(before <= w.start_ns <= w.end_ns <= time.monotonic_ns() for w in found.windows)


def test_window_left_by_an_exception_is_ended(marks_file):
    with pytest.raises(KeyError), marks.window("a"):
        raise KeyError
    assert written(marks_file).windows[0].flags == ("raised",)


def test_end_twice_or_of_nothing_is_an_error(tmp_path):
    (tmp_path / "marks").touch()
    writer = marks.MarkWriter(tmp_path / "marks")
    mark = writer.begin("a")
    writer.end(mark)
    for wrong in (mark, 99):
        with pytest.raises(StateError):
            writer.end(wrong)


@pytest.mark.parametrize("name", [3, None, b"epoch"])
def test_name_that_is_no_text_is_refused_with_and_without_a_recording(name, tmp_path, monkeypatch):
    path = tmp_path / "marks"
    path.touch()
    writer = marks.MarkWriter(path)
    monkeypatch.delenv(marks.ENVIRONMENT, raising=False)
    for call in (writer.begin, writer.event, marks.begin, marks.event, lambda n: marks.window(n).__enter__()):
        with pytest.raises(InvalidArgument, match="Give text"):
            call(name)
    assert path.read_bytes() == b""


def test_writer_of_many_threads_tears_no_line(tmp_path):
    (tmp_path / "marks").touch()
    writer = marks.MarkWriter(tmp_path / "marks")

    def work(name):
        for _ in range(50):
            writer.end(writer.begin(name))

    threads = [threading.Thread(target=work, args=(f"t{i}",)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = written(tmp_path / "marks")
    assert (len(found.windows), found.unknown, found.unmatched) == (400, 0, 0)
    assert not any(w.flags for w in found.windows)


def test_forked_child_of_a_process_that_marks_is_silent_after_one_warning(tmp_path):
    program = """
import os, warnings
from powersample import marks
with marks.window("parent"):
    mark = marks.begin("step", "event")
    child = os.fork()
    if child == 0:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with marks.window("child"), marks.window("again"):
                pass
            marks.end(mark)
            marks.event("child")
        os._exit(len(caught))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    marks.end(mark)
"""
    path = tmp_path / "marks"
    path.touch()
    subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, marks.ENVIRONMENT: str(path)},
        cwd=Path(__file__).parents[1],
        check=True,
    )
    found = written(path)
    assert [w.name for w in found.windows] == ["parent", "step"]
    assert (found.unmatched, found.events) == (0, ())


def test_writer_after_the_recording_has_ended_is_silent_and_makes_no_file(tmp_path):
    path = tmp_path / "marks"
    path.touch()
    writer = marks.MarkWriter(path)
    mark = writer.begin("a")
    path.unlink()
    writer.end(mark)
    writer.event("late")
    assert not path.exists()


def test_writer_that_cannot_write_warns_once_and_goes_on(tmp_path):
    (tmp_path / "marks").mkdir()
    writer = marks.MarkWriter(tmp_path / "marks")
    with pytest.warns(RuntimeWarning, match="no more marks"):
        mark = writer.begin("a")
    writer.end(mark)


@pytest.mark.parametrize(
    ("offsets", "shifted"),
    [
        ("", False),
        ("monotonic           0         0\nboottime            0         0\n", False),
        ("monotonic           0         0\nboottime          100         0\n", False),
        ("monotonic       86400         0\nboottime            0         0\n", True),
        ("monotonic           0        -5\nboottime            0         0\n", True),
    ],
)
def test_time_namespace_is_recognised(offsets, shifted):
    assert marks.time_is_shifted(offsets) is shifted


def test_writer_in_a_shifted_time_namespace_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "time_is_shifted", lambda: True)
    with pytest.warns(RuntimeWarning, match="time namespace"):
        writer = marks.MarkWriter(tmp_path / "marks")
    writer.end(writer.begin("a"))
    assert not (tmp_path / "marks").exists()


def test_end_may_leave_the_name_out():
    """Shell scripts do; a window that its program ended must not stand open."""
    boot = b"b"
    lines = [b'v1 begin 7 100 b 1 1 "x"\n', b"v1 end 7 200 b 1 1\n"]
    (window,) = marks.parse(lines, boot.decode(), 900).windows
    assert (window.start_ns, window.end_ns, window.flags) == (100, 200, ())


def test_parse_notes_tell_how_a_window_was_marked_and_left():
    rows = [
        line("begin", 1, 100, '"a" device'),
        line("end", 1, 200, '"" device raised'),
        line("begin", 2, 110, '"b" device unsynchronised later-word'),
        line("end", 2, 190, '"" device unsynchronised'),
    ]
    a, b = marks.parse(rows, BOOT, 1000).windows
    assert (a.marked, a.flags) == ("device", ("raised",))
    assert (b.marked, b.flags) == ("device", ("unsynchronised",))


def test_parse_edges_found_out_later_replace_the_hosts_once_both_are_there():
    rows = [line("begin", 1, 100, '"a" event'), line("end", 1, 200, '"" event')]
    begin, end = line("edge", 1, 150, '"" begin 3.5'), line("edge", 1, 450, '"" end 2')
    (early,) = marks.parse([*rows, begin], BOOT, 1000).windows
    assert (early.start_ns, early.end_ns, early.flags) == (100, 200, ("unresolved",))
    (window,) = marks.parse([*rows, begin, end], BOOT, 1000).windows
    assert (window.start_ns, window.end_ns, window.edge_errors_ns) == (150, 450, (3.5, 2.0))
    assert (window.marked, window.flags) == ("event", ())


@pytest.mark.parametrize("notes", ["", "begin", "middle 3", "begin nan", "begin -1", "begin inf"])
def test_parse_edge_that_makes_no_sense_is_counted_and_leaves_the_window(notes):
    rows = [line("begin", 1, 100, '"a" event'), line("end", 1, 200), line("edge", 1, 150, f'"" {notes}')]
    found = marks.parse(rows, BOOT, 1000)
    assert found.unknown == 1
    assert found.windows[0].start_ns == 100


def test_log_fed_in_pieces_says_what_the_whole_says():
    rows = [line("begin", n, n, f'"w{n}"') for n in range(1, 9)] + [line("end", n, 50 + n) for n in range(1, 8)]
    log = marks.Log(BOOT)
    for start in range(0, len(rows), 4):
        log.feed(rows[start : start + 4])
        log.marks(40)
    assert log.marks(99) == marks.parse(rows, BOOT, 99)


def test_steps_wait_in_memory_in_order_and_are_written_with_the_next_mark_that_does_not(tmp_path):
    path = tmp_path / "marks"
    path.touch()
    writer = marks.MarkWriter(path)
    epoch = writer.begin("epoch")
    for _ in range(3):
        writer.end(writer.begin("step", "event"))
    writer.end(epoch)
    found = written(path)
    assert [w.name for w in found.windows] == ["epoch", "step", "step", "step"]
    assert (found.unmatched, [w.flags for w in found.windows]) == (0, [()] * 4)


def test_steps_are_written_by_themselves_soon(tmp_path):
    path = tmp_path / "marks"
    path.touch()
    writer = marks.MarkWriter(path)
    writer.end(writer.begin("step", "event"))
    deadline = time.monotonic() + 20
    while not written(path).windows and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [w.name for w in written(path).windows] == ["step"]


def test_program_that_ends_leaves_no_step_behind(marks_file):
    program = "import powersample as ps\nfor _ in range(5):\n    with ps.step(): pass"
    subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[1], check=True)
    assert [w.name for w in written(marks_file).windows] == ["step"] * 5
