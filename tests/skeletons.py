"""Bodies in every known layout, made from the stick figures, which come in ``kinect20``."""

from functools import cache

import numpy as np
import torch

from muybridge.core.skeletons import LAYOUTS
from muybridge.core.types import SkeletonSequence
from muybridge.media.synthetic.stick_figures import stick_figure


@cache
def figure(layout: str, action: str = "wave left hand", person: int = 1, take: int = 1) -> np.ndarray:
    """About 40 frames of one person in a layout, T J 3, in metres with y up."""
    joints = stick_figure(action, person, take).joints[:, 0].double().numpy()
    at = {name: joints[:, index] for index, name in enumerate(LAYOUTS["kinect20"].joints)}
    up, right = (_unit(at[to] - at[start]) for start, to in (("neck", "head"), ("left_shoulder", "right_shoulder")))
    forward = np.cross(up, right)
    at["nose"] = at["head"] + 0.1 * forward
    at["chest"] = at["neck"].copy()
    at |= {"thorax": at["neck"], "torso": at["spine"]}
    if layout in ("kinect25", "azure_kinect32", "h36m17", "mpii16"):  # whose neck is above the shoulders
        at["neck"] = (at["neck"] + at["head"]) / 2
    for side, sign in (("left", -1), ("right", 1)):
        outwards = sign * right
        hand, foot = at[f"{side}_hand"], at[f"{side}_foot"]
        beyond = hand - at[f"{side}_wrist"]
        at |= {
            f"{side}_eye": at["nose"] + 0.03 * outwards + 0.03 * up,
            f"{side}_eye_inner": at["nose"] + 0.02 * outwards + 0.03 * up,
            f"{side}_eye_outer": at["nose"] + 0.04 * outwards + 0.03 * up,
            f"{side}_ear": at["head"] + 0.08 * outwards,
            f"{side}_mouth": at["nose"] + 0.02 * outwards - 0.04 * up,
            f"{side}_clavicle": at["chest"] + 0.05 * outwards,
            f"{side}_tip": hand + 0.6 * beyond,
            f"{side}_thumb": hand + 0.03 * outwards,
            f"{side}_index": hand + 0.3 * beyond + 0.02 * outwards,
            f"{side}_pinky": hand + 0.3 * beyond - 0.02 * outwards,
            f"{side}_big_toe": foot - 0.02 * outwards,
            f"{side}_small_toe": foot + 0.03 * outwards,
            f"{side}_heel": at[f"{side}_ankle"] - 0.05 * up - 0.05 * forward,
        }
        at |= {  # the fingers of COCO-WholeBody, side by side
            f"{side}_{finger}{joint}": hand + 0.015 * (number - 2) * outwards + 0.1 * (1 + joint) * beyond
            for number, finger in enumerate(("thumb", "index", "middle", "ring", "pinky"))
            for joint in (1, 2, 3, 4)
        }
    at |= _face(at, up, right, forward)
    return np.stack([at[name] for name in LAYOUTS[layout].joints], axis=1)


def _face(at: dict[str, np.ndarray], up: np.ndarray, right: np.ndarray, forward: np.ndarray) -> dict[str, np.ndarray]:
    """The points of a face of COCO-WholeBody."""
    middle = {"nose_bridge1": 3, "nose_bridge2": 2, "nose_bridge3": 1, "nose_tip": 0.2, "nose_base": -1}
    middle |= {"upper_lip": -2, "inner_upper_lip": -2.4, "inner_lower_lip": -2.6, "lower_lip": -3, "chin": -5}
    sided = {f"jaw{n}": (6.5 - 0.06 * n**2, 3 - n) for n in range(1, 9)}
    sided |= {f"brow{n}": (6 - n, 4.5 - 0.1 * abs(n - 3)) for n in range(1, 6)}
    sided |= {"nostril1": (1, -0.8), "nostril2": (0.5, -0.9), "eye_outer": (4.2, 3), "eye_inner": (1.8, 3)}
    sided |= {"eye_upper_outer": (3.4, 3.4), "eye_upper_inner": (2.6, 3.4)}
    sided |= {"eye_lower_outer": (3.4, 2.6), "eye_lower_inner": (2.6, 2.6)}
    sided |= {"lip1": (2, -2.5), "lip2": (1.4, -2.2), "lip3": (0.7, -2), "lip4": (1.4, -2.8), "lip5": (0.7, -2.9)}
    sided |= {"inner_lip1": (1.6, -2.5), "inner_lip2": (0.7, -2.4), "inner_lip3": (0.7, -2.6)}
    points = {name: at["nose"] + 0.01 * height * up for name, height in middle.items()}
    for name, (outwards, height) in sided.items():
        for side, sign in (("left", -1), ("right", 1)):
            depth = 0.1 * outwards / 7 * forward
            points[f"{side}_{name}"] = at["nose"] + 0.01 * (sign * outwards * right + height * up) - depth
    names = {"left_eye_inner", "right_eye_inner", "left_eye_outer", "right_eye_outer"}  # MediaPipe's are there
    return {name: point for name, point in points.items() if name not in names}


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def figures(layout: str, people: int = 2, frames: int = 30) -> np.ndarray:
    """Several people side by side, T P J 3."""
    bodies = np.stack([figure(layout, person=person)[:frames] for person in range(1, people + 1)], axis=1)
    bodies[..., 0] += 1.5 * np.arange(people)[:, None]
    return bodies


def pixels(joints: np.ndarray) -> np.ndarray:
    """Positions in metres as a camera of 640 x 480 pixels sees them: x to the right, y down."""
    depth = joints[..., 2] if joints[..., 2].min() > 0.5 else joints[..., 2] + 3
    return np.stack([320 + 300 * joints[..., 0] / depth, 240 - 300 * (joints[..., 1] + 0.2) / depth], axis=-1)


def sequence(joints: np.ndarray) -> SkeletonSequence:
    """Positions T P J D, or T J D of one person, as a sequence."""
    array = torch.from_numpy((joints if joints.ndim == 4 else joints[:, None]).astype(np.float32))
    return SkeletonSequence(array, array.any(dim=3).any(dim=2))
