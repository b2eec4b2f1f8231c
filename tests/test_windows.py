# SPDX-License-Identifier: Apache-2.0
"""Windows of every kind of function, in threads and asyncio tasks; laps and pauses."""

import asyncio
import sys
import threading
from types import SimpleNamespace

import pytest

from powersample import errors, marks
from powersample.marks import MarkWriter, WindowMark, lines, parse
from powersample.session.windows import Windows


class Marked(Windows):
    """The windows of a run that records nothing."""

    def __init__(self, path):
        super().__init__()
        path.touch()
        self.path = path
        self._enter(MarkWriter(path))

    def found(self):
        self._marks().flush()
        return parse(self.path.read_bytes().splitlines(keepends=True), marks.boot_id(), None)


@pytest.fixture
def run(tmp_path):
    return Marked(tmp_path / "marks")


def spans(run):
    return {window.name: window for window in run.found().windows}


def test_interleaving_tasks_hold_the_time_of_their_own_blocks(run):
    mark, entered = run.window("shared", sync="none"), {}

    async def work(name, until):
        with mark:
            entered[name] = mark._left[-1]
            await until.wait()

    async def both():
        a, b = asyncio.Event(), asyncio.Event()
        first, second = asyncio.create_task(work("a", a)), asyncio.create_task(work("b", b))
        await asyncio.sleep(0)
        a.set()
        await first
        still = list(mark._left)
        b.set()
        await second
        return still

    still = asyncio.run(both())
    assert still == [entered["b"]]  # the first task ended its own, not the newest


def test_decorated_coroutine_is_marked_while_it_waits(run):
    @run.window("call", sync="none")
    async def work():
        run.event("in")
        await asyncio.sleep(0)
        run.event("out")
        return 5

    assert asyncio.run(work()) == 5
    found = run.found()
    (window,) = found.windows
    times = dict(found.events)
    assert window.start_ns <= times["in"] <= times["out"] <= window.end_ns


def test_decorated_generator_is_marked_from_its_first_step_to_its_last(run):
    @run.window("call", sync="none")
    def numbers():
        got = yield 1
        yield got
        return "done"

    made = numbers()
    assert run.found().windows == ()
    assert (next(made), made.send(7)) == (1, 7)
    with pytest.raises(StopIteration) as end:
        next(made)
    assert end.value.value == "done"
    assert [window.flags for window in run.found().windows] == [()]


def test_decorated_generators_that_interleave_and_are_left_early_end_their_own(run):
    @run.window("call", sync="none")
    def numbers():
        yield from range(3)

    first, second = numbers(), numbers()
    next(first), next(second)
    first.close()
    assert "open" in run.found().windows[1].flags
    assert list(second) == [1, 2]
    assert [window.flags for window in run.found().windows] == [(), ()]  # who stops asking raised nothing


def test_decorated_async_generator_passes_on_what_is_sent_thrown_and_closed(run):
    @run.window("call", sync="none")
    async def echo():
        got = yield "ready"
        while True:
            try:
                got = yield got
            except KeyError as error:
                got = yield f"caught {error.args[0]}"

    async def talk():
        made = echo()
        said = [await made.asend(None), await made.asend(3), await made.athrow(KeyError("x")), await made.asend(4)]
        await made.aclose()
        return said

    assert asyncio.run(talk()) == ["ready", 3, "caught x", 4]
    assert [window.flags for window in run.found().windows] == [()]


@pytest.mark.parametrize("kind", ["call", "coroutine", "generator"])
def test_exception_inside_closes_and_flags_the_window_and_passes_on(run, kind):
    around = run.window("call", sync="none")

    @around
    def plain():
        raise KeyError("x")

    @around
    async def coroutine():
        raise KeyError("x")

    @around
    def generator():
        yield 1
        raise KeyError("x")

    calls = {"call": plain, "coroutine": lambda: asyncio.run(coroutine()), "generator": lambda: list(generator())}
    with pytest.raises(KeyError):
        calls[kind]()
    assert [window.flags for window in run.found().windows] == [("raised",)]


def test_window_left_in_another_context_than_it_was_entered_in_is_ended(run):
    """Fixtures and servers enter a block in one task and leave it in another."""
    mark = run.window("block", sync="none")

    async def enter():
        mark.__enter__()

    asyncio.run(enter())
    mark.__exit__(None, None, None)
    assert [window.flags for window in run.found().windows] == [()]


def test_steps_of_many_threads_are_all_there(run):
    def work():
        for _ in range(200):
            with run.step():
                pass

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = run.found()
    assert (len(found.windows), found.unmatched, {window.flags for window in found.windows}) == (800, 0, {()})


def test_laps_follow_each_other_without_a_hole(run):
    first, second = run.lap(), run.lap()
    assert (first.name, second.name, first.end_ns) == ("lap 1", "lap 2", second.start_ns)
    assert run.found().windows == (first, second)


def test_pause_and_resume_mark_a_span_and_are_refused_out_of_turn(run):
    with pytest.raises(errors.StateError, match="not paused"):
        run.resume()
    run.pause()
    with pytest.raises(errors.StateError, match="paused already"):
        run.pause()
    run.resume()
    run.pause()
    run.resume()
    assert [window.name for window in run.found().windows] == ["paused", "paused"]


