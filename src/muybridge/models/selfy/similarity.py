"""The self-similarity transform: how alike each position is to its neighbours in space and time.

Legend: B clips, T frames, X rows, Y columns, C channels; L time offsets, U and V displacements in rows and columns,
P and Q rows and columns of maps with a margin, R rows in reach.
Source: Kwon et al., ICCV 2021, Eq. 1.

Each pair of frames is compared a few rows at a time by a matrix product with the rows in reach, of which the wanted
displacements are a diagonal band, read off by strides. So no more than those rows' products exist at any time, and
nothing but the features is kept for the gradient. A margin of zeros is put around the products and not around the
features: on a map as small as the window it would be most of what is multiplied.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

Features = Float[Tensor, "B T X Y C"]
Similarity = Float[Tensor, "B T X Y L U V"]
Reach = tuple[int, int]

_ROWS = 7  # of the query at a time; more would waste products outside the band, fewer would leave small matrices


def self_similarity(features: Features, offsets: tuple[int, ...], reach: Reach) -> Similarity:
    """Dot products of each position with those at the given offsets in time and within reach in space.

    Args:
        features: of unit length, for cosines.
        offsets: in frames, of the other position; may repeat or leave out any.
        reach: the largest displacement (rows, columns); the window is ``2 reach + 1`` wide.

    Returns:
        ``S[b,t,x,y,l,u,v] = features[b,t,x,y] . features[b, t + offsets[l], x + u - reach[0], y + v - reach[1]]``,
        zero where the other position is outside the clip.
    """
    if torch.compiler.is_compiling():
        return _traceable(features, offsets, reach)
    similarity: Similarity = _SelfSimilarity.apply(features.contiguous(), offsets, reach)  # pyright: ignore
    return similarity


def unit_length(x: Float[Tensor, "N C X Y"]) -> Float[Tensor, "N C X Y"]:
    """Channels scaled to length one, in float32; zero features stay zero."""
    wide = x.float()
    return wide * torch.rsqrt(wide.square().sum(dim=1, keepdim=True) + 1e-6)


@dataclass(frozen=True, slots=True)
class _Piece:
    """What is compared at a time.

    Attributes:
        offset: index of the time offset.
        here, there: frames that have a partner, and their partners.
        rows, reached: of the frames, and of the partners as far as they are in reach and exist.
        margin: rows in reach before the first and after the last of the map.
    """

    offset: int
    here: slice
    there: slice
    rows: slice
    reached: slice
    margin: tuple[int, int]

    @property
    def count(self) -> int:
        """How many rows."""
        return self.rows.stop - self.rows.start

    def images(self, features: Features) -> tuple[Float[Tensor, "N XY C"], Float[Tensor, "N RY C"]]:
        """The positions that are compared and those that they are compared with."""
        return (
            rearrange(features[:, self.here, self.rows], "b t x y c -> (b t) (x y) c"),
            rearrange(features[:, self.there, self.reached], "b t x y c -> (b t) (x y) c"),
        )


def _pieces(shape: torch.Size, offsets: tuple[int, ...], up: int) -> Iterator[_Piece]:
    frames, height = shape[1], shape[2]
    for index, offset in enumerate(offsets):
        here = slice(max(0, -offset), min(frames, frames - offset))
        if here.start < here.stop:
            there = slice(here.start + offset, here.stop + offset)
            for first in range(0, height, _ROWS):
                last = min(first + _ROWS, height)
                reached = slice(max(0, first - up), min(height, last + up))
                margin = reached.start - (first - up), last + up - reached.stop
                yield _Piece(index, here, there, slice(first, last), reached, margin)


def _band(products: Float[Tensor, "N XY PQ"], rows: int, columns: int, reach: Reach) -> Float[Tensor, "N X Y U V"]:
    """The displacements within reach, as a view of the products of ``rows`` rows with all in reach and a margin."""
    wide = columns + 2 * reach[1]
    image, position, _ = products.stride()
    shape = (len(products), rows, columns, 2 * reach[0] + 1, 2 * reach[1] + 1)
    return products.as_strided(shape, (image, columns * position + wide, position + 1, wide, 1))


class _SelfSimilarity(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, offsets: tuple[int, ...], reach: Reach) -> Tensor:
        ctx.save_for_backward(features)
        ctx.offsets, ctx.reach = offsets, reach
        up, left = reach
        clips, _, _, columns, _ = features.shape
        out = features.new_zeros(*features.shape[:4], len(offsets), 2 * up + 1, 2 * left + 1)
        for piece in _pieces(features.shape, offsets, up):
            query, key = piece.images(features)
            products = torch.bmm(query, key.mT).unflatten(2, (-1, columns))
            products = F.pad(products, (left, left, *piece.margin)).flatten(2)
            band = _band(products, piece.count, columns, reach)
            out[:, piece.here, piece.rows, :, piece.offset] = rearrange(band, "(b t) x y u v -> b t x y u v", b=clips)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore
        (features,) = ctx.saved_tensors
        up, left = reach = ctx.reach
        clips, _, _, columns, _ = features.shape
        to_query, to_key = torch.zeros_like(features), torch.zeros_like(features)
        products = features.new_zeros(0)
        for piece in _pieces(features.shape, ctx.offsets, up):
            query, key = piece.images(features)
            shape = (len(query), query.shape[1], piece.count + 2 * up, columns + 2 * left)
            if products.shape != shape:  # else what lies outside the band is still zero
                products = features.new_zeros(shape)
            band = _band(products.flatten(2), piece.count, columns, reach)
            band.copy_(rearrange(gradient[:, piece.here, piece.rows, :, piece.offset], "b t x y u v -> (b t) x y u v"))
            before, after = piece.margin
            inside = products[:, :, before : shape[2] - after, left : left + columns].flatten(2)
            to_query[:, piece.here, piece.rows] += rearrange(
                torch.bmm(inside, key), "(b t) (x y) c -> b t x y c", b=clips, y=columns
            )
            to_key[:, piece.there, piece.reached] += rearrange(
                torch.bmm(inside.mT, query), "(b t) (x y) c -> b t x y c", b=clips, y=columns
            )
        return to_query + to_key, None, None


def _traceable(features: Features, offsets: tuple[int, ...], reach: Reach) -> Similarity:
    """The same in operations that ``torch.export`` and ONNX know; needs all products of two rows at once."""
    frames, height, width = features.shape[1:4]
    rows, columns = 2 * reach[0] + 1, 2 * reach[1] + 1
    padded = F.pad(features, (0, 0, reach[1], reach[1], reach[0], reach[0]))
    keys = torch.stack([padded[:, :, u : u + height] for u in range(rows)], dim=3)  # B T X U Z C
    planes = []
    for offset in offsets:
        ahead, back = min(max(offset, 0), frames), min(max(-offset, 0), frames)
        moved = F.pad(keys, (0, 0) * 4 + (back, ahead))[:, ahead : ahead + frames]
        products = torch.einsum("btxyc,btxuzc->btxuyz", features, moved)
        # One more column per line turns the diagonal band z = y + v into the straight one z = v.
        skewed = F.pad(products.flatten(-2), (0, width)).unflatten(-1, (width, width + 2 * reach[1] + 1))
        planes.append(rearrange(skewed[..., :columns], "b t x u y v -> b t x y u v"))
    return torch.stack(planes, dim=4)
