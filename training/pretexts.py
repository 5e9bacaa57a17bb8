"""Pretext tasks beside views that agree: Rubik's cube and Models Genesis, drawn, then applied to a batch on its device.

Rubik's cube: the crop's 2 x 2 x 2 cells are put in one of K orders and each half-turned about none, one or two axes;
the network sees the cells one by one and tells order and turns. Models Genesis: intensities are bent, voxels shuffled
and boxes painted over; the network restores the crop.

Of Rubik's cube the idea is the paper's: eight cells, one network shared by them all, a class per order and a label per
turn, both losses added. Its text was not at hand and its authors published no code that we know of, so every number
here is ours: K, the gap, equal weights of the losses, half-turns about two axes (a quarter-turn would need cells of
cubic voxels and tell more of the axes), the hidden layer; and the encoder sees cells of half the crop's edge.

Of Models Genesis, probabilities and sizes are those of the authors' published code; `draw_genesis` says what differs.

References:
    Zhuang et al., arXiv 1910.02241 (MICCAI 2019); orders by Noroozi and Favaro, arXiv 1603.09246, Algorithm 1.
    Zhou et al., arXiv 1908.06912 (MICCAI 2019), Sec. 2; code: MrGiovanni/ModelsGenesis, pytorch/utils.py and config.py.
"""

from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise, permutations
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from training.encoder import Encoder

CELLS = 8
ORDERS = 32  # K
GAP = 2  # voxels left out between neighbouring cells, so that edges do not give the order away
KNOTS = 65  # of a tabulated intensity map
BOXES = 5
MIXES = 64  # ways to shuffle a block, drawn anew for each batch


@dataclass(frozen=True)
class RubikParams:
    """What is done to each of N crops: the order, by its number [N], and the half-turns [N, 8, 2] bool of its cells."""

    orders: Tensor
    turns: Tensor

    def part(self, first: int, last: int) -> "RubikParams":
        """Return the parameters of the crops from `first` up to `last`."""
        return RubikParams(self.orders[first:last], self.turns[first:last])


@cache
def distant_orders(count: int = ORDERS) -> NDArray[np.intp]:
    """Return `count` orders [count, 8] of eight cells, each as far as can be from the nearest of those before it.

    Far is in how many places two orders differ; ties go to the largest sum of distances, then to the first.
    """
    every = np.array(list(permutations(range(CELLS))), dtype=np.int8)  # [40320, 8]
    chosen, nearest, total = [0], np.full(len(every), CELLS), np.zeros(len(every), dtype=np.int64)
    while len(chosen) < count:
        distances = (every != every[chosen[-1]]).sum(axis=1)
        nearest, total = np.minimum(nearest, distances), total + distances
        chosen.append(int(np.lexsort([-total, -nearest])[0]))
    return every[chosen].astype(np.intp)


def draw_rubik(rng: np.random.Generator, count: int, orders: int = ORDERS) -> RubikParams:
    """Draw the order and the half-turns of `count` crops."""
    return RubikParams(
        torch.from_numpy(rng.integers(orders, size=count)), torch.from_numpy(rng.random((count, CELLS, 2)) < 0.5)
    )


def split_cells(crops: Tensor, gap: int = GAP) -> Tensor:
    """Return the cells [N, 8, C, E, E, E] of crops [N, C, D, D, D]: the corners, E = (D - gap) // 2."""
    edge = (crops.shape[-1] - gap) // 2
    ends = (slice(0, edge), slice(crops.shape[-1] - edge, None))
    return torch.stack([crops[:, :, i, j, k] for i in ends for j in ends for k in ends], dim=1)


def join_cells(cells: Tensor) -> Tensor:
    """Return the crops [N, C, 2E, 2E, 2E] of cells that were split without a gap."""
    count, _, channels, edge = cells.shape[:4]
    apart = cells.reshape(count, 2, 2, 2, channels, edge, edge, edge)
    return apart.permute(0, 4, 1, 5, 2, 6, 3, 7).reshape(count, channels, 2 * edge, 2 * edge, 2 * edge)


def apply_rubik(cells: Tensor, params: RubikParams, orders: int = ORDERS) -> Tensor:
    """Put the cells in the drawn orders, then turn each; the mask goes along."""
    places = torch.from_numpy(distant_orders(orders)).to(cells.device)[params.orders.to(cells.device)]  # [N, 8]
    return _turn(_reorder(cells, places), params.turns)


