"""The self-supervised method on one page: SimSiam in 3D, how imbalance is met (RE, SE), and the collapse alarms.

    z_i = g(f(x_i)),  p_i = h(z_i),  D(p, z) = -cos(p, stopgrad(z)),  l(x) = D(p_1, z_2) / 2 + D(p_2, z_1) / 2

f is the encoder, g the projector, h the predictor; x_1 and x_2 are two views of one crop. A step takes the rows B of a
batch and descends L = sum_B w_i l(x_i) / sum_B w_i. Plain training draws B in random order (`sampling.draw_plain`) and
has w_i = 1. After a plain warm-up, and again every few epochs, k-means groups the embeddings f(x) of all cases
(`clusters.find_clusters`); n_c is the size of cluster c among N, p_c = n_c / N. From then on

    RE  re-weighting: w_i grows as p_c(i) falls, 1 / (p_c(i) + constant) in its first variant, of mean one in each batch
        and clipped (`reweighting.sample_weights`, `normalise_weights`); B is drawn as in plain training
    SE  selection: B holds every cluster alike, the least used cases of each first (`sampling.draw_epoch`); w_i = 1

In expectation over batches the weights 1 / p_c(i), unclipped, and clusters drawn evenly descend the same gradient,

    sum_i (1 / N) (1 / p_c(i)) l_i / k  =  sum_c (1 / k) (1 / n_c) sum_(i in c) l_i        (k clusters)

but only SE changes the cases over which the heads' batch normalisation takes its statistics. Both at once would correct
twice: each then takes half of the exponent (alpha = 1/2).

The two strategies are those of arXiv 2103.04167, whose formulas are not at hand: clusters as the groups, the variants,
the clip and the warm-up are choices of ours, to be compared by ablation.

References:
    Chen and He, arXiv 2011.10566, Sec. 3, Eq. 1-4; Sec. 4.4 for the batch normalisation of g and h.
    Li et al., arXiv 2103.04167 (MICCAI 2021): re-weighting and selection against imbalance, in a 3D Siamese network.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize


class SimSiam(nn.Module):
    """Encoder, projector and predictor.

    Args:
        encoder: f, crops to embeddings.
        dimension: d, of the embeddings.
        width: of the projections z; the predictor's bottleneck is a quarter of it.
    """

    def __init__(self, encoder: nn.Module, dimension: int, width: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.projector = nn.Sequential(
            nn.Linear(dimension, width, bias=False),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Linear(width, width, bias=False),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Linear(width, width, bias=False),
            nn.BatchNorm1d(width, affine=False),
        )
        self.predictor = nn.Sequential(
            nn.Linear(width, width // 4, bias=False),
            nn.BatchNorm1d(width // 4),
            nn.ReLU(),
            nn.Linear(width // 4, width),
        )

    def forward(self, views: Tensor) -> tuple[Tensor, Tensor]:
        """Return projections and predictions of one view of each crop: z, p."""
        f = self.encoder(views)  # [N, d]
        z = self.projector(f)  # [N, width]
        p = self.predictor(z)  # [N, width]
        return z, p


def negative_cosine(p: Tensor, z: Tensor) -> Tensor:
    """Return D(p, z) of each sample, in [-1, 1]; no gradient flows into z (Eq. 1 and 3)."""
    return -(normalize(p, dim=1) * normalize(z.detach(), dim=1)).sum(dim=1)  # [N]


def simsiam_loss(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> Tensor:
    """Return the symmetric loss of each sample (Eq. 4) from (z, p) of its two views."""
    (z1, p1), (z2, p2) = first, second
    return negative_cosine(p1, z2) / 2 + negative_cosine(p2, z1) / 2  # [N]


def weighted_mean(losses: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return sum(w_i l_i) / sum(w_i): weights of one batch have mean one, so they never change the step's size."""
    if weights is None:
        return losses.mean()
    return (weights * losses).sum() / weights.sum()


def spread(z: Tensor) -> float:
    """Return the mean standard deviation of z / ||z|| per dimension, times sqrt(d).

    1 where the directions are spread evenly, 0 where the method has collapsed (Sec. 4.1, Fig. 2).
    """
    return float(normalize(z.detach(), dim=1).std(dim=0, correction=0).mean() * z.shape[1] ** 0.5)


def effective_rank(features: Tensor) -> float:
    """Return exp(entropy of the normalised singular values) of the centred features [N, d], from 1 to d.

    References:
        Roy and Vetterli, EUSIPCO 2007, Definition 1.
    """
    values = torch.linalg.svdvals(features.detach().double() - features.detach().double().mean(dim=0))
    shares = values / values.sum().clamp_min(1e-12)
    return float(torch.exp(-(shares * torch.log(shares.clamp_min(1e-12))).sum()))
