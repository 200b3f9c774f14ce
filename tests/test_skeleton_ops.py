"""Preparation and augmentation of one recording, against values computed by hand or from the definition."""

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.signal import savgol_filter

from muybridge.core.contracts import SkeletonData, SkeletonInput
from muybridge.core.errors import DataError
from muybridge.core.skeletons import LAYOUTS, Layout, unnamed_layout
from muybridge.core.types import SkeletonSequence
from muybridge.data.skeleton_augment import SkeletonAugment, augment_skeleton, mirror, resample, scale_bones
from muybridge.data.skeleton_ops import (
    body_centers,
    center,
    clean_skeleton,
    face_camera,
    face_partner,
    fill_absent,
    match_layout,
    prepare_skeleton,
    smooth,
    subsample,
    torso_length,
)

# A body of four joints: hip, neck, and a shoulder on either side.
SMALL = Layout(
    name="small",
    joints=("hip", "neck", "left_shoulder", "right_shoulder"),
    bones=((0, 1), (1, 2), (1, 3)),
    mirror=((2, 3),),
    root=0,
    torso=(0, 1),
    shoulders=(2, 3),
)
HOLDS = SkeletonData(SMALL)


def sequence(joints, present=None) -> SkeletonSequence:
    joints = torch.as_tensor(joints, dtype=torch.float32)
    return SkeletonSequence(joints, joints.any(dim=3).any(dim=2) if present is None else torch.as_tensor(present))


def moving_body(frames: int, people: int = 1) -> SkeletonSequence:
    """Bodies of torso length 2 that walk along z one metre a frame, their right side at +x."""
    body = torch.tensor([[0.0, 1.0, 0.0], [0.0, 3.0, 0.0], [-1.0, 3.0, 0.0], [1.0, 3.0, 0.0]])
    joints = body.expand(frames, people, 4, 3).clone()
    joints[..., 2] += torch.arange(float(frames))[:, None, None] + 5
    joints[..., 0] += 10 * torch.arange(people)[:, None]
    return sequence(joints)


def points(*values: float) -> SkeletonSequence:
    """One person of one joint that moves along x; 0 is absent."""
    return sequence([[[[value, 0.0]]] for value in values])


def test_gaps_are_bridged_by_straight_lines_and_empty_ends_are_cut():
    filled = fill_absent(points(0, 0, 1, 0, 0, 4, 5, 0))
    assert filled.joints.flatten(1)[:, 0].tolist() == [1, 2, 3, 4, 5]
    assert filled.present.all()


def test_a_person_who_comes_late_or_leaves_early_stays_absent_there():
    both = torch.zeros(6, 2, 1, 2)
    both[:, 0] = 1.0
    both[1, 1, 0, 0], both[3, 1, 0, 0] = 2.0, 6.0
    filled = fill_absent(sequence(both))
    assert filled.joints[:, 1, 0, 0].tolist() == [0, 2, 4, 6, 0, 0]
    assert filled.present[:, 1].tolist() == [False, True, True, True, False, False]
    assert torch.equal(filled.joints[:, 0], both[:, 0])


def test_filling_changes_no_given_tensor():
    given = points(1, 0, 3)
    fill_absent(given)
    assert given.joints[1].abs().sum() == 0
    assert not given.present[1]


def test_nobody_at_all_is_refused():
    with pytest.raises(DataError, match="nobody is seen in any frame"):
        fill_absent(points(0, 0))


