"""The per-frame features of dRNN: against the oracle, by hand, and what they must not depend on."""

import math

import numpy as np
import pytest
import torch

from muybridge.core.contracts import SkeletonData
from muybridge.core.errors import RecipeError
from muybridge.core.skeletons import LAYOUTS, Layout, unnamed_layout
from muybridge.core.types import SkeletonSequence
from muybridge.data.prepare import SkeletonPreparation, collate_inputs
from muybridge.data.skeleton_augment import SkeletonAugment
from muybridge.models import DRNNConfig, STALSTMConfig
from muybridge.nn.options import PAPER_GROUPS, FeatureScaling
from muybridge.nn.skeleton_features import SkeletonFeatures, bone_pairs, directions
from tests.oracles import drnn as oracle
from tests.skeletons import figures

KINECT = LAYOUTS["kinect20"]
# A root with two bones that leave it, one of them going on.
FORK = Layout("fork", ("root", "up", "tip", "side"), bones=((0, 1), (0, 3), (1, 2)), torso=(0, 1))


def walk(*shape: int, seed: int = 0) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    return (torch.randn(shape, generator=rng) * 0.02).cumsum(1) + torch.randn(shape[2:], generator=rng)


def built(
    *groups, layout=FORK, people=1, coordinates=3, scaling: FeatureScaling = "feature", pca=0
) -> SkeletonFeatures:
    return SkeletonFeatures(layout, people, coordinates, groups or PAPER_GROUPS, scaling, pca)


@pytest.mark.parametrize(("people", "coordinates"), [(1, 3), (2, 3), (2, 2)])
def test_they_agree_with_the_oracle(people: int, coordinates: int):
    joints = walk(2, 6, people, 20, coordinates).double()
    joints[0, 2:4, -1] = 0  # the last person is away for two frames
    joints[1, 4:] = 0
    layout = KINECT
    raw = (
        built(*PAPER_GROUPS, "bone", "movement", "travel", layout=layout, people=people, coordinates=coordinates)
        .double()
        .raw(joints, torch.tensor([6, 4]))
    )
    for index, length in enumerate((6, 4)):
        expected = oracle.features(
            joints[index, :length].numpy(),
            layout.root,
            layout.torso,
            layout.bones,
            bone_pairs(layout),
            directions(coordinates).numpy(),
            [0.005 * 2**k for k in range(8)],
        )
        np.testing.assert_allclose(raw[index, :length], expected, atol=1e-6)
        assert not raw[index, length:].any()


def test_sizes_on_the_papers_skeleton():
    sizes = {group: built(group, layout=KINECT).size for group in PAPER_GROUPS}
    assert sizes == {"position": 60, "angle": 19, "offset": 60, "offset_first": 60, "velocity": 162, "distance": 190}
    assert built(layout=KINECT).size == 551
    assert built("bone", layout=KINECT).size == 57
    assert built("movement", "travel", layout=KINECT).size == 63


def test_angles_by_hand():
    joints = torch.tensor([[0.0, 0, 0], [0, 1, 0], [1, 2, 0], [1, 0, 0]])
    raw = built("angle").raw(joints[None, None, None], torch.tensor([1]))
    # up to tip turns by 45 degrees; up and side leave the root at a right angle
    assert raw[0, 0].tolist() == pytest.approx([0.25, 0.5], abs=1e-6)


def test_movement_is_measured_in_torso_lengths():
    joints = torch.tensor([[0.0, 0, 0], [0, 2, 0], [0, 3, 0], [2, 0, 0]]).repeat(1, 3, 1, 1, 1)
    joints[0, 1:, :, 2, 0] += 0.5  # one joint moves a quarter of a torso along x, once
    raw = built("offset").raw(joints, torch.tensor([3]))
    assert raw[0].nonzero().tolist() == [[1, 6]]
    assert raw[0, 1, 6] == pytest.approx(0.25)
    votes = built("velocity").raw(joints, torch.tensor([3]))[0, 1].reshape(18, 9)
    (direction, speed), *others = votes.nonzero().tolist()
    assert not others
    assert directions(3)[direction].tolist() == [1, 0, 0]
    assert speed == 6  # 0.16 to 0.32
    assert votes.sum() == pytest.approx(0.25)  # one of four joints


