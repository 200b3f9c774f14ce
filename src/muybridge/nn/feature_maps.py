"""A CNN, frozen by default, that computes a feature map of every frame.

Legend: B videos, T frames, N images, C channels, H and W pixels, D features, h and w map size.
"""

from collections import OrderedDict
from typing import Any, cast, get_args

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from muybridge.core.errors import RecipeError
from muybridge.nn.backbones import resnet, timm_model
from muybridge.nn.options import Backbone

CHUNK_IMAGES = 32
"""Images per call of a frozen network. There is no backward pass, so larger chunks would only take memory."""


class FeatureMaps(nn.Module):
    """One feature map for every frame of a video.

    Args:
        trunk: maps images ``N C H W`` to feature maps ``N D h w``.
        trainable: False freezes the trunk: no gradient, no dropout, running statistics of norms unchanged.
    """

    def __init__(self, trunk: nn.Module, *, trainable: bool = False) -> None:
        super().__init__()
        self.trunk = trunk
        self.trainable = trainable
        if not trainable:
            trunk.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "FeatureMaps":
        """Sets training mode; a frozen trunk stays in evaluation mode."""
        super().train(mode)
        if not self.trainable:
            self.trunk.eval()
        return self

    def forward(self, frames: Float[Tensor, "B T C H W"]) -> Float[Tensor, "B T D h w"]:
        """The feature maps of all frames."""
        images = rearrange(frames, "b t c h w -> (b t) c h w").contiguous(memory_format=torch.channels_last)
        if self.trainable or torch.compiler.is_compiling():
            maps = self.trunk(images)
        else:
            with torch.no_grad():
                maps = torch.cat([self.trunk(chunk) for chunk in images.split(CHUNK_IMAGES)])
        return rearrange(maps, "(b t) d h w -> b t d h w", b=frames.shape[0])

    def output_shape(self, channels: int, size: int) -> tuple[int, int, int]:
        """D, h and w for frames of ``size`` by ``size`` pixels, inferred on the meta device without computation."""
        meta_state = {name: value.to("meta") for name, value in self.trunk.state_dict(keep_vars=True).items()}
        training = self.trunk.training
        image = torch.empty(1, channels, size, size, device="meta")
        maps = torch.func.functional_call(self.trunk.eval(), meta_state, (image,))
        self.trunk.train(training)
        _, features, height, width = maps.shape
        return features, height, width


class _SingleOutput(nn.Module):
    """The only feature map of a timm network that returns a list of them."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N D h w"]:
        return self.net(x)[0]


def feature_maps(
    backbone: str,
    channels: int = 3,
    *,
    out_index: int = -1,
    vector: bool = False,
    pretrained: bool = False,
    average_channels: bool = False,
    trainable: bool = False,
) -> FeatureMaps:
    """A timm network as a feature extractor.

    Args:
        backbone: timm's name; for the ResNets of :mod:`muybridge.nn.backbones` the trunk has their parameter names.
        channels: of the images.
        out_index: which of the network's feature maps: -1 is the last, -2 the previous one, of twice the size.
        vector: for a VGG, the 4096 features of its second fully connected layer (fc7) as a map of 1x1, instead of its
            last pooled map (pool5); other networks have no such layer and return their map.
        pretrained: start from ImageNet weights.
        average_channels: the images are not RGB but, for instance, optical flow: the first filters of every channel are
            initialized to the mean of the pretrained ones over RGB.
        trainable: whether the network is trained.

    Raises:
        MissingExtraError: timm is not installed.
        RecipeError: timm has no such model, the network has no such feature map, or the weights cannot be fetched.
    """
    in_channels = 3 if pretrained and average_channels else channels
    if backbone in get_args(Backbone):
        trunk = resnet(cast("Backbone", backbone), in_channels, pretrained=pretrained, zero_init_last=False)
        _check_out_index(out_index, len(trunk.stages))
        del trunk.stages[len(trunk.stages) + out_index + 1 :]
    elif vector and backbone.startswith("vgg"):
        vgg = timm_model(backbone, pretrained=pretrained, in_chans=in_channels)
        trunk = nn.Sequential(OrderedDict(features=vgg.features, pre_logits=vgg.pre_logits))
    else:
        trunk = _SingleOutput(_timm_features(backbone, out_index, pretrained=pretrained, in_chans=in_channels))
    if in_channels != channels:
        _average_first_conv(trunk, channels)
    return FeatureMaps(trunk.to(memory_format=torch.channels_last), trainable=trainable)


def _timm_features(backbone: str, out_index: int, **options: Any) -> nn.Module:
    try:
        return timm_model(backbone, features_only=True, out_indices=(out_index,), **options)
    except (AssertionError, IndexError):  # what timm raises for an index out of range
        _check_out_index(out_index, len(timm_model(backbone, features_only=True).feature_info))
        raise


def _check_out_index(out_index: int, count: int) -> None:
    if out_index < -count:
        raise RecipeError(
            f"out_index = {out_index} of a network with {count} feature maps",
            expected=f"-1 (the last) to {-count}",
            hint="choose another out_index or backbone",
            where="model.out_index",
        )


def _average_first_conv(trunk: nn.Module, channels: int) -> None:
    """Replaces the filters of the first convolution by their mean over RGB, repeated for ``channels`` channels."""
    first = next(module for module in trunk.modules() if isinstance(module, nn.Conv2d))
    mean = first.weight.detach().mean(1, keepdim=True)
    first.weight = nn.Parameter(mean.expand(-1, channels, -1, -1).clone())
    first.in_channels = channels
