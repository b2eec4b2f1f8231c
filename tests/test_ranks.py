# SPDX-License-Identifier: Apache-2.0
"""Ranks of a job on one node: one records, all mark in its recording, and a second sampler is refused."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import powersample as ps
from powersample import errors
from powersample.marks import job
from powersample.model import Trace
from powersample.session.simulate import make_node
from powersample.store.samplers import Registration, Sampler

ROOT = Path(__file__).parents[1]
TORCH = importlib.util.find_spec("torch") is not None


@pytest.fixture(autouse=True)
def runtime(tmp_path, monkeypatch):
    folder = tmp_path / "runtime"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    for rank, names in job.LAUNCHERS:
        for name in (rank, *names):
            monkeypatch.delenv(name, raising=False)
    return folder / "powersample"


@pytest.fixture
def torchrun(monkeypatch):
    """Make this process local rank 0 of a job of torchrun."""
    for name, value in {"LOCAL_RANK": "0", "TORCHELASTIC_RUN_ID": "none", "MASTER_PORT": "29500"}.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def batch_script(monkeypatch):
    """Make this process one that a batch script of Slurm started: they all have the script's own numbers."""
    for name, value in {"SLURM_JOB_ID": "7", "SLURM_LOCALID": "0"}.items():
        monkeypatch.setenv(name, value)


def rank(program, number=1, **more):
    return subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, "LOCAL_RANK": str(number), "POWERSAMPLE_MARKS": ""} | more,
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def done(process, code=0, timeout=60):
    out, err = process.communicate(timeout=timeout)
    assert process.returncode == code, err
    return out


MARKS = "import powersample as ps\nwith ps.window('epoch 0'):\n    with ps.step(): pass"


def test_rank_without_a_recording_of_its_own_marks_in_that_of_its_job(torchrun):
    with ps.measure(simulate="h100") as run:
        with run.window("epoch 0"):
            done(rank(MARKS))
        mine = run.energy("epoch 0")  # of the two that are called so, this process's
    found = {(window.name, window.source.partition(" rank ")[2]): window for window in run.windows}
    assert set(found) == {("run", "0"), ("epoch 0", "0"), ("epoch 0", "1"), ("step", "1")}
    assert mine.joules > 0
    assert run.energy("epoch 0").joules == pytest.approx(
        run.energy(found["epoch 0", "0"]).joules
    )  # the node's, once, whoever marks


ACCOUNT = (
    "import warnings; warnings.simplefilter('error')\nfrom powersample.session import training\n"
    "training.FIRST_RANK_S = {}\n"
    "with training.Account() as account:\n    print('on', flush=True); account.start()\n"
    "    account.begin_epoch(0); account.end_epoch()"
)


def test_account_of_a_rank_that_is_early_waits_for_the_one_that_records(torchrun):
    """Devices take their time to open, and what is marked before there is a recording is lost."""
    other = rank(ACCOUNT.format(30))
    assert other.stdout.readline() == "on\n"
    time.sleep(0.1)
    with ps.measure(simulate="h100") as run:
        done(other)
    assert {window.name for window in run.windows} == {"run", "epoch 0"}


def test_account_of_a_rank_whose_job_nobody_records_says_so_and_goes_on(torchrun):
    _, err = (other := rank(ACCOUNT.format(0.05))).communicate(timeout=60)
    assert other.returncode == 1
    assert "RuntimeWarning: powersample: no process of this job records after 0.05 s" in err


def test_rank_of_another_job_marks_elsewhere(torchrun):
    with ps.measure(simulate="h100") as run:
        done(rank(MARKS, MASTER_PORT="29501"))
        done(rank(MARKS, LOCAL_RANK=""))
    assert [window.name for window in run.windows] == ["run"]


def test_second_sampler_of_a_job_is_refused_with_the_owners_process(torchrun):
    program = "import powersample as ps\nwith ps.measure(simulate='h100'): pass"
    with ps.measure(simulate="h100") as run:
        other = rank(program)
        _, err = other.communicate(timeout=60)
        assert other.returncode == 1
        assert f"process {os.getpid()}, of this job, samples this node already" in err
        assert "mark with ps.window" in err
    assert "other_samplers" not in run.trace.meta


