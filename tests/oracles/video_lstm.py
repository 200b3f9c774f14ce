"""VideoLSTM and its relatives index by index in NumPy, from Li et al., CVIU 2018; reads a state dict, nothing else.

Maps are (C, h, w); plain LSTMs and their parts work on the same maps of 1x1, and are written out once more as vectors.
"""

import numpy as np


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def convolve(x, weight, bias=None):
    """A zero-padded convolution of one map that keeps its size."""
    outputs, _, kernel, _ = weight.shape
    _, height, width = x.shape
    y = np.zeros((outputs, height, width))
    for d in range(outputs):
        for row in range(height):
            for column in range(width):
                total = 0.0 if bias is None else bias[d]
                for u in range(kernel):
                    for v in range(kernel):
                        r, c = row + u - kernel // 2, column + v - kernel // 2
                        if 0 <= r < height and 0 <= c < width:
                            total += weight[d, :, u, v] @ x[:, r, c]
                y[d, row, column] = total
    return y


def lstm_step(weights, name, x, h, c, top=None):
    """One step of a ConvLSTM layer; ``top`` is the state of the layer above, where this one sees it."""
    gates = convolve(x, weights[f"{name}.input_weight"], weights[f"{name}.bias"])
    gates = gates + convolve(h, weights[f"{name}.hidden_weight"])
    if top is not None:
        gates = gates + convolve(top, weights[f"{name}.context_weight"])
    i, f, g, o = np.split(gates, 4)
    peephole = weights.get(f"{name}.peephole")
    if peephole is not None:
        i, f = i + peephole[0] * c, f + peephole[1] * c
    new_c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    if peephole is not None:
        o = o + peephole[2] * new_c
    return sigmoid(o) * np.tanh(new_c), new_c


def vector_lstm(weights, name, vectors):
    """All states of the plain LSTM of the paper's baseline, on vectors, gate by gate; torch's order i f g o."""
    w_x, w_h = weights[f"{name}.input_weight"][:, :, 0, 0], weights[f"{name}.hidden_weight"][:, :, 0, 0]
    size = w_h.shape[1]
    w = {gate: (w_x[k * size :][:size], w_h[k * size :][:size]) for k, gate in enumerate("ifgo")}
    b = {gate: weights[f"{name}.bias"][k * size :][:size] for k, gate in enumerate("ifgo")}
    h, c, states = np.zeros(size), np.zeros(size), []
    for x in vectors:
        raw = {gate: w[gate][0] @ x + w[gate][1] @ h + b[gate] for gate in "ifgo"}
        c = sigmoid(raw["f"]) * c + sigmoid(raw["i"]) * np.tanh(raw["g"])
        h = sigmoid(raw["o"]) * np.tanh(c)
        states.append(h)
    return states


def attend(weights, name, x, states, tau):
    """Weights of the places of a map; a state of 1x1 speaks for every place."""
    key = convolve(x, weights[f"{name}.from_map.weight"], weights[f"{name}.from_map.bias"])
    for number, state in enumerate(states):
        key = key + convolve(state, weights[f"{name}.from_states.{number}"])
    scores = convolve(np.tanh(key), weights[f"{name}.score.weight"])[0]
    alpha = np.exp(tau * scores)
    return alpha / alpha.sum()


def start(weights, name, maps, hidden):
    """h_0 and c_0 from the mean of all maps; zeros where the layer has not learned them."""
    if f"{name}.start.hidden.weight" not in weights:
        nothing = np.zeros((hidden, *maps.shape[2:]))
        return nothing, nothing
    mean = sum(maps) / len(maps)
    return tuple(
        np.tanh(convolve(mean, weights[f"{name}.start.{state}.weight"], weights[f"{name}.start.{state}.bias"]))
        for state in ("hidden", "memory")
    )


def averaged(maps):
    return maps.mean(axis=(2, 3), keepdims=True)


def classify(weights, state):
    hidden = np.tanh(weights["head.hidden.weight"] @ state.reshape(-1) + weights["head.hidden.bias"])
    return weights["head.classify.weight"] @ hidden + weights["head.classify.bias"]


def forward_one(weights, architecture, maps, motion, *, hidden, tau=1.0, rescale=False, coupled=True):
    """Scores of every step (T, K) and attention (T, h, w) of one clip: ``maps`` (T, C, h, w), ``motion`` likewise.

    ``weights`` are those of the recurrent half, without its prefix.
    """
    pooled = "conv" not in architecture and architecture != "video_lstm"
    if architecture == "lstm":
        states = vector_lstm(weights, "bottom.lstm", averaged(maps)[:, :, 0, 0])
        return np.array([classify(weights, state) for state in states]), None
    if architecture == "conv_lstm":
        h, c = start(weights, "bottom", maps, hidden)
        scores = []
        for x in maps:
            h, c = lstm_step(weights, "bottom.lstm", x, h, c)
            scores.append(classify(weights, h))
        return np.array(scores), None

    two = architecture in ("motion_alstm", "video_lstm")
    h, c = start(weights, "top", averaged(maps) if pooled else maps, hidden)
    if two:
        motion = averaged(motion) if pooled else motion
        h_m, c_m = start(weights, "bottom", motion, hidden)
    scores, looks = [], []
    for t, x in enumerate(maps):
        asked = [h]
        if two:
            h_m, c_m = lstm_step(weights, "bottom.lstm", motion[t], h_m, c_m, h if coupled else None)
            asked = [h_m] if coupled else [h_m, h]
        alpha = attend(weights, "top.attention", x, asked, tau)
        if pooled:
            seen = np.zeros((len(x), 1, 1))
            for row in range(x.shape[1]):
                for column in range(x.shape[2]):
                    seen[:, 0, 0] += alpha[row, column] * x[:, row, column]
        else:
            seen = alpha[None] * x * (alpha.size if rescale else 1)
        h, c = lstm_step(weights, "top.lstm", seen, h, c)
        scores.append(classify(weights, h))
        looks.append(alpha)
    return np.array(scores), np.array(looks)


def score(step_scores):
    """Probabilities of one clip: the mean over steps of each step's softmax."""
    e = np.exp(step_scores)
    return (e / e.sum(axis=1, keepdims=True)).mean(axis=0)


def losses(step_scores, attention, labels, weight):
    """Terms of the objective over clips: lists of (T, K) and (T, h, w)."""
    cross_entropy = penalty = 0.0
    for steps, label in zip(step_scores, labels, strict=True):
        for logits in steps:
            cross_entropy -= np.log(np.exp(logits[label]) / np.exp(logits).sum()) / len(labels)
    for looks in attention:
        height, width = looks.shape[1:]
        for row in range(height):
            for column in range(width):
                penalty += weight * (1 - looks[:, row, column].sum()) ** 2 / len(attention)
    return cross_entropy, penalty