def test_smoothing_is_the_filter_of_the_paper():
    noisy = torch.randn(12, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    smoothed = smooth(sequence(noisy)).joints
    kernel = torch.tensor([-3.0, 12.0, 17.0, 12.0, -3.0]) / 35
    assert torch.allclose(smoothed[4], torch.einsum("t,tpjd->pjd", kernel, noisy[2:7]), atol=1e-6)
    # SciPy's "interp" ends fit a parabola to the outer five frames too.
    assert np.allclose(smoothed, savgol_filter(noisy.numpy(), 5, 2, axis=0, mode="interp"), atol=1e-5)


def test_smoothing_keeps_parabolas_and_stops_at_absence():
    time = torch.arange(1.0, 9.0)
    path = (time**2)[:, None, None, None].repeat(1, 2, 1, 2)
    path[6:, 1] = 0.0
    smoothed = smooth(sequence(path))
    assert torch.allclose(smoothed.joints, path, atol=1e-4)


def test_recordings_shorter_than_the_filter_pass_unchanged():
    short = points(1, 5, 2, 9)
    assert torch.equal(smooth(short).joints, short.joints)


def test_sampling_down_keeps_the_first_and_the_last_frame():
    assert subsample(points(1, 2, 3, 4, 5, 6, 7, 8, 9), 3).joints[:, 0, 0, 0].tolist() == [1, 5, 9]
    assert len(subsample(points(1, 2, 3), 3)) == 3
    assert len(subsample(points(1, 2, 3), 0)) == 3


def test_centering_on_the_first_frame_keeps_the_way_gone_and_on_every_frame_does_not():
    walk = moving_body(3)
    first = center(walk, SMALL, "first").joints
    assert first[:, 0, 0].tolist() == [[0, 0, 0], [0, 0, 1], [0, 0, 2]]
    each = center(walk, SMALL, "frame").joints
    assert each[:, 0, 0].abs().sum() == 0
    assert each[2, 0, 3].tolist() == [1, 2, 0]
    assert center(walk, SMALL, "none") is walk


def test_two_people_keep_their_distance_and_absent_ones_stay_zero():
    two = moving_body(3, people=2)
    two.joints[1:, 0], two.present[1:, 0] = 0.0, False
    centered = center(two, SMALL, "frame")
    assert centered.joints[0, 1, 0].tolist() == [10, 0, 0]
    assert centered.joints[1:, 0].abs().sum() == 0
    # Once the first person has gone, the second is the main one.
    assert centered.joints[1:, 1, 0].abs().sum() == 0


def test_an_unknown_layout_is_centered_on_the_mean_of_its_joints():
    two_joints = sequence([[[[1.0, 2.0], [3.0, 6.0]]]])
    assert body_centers(two_joints, unnamed_layout(2)).tolist() == [[2, 4]]


@pytest.mark.parametrize("degrees", [0, 30, 90, 180, 250])
def test_facing_the_camera_undoes_any_turn_about_the_vertical(degrees):
    angle = math.radians(degrees)
    turn = torch.tensor([[math.cos(angle), 0, math.sin(angle)], [0, 1, 0], [-math.sin(angle), 0, math.cos(angle)]])
    straight = moving_body(4)
    root = straight.joints[0, 0, 0]
    turned = sequence((straight.joints - root) @ turn + root)
    assert torch.allclose(face_camera(turned, SMALL).joints, straight.joints, atol=1e-5)


def test_facing_needs_three_dimensions_known_shoulders_and_shoulders_side_by_side():
    flat = sequence(moving_body(2).joints[..., :2])
    assert face_camera(flat, SMALL) is flat
    body = moving_body(2)
    assert face_camera(body, unnamed_layout(4)) is body
    body.joints[..., 2:, 0] = 0.0
    assert face_camera(body, SMALL) is body


@pytest.mark.parametrize("degrees", [0, 30, 90, 180, 250])
def test_facing_the_partner_undoes_any_turn_about_the_vertical(degrees):
    angle = math.radians(degrees)
    turn = torch.tensor([[math.cos(angle), 0, math.sin(angle)], [0, 1, 0], [-math.sin(angle), 0, math.cos(angle)]])
    pair = moving_body(4, people=2)
    root = pair.joints[0, 0, 0]
    turned = sequence((pair.joints - root) @ turn + root)
    takes = SkeletonInput(face_partner=True, face_camera=True)
    two = SkeletonData(SMALL, people=2)
    assert torch.allclose(prepare_skeleton(turned, takes, two), pair.joints, atol=1e-4)


def test_a_pair_turns_by_the_first_frame_that_shows_both():
    pair = moving_body(3, people=2)
    pair.joints[0, 1], pair.present[0, 1] = 0.0, False
    pair.joints[1:, 1, :, 2] += 10  # ten metres to the side and ten behind
    across = face_partner(pair, SMALL).joints[1, 1, 0] - face_partner(pair, SMALL).joints[1, 0, 0]
    assert torch.allclose(across, torch.tensor([math.sqrt(200), 0.0, 0.0]), atol=1e-4)


def test_without_a_partner_the_camera_decides():
    alone = match_layout(moving_body(3), SkeletonData(SMALL, people=2))
    alone.joints[:, 0] = alone.joints[:, 0] @ torch.tensor([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]])
    two = SkeletonData(SMALL, people=2)
    both = prepare_skeleton(alone, SkeletonInput(face_partner=True, face_camera=True), two)
    assert torch.equal(both, face_camera(alone, SMALL).joints)
    assert torch.equal(prepare_skeleton(alone, SkeletonInput(face_partner=True), two), alone.joints)
    flat = sequence(moving_body(2, people=2).joints[..., :2])
    assert face_partner(flat, SMALL) is flat
    assert face_partner(moving_body(2), SMALL).joints.equal(moving_body(2).joints)


