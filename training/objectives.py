"""Objectives beside SimSiam's that bear small batches, with a loss per case so that weights apply.

Both compare the projections z of two views of each case; neither uses a predictor.

References:
    VICReg: Bardes, Ponce and LeCun, arXiv 2105.04906, Eq. 1 to 6.
    InfoNCE: Chen et al., arXiv 2002.05709 (SimCLR), Eq. 1.
"""

import torch
from torch import Tensor
from torch.nn.functional import normalize

INVARIANCE, VARIANCE, COVARIANCE = 25.0, 25.0, 1.0  # lambda, mu, nu of arXiv 2105.04906, Sec. 4.2
LEAST_STD = 1.0  # gamma
STD_EPSILON = 1e-4
TEMPERATURE = 0.2


def vicreg_loss(z1: Tensor, z2: Tensor) -> Tensor:
    """Return lambda s_i + mu (v + v') + nu (c + c') of each case.

    The distance s_i of its two views is a case's own; variance and covariance are of the batch and enter every case's
    loss alike, so that weights of mean one leave them as they are. As in the authors' code s is the mean over the
    dimensions, not the sum of Eq. 5.

    Args:
        z1: [N, d] of the first views, N > 1.
        z2: [N, d] of the second.
    """
    distance = (z1 - z2).square().mean(dim=1)  # [N]
    variance = _lack_of_variance(z1) + _lack_of_variance(z2)
    covariance = _covariance(z1) + _covariance(z2)
    return INVARIANCE * distance + VARIANCE * variance + COVARIANCE * covariance  # [N]


def infonce_loss(z1: Tensor, z2: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """Return the loss of each case, the mean over its two views, each told from the other 2N - 2 of the batch.

    Args:
        z1: [N, d] of the first views.
        z2: [N, d] of the second.
        temperature: of the cosines.
    """
    count = len(z1)
    z = normalize(torch.cat([z1, z2]), dim=1)  # [2N, d]
    cosines = z @ z.T / temperature  # [2N, 2N]
    cosines = cosines.masked_fill(torch.eye(2 * count, dtype=torch.bool, device=z.device), -torch.inf)
    partners = cosines.diagonal(count)  # [N]
    others = torch.logsumexp(cosines, dim=1)  # [2N]
    return (others[:count] + others[count:]) / 2 - partners  # [N]


def _lack_of_variance(z: Tensor) -> Tensor:
    """Return v: by how much the standard deviations fall short of one, on average (Eq. 1 and 2)."""
    std = (z.var(dim=0) + STD_EPSILON).sqrt()  # [d]
    return torch.relu(LEAST_STD - std).mean()


def _covariance(z: Tensor) -> Tensor:
    """Return c: the sum of the squared covariances off the diagonal, divided by d (Eq. 3 and 4)."""
    centred = z - z.mean(dim=0)
    covariance = centred.T @ centred / (len(z) - 1)  # [d, d]
    return (covariance.square().sum() - covariance.diagonal().square().sum()) / z.shape[1]
