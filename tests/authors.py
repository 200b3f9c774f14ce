"""The names that the authors' code gives to the parameters of our networks, for adopting without their files."""

import re

import torch

WORDS = (
    (r"trunk\.stages\.(\d)\.", lambda found: f"base_model.layer{int(found[1]) + 1}."),
    (r"trunk\.stem\.conv", "base_model.conv1"),
    (r"trunk\.stem\.norm", "base_model.bn1"),
    (r"(layer\d\.\d+)\.first\.conv", r"\1.conv1"),
    (r"(layer\d\.\d+)\.first\.norm", r"\1.bn1"),
    (r"(layer\d\.\d+)\.second\.conv", r"\1.conv2"),
    (r"(layer\d\.\d+)\.second\.norm", r"\1.bn2"),
    (r"(layer\d\.\d+)\.third\.conv", r"\1.conv3"),
    (r"(layer\d\.\d+)\.third\.norm", r"\1.bn3"),
    (r"(layer\d\.\d+)\.shortcut\.conv", r"\1.downsample.0"),
    (r"(layer\d\.\d+)\.shortcut\.norm", r"\1.downsample.1"),
    (r"head\.classifier", "new_fc"),
)
TDN = (
    (r"short_term\.stages\.0\.", "base_model.resnext_layer1."),
    (r"short_term\.stem\.conv", "base_model.conv1_5.0"),
    (r"short_term\.stem\.norm", "base_model.conv1_5.1"),
    (r"between\.temporal\.", "shift.conv."),
    (r"between\.long_term\.squeeze\.conv", "mse.conv1"),
    (r"between\.long_term\.squeeze\.norm", "mse.bn1"),
    (r"between\.long_term\.align", "mse.conv2"),
    (r"between\.long_term\.fine\.conv", "mse.conv3_smallscale4"),
    (r"between\.long_term\.fine\.norm", "mse.bn3_smallscale4"),
    (r"between\.long_term\.coarse\.conv", "mse.conv3_smallscale2"),
    (r"between\.long_term\.coarse\.norm", "mse.bn3_smallscale2"),
    (r"between\.long_term\.expand\.conv", "mse.conv3"),
    (r"between\.long_term\.expand\.norm", "mse.bn3"),
    *WORDS,
)


def names(state, words=WORDS, prefix=""):
    """The state under the authors' names."""
    out = {}
    for key, value in state.items():
        for ours, theirs in words:
            key = re.sub(ours, theirs, key)
        out[prefix + key] = value.clone()
    return out


def stirred(model, seed=0):
    """The model with parameters and running statistics far from their first values, in evaluation."""
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
