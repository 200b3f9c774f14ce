"""ResNet trunks whose blocks can be extended with temporal modules, and timm's image networks.

Legend: N images, C and D channels, H and W pixels, K classes.
"""

import difflib
from collections.abc import Sequence
from typing import Any, cast

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from muybridge.core.errors import RecipeError
from muybridge.core.hub import cache_only_where_the_hub_is_unreachable, can_connect, hub_url
from muybridge.nn.convnorm import ConvNorm
from muybridge.nn.options import Backbone

BLOCKS: dict[Backbone, tuple[int, int, int, int]] = {
    "resnet10": (1, 1, 1, 1),
    "resnet18": (2, 2, 2, 2),
    "resnet34": (3, 4, 6, 3),
    "resnet50": (3, 4, 6, 3),
    "resnet101": (3, 4, 23, 3),
}
BOTTLENECKS: tuple[Backbone, ...] = ("resnet50", "resnet101")
"""ResNets of bottleneck blocks: three convolutions, the last with four times the channels."""

_PRETRAINED_WIDTH = 64


class Block(nn.Module):
    """A residual block, basic (two convolutions) or bottleneck (three).

    Attributes:
        before_conv1: a module applied to the input of the residual branch, before the first convolution.
        after_conv1: a module applied after the first convolution and its ReLU.
    """

    def __init__(self, residual: Sequence[ConvNorm], shortcut: ConvNorm | None) -> None:
        super().__init__()
        self.before_conv1: nn.Module = nn.Identity()
        self.conv1 = residual[0]
        self.after_conv1: nn.Module = nn.Identity()
        self.conv2 = residual[1]
        self.conv3 = residual[2] if len(residual) > 2 else None
        self.shortcut = shortcut

    @property
    def mid_channels(self) -> int:
        """Channels after the first convolution."""
        return self.conv1.conv.out_channels

    @property
    def last(self) -> ConvNorm:
        """The layer whose output is added to the shortcut."""
        return self.conv3 or self.conv2

    def forward(self, x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N D H2 W2"]:
        """The sum of the residual branch and the shortcut, after a ReLU."""
        y = self.after_conv1(self.conv1(self.before_conv1(x), relu=True))
        if self.conv3 is not None:
            y = self.conv2(y, relu=True)
        return self.last(y, relu=True, residual=x if self.shortcut is None else self.shortcut(x))


class Trunk(nn.Module):
    """A ResNet without its classifier: a stem and up to four stages of blocks (res2 to res5 in the papers).

    Attributes:
        widths: channels after the stem and after each stage.
    """

    def __init__(self, stem: ConvNorm, stages: Sequence[Sequence[Block]]) -> None:
        super().__init__()
        self.stem = stem
        self.stages = nn.ModuleList(nn.Sequential(*blocks) for blocks in stages)
        last = [blocks[-1].last.conv.out_channels for blocks in stages]
        self.widths = (self.stem.conv.out_channels, *last)

    def blocks(self) -> list[list[Block]]:
        """The blocks of each stage."""
        return [[cast("Block", block) for block in cast("nn.Sequential", stage)] for stage in self.stages]

    def forward_stem(self, x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N D H2 W2"]:
        """Stem and pooling, a quarter of the size."""
        return F.max_pool2d(self.stem(x, relu=True), 3, stride=2, padding=1)

    def forward(self, x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N D h w"]:
        """The features after the last stage."""
        return self.forward_stages(self.forward_stem(x))

    def forward_stages(
        self, x: Float[Tensor, "N C H W"], first: int = 0, end: int | None = None
    ) -> Float[Tensor, "N D h w"]:
        """The features after some of the stages, numbered from 0."""
        for stage in list(self.stages)[first:end]:
            x = stage(x)
        return x


def resnet(
    backbone: Backbone,
    channels: int = 3,
    *,
    stages: int = 4,
    width: int = _PRETRAINED_WIDTH,
    pretrained: bool = False,
    zero_init_last: bool = True,
) -> Trunk:
    """A ResNet trunk with the layers and the initialization of timm's.

    Args:
        backbone: depth.
        channels: of the input images; timm adapts the first layer of pretrained weights to them.
        stages: number of stages, 1 to 4. Each but the first halves the maps: the fourth has 2 by 2 for 64 pixels.
        width: channels of the stem and of res2; each later stage has twice as many as the one before.
        pretrained: start from torchvision's ImageNet weights, those of the papers, instead of random ones.
        zero_init_last: initialize the last norm of each block to zero, if the weights are random.

    Raises:
        RecipeError: there are no pretrained weights of this depth or width, or they cannot be fetched.
    """
    if not pretrained:
        return _random_trunk(backbone, channels, stages, width, zero_init_last)
    if backbone == "resnet10" or width != _PRETRAINED_WIDTH:
        raise RecipeError(
            f"no ImageNet weights exist for a {backbone} of width {width}",
            expected=f"resnet18, 34, 50 or 101, of width {_PRETRAINED_WIDTH}",
            hint="set model.pretrained = false to train from random weights, or choose one of these",
            where="model.pretrained",
        )
    network = timm_model(f"{backbone}.tv_in1k", pretrained=True, in_chans=channels, num_classes=0)
    layers = (network.layer1, network.layer2, network.layer3, network.layer4)[:stages]
    return Trunk(ConvNorm(network.conv1, network.bn1), [[_block_of_timm(block) for block in layer] for layer in layers])


def map_size(pixels: int, stages: int) -> int:
    """Height or width of a trunk's maps after its stem and a number of stages, for images of ``pixels``."""
    halvings = 2 + max(0, stages - 1)  # in the stem, its pooling, and every stage but the first
    return -(-pixels // 2**halvings)


def _block_of_timm(block: Any) -> Block:
    residual = [ConvNorm(block.conv1, block.bn1), ConvNorm(block.conv2, block.bn2)]
    if hasattr(block, "conv3"):
        residual.append(ConvNorm(block.conv3, block.bn3))
    return Block(residual, None if block.downsample is None else ConvNorm(block.downsample[0], block.downsample[1]))


def _random_trunk(backbone: Backbone, channels: int, stages: int, width: int, zero_init_last: bool) -> Trunk:
    """Creates all layers, then initializes all weights, in timm's order: a seed gives the same weights as in timm."""
    stem, inputs, layers = _conv_norm(channels, width, 7, stride=2), width, []
    for stage, count in enumerate(BLOCKS[backbone][:stages]):
        layers.append([])
        for number in range(count):
            stride = 2 if stage and not number else 1
            layers[-1].append(_block(inputs, width * 2**stage, stride, backbone in BOTTLENECKS))
            inputs = layers[-1][-1].last.conv.out_channels
    trunk = Trunk(stem, layers)
    for module in trunk.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    for block in (block for blocks in trunk.blocks() for block in blocks if zero_init_last):
        nn.init.zeros_(block.last.norm.weight)
    return trunk


def _block(inputs: int, width: int, stride: int, bottleneck: bool) -> Block:
    outputs = 4 * width if bottleneck else width
    changes = stride != 1 or inputs != outputs
    shortcut = _conv_norm(inputs, outputs, 1, stride=stride) if changes else None
    if bottleneck:
        sizes = ((inputs, width, 1, 1), (width, width, 3, stride), (width, outputs, 1, 1))
    else:
        sizes = ((inputs, width, 3, stride), (width, width, 3, 1))
    return Block([_conv_norm(before, after, kernel, stride=step) for before, after, kernel, step in sizes], shortcut)


def _conv_norm(inputs: int, outputs: int, kernel: int, *, stride: int) -> ConvNorm:
    conv = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)
    return ConvNorm(conv, nn.BatchNorm2d(outputs))


def timm_model(name: str, *, pretrained: bool = False, **options: Any) -> Any:
    """A timm model, with its pretrained weights or with random ones.

    Args:
        name: timm's name, with the tag of the weights if it is not the default.
        pretrained: fetch the weights from the hub, or read them from its cache.
        options: of ``timm.create_model``.

    Raises:
        RecipeError: timm has no such model, or the weights cannot be fetched.
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
        with cache_only_where_the_hub_is_unreachable():
            return timm.create_model(name, pretrained=True, **options)
    except Exception as error:  # the hub's client raises its own, its transport's and plain errors
        source = f"{hub_url()}/timm/{name}"
        raise RecipeError(
            f"the ImageNet weights {name!r} could not be fetched from {source} ({type(error).__name__})",
            expected="a connection to the hub, or the weights in its local cache (HF_HOME)",
            hint="set model.pretrained = false to train without them (--set model.pretrained=false), or fetch them "
            f"where there is a connection (python -c \"import timm; timm.create_model('{name}', pretrained=True)\") "
            "and copy the cache here",
            where="model.pretrained",
        ) from error


def weights_are_at_hand(name: str) -> bool:
    """Whether pretrained weights are in the hub's local cache, or the hub accepts a connection.

    Args:
        name: one of our depths, such as "resnet18", whose weights are torchvision's; or timm's name.
    """
    import timm
    from huggingface_hub import try_to_load_from_cache

    settings = timm.get_pretrained_cfg(f"{name}.tv_in1k" if name in BLOCKS else name)
    if settings is None or not settings.hf_hub_id:
        return False
    cached = try_to_load_from_cache(settings.hf_hub_id, "model.safetensors")
    return isinstance(cached, str) or can_connect(hub_url())