def test_people_are_centered_between_them():
    centered = center(moving_body(3, people=2), SMALL, "people").joints
    assert centered[0, :, 0].tolist() == [[-5, 0, 0], [5, 0, 0]]
    assert centered[2, :, 0].tolist() == [[-5, 0, 2], [5, 0, 2]]
    late = moving_body(3, people=2)
    late.joints[0, 0], late.present[0, 0] = 0.0, False
    assert center(late, SMALL, "people").joints[0, 1, 0].tolist() == [0, 0, 0]


def test_unit_scale_divides_by_the_torso():
    takes = SkeletonInput(center="first", unit_scale=True)
    prepared = prepare_skeleton(moving_body(3), takes, HOLDS)
    assert prepared[0, 0, 1].tolist() == [0, 1, 0]
    assert prepared[2, 0, 0].tolist() == [0, 0, 1]


def test_size_falls_back_to_the_spread_of_the_joints():
    square = sequence([[[[0.0, 0.0], [2.0, 0.0], [0.0, 2.0], [2.0, 2.0]]]])
    assert torso_length(square, unnamed_layout(4)) == pytest.approx(math.sqrt(2))
    lost = moving_body(1)
    lost.joints[0, 0, 1] = lost.joints[0, 0, 0]
    assert torso_length(lost, SMALL) > 0
    with pytest.raises(DataError, match="all joints are at one point"):
        torso_length(sequence(torch.ones(2, 1, 4, 3)), SMALL)


def test_people_are_added_and_the_rarely_seen_dropped():
    assert match_layout(moving_body(3), SkeletonData(SMALL, people=2)).present.tolist() == [[True, False]] * 3
    three = moving_body(3, people=3)
    three.joints[1:, 0], three.present[1:, 0] = 0.0, False
    kept = match_layout(three, SkeletonData(SMALL, people=2))
    assert torch.equal(kept.joints, three.joints[:, 1:])


def test_another_skeleton_is_refused_with_the_file():
    with pytest.raises(DataError, match=r"walk.csv: the recording has 4 joints of 3 coordinates.*Expected 17 joints"):
        match_layout(moving_body(2), SkeletonData(LAYOUTS["coco17"]), where="walk.csv")


def test_preparation_and_the_picture_agree_on_frames():
    takes = SkeletonInput(smooth=True, center="frame", face_camera=True, unit_scale=True, max_frames=7)
    walk = moving_body(20)
    walk.joints[:2], walk.present[:2] = 0.0, False
    clean = clean_skeleton(walk, takes, HOLDS)
    assert len(clean) == len(prepare_skeleton(walk, takes, HOLDS)) == 7
    assert clean.joints[0, 0, 0, 2] == pytest.approx(7.0, abs=1e-4)


def test_one_frame_can_be_prepared_and_augmented():
    takes = SkeletonInput(smooth=True, center="frame", face_camera=True, unit_scale=True, max_frames=7)
    settings = SkeletonAugment(rotate=30, scale=(0.8, 1.2), speed=(0.5, 2.0), temporal_crop=0.5, noise=0.01, mirror=0.5)
    one, _ = augment_skeleton(moving_body(1), 0, settings, HOLDS, {}, torch.Generator().manual_seed(0))
    assert prepare_skeleton(one, takes, HOLDS).shape == (1, 1, 4, 3)


# Augmentation


def augment(given: SkeletonSequence, seed: int = 0, mirror_map=None, label: int = 0, **settings):
    rng = torch.Generator().manual_seed(seed)
    return augment_skeleton(given, label, SkeletonAugment(**settings), HOLDS, mirror_map, rng)


def test_without_settings_nothing_changes():
    walk = moving_body(9, people=2)
    same, label = augment(walk, label=3, mirror_map={3: 4})
    assert torch.allclose(same.joints, walk.joints, atol=1e-6)
    assert label == 3


def test_the_same_seed_draws_the_same():
    settings = {"rotate": 40, "tilt": 5, "scale": (0.7, 1.3), "speed": (0.7, 1.3), "temporal_crop": 0.8, "noise": 0.02}
    one, two, other = (augment(moving_body(30), seed, **settings)[0] for seed in (1, 1, 2))
    assert torch.equal(one.joints, two.joints)
    assert one.joints.shape != other.joints.shape or not torch.equal(one.joints, other.joints)


