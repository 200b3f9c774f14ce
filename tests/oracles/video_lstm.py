"""VideoLSTM and its simpler variants index by index in NumPy, from Li et al., CVIU 2018; uses a state dict, zeros else.

Maps are (C, h, w); vectors are maps of 1x1. The plain LSTM is also written out for vectors.
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
    """One step of a ConvLSTM layer; ``top`` is the state of the top layer, if this one takes it."""
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


def attend(weights, name, x, states, inverse_temperature):
    """Attention weights of the positions of a map; a state of 1x1 is broadcast."""
    projected = convolve(x, weights[f"{name}.map_projection.weight"], weights[f"{name}.map_projection.bias"])
    for number, state in enumerate(states):
        projected = projected + convolve(state, weights[f"{name}.state_weights.{number}"])
    scores = convolve(np.tanh(projected), weights[f"{name}.score.weight"])[0]
    alpha = np.exp(inverse_temperature * scores)
    return alpha / alpha.sum()


def initial_state(weights, name, maps, hidden):
    """h_0 and c_0 from the mean of all maps; zeros for a layer without learned initial states."""
    if f"{name}.initial.hidden.weight" not in weights:
        zeros = np.zeros((hidden, *maps.shape[2:]))
        return zeros, zeros
    mean = sum(maps) / len(maps)
    return tuple(
        np.tanh(convolve(mean, weights[f"{name}.initial.{state}.weight"], weights[f"{name}.initial.{state}.bias"]))
        for state in ("hidden", "cell")
    )


def average_positions(maps):
    return maps.mean(axis=(2, 3), keepdims=True)


def classify(weights, state):
    hidden = np.tanh(weights["head.hidden.weight"] @ state.reshape(-1) + weights["head.hidden.bias"])
    return weights["head.classifier.weight"] @ hidden + weights["head.classifier.bias"]


def forward_one(weights, architecture, maps, motion, *, hidden, inverse_temperature=1.0, rescale=False, coupled=True):
    """Scores of every step (T, K) and attention (T, h, w) of one clip: ``maps`` (T, C, h, w), ``motion`` likewise.

    ``weights`` are those of the recurrent network, without its prefix.
    """
    vector_states = "conv" not in architecture and architecture != "video_lstm"
    if architecture == "lstm":
        states = vector_lstm(weights, "bottom.lstm", average_positions(maps)[:, :, 0, 0])
        return np.array([classify(weights, state) for state in states]), None
    if architecture == "conv_lstm":
        h, c = initial_state(weights, "bottom", maps, hidden)
        scores = []
        for x in maps:
            h, c = lstm_step(weights, "bottom.lstm", x, h, c)
            scores.append(classify(weights, h))
        return np.array(scores), None

    motion_guided = architecture in ("motion_alstm", "video_lstm")
    h, c = initial_state(weights, "top", average_positions(maps) if vector_states else maps, hidden)
    if motion_guided:
        motion = average_positions(motion) if vector_states else motion
        h_m, c_m = initial_state(weights, "bottom", motion, hidden)
    scores, attention_maps = [], []
    for t, x in enumerate(maps):
        states = [h]
        if motion_guided:
            h_m, c_m = lstm_step(weights, "bottom.lstm", motion[t], h_m, c_m, h if coupled else None)
            states = [h_m] if coupled else [h_m, h]
        alpha = attend(weights, "top.attention", x, states, inverse_temperature)
        if vector_states:
            weighted = np.zeros((len(x), 1, 1))
            for row in range(x.shape[1]):
                for column in range(x.shape[2]):
                    weighted[:, 0, 0] += alpha[row, column] * x[:, row, column]
        else:
            weighted = alpha[None] * x * (alpha.size if rescale else 1)
        h, c = lstm_step(weights, "top.lstm", weighted, h, c)
        scores.append(classify(weights, h))
        attention_maps.append(alpha)
    return np.array(scores), np.array(attention_maps)


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
    for attention_maps in attention:
        height, width = attention_maps.shape[1:]
        for row in range(height):
            for column in range(width):
                penalty += weight * (1 - attention_maps[:, row, column].sum()) ** 2 / len(attention)
    return cross_entropy, penalty
