"""Reading the authors' checkpoints: their names for a ResNet, and the questions that tell one network from another."""

import re
from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from muybridge.core.errors import RunError
from muybridge.nn.backbones import BLOCKS, BOTTLENECKS, Backbone

State = dict[str, Tensor]
KeyPatterns = Sequence[tuple[str, str | Callable[[re.Match[str]], str]]]

_LAYER = re.compile(r"(?:^|\.)layer(\d)(?:_bak)?\.(\d+)\.")
_RESNET_KEY_PATTERNS: KeyPatterns = (
    (r"^base_model\.", ""),
    (r"\.net\.", "."),  # TSM wraps the convolution it shifts for
    (r"^layer(\d)(?:_bak)?\.", lambda found: f"trunk.stages.{int(found[1]) - 1}."),
    (r"^conv1\.", "trunk.stem.conv."),
    (r"^bn1\.", "trunk.stem.norm."),
    (r"(stages\.\d\.\d+)\.conv1\.", r"\1.first.conv."),
    (r"(stages\.\d\.\d+)\.bn1\.", r"\1.first.norm."),
    (r"(stages\.\d\.\d+)\.conv2\.", r"\1.second.conv."),
    (r"(stages\.\d\.\d+)\.bn2\.", r"\1.second.norm."),
    (r"(stages\.\d\.\d+)\.conv3\.", r"\1.third.conv."),
    (r"(stages\.\d\.\d+)\.bn3\.", r"\1.third.norm."),
    (r"(stages\.\d\.\d+)\.downsample\.0\.", r"\1.shortcut.conv."),
    (r"(stages\.\d\.\d+)\.downsample\.1\.", r"\1.shortcut.norm."),
    (r"^new_fc\.", "head.classifier."),
)


def rename_keys(state: Mapping[str, Tensor], key_patterns: KeyPatterns) -> State:
    """The state under other names: ``words`` are (pattern, replacement), applied in order to every key."""

    def name(key: str) -> str:
        for pattern, replacement in key_patterns:
            key = re.sub(pattern, replacement, key)
        return key

    return {name(key): value for key, value in state.items()}


def resnet_key_patterns(key_patterns: KeyPatterns = ()) -> KeyPatterns:
    """The words from TSN-style code (``base_model.layer1.0.conv1``) to ours, with a model's own ones first."""
    return [_RESNET_KEY_PATTERNS[0], *key_patterns, *_RESNET_KEY_PATTERNS[1:]]


def _depth(state: Mapping[str, Tensor]) -> Backbone | None:
    """The ResNet that the authors' keys spell, None when they spell none."""
    last: dict[str, int] = {}
    for key in state:
        if found := _LAYER.search(key):
            last[found[1]] = max(last.get(found[1], 0), int(found[2]) + 1)
    blocks = tuple(last[stage] for stage in sorted(last))
    bottleneck = any(key[found.end() :].startswith("conv3.") for key in state if (found := _LAYER.search(key)))
    for name, known in BLOCKS.items():
        if known == blocks and (name in BOTTLENECKS) == bottleneck:
            return name
    return None


def check_same_network(state: Mapping[str, Tensor], backbone: Backbone, num_classes: int) -> None:
    """Refuses the state of another depth or class count.

    Raises:
        RunError: a wrong depth or number of classes, or no ResNet at all.
    """
    found = _depth(state)
    if found != backbone:
        raise RunError(
            f"the checkpoint holds a {found}" if found else "the checkpoint's names spell no ResNet",
            expected=f"a {backbone}, as the model was built",
            hint=f'build the model with backbone = "{found}"' if found else "give a released checkpoint of this model",
        )
    classifier = state.get("base_model.fc.weight", state.get("new_fc.weight"))
    if classifier is not None and len(classifier) != num_classes:
        raise RunError(
            f"the checkpoint scores {len(classifier)} classes",
            expected=f"{num_classes}, as the model was built",
            hint=f"build the model with num_classes = {len(classifier)}",
        )
