"""HOG3D against the definition worked out pixel by pixel, and against what its authors say of it."""

import numpy as np
import pytest
import torch

from muybridge.nn.hog3d import HOG3D, face_axes, quantize
from tests.oracles import hog3d as oracle

SETTINGS = [
    {},
    {"polyhedron": "dodecahedron", "grid": 2, "cells": (1, 2, 2), "blocks": 2, "block_frames": 2},
    {"half_orientation": True, "cells": (2, 1, 3), "blocks": 1, "time_weight": 3.0, "cutoff": 0.5},
    {"polyhedron": "dodecahedron", "half_orientation": True, "cells": (1, 1, 1), "blocks": 3, "block_frames": 1},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_descriptors_are_those_worked_out_pixel_by_pixel(settings: dict):
    hog3d = HOG3D(**settings)
    video = torch.randn(2, hog3d.window + 2, 3, 15, 17, generator=torch.Generator().manual_seed(0))
    values = hog3d(video)
    grid = settings.get("grid", 1)
    assert values.shape == (2, 3, hog3d.size, grid, grid)
    faces = oracle.dodecahedron_faces if "polyhedron" in settings else oracle.icosahedron_faces
    known = {"grid": 1, "cells": (3, 4, 4), "blocks": 3, "block_frames": 1, "time_weight": 1.0, "cutoff": 0.25}
    known |= {name: value for name, value in settings.items() if name in known}
    axes = in_the_order_of(hog3d.axes, faces())
    half = settings.get("half_orientation", False)
    brightness = video[1].double().mean(1).numpy()
    for start, part in ((0, (0, 0)), (2, (grid - 1, 0)), (1, (0, grid - 1))):
        expected = oracle.descriptor(brightness, start, part, axes, half=half, **known)
        np.testing.assert_allclose(values[1, start, :, part[0], part[1]], expected, atol=1e-5)


def in_the_order_of(axes: torch.Tensor, faces: list[np.ndarray]) -> list[np.ndarray]:
    """The oracle's faces in the order of our axes, each exactly once."""
    units = np.array([face / np.linalg.norm(face) for face in faces])
    order = (axes.double().numpy() @ units.T).argmax(1)
    assert len(set(order)) == len(axes)
    np.testing.assert_allclose(units[order], axes, atol=1e-6)
    return [faces[index] for index in order]


@pytest.mark.parametrize(("polyhedron", "faces", "neighbors"), [("icosahedron", 20, 3), ("dodecahedron", 12, 5)])
def test_axes_are_those_of_a_regular_polyhedron(polyhedron, faces: int, neighbors: int):
    axes = face_axes(polyhedron)
    assert len(axes) == faces
    cosines = axes @ axes.T - 2 * torch.eye(faces)
    nearest = cosines.max()
    assert ((cosines - nearest).abs() < 1e-5).sum(1).tolist() == [neighbors] * faces
    half = face_axes(polyhedron, half_orientation=True)
    assert len(half) == faces // 2
    assert (half @ half.T - torch.eye(len(half))).min() > -1 + 1e-3  # no two are opposite


@pytest.mark.parametrize("half_orientation", [False, True])
@pytest.mark.parametrize("polyhedron", ["icosahedron", "dodecahedron"])
def test_each_gradient_is_divided_among_near_axes(polyhedron, half_orientation: bool):
    axes = face_axes(polyhedron, half_orientation=half_orientation)
    along = quantize(3 * axes, axes, half_orientation=half_orientation)
    torch.testing.assert_close(along, 3 * torch.eye(len(axes)), atol=1e-4, rtol=0)
    anywhere = torch.randn(5000, 3, generator=torch.Generator().manual_seed(0))
    bins = quantize(anywhere, axes, half_orientation=half_orientation)
    torch.testing.assert_close(bins.norm(dim=1), anywhere.norm(dim=1))  # nothing lies between all axes
    opposite = quantize(-anywhere, axes, half_orientation=half_orientation)
    assert torch.equal(bins, opposite) == half_orientation
    assert not quantize(torch.zeros(2, 3), axes).any()


def test_a_window_depends_on_its_own_frames_alone():
    hog3d = HOG3D(cells=(2, 2, 2), blocks=2)
    video = torch.rand(1, 9, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    values = hog3d(video)
    for start in range(4):
        torch.testing.assert_close(hog3d(video[:, start : start + hog3d.window])[:, 0], values[:, start])


def test_brightness_and_contrast_change_nothing():
    video = torch.rand(1, 11, 1, 24, 24, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(HOG3D()(video), HOG3D()(0.3 * video + 5), atol=1e-4, rtol=1e-3)


def test_entries_are_cut_off_once():
    """Stripes that stand still: two bins of every cell, until they are cut off."""
    video = torch.linspace(0, 1, 24).expand(1, 11, 1, 24, 24)
    values = HOG3D(cells=(1, 1, 1), blocks=1)(video)[0, 0, :, 0, 0]
    torch.testing.assert_close(values.norm(), torch.tensor(1.0))
    assert (values > 0.01).sum() == 2  # the two axes (large, 0, small) beside the direction x
    torch.testing.assert_close(values[values > 0.01], torch.full((2,), 0.5**0.5))


@pytest.mark.parametrize("light", [0.0, 1.0])
def test_frames_of_one_color_have_descriptors_of_zero(light: float):
    assert not HOG3D()(torch.full((1, 12, 3, 20, 20), light)).any()


def test_without_motion_there_is_no_direction_in_time():
    """Each axis has as much as its mirror image in time."""
    hog3d = HOG3D(cells=(1, 1, 1))
    frame = torch.rand(1, 1, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    values = hog3d(frame.expand(1, hog3d.window, 1, 12, 12))[0, 0, :, 0, 0]
    mirrored = (hog3d.axes @ (hog3d.axes * torch.tensor([1, 1, -1])).T).argmax(1)
    torch.testing.assert_close(values, values[mirrored], atol=1e-5, rtol=0)
    assert values.norm() > 0.99
