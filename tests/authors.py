"""The keys that the authors' code gives to our networks' parameters, to test conversion without their files."""

import re

import torch

KEY_PATTERNS = (
    (r"trunk\.stages\.(\d)\.", lambda match: f"base_model.layer{int(match[1]) + 1}."),
    (r"trunk\.stem\.conv", "base_model.conv1"),
    (r"trunk\.stem\.norm", "base_model.bn1"),
    (r"(layer\d\.\d+)\.conv1\.conv", r"\1.conv1"),
    (r"(layer\d\.\d+)\.conv1\.norm", r"\1.bn1"),
    (r"(layer\d\.\d+)\.conv2\.conv", r"\1.conv2"),
    (r"(layer\d\.\d+)\.conv2\.norm", r"\1.bn2"),
    (r"(layer\d\.\d+)\.conv3\.conv", r"\1.conv3"),
    (r"(layer\d\.\d+)\.conv3\.norm", r"\1.bn3"),
    (r"(layer\d\.\d+)\.shortcut\.conv", r"\1.downsample.0"),
    (r"(layer\d\.\d+)\.shortcut\.norm", r"\1.downsample.1"),
    (r"head\.classifier", "new_fc"),
)
TDN_KEY_PATTERNS = (
    (r"short_term\.stages\.0\.", "base_model.resnext_layer1."),
    (r"short_term\.stem\.conv", "base_model.conv1_5.0"),
    (r"short_term\.stem\.norm", "base_model.conv1_5.1"),
    (r"after_conv1\.temporal\.", "shift.conv."),
    (r"after_conv1\.long_term\.squeeze\.conv", "mse.conv1"),
    (r"after_conv1\.long_term\.squeeze\.norm", "mse.bn1"),
    (r"after_conv1\.long_term\.align", "mse.conv2"),
    (r"after_conv1\.long_term\.fine\.conv", "mse.conv3_smallscale4"),
    (r"after_conv1\.long_term\.fine\.norm", "mse.bn3_smallscale4"),
    (r"after_conv1\.long_term\.coarse\.conv", "mse.conv3_smallscale2"),
    (r"after_conv1\.long_term\.coarse\.norm", "mse.bn3_smallscale2"),
    (r"after_conv1\.long_term\.expand\.conv", "mse.conv3"),
    (r"after_conv1\.long_term\.expand\.norm", "mse.bn3"),
    *KEY_PATTERNS,
)


def authors_keys(state, key_patterns=KEY_PATTERNS, prefix=""):
    """The state dict with the authors' keys."""
    out = {}
    for key, value in state.items():
        for ours, theirs in key_patterns:
            key = re.sub(ours, theirs, key)
        out[prefix + key] = value.clone()
    return out


def randomized(model, seed=0):
    """The model with random parameters and running statistics, in evaluation mode."""
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for key, value in model.state_dict().items():
            noise = torch.randn(value.shape, generator=rng).to(value.dtype)
            if key.endswith("running_var"):
                value.copy_(1 + 0.5 * noise.abs())
            elif key.endswith("running_mean") or value.ndim == 1:
                value.copy_(0.2 * noise + (0.5 if key.endswith("norm.weight") else 0))
            elif value.ndim:
                value.copy_(noise * (2 / value[0].numel()) ** 0.5)
    return model.eval()
