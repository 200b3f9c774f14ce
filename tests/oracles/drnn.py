"""dRNN and its skeleton features index by index in NumPy, from Veeriah, Zhuang and Qi, ICCV 2015.

Weights are a state dict, the skeleton lists of indices; nothing of the package is used.
"""

import numpy as np


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


def derivative(history, n):
    """d^(n) from the cell states so far, newest last; the cell state before the first frame is zero."""
    if n == 0:
        return history[-1] if history else 0.0
    return derivative(history, n - 1) - derivative(history[:-1], n - 1)


def scan(weights, x, orders, bounded=False):
    """All outputs h and cell states s (T, H) of one sequence ``x`` (T, D); gate rows are stacked i f c o.

    ``bounded`` takes the derivatives of tanh(s).
    """
    w_x, w_h, b = weights["input_weight"], weights["hidden_weight"], weights["bias"]
    size = w_h.shape[1]

    def derivative_term(gate, cell, history):
        total = 0.0
        for term, n in enumerate(orders):
            d = derivative([np.tanh(s) for s in history] if bounded else history, n) * np.ones(size)
            w = weights["state_weight"][term, gate, cell]
            total += w * d[cell] if np.ndim(w) == 0 else sum(w[j] * d[j] for j in range(size))
        return total

    h, history, outputs = np.zeros(size), [], []
    for t in range(len(x)):
        i, f, c, o = (
            np.array([w_x[k + q * size] @ x[t] + w_h[k + q * size] @ h + b[k + q * size] for k in range(size)])
            for q in range(4)
        )
        s = np.zeros(size)
        for k in range(size):
            gate_i = _sigmoid(i[k] + derivative_term(0, k, history))
            gate_f = _sigmoid(f[k] + derivative_term(1, k, history))
            s[k] = gate_f * (history[-1][k] if history else 0.0) + gate_i * np.tanh(c[k])
        history = [*history, s]
        h = np.array([_sigmoid(o[k] + derivative_term(2, k, history)) * np.tanh(s[k]) for k in range(size)])
        outputs.append(h)
    return np.array(outputs), np.array(history)


def features(joints, root, torso, bones, pairs, directions, edges):
    """All groups of features (T, N) of one recording ``joints`` (T, P, J, D), before z-scoring."""
    frames, people, count, _ = joints.shape
    present = np.array([[bool(np.any(joints[t, p] != 0)) for p in range(people)] for t in range(frames)])
    lengths = []
    for t in range(frames):
        for p in range(people):
            length = np.linalg.norm(joints[t, p, torso[1]] - joints[t, p, torso[0]])
            if present[t, p] and length > 0:
                lengths.append(length)
    unit = np.mean(lengths) if lengths else 1.0
    centers = []
    for t in range(frames):
        roots = [joints[t, p, root] for p in range(people) if present[t, p]]
        centers.append(np.mean(roots, axis=0) if roots else 0.0)
    rows = []
    for t in range(frames):
        center = centers[t]
        position, angle, offset, first, velocity, distance, bone = [], [], [], [], [], [], []
        movement, travel = [], []
        points = []
        for p in range(people):
            votes = np.zeros((len(directions), len(edges) + 1))
            for j in range(count):
                pose = (joints[t, p, j] - center) / unit if present[t, p] else np.zeros_like(joints[t, p, j])
                position.extend(pose)
                points.append((present[t, p], pose))
                step = np.zeros_like(pose)
                if t > 0 and present[t, p] and present[t - 1, p]:
                    step = (joints[t, p, j] - joints[t - 1, p, j]) / unit
                offset.extend(step)
                both_present = present[t, p] and present[0, p]
                first.extend((joints[t, p, j] - joints[0, p, j]) / unit if both_present else np.zeros_like(pose))
                speed = np.linalg.norm(step)
                if speed > 0:
                    best = max(range(len(directions)), key=lambda k: step @ directions[k])
                    votes[best, sum(speed >= edge for edge in edges)] += 1 / count
                around = 0 < t < frames - 1 and present[t - 1, p] and present[t, p] and present[t + 1, p]
                after, before = ((joints[s, p, j] - centers[s]) / unit if around else 0 * pose for s in (t + 1, t - 1))
                movement.extend(after - before)
            displacement = (joints[t, p, root] - joints[0, p, root]) / unit
            travel.extend(displacement if present[t, p] and present[0, p] else 0 * displacement)
            velocity.extend(votes.reshape(-1))
            for parent, child in bones:
                along = joints[t, p, child] - joints[t, p, parent]
                bone.extend(along / np.linalg.norm(along) if np.any(along) else along)
            for a, b in pairs:
                first_bone, second_bone = (joints[t, p, bones[x][1]] - joints[t, p, bones[x][0]] for x in (a, b))
                sizes = np.linalg.norm(first_bone) * np.linalg.norm(second_bone)
                cosine = first_bone @ second_bone / sizes if sizes else 0.0
                angle.append(np.arccos(np.clip(cosine, -1, 1)) / np.pi if present[t, p] else 0.0)
        for a in range(len(points)):
            for b in range(a + 1, len(points)):
                separation = np.linalg.norm(points[a][1] - points[b][1])
                distance.append(separation if points[a][0] and points[b][0] else 0.0)
        rows.append(position + angle + offset + first + velocity + distance + bone + movement + travel)
    return np.array(rows)
