# SPDX-License-Identifier: Apache-2.0
"""A training loop in PyTorch, measured on the simulated node."""

import pytest
from trainings import FIFO, KEYS, busy_node, check_nothing_left, check_truth_in_every_epoch, names_of, work

torch = pytest.importorskip("torch", reason="torch is not installed")

from powersample.integrations.torch import EnergyLoop  # noqa: E402


def train(energy, numbers, log=None, fail_at=None):
    model = torch.nn.Linear(8, 1)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01)
    loader = torch.utils.data.DataLoader(torch.randn(12, 8), batch_size=4)
    for epoch in energy.epochs(numbers, log=log):
        for batch in energy.steps(loader):
            if epoch == fail_at:
                raise ZeroDivisionError
            optimiser.zero_grad()
            model(batch).square().mean().backward()
            optimiser.step()
            work()
        with energy.validation(), torch.no_grad():
            model(torch.randn(4, 8))
            work()


def test_loop_logs_every_epoch_with_the_truth_inside():
    logged = []
    with busy_node() as node, EnergyLoop(simulate=node, fifo=FIFO) as energy:
        train(energy, range(3), logged.append)
    check_truth_in_every_epoch(energy.account, 3)
    assert [one["epoch"] for one in logged] == [0, 1, 2]
    assert [one.keys() - {"epoch"} for one in logged] == [KEYS] * 3
    for one, whole in zip(logged, energy.account.history, strict=True):
        assert one == pytest.approx({key: whole[key] for key in one}, rel=1e-5)
    assert names_of(energy.account.run) == [f"{what} {i}" for i in range(3) for what in ("epoch", "validation")]
    assert energy.account.history[0]["energy/step_joules"] == pytest.approx(
        logged[0]["energy/total_joules"] / 3, rel=1e-5
    )
    check_nothing_left(energy.account)


def test_loop_left_by_an_exception_stops_the_sampler_and_tells_the_epochs_before():
    with busy_node() as node:
        energy = EnergyLoop(simulate=node, fifo=FIFO, steps=True)
        with pytest.raises(ZeroDivisionError), energy:
            train(energy, range(3), fail_at=1)
    check_nothing_left(energy.account)
    assert energy.account.history[0]["epoch"] == 0
    assert names_of(energy.account.run).count("step") == 4


def test_loop_left_by_break_ends_its_epoch():
    with busy_node() as node, EnergyLoop(simulate=node, fifo=FIFO) as energy:
        for _ in energy.epochs(range(3)):
            work()
            break
        assert not energy.account.in_epoch


def test_loop_resumed_goes_on_with_its_account():
    with busy_node() as node:
        with EnergyLoop(simulate=node, fifo=FIFO) as first:
            train(first, range(1))
            state = first.state_dict()
        with EnergyLoop(simulate=node, fifo=FIFO) as second:
            second.load_state_dict(state)
            train(second, range(1, 2))
    before, after = (one.account.history[0] for one in (first, second))
    assert after["energy/cumulative_joules"] == pytest.approx(
        before["energy/total_joules"] + after["energy/total_joules"]
    )
    assert after["energy/cumulative_joules_high"] == pytest.approx(
        before["energy/total_joules_high"] + after["energy/total_joules_high"]
    )


def test_loop_with_profiler_ranges_shows_them_in_torch_own_trace():
    with (
        busy_node() as node,
        torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile,
        EnergyLoop(simulate=node, fifo=FIFO, profiler=True) as energy,
    ):
        train(energy, range(1))
    names = [one.key for one in profile.key_averages()]
    assert {"powersample:epoch 0", "powersample:step", "powersample:validation"} <= set(names)