def test_one_setting_does_not_change_what_another_draws():
    alone = augment(moving_body(30), rotate=90)[0].joints
    also_noisy = augment(moving_body(30), rotate=90, noise=1e-9)[0].joints
    assert torch.allclose(alone, also_noisy, atol=1e-5)
    assert not torch.allclose(alone, moving_body(30).joints, atol=0.1)


@pytest.mark.parametrize("settings", [{"rotate": 170}, {"tilt": 30}, {"rotate": 90, "tilt": 20}])
def test_rotation_keeps_every_distance_and_the_first_centre(settings):
    walk = moving_body(6)
    turned = augment(walk, seed=3, **settings)[0]
    flat, back = (s.joints.flatten(0, 2) for s in (walk, turned))
    assert torch.allclose(torch.cdist(flat, flat), torch.cdist(back, back), atol=1e-3)
    assert torch.allclose(turned.joints[0, 0, 0], walk.joints[0, 0, 0], atol=1e-5)
    assert not torch.allclose(turned.joints, walk.joints, atol=0.1)


def test_a_turn_about_the_vertical_keeps_every_height():
    walk = moving_body(6)
    assert torch.allclose(augment(walk, rotate=170)[0].joints[..., 1], walk.joints[..., 1], atol=1e-5)


def test_flat_skeletons_only_tilt_in_their_plane():
    flat = sequence(moving_body(4).joints[..., :2])
    holds = SkeletonData(SMALL, coordinates=2)
    rng = torch.Generator().manual_seed(0)
    assert torch.allclose(
        augment_skeleton(flat, 0, SkeletonAugment(rotate=90), holds, None, rng)[0].joints, flat.joints, atol=1e-5
    )
    tilted = augment_skeleton(flat, 0, SkeletonAugment(tilt=90), holds, None, rng)[0].joints
    assert not torch.allclose(tilted, flat.joints, atol=0.1)
    assert torch.allclose(torch.cdist(tilted[0, 0], tilted[0, 0]), torch.cdist(flat.joints[0, 0], flat.joints[0, 0]))


def test_scale_multiplies_every_distance():
    grown = augment(moving_body(5), scale=(1.5, 1.5))[0]
    assert torso_length(grown, SMALL) == pytest.approx(3.0, rel=1e-5)
    assert grown.joints[4, 0, 0, 2] - grown.joints[0, 0, 0, 2] == pytest.approx(6.0, rel=1e-5)


def test_double_speed_takes_half_the_frames_on_the_same_way():
    fast = resample(moving_body(21), 2.0)
    assert fast.joints[:, 0, 0, 2].tolist() == [5 + 2 * step for step in range(11)]
    slow = resample(moving_body(3), 0.5)
    assert slow.joints[:, 0, 0, 2].tolist() == [5, 5.5, 6, 6.5, 7]


def test_interpolation_is_not_pulled_by_an_absent_neighbour():
    given = points(4, 6, 0)
    slow = resample(given, 0.5)
    assert slow.joints[:, 0, 0, 0].tolist() == [4, 5, 6, 6, 0]
    assert slow.present[:, 0].tolist() == [True, True, True, True, False]


def test_a_crop_is_a_consecutive_piece():
    lengths = set()
    for seed in range(40):
        z = augment(moving_body(20), seed, temporal_crop=0.5)[0].joints[:, 0, 0, 2]
        assert torch.equal(z.diff(), torch.ones(len(z) - 1))
        lengths.add(len(z))
    assert min(lengths) >= 10
    assert len(lengths) > 5


def test_noise_has_its_standard_deviation():
    noisy = augment(moving_body(400), noise=0.1)[0]
    assert (noisy.joints - moving_body(400).joints).std() == pytest.approx(0.2, rel=0.05)


def test_a_mirror_swaps_sides_and_labels():
    body = moving_body(2)
    body.joints[:, :, 3, 1] = 4.0  # the right shoulder is raised
    image = mirror(body, SMALL)
    assert image.joints[0, 0, 2].tolist() == [-1, 4, 5]  # now the left one is
    assert image.joints[0, 0, 3].tolist() == [1, 3, 5]
    assert torch.equal(mirror(image, SMALL).joints, body.joints)
    assert augment(body, label=0, mirror=1.0, mirror_map={0: 1, 1: 0})[1] == 1
    assert augment(body, label=2, mirror=1.0, mirror_map={0: 1, 1: 0})[1] == 2


