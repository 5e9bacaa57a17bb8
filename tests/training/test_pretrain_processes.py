"""Training that is killed, and training in several processes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.training.pretrain_process import make_settings, train
from training.checkpoints import CheckpointError
from training.loop import CHECKPOINT

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).with_name("pretrain_process.py")
EPOCHS = 30
RE_AND_SE = {"strategy": "re+se", "variant": "C", "alpha": 0.5, "clusters": 3, "refresh_epochs": 4}
SE = {"strategy": "se", "variant": "A", "clusters": 3, "refresh_epochs": 2}


def start(folder, settings, *launcher):
    command = [sys.executable, *launcher, str(SCRIPT), str(folder), json.dumps(settings)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def kill_after_epochs(process, folder, count):
    """Kill once `count` checkpoints have been written."""
    seen = set()
    while len(seen) < count:
        assert process.poll() is None, process.stderr.read()
        if (folder / CHECKPOINT).exists():
            seen.add((folder / CHECKPOINT).stat().st_mtime_ns)
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return process.returncode


def same_weights(first, second):
    return all(torch.equal(a, b) for a, b in zip(first.values(), second.values(), strict=True))


@pytest.mark.parametrize("balance", [RE_AND_SE, {"strategy": "bcl"}], ids=["re+se", "bcl"])
def test_a_killed_run_goes_on_bit_for_bit(tmp_path, balance):
    settings = {"epochs": EPOCHS, "balance": balance}
    process = start(tmp_path, settings)
    assert kill_after_epochs(process, tmp_path, 8) == -signal.SIGKILL
    done = len(torch.load(tmp_path / CHECKPOINT, weights_only=True)["state"]["epochs"])
    assert 7 <= done < EPOCHS
    resumed, whole = train(make_settings(**settings), folder=tmp_path, resume=True), train(make_settings(**settings))
    assert resumed.epochs == whole.epochs
    assert same_weights(resumed.encoder.state_dict(), whole.encoder.state_dict())
    if balance is RE_AND_SE:
        assert (resumed.clusters == whole.clusters).all()


@pytest.mark.parametrize(
    ("settings", "rounding"),  # InfoNCE divides cosines by its temperature, and rounding with them
    [({"epochs": 4, "balance": RE_AND_SE}, 1e-5), ({"epochs": 4, "objective": "infonce", "balance": SE}, 1e-4)],
    ids=["simsiam re+se", "infonce se"],
)
def test_two_processes_have_the_loss_curve_of_one_with_the_same_batch(tmp_path, settings, rounding):
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    _, errors = (process := start(tmp_path, settings, *launcher)).communicate()
    assert process.returncode == 0, errors
    alone = train(make_settings(**settings))
    assert torch.load(tmp_path / "losses.pt") == pytest.approx([epoch.loss for epoch in alone.epochs], abs=rounding)
    together = torch.load(tmp_path / "encoder.pt")
    for name, values in alone.encoder.state_dict().items():
        assert torch.allclose(together[name], values, atol=10 * rounding), name


def test_a_finished_run_is_taken_from_its_checkpoint(tmp_path):
    first = train(make_settings(), folder=tmp_path)
    written = (tmp_path / CHECKPOINT).stat().st_mtime_ns
    second = train(make_settings(), folder=tmp_path, resume=True)
    assert first.epochs == second.epochs
    assert (tmp_path / CHECKPOINT).stat().st_mtime_ns == written


def test_strategies_share_one_warm_up_and_it_changes_nothing(tmp_path):
    shared, plain, balanced = tmp_path / "warm-up.pt", make_settings(), make_settings(balance=RE_AND_SE)
    assert train(plain, warm_start=shared).epochs == train(plain).epochs
    written = shared.stat().st_mtime_ns
    taken = train(balanced, warm_start=shared)
    assert taken.epochs == train(balanced).epochs
    assert taken.epochs[0] == train(plain).epochs[0]
    assert shared.stat().st_mtime_ns == written


@pytest.mark.parametrize("change", [{"learning_rate": 0.06}, {"balance": RE_AND_SE}, {"epochs": 7}])
def test_a_checkpoint_of_other_settings_is_refused(tmp_path, change):
    train(make_settings(epochs=2), folder=tmp_path)
    with pytest.raises(CheckpointError, match="other settings"):
        train(make_settings(**({"epochs": 2} | change)), folder=tmp_path, resume=True)


def test_a_damaged_checkpoint_is_refused_by_name(tmp_path):
    train(make_settings(epochs=2), folder=tmp_path)
    (tmp_path / CHECKPOINT).write_bytes((tmp_path / CHECKPOINT).read_bytes()[:-500])
    with pytest.raises(CheckpointError, match=CHECKPOINT):
        train(make_settings(epochs=2), folder=tmp_path, resume=True)


def test_the_curves_are_written_for_tensorboard(tmp_path):
    trained = train(make_settings(balance=RE_AND_SE), folder=tmp_path)
    board = EventAccumulator(str(tmp_path)).Reload()
    assert {"loss", "spread", "effective_rank", "input_wait", "cluster_sizes/0"} <= set(board.Tags()["scalars"])
    losses = [event.value for event in board.Scalars("loss")]
    assert losses == pytest.approx([epoch.loss for epoch in trained.epochs])
