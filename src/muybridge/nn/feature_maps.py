"""A CNN that turns every frame into a map of features, most often frozen.

Legend: B videos, T frames, N images, C channels, H and W pixels, D features, h and w map size.
"""

from collections import OrderedDict
from typing import Any, cast, get_args

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from muybridge.core.errors import RecipeError
from muybridge.nn.backbones import Backbone, resnet, timm_model

IMAGES_AT_ONCE = 32
"""A frozen network sees this many at a time; nothing is kept for a way back, so more would only take memory."""


class FeatureMaps(nn.Module):
    """One map for every frame of a video.

    Args:
        trunk: from images ``N C H W`` to maps ``N D h w``.
        learns: False keeps the trunk as it is: no gradient, no dropout, running statistics of norms untouched.
    """

    def __init__(self, trunk: nn.Module, *, learns: bool = False) -> None:
        super().__init__()
        self.trunk = trunk
        self.learns = learns
        if not learns:
            trunk.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "FeatureMaps":
        """Training mode, which a frozen trunk does not share."""
        super().train(mode)
        if not self.learns:
            self.trunk.eval()
        return self

    def forward(self, frames: Float[Tensor, "B T C H W"]) -> Float[Tensor, "B T D h w"]:
        """The maps of all frames."""
        images = rearrange(frames, "b t c h w -> (b t) c h w").contiguous(memory_format=torch.channels_last)
        if self.learns or torch.compiler.is_compiling():
            maps = self.trunk(images)
        else:
            with torch.no_grad():
                maps = torch.cat([self.trunk(some) for some in images.split(IMAGES_AT_ONCE)])
        return rearrange(maps, "(b t) d h w -> b t d h w", b=frames.shape[0])

    def shape(self, channels: int, size: int) -> tuple[int, int, int]:
        """D, h and w for frames of ``size`` by ``size`` pixels, found without computing anything."""
        nowhere = {name: one.to("meta") for name, one in self.trunk.state_dict(keep_vars=True).items()}
        training = self.trunk.training
        image = torch.empty(1, channels, size, size, device="meta")
        maps = torch.func.functional_call(self.trunk.eval(), nowhere, (image,))
        self.trunk.train(training)
        _, features, height, width = maps.shape
        return features, height, width


class _Last(nn.Module):
    """The only map of a timm network that gives a list of them."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N D h w"]:
        return self.net(x)[0]


def feature_maps(
    backbone: str,
    channels: int = 3,
    *,
    level: int = -1,
    vector: bool = False,
    pretrained: bool = False,
    average_channels: bool = False,
    learns: bool = False,
) -> FeatureMaps:
    """A network of timm's as a source of maps.

    Args:
        backbone: timm's name; for the ResNets of :mod:`muybridge.nn.backbones` the trunk has their parameter names.
        channels: of the images.
        level: which of the network's maps: -1 is the last, -2 the one before, of twice the size.
        vector: for a VGG, the 4096 numbers of its second fully connected layer (fc7) as a map of 1x1, in place of its
            last pooled map (pool5); other networks have no such layer, and give their map.
        pretrained: start from ImageNet weights.
        average_channels: the images are no colours but, say, optical flow: every channel starts with the mean over colours of
            the pretrained first filters.
        learns: whether the network is trained.

    Raises:
        MissingExtraError: timm is not installed.
        RecipeError: timm knows no such model, it has no such level, or the weights cannot be reached.
    """
    drawn_for = 3 if pretrained and average_channels else channels
    if backbone in get_args(Backbone):
        trunk = resnet(cast("Backbone", backbone), drawn_for, pretrained=pretrained, zero_last=False)
        _check_level(level, len(trunk.stages))
        del trunk.stages[len(trunk.stages) + level + 1 :]
    elif vector and backbone.startswith("vgg"):
        vgg = timm_model(backbone, pretrained=pretrained, in_chans=drawn_for)
        trunk = nn.Sequential(OrderedDict(features=vgg.features, pre_logits=vgg.pre_logits))
    else:
        trunk = _Last(_level(backbone, level, pretrained=pretrained, in_chans=drawn_for))
    if drawn_for != channels:
        _carry_over(trunk, channels)
    return FeatureMaps(trunk.to(memory_format=torch.channels_last), learns=learns)


def _level(backbone: str, level: int, **options: Any) -> nn.Module:
    try:
        return timm_model(backbone, features_only=True, out_indices=(level,), **options)
    except (AssertionError, IndexError):  # timm's answers to an index out of range
        levels = len(timm_model(backbone, features_only=True).feature_info)
        _check_level(level, levels)
        raise


def _check_level(level: int, levels: int) -> None:
    if level < -levels:
        raise RecipeError(
            f"level {level} of a network with {levels} maps",
            expected=f"-1 (the last) to {-levels}",
            hint="choose another level or backbone",
            where="model.level",
        )


def _carry_over(trunk: nn.Module, channels: int) -> None:
    """Refit the first convolution, of colours, to other channels: each gets the mean of the filters over colours."""
    first = next(module for module in trunk.modules() if isinstance(module, nn.Conv2d))
    mean = first.weight.detach().mean(1, keepdim=True)
    first.weight = nn.Parameter(mean.expand(-1, channels, -1, -1).clone())
    first.in_channels = channels
