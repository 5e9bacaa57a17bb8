import numpy as np
import pytest
import torch
from pydantic import ValidationError

from tests.training.pretrain_process import SHAPE, make_crops, make_settings, train
from training.distributed import World
from training.embedding import new_encoder
from training.learners import make_learner

OBJECTIVES = ("simsiam", "vicreg", "infonce", "rubik", "genesis")
ALONE = World(torch.device("cpu"))


@pytest.fixture(params=OBJECTIVES)
def settings(request):
    return make_settings(objective=request.param, epochs=8, learning_rate=0.02)


def losses_of(learner, crops, drawn, world=ALONE):
    batch = learner.make_batch(crops, np.arange(len(crops)), drawn, world.share(len(crops)))
    learner.model.eval()
    return learner.find_losses(learner.model(*batch.inputs), batch, world)


def test_there_is_a_loss_for_each_case_and_it_reaches_every_weight(settings):
    crops = torch.from_numpy(make_crops(16))
    learner = make_learner(new_encoder(2, SHAPE, 0), settings, 1)
    learner.model.train()
    batch = learner.make_batch(crops, np.arange(16), learner.draw(np.random.default_rng(0), 16, None), slice(0, 16))
    losses, vectors = learner.find_losses(learner.model(*batch.inputs), batch, ALONE)
    losses.sum().backward()
    assert losses.shape == (16,)
    assert len(vectors) == 16
    assert not vectors.requires_grad
    assert all(weight.grad is not None for weight in learner.model.parameters())


def test_what_is_drawn_is_the_same_for_the_whole_batch_and_for_its_shares(settings):
    crops = torch.from_numpy(make_crops(16))
    learner = make_learner(new_encoder(2, SHAPE, 0), settings, 1)
    drawn = learner.draw(np.random.default_rng(0), 16, None)
    whole = learner.make_batch(crops, np.arange(16), drawn, slice(0, 16))
    parts = [learner.make_batch(crops[cut], np.arange(16), drawn, cut) for cut in (slice(0, 8), slice(8, 16))]
    for number, inputs in enumerate(whole.inputs):
        assert torch.equal(torch.cat([part.inputs[number] for part in parts]), inputs)
    for number, targets in enumerate(whole.targets):
        assert torch.equal(torch.cat([part.targets[number] for part in parts]), targets)


def test_training_lowers_the_loss_without_collapse(settings):
    epochs = train(settings).epochs
    assert epochs[-1].loss < epochs[0].loss
    assert not epochs[-1].collapsed


def test_every_objective_can_be_balanced():
    for objective in OBJECTIVES:
        balance = {"strategy": "re", "clusters": 3}
        trained = train(make_settings(objective=objective, epochs=2, warmup_share=0.5, balance=balance))
        assert len(trained.clusters) == 48


def test_view_strengths_need_views():
    with pytest.raises(ValidationError, match="rubik has none"):
        make_settings(objective="rubik", balance={"strategy": "bcl"})


def test_half_precision_learns_too():
    exact, half = train(make_settings()).epochs, train(make_settings(amp="bf16")).epochs
    assert half[-1].loss == pytest.approx(exact[-1].loss, abs=0.15)
    assert half != exact