def test_directions_are_18_different_unit_vectors():
    for coordinates in (2, 3):
        ways = directions(coordinates)
        torch.testing.assert_close(ways.norm(dim=-1), torch.ones(18))
        assert (ways @ ways.T - 2 * torch.eye(18)).max() <= math.cos(math.pi / 9) + 1e-6


def test_poses_ignore_place_and_size_but_movements_see_the_walk():
    still = walk(1, 1, 1, 20, 3).repeat(1, 5, 1, 1, 1)
    walking = 3 * still + torch.linspace(1, 2, 5)[None, :, None, None, None]
    features, length = built("position", "distance", "angle", layout=KINECT), torch.tensor([5])
    torch.testing.assert_close(features.raw(still, length), features.raw(walking, length), atol=1e-4, rtol=0)
    offsets = built("offset", layout=KINECT)
    assert not offsets.raw(still, length).any()
    assert offsets.raw(walking, length)[0, 1:].abs().min() > 0


def test_movement_is_of_the_pose_and_travel_of_the_place():
    still = walk(1, 1, 1, 4, 3).repeat(1, 5, 1, 1, 1)
    walking = still + torch.tensor([0.5, 0.0, 0.0]) * torch.arange(5.0)[None, :, None, None, None]
    length = torch.tensor([5])
    assert built("movement").raw(walking, length).abs().max() < 1e-5
    torso = (still[0, 0, 0, 1] - still[0, 0, 0, 0]).norm()
    travel = built("travel").raw(walking, length)[0] * torso
    torch.testing.assert_close(travel[:, 0], torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0]))
    waving = still.clone()
    waving[0, :, 0, 2, 1] += torch.arange(5.0)
    movement = built("movement").raw(waving, length)[0].reshape(5, 4, 3) * torso
    assert movement[1:4, 2, 1].tolist() == pytest.approx([2.0] * 3, rel=1e-5)
    assert not movement[0].any()
    assert not movement[4].any()


def test_nobody_gives_zeros():
    raw = built(people=2).raw(torch.zeros(1, 3, 2, 4, 3), torch.tensor([3]))
    assert not raw.any()


def test_padding_changes_nothing():
    joints = walk(1, 5, 1, 4, 3).double()
    padded = torch.cat([joints, torch.full_like(joints[:, :3], 1e3)], dim=1)
    features = built().double()
    features.fit([{"joints": joints, "length": torch.tensor([5])}])
    alone, together = features(joints, torch.tensor([5])), features(padded, torch.tensor([5]))
    torch.testing.assert_close(together[:, :5], alone)
    assert not together[:, 5:].any()


def test_a_layout_without_a_torso_uses_the_size_of_the_body():
    features = SkeletonFeatures(unnamed_layout(6), 1, 2, ("position", "distance"))
    joints, length = walk(1, 4, 1, 6, 2), torch.tensor([4])
    torch.testing.assert_close(features.raw(joints, length), features.raw(7 * joints, length))


def test_fit_sees_valid_frames_only_and_batches_do_not_matter():
    joints, length = walk(4, 9, 1, 4, 3), torch.tensor([9, 2, 5, 7])
    whole, parts = built(pca=5), built(pca=5)
    whole.fit([{"joints": joints, "length": length}])
    failed = joints.clone()
    for row, valid in zip(failed, length, strict=True):
        row[valid:] = 99
    parts.fit({"joints": failed[k : k + 1], "length": length[k : k + 1]} for k in range(4))
    for name, buffer in whole.named_buffers():
        torch.testing.assert_close(parts.get_buffer(name), buffer, atol=1e-5, rtol=1e-4)


def test_a_group_keeps_its_proportions_when_it_is_scaled_as_a_whole():
    joints, length = walk(4, 9, 1, 4, 3), torch.full((4,), 9)
    joints[..., 2, :] *= 20
    features = built("offset", "distance", scaling="group")
    features.fit([{"joints": joints, "length": length}])
    frames = features(joints, length).flatten(0, 1)
    for part in frames.split([12, 6], dim=1):
        torch.testing.assert_close(part.var(0, correction=0).mean(), torch.tensor(1.0), atol=1e-3, rtol=0)
    assert features.deviation.unique().numel() == 2
    assert frames[:, 6:9].std() > 5 * frames[:, :6].std()