def test_where_mirroring_is_forbidden_nothing_is_mirrored():
    assert torch.allclose(augment(moving_body(2), mirror=1.0, mirror_map=None)[0].joints, moving_body(2).joints)
    rng = torch.Generator().manual_seed(0)
    settings = SkeletonAugment(mirror=1.0)
    given = moving_body(2)
    given.joints[:, :, 3, 1] = 4.0
    without_sides = augment_skeleton(given, 0, settings, SkeletonData(unnamed_layout(4)), {0: 1}, rng)
    assert without_sides[1] == 0
    assert torch.allclose(without_sides[0].joints, given.joints)


def test_half_the_recordings_are_mirrored_at_one_half():
    labels = [augment(moving_body(2), seed, mirror=0.5, mirror_map={0: 1})[1] for seed in range(200)]
    assert 70 < sum(labels) < 130


def test_people_swap_only_where_all_appear():
    two = moving_body(3, people=2)
    assert torch.allclose(augment(two, swap_people=1.0)[0].joints, two.joints.flip(1))
    alone = match_layout(moving_body(3), SkeletonData(SMALL, people=2))
    assert augment(alone, swap_people=1.0)[0].present[:, 0].all()


def test_absent_people_stay_zero_through_everything():
    two = match_layout(moving_body(12), SkeletonData(SMALL, people=2))
    settings = {"rotate": 90, "tilt": 9, "scale": (0.5, 2.0), "speed": (0.5, 2.0), "noise": 0.1, "mirror": 0.5}
    changed = augment(two, mirror_map={}, **settings)[0]
    prepared = prepare_skeleton(
        changed, SkeletonInput(smooth=True, center="frame", unit_scale=True), SkeletonData(SMALL, people=2)
    )
    assert prepared[:, 1].abs().sum() == 0
    assert prepared[:, 0].abs().sum() > 0


@pytest.mark.parametrize(
    "settings",
    [
        {"scale": (1.2, 0.8)},
        {"speed": (0.0, 1.0)},
        {"temporal_crop": 0.0},
        {"mirror": 1.5},
        {"rotate": -1},
        {"spin": 1},
    ],
)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ValidationError):
        SkeletonAugment(**settings)


def test_another_body_makes_the_same_movement():
    body = moving_body(3, people=2)
    other = scale_bones(body, SMALL, torch.tensor([1.5, 0.5, 2.0]))
    assert torch.equal(other.joints[:, :, 0], body.joints[:, :, 0])
    # The torso of length 2 grows to 3, and carries the shoulders, whose bones of length 1 become 0.5 and 2.
    torch.testing.assert_close(other.joints[0, 0], torch.tensor([[0, 1, 5], [0, 4, 5], [-0.5, 4, 5], [2, 4, 5.0]]))
    torch.testing.assert_close(other.joints[2, 1, 3], torch.tensor([12.0, 4, 7]))


def test_drawn_bodies_are_symmetric_and_within_bounds():
    settings = SkeletonAugment(bone_scale=0.3)
    body = moving_body(4)
    seen = []
    for seed in range(50):
        other, _ = augment_skeleton(body, 0, settings, HOLDS, None, torch.Generator().manual_seed(seed))
        left, right = ((other.joints[0, 0, side] - other.joints[0, 0, 1]).norm().item() for side in (2, 3))
        assert left == pytest.approx(right)
        seen.append(left)
    assert 0.7 <= min(seen) < 0.8
    assert 1.2 < max(seen) <= 1.3


def test_an_absent_person_stays_absent_in_another_body():
    body = moving_body(4, people=2)
    gone = SkeletonSequence(body.joints * torch.tensor([1.0, 0.0])[:, None, None], body.present.clone())
    gone.present[:, 1] = False
    other = scale_bones(gone, SMALL, torch.tensor([1.5, 0.5, 2.0]))
    assert not other.joints[:, 1].any()


def test_hidden_joints_lie_in_the_center_of_their_person_throughout():
    two = moving_body(5, people=2)
    changed = augment(two, joint_dropout=0.5)[0].joints
    centers = two.joints[:, :, [SMALL.root]]
    hidden = ((changed - two.joints).abs() > 1e-6).any(0).any(-1)
    assert hidden.any()
    assert not hidden.all()
    expected = torch.where(hidden[None, :, :, None], centers.expand_as(two.joints), two.joints)
    assert torch.allclose(changed, expected, atol=1e-5)


def test_as_many_joints_are_hidden_as_said():
    counts = [
        ((augment(moving_body(2), seed, joint_dropout=0.3)[0].joints - moving_body(2).joints).abs() > 1e-6)
        .any(0)
        .any(-1)
        .sum()
        for seed in range(200)
    ]
    others = len(SMALL) - 1  # the root lies in the center anyway
    assert float(sum(counts)) == pytest.approx(200 * 0.3 * others, rel=0.15)
