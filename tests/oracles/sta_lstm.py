"""STA-LSTM and its objective index by index in NumPy, from Song et al., AAAI 2017; uses a state dict, nothing else."""

import numpy as np


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


def _lstm(weights, prefix, x):
    """All hidden states of one LSTM layer for one recording, ``x`` (T, I); torch stacks the gates i f g o."""
    w_x, w_h = weights[prefix[0]], weights[prefix[1]]
    b = weights[prefix[2]] + weights[prefix[3]]
    size = w_h.shape[1]
    h, c = np.zeros(size), np.zeros(size)
    states = []
    for t in range(len(x)):
        new_h, new_c = np.zeros(size), np.zeros(size)
        for n in range(size):
            i, f, g, o = (w_x[n + q * size] @ x[t] + w_h[n + q * size] @ h + b[n + q * size] for q in range(4))
            new_c[n] = _sigmoid(f) * c[n] + _sigmoid(i) * np.tanh(g)
            new_h[n] = _sigmoid(o) * np.tanh(new_c[n])
        h, c = new_h, new_c
        states.append(h)
    return np.array(states)


def _layer(name, number=0):
    return [f"{name}.lstm.{kind}_l{number}" for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]


def forward_one(weights, joints, layers, rescale_attention=False, mean_over_time=True):
    """Class scores, alpha (T, K) and beta (T) of one recording ``joints`` (T, K, D); None for a missing gate."""
    frames, num_joints, _ = joints.shape
    x = np.array([joints[t].reshape(-1) for t in range(frames)])

    alpha = None
    weighted = x
    if "spatial.score.weight" in weights:
        gate_states = _lstm(weights, _layer("spatial"), x)
        alpha = np.zeros((frames, num_joints))
        weighted = np.zeros_like(x)
        for t in range(frames):
            previous = gate_states[t - 1] if t > 0 else np.zeros(gate_states.shape[1])
            inner = (
                weights["spatial.input_projection.weight"] @ x[t]
                + weights["spatial.state_projection.weight"] @ previous
                + weights["spatial.input_projection.bias"]
            )
            s = weights["spatial.score.weight"] @ np.tanh(inner) + weights["spatial.score.bias"]
            for k in range(num_joints):
                alpha[t, k] = np.exp(s[k]) / sum(np.exp(s[j]) for j in range(num_joints))
                if rescale_attention:
                    alpha[t, k] *= num_joints
            weighted[t] = np.concatenate([alpha[t, k] * joints[t, k] for k in range(num_joints)])

    beta = None
    if "temporal.input_projection.weight" in weights:
        gate_states = _lstm(weights, _layer("temporal"), x)
        beta = np.zeros(frames)
        for t in range(frames):
            previous = gate_states[t - 1] if t > 0 else np.zeros(gate_states.shape[1])
            beta[t] = max(
                0.0,
                weights["temporal.input_projection.weight"][0] @ x[t]
                + weights["temporal.state_projection.weight"][0] @ previous
                + weights["temporal.input_projection.bias"][0],
            )

    h = weighted
    for number in range(layers):
        h = _lstm(weights, _layer("main", number), h)
    scores = 0.0
    for t in range(frames):
        z = weights["main.classifier.weight"] @ h[t] + weights["main.classifier.bias"]
        scores = scores + (1.0 if beta is None else beta[t]) * z
    if mean_over_time:
        scores = scores / frames
    return scores, alpha, beta


def losses(weights, outputs, labels, lambda_spatial, lambda_temporal, lambda_weights):
    """The objective's terms, averaged over recordings; ``outputs`` is a list of the results of :func:`forward_one`."""
    terms = {"cross_entropy": 0.0, "spatial_attention": 0.0, "temporal_attention": 0.0, "weight_l1": 0.0}
    for (scores, alpha, beta), label in zip(outputs, labels, strict=True):
        weight = 1 / len(labels)
        terms["cross_entropy"] -= weight * np.log(np.exp(scores[label]) / np.exp(scores).sum())
        if alpha is not None:
            for k in range(alpha.shape[1]):
                terms["spatial_attention"] += weight * lambda_spatial * (1 - sum(alpha[:, k]) / len(alpha)) ** 2
        if beta is not None:
            for b in beta:
                terms["temporal_attention"] += weight * lambda_temporal / len(beta) * np.sqrt(b**2)
    for name, value in weights.items():
        if "bias" not in name:
            terms["weight_l1"] += lambda_weights * np.abs(value).sum()
    return {name: value for name, value in terms.items() if value}