def undo_rubik(cells: Tensor, params: RubikParams, orders: int = ORDERS) -> Tensor:
    """Return the cells as they were before `apply_rubik`."""
    places = torch.from_numpy(distant_orders(orders)).to(cells.device)[params.orders.to(cells.device)]
    return _reorder(_turn(cells, params.turns), places.argsort(dim=1))


def _reorder(cells: Tensor, places: Tensor) -> Tensor:
    return cells[torch.arange(len(cells), device=cells.device)[:, None], places]


def _turn(cells: Tensor, turns: Tensor) -> Tensor:
    """Turn cells by 180 degrees about their first and second axis; both commute and undo themselves."""
    for number, axes in enumerate([(4, 5), (3, 5)]):
        turned = turns[:, :, number].to(cells.device)[:, :, None, None, None, None]
        cells = torch.where(turned, cells.flip(axes), cells)
    return cells


class RubikNet(nn.Module):
    """The encoder on each cell; all embeddings of a crop together tell its order and its turns.

    Args:
        encoder: crops to embeddings; it sees cells of half the edge.
        width: of the hidden layer.
        orders: K.
    """

    def __init__(self, encoder: Encoder, width: int, orders: int = ORDERS) -> None:
        super().__init__()
        self.encoder = encoder
        self.hidden = nn.Sequential(nn.Linear(CELLS * encoder.dimension, width), nn.BatchNorm1d(width), nn.ReLU())
        self.order = nn.Linear(width, orders)
        self.turns = nn.Linear(width, 2 * CELLS)

    def forward(self, cells: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits of the orders [N, K] and of the turns [N, 16], and the cells' mean embeddings [N, d]."""
        f = self.encoder(cells.flatten(0, 1)).reshape(len(cells), CELLS, -1)  # [N, 8, d]
        hidden = self.hidden(f.flatten(1))  # [N, width]
        return self.order(hidden), self.turns(hidden), f.mean(dim=1)


def rubik_loss(order_logits: Tensor, turn_logits: Tensor, params: RubikParams) -> Tensor:
    """Return half the cross-entropy of the order and half the mean one of the turns, of each crop [N]."""
    turns = params.turns.flatten(1).to(turn_logits)
    order_loss = cross_entropy(order_logits, params.orders.to(order_logits.device), reduction="none")
    turn_loss = binary_cross_entropy_with_logits(turn_logits, turns, reduction="none").mean(dim=1)
    return order_loss / 2 + turn_loss / 2


@dataclass(frozen=True)
class GenesisParams:
    """What is done to each of N crops, and which rows of the batch that was drawn together they are."""

    maps: Tensor  # [N, KNOTS] what the intensities from -1 to 1 become
    shuffled: Tensor  # [N] share of the blocks whose voxels are shuffled
    boxes: Tensor  # [N, BOXES, 3, 2] first and last edge, from 0 to 1
    painted: Tensor  # [N] bool
    outwards: Tensor  # [N] bool: paint outside the boxes, not inside
    mixes: Tensor  # [1 + MIXES, block ** 3] orders of a block's voxels; the first leaves them
    block: int  # edge of the shuffled blocks, in voxels
    seed: int  # of the noise and the shuffling
    rows: tuple[int, int, int]  # first and last row, and of how many drawn together

    def part(self, first: int, last: int) -> "GenesisParams":
        """Return the parameters of the crops from `first` up to `last`, each with the noise it has in the whole."""
        start, _, drawn = self.rows
        names = ("maps", "shuffled", "boxes", "painted", "outwards")
        cut: dict[str, Any] = {name: getattr(self, name)[first:last] for name in names}
        return replace(self, **cut, rows=(start + first, start + last, drawn))


def draw_genesis(rng: np.random.Generator, count: int) -> GenesisParams:
    """Draw, as often as the authors do, a map for 9 of 10 crops, shuffling for half, painting for 9 of 10.

    One painting in five is inwards (over boxes), the others outwards (over all but boxes). Bending and shuffling
    commute, so their order does not matter. Ours, unlike the authors' code:

    - voxels are shuffled within 20 to 80 % of the blocks, of two or three voxels, of a regular grid, by one of the
      orders that were drawn for the batch, which is one operation for all crops; theirs are 10,000 boxes of up to a
      tenth of the edge, anywhere;
    - always five boxes, anywhere; theirs stop growing in number with a chance of 5 % each and keep off the border;
    - a crop is not flipped at random beforehand, and noise is even over our intensities, -1 to 1, not 0 to 1;
    - the mask channel is shown as it is and not restored;
    - the network (`GenesisNet`) has no skips, so that all of the crop has to pass the encoder; theirs is a U-Net.
    """
    outwards, block = rng.random(count) < 0.8, int(rng.integers(2, 4))
    mixes = np.stack([np.arange(block**3), *(rng.permutation(block**3) for _ in range(MIXES))])
    return GenesisParams(
        maps=_draw_maps(rng, count, chance=0.9),
        shuffled=torch.from_numpy(np.where(rng.random(count) < 0.5, rng.uniform(0.2, 0.8, count), 0.0)),
        boxes=_draw_boxes(rng, outwards),
        painted=torch.from_numpy(rng.random(count) < 0.9),
        outwards=torch.from_numpy(outwards),
        mixes=torch.from_numpy(mixes),
        block=block,
        seed=int(rng.integers(2**62)),
        rows=(0, count, count),
    )


def bezier_map(inner: NDArray[np.float64], falling: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return cubic Bezier curves from corner to corner of [-1, 1] x [-1, 1], tabulated at KNOTS even places.

    Args:
        inner: [N, 2, 2] the two middle control points (x, y), from 0 to 1 of the square.
        falling: [N] whether the curve falls from 1 to -1; it rises where not. It is monotone either way.
    """
    t = np.linspace(0.0, 1.0, 4 * KNOTS)
    basis = np.stack([3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t)])  # [2, T]
    curves = np.einsum("npc,pt->nct", inner, basis) + t**3  # [N, (x, y), T]
    places = np.linspace(0.0, 1.0, KNOTS)
    heights = np.stack([np.interp(places, np.maximum.accumulate(x), y) for x, y in curves])
    heights = np.maximum.accumulate(heights, axis=1)  # the basis falls back by rounding only
    return np.asarray(2.0 * np.where(falling[:, None], 1.0 - heights, heights) - 1.0, dtype=np.float64)


def apply_genesis(crops: Tensor, params: GenesisParams, image_channels: int) -> Tensor:
    """Return the crops [N, C, D, D, D] bent, shuffled and painted over; what follows `image_channels` is left alone."""
    source = torch.Generator(device=crops.device).manual_seed(params.seed)
    images = _bend(crops[:, :image_channels], params.maps)
    images = _shuffle(images, params, source)
    images = _paint(images, params, source)
    return torch.cat([images, crops[:, image_channels:]], dim=1)


def _draw_maps(rng: np.random.Generator, count: int, chance: float) -> Tensor:
    curves = bezier_map(rng.random((count, 2, 2)), rng.random(count) < 0.5)
    bent = rng.random(count) < chance
    return torch.from_numpy(np.where(bent[:, None], curves, np.linspace(-1.0, 1.0, KNOTS)).astype(np.float32))


def _draw_boxes(rng: np.random.Generator, outwards: NDArray[np.bool_]) -> Tensor:
    """Draw edges of a sixth to a third of the crop's to paint over, or of 3 to 4 sevenths to leave."""
    least, most = np.where(outwards, 3 / 7, 1 / 6), np.where(outwards, 4 / 7, 1 / 3)
    shares = rng.random((len(outwards), BOXES, 3))
    edges = least[:, None, None] + (most - least)[:, None, None] * shares
    starts = rng.random(edges.shape) * (1.0 - edges)
    return torch.from_numpy(np.stack([starts, starts + edges], axis=3).astype(np.float32))


def _bend(images: Tensor, maps: Tensor) -> Tensor:
    """Map every intensity by its crop's table, linearly between the knots."""
    place = (images.clamp(-1.0, 1.0) + 1.0) * ((KNOTS - 1) / 2)
    below = place.floor().clamp_max(KNOTS - 2)
    index = below.long().flatten(1)
    table = maps.to(images)
    low, high = table.gather(1, index), table.gather(1, index + 1)
    return torch.lerp(low, high, (place - below).flatten(1)).reshape(images.shape)


def _shuffle(images: Tensor, params: GenesisParams, source: torch.Generator) -> Tensor:
    """Shuffle the voxels within some of the blocks of a crop, all channels alike; what fills no block stays."""
    count, channels, block = len(images), images.shape[1], params.block
    tiles = images.shape[-1] // block
    inner = images[:, :, : tiles * block, : tiles * block, : tiles * block]
    blocks = inner.reshape(count, channels, tiles, block, tiles, block, tiles, block)
    blocks = blocks.permute(0, 1, 2, 4, 6, 3, 5, 7).reshape(count, channels, tiles**3, block**3)
    numbers = _random(params, (tiles**3, 2), source, images.device)
    mix = (1 + (numbers[..., 0] * MIXES).long()) * (numbers[..., 1] < params.shuffled.to(numbers)[:, None])
    order = params.mixes.to(images.device)[mix][:, None].expand_as(blocks)  # [N, C, tiles ** 3, block ** 3]
    blocks = blocks.gather(3, order).reshape(count, channels, tiles, tiles, tiles, block, block, block)
    shuffled = images.clone()
    shuffled[:, :, : tiles * block, : tiles * block, : tiles * block] = blocks.permute(
        0, 1, 2, 5, 3, 6, 4, 7
    ).reshape_as(inner)
    return shuffled


def _paint(images: Tensor, params: GenesisParams, source: torch.Generator) -> Tensor:
    """Put even noise in [-1, 1] inside the boxes, or everywhere but there."""
    noise = 2.0 * _random(params, tuple(images.shape[1:]), source, images.device).to(images.dtype) - 1.0
    over = _inside(params.boxes.to(images), images.shape[-1]) ^ _each(params.outwards, images)
    return torch.where(over & _each(params.painted, images), noise, images)


def _inside(boxes: Tensor, edge: int) -> Tensor:
    """Return the voxels [N, 1, D, D, D] whose centres lie in any of the boxes."""
    centres = (torch.arange(edge, device=boxes.device) + 0.5) / edge
    along = (centres >= boxes[..., :1]) & (centres < boxes[..., 1:])  # [N, BOXES, 3, D]
    i, j, k = along.unbind(dim=2)
    return (i[:, :, :, None, None] & j[:, :, None, :, None] & k[:, :, None, None, :]).any(dim=1, keepdim=True)


def _each(values: Tensor, images: Tensor) -> Tensor:
    return values.to(images.device).view(-1, 1, 1, 1, 1)


def _random(params: GenesisParams, shape: tuple[int, ...], source: torch.Generator, device: torch.device) -> Tensor:
    """Return even numbers from 0 to 1 for each crop, as drawn for the whole batch together."""
    first, last, drawn = params.rows
    return torch.rand((drawn, *shape), generator=source, device=device)[first:last]


class GenesisNet(nn.Module):
    """The encoder and a light decoder without skips, which starts from the last feature maps and the embedding.

    Args:
        encoder: whose stem and stages halve the edge.
        images: channels to restore.
    """

    def __init__(self, encoder: Encoder, images: int) -> None:
        super().__init__()
        self.encoder = encoder
        widths = [*reversed(_stage_widths(encoder)), images]
        self.widen = nn.Linear(encoder.dimension, widths[0])
        doublings = [nn.ConvTranspose3d(wide, narrow, 2, stride=2) for wide, narrow in pairwise(widths)]
        between = [nn.Sequential(nn.BatchNorm3d(width), nn.ReLU()) for width in widths[1:-1]]
        self.decoder = nn.Sequential(
            *(layer for pair in zip(doublings, [*between, nn.Tanh()], strict=True) for layer in pair)
        )

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """Return the restored images [N, images, D, D, D] in [-1, 1], and the embeddings [N, d]."""
        x = self.encoder.stages(self.encoder.stem(crops))  # [N, widths[-1], E, E, E]
        f = self.encoder.embed(x.mean(dim=(2, 3, 4)))  # [N, d]
        x = x + self.widen(f)[:, :, None, None, None]  # so that the embedding, too, learns to hold the crop
        return self.decoder(x), f


def _stage_widths(encoder: Encoder) -> list[int]:
    """Return the width after each halving of the edge."""
    convolutions = [each for each in encoder.modules() if isinstance(each, nn.Conv3d)]
    return [each.out_channels for each in convolutions if each.stride[0] == 2 and each.kernel_size[0] == 3]


def genesis_loss(restored: Tensor, crops: Tensor) -> Tensor:
    """Return the mean squared error of each crop's images [N]; channels of `crops` beyond those restored are masks."""
    return (restored - crops[:, : restored.shape[1]]).square().flatten(1).mean(dim=1)
