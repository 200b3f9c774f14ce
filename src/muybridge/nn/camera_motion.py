"""The motion of the camera between two frames: a homography that most of the image follows.

Source: Wang and Schmid, Action Recognition with Improved Trajectories, ICCV 2013, section 3; ORB features take the
place of SURF, whose patent keeps it out of OpenCV's packages.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from muybridge.core.extras import import_extra

MIN_MATCHES = 50
"""With fewer places whose motion is known, the camera counts as still."""

MIN_SHARE = 0.3
"""A homography that a smaller share of these places follows counts as none, as after a cut."""

_CORNERS, _FEATURES = 1000, 500
_REACH = 1.0  # pixels within which a place follows a homography

Box = tuple[float, float, float, float]
"""Left, top, right and bottom in pixels."""


def estimate_homography(
    before: UInt8[np.ndarray, "H W"],
    after: UInt8[np.ndarray, "H W"],
    flow: Float32[np.ndarray, "2 H W"],
    people: Sequence[Box] = (),
) -> Float[Tensor, "3 3"]:
    """The homography from a frame to the next by RANSAC, from the flow of corners and from matched features.

    Args:
        before, after: brightness of the two frames.
        flow: from the first to the second, in pixels.
        people: boxes whose inside is left out, as people move by themselves.

    Returns:
        The homography of x, y, 1 in pixels; the identity where there is too little to go by.

    Raises:
        MissingExtraError: OpenCV is not installed.
    """
    cv2 = import_extra("cv2", "flow", "the motion of the camera")
    known = _corners(cv2, before, flow), _matches(cv2, before, after)
    starts, ends = (np.concatenate(each) for each in zip(*known, strict=True))
    for left, top, right, bottom in people:
        inside = (starts[:, 0] >= left) & (starts[:, 0] < right) & (starts[:, 1] >= top) & (starts[:, 1] < bottom)
        starts, ends = starts[~inside], ends[~inside]
    if len(starts) < MIN_MATCHES:
        return torch.eye(3)
    homography, follows = cv2.findHomography(starts, ends, cv2.RANSAC, _REACH)
    if homography is None or follows.mean() < MIN_SHARE:
        return torch.eye(3)
    return torch.from_numpy(homography).float()


def _corners(cv2: Any, before: np.ndarray, flow: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corners of a frame, and where the flow takes them."""
    found = cv2.goodFeaturesToTrack(before, _CORNERS, 0.001, 5)
    starts = np.zeros((0, 2), np.float32) if found is None else found[:, 0]
    column, row = starts.astype(int).T
    return starts, starts + flow[:, row, column].T


def _matches(cv2: Any, before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places of features that are each other's nearest in the two frames."""
    orb = cv2.ORB_create(_FEATURES)
    (places, features), (next_places, next_features) = (orb.detectAndCompute(image, None) for image in (before, after))
    if features is None or next_features is None:
        return np.zeros((0, 2), np.float32), np.zeros((0, 2), np.float32)
    pairs = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True).match(features, next_features)
    starts = np.array([places[pair.queryIdx].pt for pair in pairs], np.float32).reshape(-1, 2)
    return starts, np.array([next_places[pair.trainIdx].pt for pair in pairs], np.float32).reshape(-1, 2)