def test_sampler_that_was_killed_leaves_its_place_free(torchrun, runtime):
    program = (
        "import time, powersample as ps\nwith ps.measure(simulate='h100'):\n    print('on', flush=True); time.sleep(60)"
    )
    other = rank(program)
    assert other.stdout.readline() == "on\n"
    with pytest.raises(errors.StateError, match=f"process {other.pid}"):
        ps.measure(simulate="h100").start()
    other.kill()
    other.communicate()
    with ps.measure(simulate="h100"):
        pass
    assert not list(runtime.glob("sampler-*"))
    assert [one.name for one in runtime.iterdir()] == ["lock"]


def test_rank_that_is_killed_leaves_an_open_window_and_the_recording_whole(torchrun):
    program = (
        "import time, powersample as ps\nwith ps.window('epoch 0'):\n"
        "    with ps.window('batch'): pass\n    print('on', flush=True); time.sleep(60)"
    )
    with ps.measure(simulate="h100") as run:
        other = rank(program)
        assert other.stdout.readline() == "on\n"
        other.send_signal(signal.SIGKILL)
        other.communicate()
        time.sleep(0.2)
    flags = {window.name: window.flags for window in run.windows}
    assert flags == {"run": (), "epoch 0": ("open",), "batch": ()}
    assert run.energy().joules > 0


def test_window_that_outlives_its_recording_is_no_error(torchrun):
    """Rank 0 may record an epoch and stop while another rank is still inside it, and begin again."""
    program = (
        "import sys, powersample as ps\nfrom powersample.marks import job\njob.LOOK_EVERY_NS = 0\n"
        "with ps.window('long'):\n    print('on', flush=True); sys.stdin.readline()\n"
        "with ps.window('second'): pass"
    )
    with ps.measure(simulate="h100") as first:
        other = rank(program)
        assert other.stdout.readline() == "on\n"
    with ps.measure(simulate="h100") as second:
        other.stdin.write("go\n")
        other.stdin.flush()
        done(other)
    assert [(w.name, w.flags) for w in first.windows] == [("run", ()), ("long", ("open",))]
    assert [w.name for w in second.windows] == ["run", "second"]


def test_independent_sampler_of_the_node_is_told_and_not_refused(tmp_path):
    """Two processes that have nothing to do with each other may record the same node."""
    me = Sampler(os.getpid(), "/sys", "/sys", None, 5, gpus=("GPU-0",), parts=("package-0",))
    program = (
        "import os, sys\nfrom pathlib import Path\nfrom powersample.store.samplers import Registration, Sampler\n"
        "me = Sampler(os.getpid(), '/sys', '/sys', None, 7, gpus=('GPU-1',), parts=('package-0',))\n"
        "place = Registration(me, Path('m'))\n"
        "print('on', flush=True); sys.stdin.readline(); place.release()"
    )
    place = Registration(me, tmp_path / "marks")
    assert place.others() == []
    other = rank(program)
    assert other.stdout.readline() == "on\n"
    assert [(one.pid, me.shared(one)) for one in place.others()] == [(other.pid, ("package-0",))]
    other.communicate("go\n", timeout=60)
    assert [one.pid for one in place.others()] == [other.pid]  # it ran beside for a while
    place.release()
    assert Registration(me, tmp_path / "marks").others() == []


TORCHRUN, SLURM = "TORCHELASTIC_RUN_ID=none MASTER_PORT=29500", "SLURM_JOB_ID=7 SLURM_STEP_ID=0"


