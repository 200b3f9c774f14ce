"""timm's image networks, and ResNet trunks of theirs whose blocks have room for motion.

Legend: N images, C and D channels, H and W pixels, K classes.
"""

import difflib
import os
from typing import Any, Literal, cast

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from muybridge.core.errors import RecipeError
from muybridge.nn.convnorm import ConvNorm

Backbone = Literal["resnet18", "resnet34", "resnet50", "resnet101"]
BLOCKS: dict[Backbone, tuple[int, int, int, int]] = {
    "resnet18": (2, 2, 2, 2),
    "resnet34": (3, 4, 6, 3),
    "resnet50": (3, 4, 6, 3),
    "resnet101": (3, 4, 23, 3),
}


class Block(nn.Module):
    """A residual block, basic (two convolutions) or bottleneck (three).

    Attributes:
        before: what the residual branch does to its input, before the first convolution.
        between: what it does after the first convolution's rectifier.
    """

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.before: nn.Module = nn.Identity()
        self.first = ConvNorm(block.conv1, block.bn1)
        self.between: nn.Module = nn.Identity()
        self.second = ConvNorm(block.conv2, block.bn2)
        self.third = ConvNorm(block.conv3, block.bn3) if hasattr(block, "conv3") else None
        self.shortcut = None if block.downsample is None else ConvNorm(block.downsample[0], block.downsample[1])

    @property
    def inner(self) -> int:
        """Channels after the first convolution."""
        return self.first.conv.out_channels

    def forward(self, x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N D H2 W2"]:
        """The rectified sum of the residual branch and the shortcut."""
        y = self.between(self.first(self.before(x), rectify=True))
        if self.third is not None:
            y = self.second(y, rectify=True)
        last = self.third or self.second
        return last(y, rectify=True, onto=x if self.shortcut is None else self.shortcut(x))


class Trunk(nn.Module):
    """A ResNet without its classifier: a stem and four stages of blocks (res2 to res5 in the papers' words).

    Attributes:
        widths: channels after the stem and after each stage.
    """

    def __init__(self, resnet: Any) -> None:
        super().__init__()
        self.stem = ConvNorm(resnet.conv1, resnet.bn1)
        layers = (resnet.layer1, resnet.layer2, resnet.layer3, resnet.layer4)
        self.stages = nn.ModuleList(nn.Sequential(*(Block(block) for block in layer)) for layer in layers)
        last = [(stage[-1].third or stage[-1].second).conv.out_channels for stage in self.blocks()]
        self.widths = (self.stem.conv.out_channels, *last)

    def blocks(self) -> list[list[Block]]:
        """The blocks of each stage."""
        return [[cast("Block", block) for block in cast("nn.Sequential", stage)] for stage in self.stages]

    def start(self, x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N D H2 W2"]:
        """Stem and pooling, a quarter of the size."""
        return F.max_pool2d(self.stem(x, rectify=True), 3, stride=2, padding=1)

    def forward(self, x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N D h w"]:
        """The features after the last stage."""
        x = self.start(x)
        for stage in self.stages:
            x = stage(x)
        return x


def resnet(backbone: Backbone, channels: int = 3, *, pretrained: bool = False, zero_last: bool = True) -> Trunk:
    """A trunk with timm's layers.

    Args:
        backbone: depth.
        channels: of the input images; the first layer of pretrained weights is fitted to them as timm does.
        pretrained: start from torchvision's ImageNet weights, the ones the papers used, instead of drawn ones.
        zero_last: start the last norm of each block at zero, when the weights are drawn.

    Raises:
        RecipeError: the weights cannot be reached.
    """
    if pretrained:
        return Trunk(timm_model(f"{backbone}.tv_in1k", pretrained=True, in_chans=channels, num_classes=0))
    return Trunk(timm_model(backbone, in_chans=channels, num_classes=0, zero_init_last=zero_last))


def timm_model(name: str, *, pretrained: bool = False, **options: Any) -> Any:
    """A model of timm's, with its pretrained weights or with drawn ones.

    Args:
        name: timm's name, the tag of the weights included where a certain one is meant.
        pretrained: fetch the weights from the hub, or read them from its cache.
        options: of ``timm.create_model``.

    Raises:
        RecipeError: timm knows no such model, or the weights cannot be reached.
    """
    import timm  # here, because it takes seconds to import

    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=3)
        raise RecipeError(
            f"timm knows no model {name!r}",
            expected="the name of an image network of timm's",
            hint=f"did you mean {' or '.join(near)}?" if near else "see timm.list_models()",
            where="model.backbone",
        )
    if not pretrained:
        return timm.create_model(name, **options)
    try:
        return timm.create_model(name, pretrained=True, **options)
    except Exception as error:  # the hub's client raises its own, its transport's and plain errors
        source = f"{os.environ.get('HF_ENDPOINT', 'https://huggingface.co')}/timm/{name}"
        raise RecipeError(
            f"the ImageNet weights {name!r} could not be fetched from {source} ({type(error).__name__})",
            expected="a connection to the hub, or the weights in its local cache (HF_HOME)",
            hint="set model.pretrained = false to train without them (--set model.pretrained=false), or fetch them "
            f"where there is a connection (python -c \"import timm; timm.create_model('{name}', pretrained=True)\") "
            "and copy the cache here",
            where="model.pretrained",
        ) from error
