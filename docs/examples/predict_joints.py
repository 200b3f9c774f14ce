"""Predict the action in a skeleton recording from the file of `muybridge export`, with onnxruntime and numpy alone.

python predict_joints.py model.onnx joints.npy    # frames, people, joints, coordinates; everybody in every frame
"""

import json
import sys

import numpy as np
import onnxruntime


def smoothed(joints: np.ndarray) -> np.ndarray:
    """Each coordinate fitted by parabolas over five frames."""
    if len(joints) < 5:
        return joints
    time = np.arange(-2.0, 3.0)
    basis = np.stack([time**0, time, time**2], axis=1)
    fit = basis @ np.linalg.pinv(basis)
    windows = np.lib.stride_tricks.sliding_window_view(joints, 5, axis=0)
    first, last = (np.tensordot(fit, end, 1) for end in (joints[:5], joints[-5:]))
    return np.concatenate([first[:2], windows @ fit[2], last[3:]])


def facing(joints: np.ndarray, direction: np.ndarray, pivot: np.ndarray) -> np.ndarray:
    """Rotated about the vertical until the direction points along +x."""
    angle = np.arctan2(direction[2], direction[0])
    cos, sin = np.cos(angle), np.sin(angle)
    return (joints - pivot) @ np.array([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]]) + pivot


def prepared(joints: np.ndarray, spec: dict) -> np.ndarray:
    """The joints as in training: smoothed, subsampled, rotated, centered, scaled."""
    joints, root = smoothed(joints) if spec["smooth"] else joints, spec["root"]
    if 0 < spec["max_frames"] < len(joints):
        joints = joints[np.linspace(0, len(joints) - 1, spec["max_frames"]).round().astype(int)]
    if spec["face_partner"] and joints.shape[1] > 1:
        joints = facing(joints, joints[0, 1, root] - joints[0, 0, root], joints[0, 0, root])
    elif spec["face_camera"] and spec["shoulders"]:
        left, right = spec["shoulders"]
        joints = facing(joints, joints[0, 0, right] - joints[0, 0, left], joints[0, 0, root])
    centers = {"first": joints[:1, :1, root], "frame": joints[:, :1, root], "people": joints[:1, :, root].mean(1)}
    if spec["center"] != "none":
        joints = joints - centers[spec["center"]].reshape(-1, 1, 1, joints.shape[-1])
    if spec["unit_scale"]:
        low, high = spec["torso"]
        joints = joints / np.median(np.linalg.norm(joints[:, :, high] - joints[:, :, low], axis=-1))
    return joints.astype(np.float32)


if __name__ == "__main__":
    session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
    metadata = session.get_modelmeta().custom_metadata_map
    labels, joints = json.loads(metadata["labels"]), prepared(np.load(sys.argv[2]), json.loads(metadata["input"]))
    logits = session.run(["logits"], {"joints": joints[None], "length": np.array([len(joints)])})[0][0]
    logits = logits / json.loads(metadata.get("calibration", '{"temperature": 1}'))["temperature"]
    scores = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    for best in scores.argsort()[::-1][:5]:
        print(f"{scores[best]:8.4f}  {labels[best]}")