@pytest.mark.parametrize("why", ["shifted", "full"])
@pytest.mark.filterwarnings("ignore:powersample")
def test_pause_whose_mark_is_written_nowhere_is_resumed_all_the_same(tmp_path, monkeypatch, why):
    """A disk that is full, or clocks that are shifted, never reach the training."""
    if why == "shifted":
        monkeypatch.setattr(lines, "time_is_shifted", lambda: True)
    run = Marked(tmp_path / "marks")
    if why == "full":
        run.path.unlink()
        run.path.mkdir()  # no file to write to
        run.event("the first that cannot be written")
    for _ in range(2):
        run.pause()
        with pytest.raises(errors.StateError, match="paused already"):
            run.pause()
        run.resume()
        with pytest.raises(errors.StateError, match="not paused"):
            run.resume()


@pytest.mark.filterwarnings("ignore:powersample")
def test_lap_and_pause_in_a_forked_child_start_nothing_and_wait_for_nobody(run):
    """Its copy of a lock may be held by a thread that it has not."""
    writer = run._marks()
    writer._forked()
    holder = threading.Thread(target=run._lap_lock.acquire)
    holder.start()
    holder.join()
    within(5, lambda: (run.lap(), run.pause(), run.resume()))
    assert writer._thread is None
    assert run.path.read_bytes() == b""


def within(seconds, call):
    """Call it in a thread, as in any other, and fail when it has not come back."""
    done = []
    thread = threading.Thread(target=lambda: done.append(call()), daemon=True)
    thread.start()
    thread.join(seconds)
    assert done, "it waits for ever"


@pytest.mark.parametrize("at", ["flush", "_write", "_edge", "_started"])
def test_signal_handler_that_marks_in_the_midst_of_a_mark_never_waits_for_it(run, monkeypatch, at):
    """A handler runs in the thread that it interrupts: here at each place where that holds a lock, or is about to."""
    writer, inside = run._marks(), getattr(MarkWriter, at)
    told = []

    def interrupted(self, *arguments, **options):
        if not told:
            told.append(at)
            run.event("preempted")
            with run.window("checkpoint"), run.step():
                run.lap()
        return inside(self, *arguments, **options)

    monkeypatch.setattr(MarkWriter, at, interrupted)

    def train():
        with run.window("epoch"), run.step():
            run.lap()
        return True

    within(5, train)
    found = run.found()
    assert told == [at]
    assert ["preempted" in event for event in found.events] == [True]
    assert sorted(one.name for one in found.windows) == ["checkpoint", "epoch", "lap 1", "lap 2", "step", "step"]
    assert (found.unmatched, found.unknown) == (0, 0)
    writer.close()


def test_signal_handler_that_pauses_or_resumes_in_the_midst_of_a_pause_leaves_it_in_order(run, monkeypatch):
    begin, told = MarkWriter.begin, []

    def interrupted(self, *arguments):
        if not told:
            told.append("")
            with pytest.raises(errors.StateError, match="paused already"):
                run.pause()
            run.resume()
        return begin(self, *arguments)

    monkeypatch.setattr(MarkWriter, "begin", interrupted)
    within(5, lambda: (run.pause(), run.pause(), run.resume()))
    assert [one.name for one in run.found().windows] == ["paused", "paused"]
    assert all(one.flags == () for one in run.found().windows)


@pytest.mark.parametrize("call", ["window", "begin_window"])
def test_way_of_marking_that_there_is_not_is_refused(run, call):
    with pytest.raises(errors.InvalidArgument, match="auto, device, event, none"):
        getattr(run, call)("a", sync="cuda")


class FakeCuda:
    """Two devices, of which this process uses those in `holds`; counts who was waited for."""

    def __init__(self, holds=(), current=0):
        self.holds, self.current, self.waited = holds, current, []
        self.capturing = self.broken = False
        self.ready = True

    def is_initialized(self):
        return self.ready

    def is_current_stream_capturing(self):
        return self.capturing

    def current_device(self):
        return self.current

    def device_count(self):
        return 3

    def memory_reserved(self, index):
        return 1 if index in self.holds else 0

    def synchronize(self, index):
        if self.broken:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        self.waited.append(index)


@pytest.fixture
def cuda(monkeypatch):
    made = FakeCuda()
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=made))
    return made


def test_device_mark_waits_for_the_devices_in_use_before_either_edge(run, cuda):
    cuda.holds, cuda.current = (0,), 2
    with run.window("epoch"):
        assert cuda.waited == [0, 2]
    assert cuda.waited == [0, 2, 0, 2]
    assert spans(run)["epoch"].marked == "device"


def test_device_that_is_not_in_use_yet_is_left_alone(run, cuda):
    cuda.ready = False
    with run.window("epoch"):
        pass
    assert cuda.waited == []
    assert spans(run)["epoch"].marked == ""


@pytest.mark.parametrize("trouble", ["capturing", "broken"])
def test_device_that_cannot_be_waited_for_is_told_and_the_program_goes_on(run, cuda, trouble):
    setattr(cuda, trouble, True)
    with run.window("epoch"):
        pass
    assert spans(run)["epoch"].flags == ("unsynchronised",)
    assert cuda.waited == []


def test_window_without_synchronisation_never_asks_the_device(run, cuda):
    with run.window("epoch", sync="none"):
        pass
    assert cuda.waited == []
    assert isinstance(run.step(), WindowMark)