@pytest.mark.parametrize(
    ("job_a", "rank_a", "gpus_a", "job_b", "rank_b", "gpus_b", "beside"),
    [
        (TORCHRUN, 0, "ab", TORCHRUN, 1, "ab", True),
        (TORCHRUN, 0, "a", TORCHRUN, 1, "b", True),  # each rank shows itself one GPU: still one training
        (TORCHRUN, 0, "a", "TORCHELASTIC_RUN_ID=none MASTER_PORT=29501", 0, "b", False),  # two torchruns
        (TORCHRUN, 0, "ab", "TORCHELASTIC_RUN_ID=none MASTER_PORT=29501", 1, "ab", False),
        (SLURM, 0, "ab", SLURM, 1, "ab", True),
        (SLURM, 0, "ab", SLURM, 1, "b", True),
        (SLURM, 0, "", SLURM, 1, "", True),  # without GPUs the packages are all there is
        (SLURM, 0, "a", SLURM, 1, "b", False),  # srun -n 2 --gpus-per-task=1: a sweep
        (SLURM, 0, "a", SLURM, 0, "b", False),  # two started by one batch script
        (SLURM, 0, "a", SLURM, 0, "a", False),  # and those may well be on one GPU
        (SLURM, 0, "a", "SLURM_JOB_ID=7 SLURM_STEP_ID=1", 1, "a", False),
        ("PMIX_NAMESPACE=1", 0, "a", "PMIX_NAMESPACE=1", 1, "b", True),
        ("PMIX_NAMESPACE=1", 0, "a", "PMIX_NAMESPACE=2", 1, "a", False),
    ],
)
def test_only_ranks_of_one_training_are_taken_for_such(job_a, rank_a, gpus_a, job_b, rank_b, gpus_b, beside):
    one = Sampler(1, "/sys", "/sys", job_a, 5, rank_a, tuple(gpus_a), ("package-0",))
    two = Sampler(2, "/sys", "/sys", job_b, 7, rank_b, tuple(gpus_b), ("package-0",))
    assert one.is_rank_beside(two) is two.is_rank_beside(one) is beside
    assert one.shared(two) == (*(gpu for gpu in gpus_a if gpu in gpus_b), "package-0")


def test_two_trainings_of_a_batch_script_sample_their_own_gpus_and_tell_of_the_package(batch_script):
    """The same SLURM_LOCALID in both, other GPUs: both are measured, and each says what both have counted."""
    program = (
        "import sys, powersample as ps\nwith ps.measure(**WHERE, gpus=1) as run:\n"
        "    with ps.window('b'):\n        print('on', flush=True); sys.stdin.readline()\n"
        "print([w.name for w in run.windows], [one['shared'] for one in run.trace.meta['other_samplers']])"
    )
    with make_node("h100x2+intel_spr") as node:
        where = {"nvml_library": str(node.library), "sysfs": str(node.sysfs)}
        with ps.measure(**where, gpus=0) as run:
            other = rank(program.replace("WHERE", repr(where)), LOCAL_RANK="")
            assert other.stdout.readline() == "on\n", other.communicate()
            with run.window("a"):
                done(rank(MARKS, LOCAL_RANK=""))  # what this one started marks here, and not in the other's
            other.stdin.write("go\n")
            other.stdin.flush()
            assert done(other) == "['run', 'b'] [['package-0', 'power_meter-ACPI000D-00']]\n"
    assert [one["pid"] for one in run.trace.meta["other_samplers"]] == [other.pid]
    assert sorted(window.name for window in run.windows) == ["a", "epoch 0", "run", "step"]
    assert {name for name in run.trace.channels if name.endswith("gpu0.energy") or "gpu1" in name} == {"gpu0.energy"}
    (check,) = [one for one in run.report().data["checks"] if one["code"] == "PSQ-SAMPLERS"]
    assert f"process {other.pid} (package-0, power_meter-ACPI000D-00)" in check["what"]


