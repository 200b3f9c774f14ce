"""Loading the authors' checkpoints: renaming their ResNet keys, and checking that the network is the same."""

import re
from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from muybridge.core.errors import RunError
from muybridge.nn.backbones import BLOCKS, BOTTLENECKS
from muybridge.nn.options import Backbone

State = dict[str, Tensor]
KeyPatterns = Sequence[tuple[str, str | Callable[[re.Match[str]], str]]]

_LAYER = re.compile(r"(?:^|\.)layer(\d)(?:_bak)?\.(\d+)\.")
_RESNET_KEY_PATTERNS: KeyPatterns = (
    (r"^base_model\.", ""),
    (r"\.net\.", "."),  # TSM wraps the convolution before which it shifts
    (r"^layer(\d)(?:_bak)?\.", lambda match: f"trunk.stages.{int(match[1]) - 1}."),
    (r"^conv1\.", "trunk.stem.conv."),
    (r"^bn1\.", "trunk.stem.norm."),
    (r"(stages\.\d\.\d+)\.conv(\d)\.", r"\1.conv\2.conv."),
    (r"(stages\.\d\.\d+)\.bn(\d)\.", r"\1.conv\2.norm."),
    (r"(stages\.\d\.\d+)\.downsample\.0\.", r"\1.shortcut.conv."),
    (r"(stages\.\d\.\d+)\.downsample\.1\.", r"\1.shortcut.norm."),
    (r"^new_fc\.", "head.classifier."),
)


def rename_keys(state: Mapping[str, Tensor], key_patterns: KeyPatterns) -> State:
    """The state dict with other keys; the (pattern, replacement) pairs are applied in order to every key."""

    def rename(key: str) -> str:
        for pattern, replacement in key_patterns:
            key = re.sub(pattern, replacement, key)
        return key

    return {rename(key): value for key, value in state.items()}


def resnet_key_patterns(key_patterns: KeyPatterns = ()) -> KeyPatterns:
    """Patterns from the keys of TSN-style code (``base_model.layer1.0.conv1``) to ours; a model's own come first."""
    return [_RESNET_KEY_PATTERNS[0], *key_patterns, *_RESNET_KEY_PATTERNS[1:]]


def _detect_backbone(state: Mapping[str, Tensor]) -> Backbone | None:
    """The ResNet whose blocks the authors' keys name, or None."""
    counts: dict[str, int] = {}
    bottleneck = False
    for key in state:
        if match := _LAYER.search(key):
            counts[match[1]] = max(counts.get(match[1], 0), int(match[2]) + 1)
            bottleneck |= key[match.end() :].startswith("conv3.")
    blocks = tuple(counts[stage] for stage in sorted(counts))
    for name, known in BLOCKS.items():
        if known == blocks and (name in BOTTLENECKS) == bottleneck:
            return name
    return None


def check_same_network(state: Mapping[str, Tensor], backbone: Backbone, num_classes: int) -> None:
    """Checks depth and number of classes of an authors' checkpoint.

    Raises:
        RunError: another depth or number of classes, or not a ResNet.
    """
    if not state:
        raise RunError(
            "the checkpoint contains no parameters",
            expected="a state dict, alone or as state_dict",
            hint="use a released checkpoint of this model",
        )
    detected = _detect_backbone(state)
    if detected != backbone:
        raise RunError(
            f"the checkpoint contains a {detected}" if detected else "the checkpoint's keys are not those of a ResNet",
            expected=f"a {backbone}, as in the model's settings",
            hint=f'set model.backbone = "{detected}"' if detected else "use a released checkpoint of this model",
        )
    classifier = state.get("base_model.fc.weight", state.get("new_fc.weight"))
    if classifier is not None and len(classifier) != num_classes:
        raise RunError(
            f"the checkpoint has {len(classifier)} classes",
            expected=f"{num_classes}, as in the model",
            hint=f"build the model with num_classes = {len(classifier)}",
        )