def test_fitted_features_have_mean_0_deviation_1_and_no_correlation_after_pca():
    joints, length = walk(8, 20, 1, 4, 3), torch.full((8,), 20)
    plain_, projected = built("position", "offset"), built("position", "offset", pca=4)
    for features in (plain_, projected):
        features.fit([{"joints": joints, "length": length}])
    frames = plain_(joints, length).flatten(0, 1)
    varied = plain_.deviation != 1  # the root stays in the middle
    assert varied.sum() == 21
    torch.testing.assert_close(frames.mean(0), torch.zeros(24), atol=1e-4, rtol=0)
    torch.testing.assert_close(frames.std(0, correction=0)[varied], torch.ones(21), atol=1e-3, rtol=0)
    covariance = torch.cov(projected(joints, length).flatten(0, 1).T, correction=0)
    spectrum = torch.linalg.eigvalsh(torch.cov(frames.T, correction=0)).flip(0)[:4]
    torch.testing.assert_close(covariance, spectrum.diag(), atol=1e-2, rtol=1e-3)


def test_features_of_bones_are_refused_where_bones_are_unknown():
    with pytest.raises(RecipeError, match=r"features of bones \(angle, bone\) for the layout 'plain.*Leave them out"):
        SkeletonFeatures(unnamed_layout(5), 1, 3, ("position", "angle", "bone"))


def test_more_components_than_features_are_refused():
    with pytest.raises(RecipeError, match="pca = 13 of 12 features"):
        built("position", pca=13)


# Recordings of one frame, two frames and three


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_the_shortest_recordings_have_features(frames):
    joints = walk(2, frames, 2, 20, 3).double()
    length = torch.tensor([frames, 1])
    layout = KINECT
    raw = built(*PAPER_GROUPS, "bone", "movement", "travel", layout=layout, people=2).double().raw(joints, length)
    expected = oracle.features(
        joints[0].numpy(),
        layout.root,
        layout.torso,
        layout.bones,
        bone_pairs(layout),
        directions(3).numpy(),
        [0.005 * 2**k for k in range(8)],
    )
    np.testing.assert_allclose(raw[0], expected, atol=1e-6)
    assert raw[1, 0].isfinite().all()
    assert not raw[1, 1:].any()


@pytest.mark.parametrize(
    "config",
    [
        DRNNConfig(
            order=order, hidden=8, features=(*PAPER_GROUPS, "bone", "movement", "travel"), smooth=True, face_camera=True
        )
        for order in (-1, 0, 2)
    ]
    + [
        STALSTMConfig(hidden=8, attention=attention, unit_scale=True, center=center, face_partner=True)
        for attention in ("none", "both")
        for center in ("first", "frame", "people")
    ],
    ids=lambda config: f"{config.name}-{getattr(config, 'order', '')}{getattr(config, 'attention', '')}",
)
def test_every_model_answers_about_one_frame_as_about_that_frame_in_a_longer_batch(config):
    """Through the whole preparation; training on one frame works too."""
    holds = SkeletonData(KINECT, people=2)
    body = torch.from_numpy(figures("kinect20", frames=9)).float()
    prepare = SkeletonPreparation(config.takes(), holds, augment=SkeletonAugment(rotate=20, speed=(0.5, 2), noise=0.1))
    samples = [prepare(sequence)[0] for sequence in (SkeletonSequence(body[:1], torch.ones(1, 2, dtype=torch.bool)),)]
    longer, _ = prepare(SkeletonSequence(body, torch.ones(9, 2, dtype=torch.bool)))
    model = config.build(3, holds).eval()
    alone = model(**collate_inputs(samples))
    together = model(**collate_inputs([*samples, longer]))
    assert alone.logits.shape == (1, 3)
    torch.testing.assert_close(together.logits[:1], alone.logits)
    random, _ = prepare(
        SkeletonSequence(body[:1], torch.ones(1, 2, dtype=torch.bool)), 0, torch.Generator().manual_seed(0)
    )
    model.calibrate([collate_inputs([random])])
    output = model.train()(**collate_inputs([random]))
    loss = sum(model.losses(output, torch.tensor([0]), collate_inputs([random])).values())
    assert torch.as_tensor(loss).isfinite()