def test_process_that_nothing_above_it_records_marks_in_another_ranks_recording_only(tmp_path, batch_script, runtime):
    """Of two recordings under one name, neither by a process above: the other rank's; a namesake's never."""
    folder = job.runtime_folder()
    for pid, number in ((1, 0), (1, 3), (1, 2)):
        (tmp_path / f"m{number}").touch()
        (folder / f"{job.SAMPLER}{pid}-{number}").mkdir()
        job.publish(folder / f"{job.SAMPLER}{pid}-{number}", job.job(), number, tmp_path / f"m{number}")
    assert job.JobMarks().path() == str(tmp_path / "m2")
    (folder / f"{job.SAMPLER}1-x").mkdir()
    job.publish(folder / f"{job.SAMPLER}1-x", job.job(), 2, tmp_path / "m3")
    assert job.JobMarks().path() is None  # two jobs of one name: whose it is cannot be told
    (folder / f"{job.SAMPLER}{os.getppid()}-y").mkdir()
    job.publish(folder / f"{job.SAMPLER}{os.getppid()}-y", job.job(), 0, tmp_path / "m0")
    assert job.JobMarks().path() == str(tmp_path / "m0")


@pytest.mark.parametrize("file", [None, "lock", "sampler.json"])
def test_folder_of_one_that_was_killed_while_making_it_is_removed(runtime, tmp_path, file):
    dead = subprocess.Popen(["true"])
    dead.wait()
    folder = job.runtime_folder()
    left, made = folder / f"new-sampler-{dead.pid}-abc", folder / f"new-sampler-{os.getpid()}-abc"
    left.mkdir()
    made.mkdir()
    if file is not None:
        (left / file).touch()
    place = Registration(Sampler(os.getpid(), "/sys", "/sys", None, 5), tmp_path / "marks")
    assert not left.exists()
    assert made.exists()  # its process lives, and is about to lock it
    place.release()
    made.rmdir()
    assert [one.name for one in folder.iterdir()] == ["lock"]


def test_report_tells_of_another_sampler_and_what_both_have_counted():
    trace = Trace.of([], meta={"other_samplers": [{"pid": 4711, "started_ns": 1, "shared": ["gpu0", "package-0"]}]})
    (check,) = [one for one in ps.make_report(trace).data["checks"] if one["code"] == "PSQ-SAMPLERS"]
    assert "process 4711 (gpu0, package-0)" in check["what"]
    assert "never add them up" in check["fix"]


def test_folder_that_others_may_write_is_not_used(runtime, monkeypatch, tmp_path):
    runtime.mkdir(mode=0o755)
    runtime.chmod(0o755)
    assert job.runtime_folder() != runtime
    monkeypatch.setattr(job, "runtime_folder", lambda: None)
    assert job.JobMarks().path() is None


@pytest.mark.skipif(not TORCH, reason="torch is not installed")
def test_two_ranks_of_torchrun_with_gloo_account_for_their_node_once(tmp_path):
    """A real job: rank 0 measures, both mark, an all-reduce joins them, and each device is counted once."""
    program = tmp_path / "train.py"
    program.write_text(
        "import json, os, sys, torch, torch.distributed as dist, powersample as ps\n"
        "dist.init_process_group('gloo')\n"
        "rank, grad = dist.get_rank(), torch.ones(1000)\n"
        "def train():\n"
        "    for epoch in range(2):\n"
        "        with ps.window(f'epoch {epoch}'):\n"
        "            for _ in range(5):\n"
        "                with ps.step():\n"
        "                    dist.all_reduce(grad)\n"
        "if rank == 0:\n"
        "    with ps.measure(simulate='h100', output=sys.argv[1]) as run:\n"
        "        dist.barrier(); train(); dist.barrier()\n"
        "else:\n"
        "    dist.barrier(); train(); dist.barrier()\n"
        "dist.destroy_process_group()\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(program)]
    ran = subprocess.run(
        [*command, str(tmp_path / "run.parquet")],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    trace = ps.load(tmp_path / "run.parquet")
    by_rank = {}
    for window in trace.windows:
        by_rank.setdefault(window.source.partition(" rank ")[2], []).append(window.name)
    assert sorted(by_rank["1"]) == ["epoch 0", "epoch 1"] + ["step"] * 10
    assert sorted(by_rank["0"]) == ["epoch 0", "epoch 1", "run"] + ["step"] * 10
    assert [channel for channel in trace.channels if channel.endswith("gpu0.energy") and "truth" not in channel] == [
        "gpu0.energy"
    ]
    assert ps.energy(trace, "run").joules > 0
