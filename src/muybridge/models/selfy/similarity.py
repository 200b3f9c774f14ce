"""The self-similarity transform: the similarity of each position to its neighbors in space and time.

Legend: B clips, T frames, X rows, Y columns, C channels; L time offsets, U and V displacements in rows and columns,
P and Q rows and columns of maps with a margin, R rows within the radius.
Source: Kwon et al., ICCV 2021, Eq. 1.

Each pair of frames is compared a few rows at a time, by a matrix product with the rows within the radius. The wanted
displacements are a diagonal band of the product, read through strides. So at most these rows' products are in memory
at any time, and only the features are stored for the gradient. Zeros are padded around the products and not around the
features: on a map as small as the window, most products would be with padding.
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
Radius = tuple[int, int]

_ROWS = 7  # query rows at a time; more would compute products outside the band, fewer would make small matrices


def self_similarity(features: Features, offsets: tuple[int, ...], radius: Radius) -> Similarity:
    """Dot products of each position with those at the given time offsets and within a radius in space.

    Args:
        features: of unit length, for cosine similarity.
        offsets: in frames, of the other position; may repeat or omit any.
        radius: the largest displacement (rows, columns); the window is ``2 radius + 1`` wide.

    Returns:
        ``S[b,t,x,y,l,u,v] = features[b,t,x,y] . features[b, t + offsets[l], x + u - radius[0], y + v - radius[1]]``,
        zero where the other position is outside the clip.
    """
    if torch.compiler.is_compiling():
        return _exportable(features, offsets, radius)
    similarity: Similarity = _SelfSimilarity.apply(features.contiguous(), offsets, radius)  # pyright: ignore
    return similarity


def normalize_channels(x: Float[Tensor, "N C X Y"]) -> Float[Tensor, "N C X Y"]:
    """Channels scaled to unit L2 norm, in float32; zero features stay zero."""
    x = x.float()
    return x * torch.rsqrt(x.square().sum(dim=1, keepdim=True) + 1e-6)


@dataclass(frozen=True, slots=True)
class _Block:
    """The part of the comparison computed at a time.

    Attributes:
        offset: index of the time offset.
        query_frames, key_frames: frames that have a partner at this offset, and their partners.
        query_rows, key_rows: of the query frames, and of the key frames within the radius and inside the map.
        margin: rows within the radius but before the first and after the last of the map.
    """

    offset: int
    query_frames: slice
    key_frames: slice
    query_rows: slice
    key_rows: slice
    margin: tuple[int, int]

    @property
    def count(self) -> int:
        """Number of query rows."""
        return self.query_rows.stop - self.query_rows.start

    def query_and_key(self, features: Features) -> tuple[Float[Tensor, "N XY C"], Float[Tensor, "N RY C"]]:
        """The positions that are compared and those with which they are compared."""
        return (
            rearrange(features[:, self.query_frames, self.query_rows], "b t x y c -> (b t) (x y) c"),
            rearrange(features[:, self.key_frames, self.key_rows], "b t x y c -> (b t) (x y) c"),
        )


def _blocks(shape: torch.Size, offsets: tuple[int, ...], radius: int) -> Iterator[_Block]:
    frames, height = shape[1], shape[2]
    for index, offset in enumerate(offsets):
        query_frames = slice(max(0, -offset), min(frames, frames - offset))
        if query_frames.start < query_frames.stop:
            key_frames = slice(query_frames.start + offset, query_frames.stop + offset)
            for first in range(0, height, _ROWS):
                last = min(first + _ROWS, height)
                key_rows = slice(max(0, first - radius), min(height, last + radius))
                margin = key_rows.start - (first - radius), last + radius - key_rows.stop
                yield _Block(index, query_frames, key_frames, slice(first, last), key_rows, margin)


def _band(products: Float[Tensor, "N XY PQ"], rows: int, columns: int, radius: Radius) -> Float[Tensor, "N X Y U V"]:
    """The displacements within the radius, as a view of the products of query rows with padded key rows."""
    padded_columns = columns + 2 * radius[1]
    image, position, _ = products.stride()
    shape = (len(products), rows, columns, 2 * radius[0] + 1, 2 * radius[1] + 1)
    strides = (image, columns * position + padded_columns, position + 1, padded_columns, 1)
    return products.as_strided(shape, strides)


class _SelfSimilarity(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, offsets: tuple[int, ...], radius: Radius) -> Tensor:
        ctx.save_for_backward(features)
        ctx.offsets, ctx.radius = offsets, radius
        up, left = radius
        clips, _, _, columns, _ = features.shape
        out = features.new_zeros(*features.shape[:4], len(offsets), 2 * up + 1, 2 * left + 1)
        for block in _blocks(features.shape, offsets, up):
            query, key = block.query_and_key(features)
            products = torch.bmm(query, key.mT).unflatten(2, (-1, columns))
            products = F.pad(products, (left, left, *block.margin)).flatten(2)
            band = rearrange(_band(products, block.count, columns, radius), "(b t) x y u v -> b t x y u v", b=clips)
            out[:, block.query_frames, block.query_rows, :, block.offset] = band
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore
        (features,) = ctx.saved_tensors
        up, left = radius = ctx.radius
        clips, _, _, columns, _ = features.shape
        grad_query, grad_key = torch.zeros_like(features), torch.zeros_like(features)
        products = features.new_zeros(0)
        for block in _blocks(features.shape, ctx.offsets, up):
            query, key = block.query_and_key(features)
            shape = (len(query), query.shape[1], block.count + 2 * up, columns + 2 * left)
            if products.shape != shape:  # otherwise the values outside the band are still zero
                products = features.new_zeros(shape)
            band = _band(products.flatten(2), block.count, columns, radius)
            part = gradient[:, block.query_frames, block.query_rows, :, block.offset]
            band.copy_(rearrange(part, "b t x y u v -> (b t) x y u v"))
            before, after = block.margin
            inside = products[:, :, before : shape[2] - after, left : left + columns].flatten(2)
            grad_query[:, block.query_frames, block.query_rows] += rearrange(
                torch.bmm(inside, key), "(b t) (x y) c -> b t x y c", b=clips, y=columns
            )
            grad_key[:, block.key_frames, block.key_rows] += rearrange(
                torch.bmm(inside.mT, query), "(b t) (x y) c -> b t x y c", b=clips, y=columns
            )
        return grad_query + grad_key, None, None


def _exportable(features: Features, offsets: tuple[int, ...], radius: Radius) -> Similarity:
    """The same in operations that ``torch.export`` and ONNX support; stores all products of two rows at once."""
    frames, height, width = features.shape[1:4]
    rows, columns = 2 * radius[0] + 1, 2 * radius[1] + 1
    padded = F.pad(features, (0, 0, radius[1], radius[1], radius[0], radius[0]))
    keys = torch.stack([padded[:, :, u : u + height] for u in range(rows)], dim=3)  # B T X U Z C
    planes = []
    for offset in offsets:
        ahead, back = min(max(offset, 0), frames), min(max(-offset, 0), frames)
        shifted = F.pad(keys, (0, 0) * 4 + (back, ahead))[:, ahead : ahead + frames]
        products = torch.einsum("btxyc,btxuzc->btxuyz", features, shifted)
        # One additional column per row turns the diagonal band z = y + v into the straight one z = v.
        skewed = F.pad(products.flatten(-2), (0, width)).unflatten(-1, (width, width + 2 * radius[1] + 1))
        planes.append(rearrange(skewed[..., :columns], "b t x u y v -> b t x y u v"))
    return torch.stack(planes, dim=4)
