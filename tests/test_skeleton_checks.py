"""What recordings show about themselves: the layout they are in, the vertical, units, people who change places."""

import re

import numpy as np
import pytest
import torch

from muybridge.core.errors import DataError
from muybridge.core.skeletons import LAYOUTS, get_layout, layouts_of, unnamed_layout
from muybridge.data.datasets import SBU, UTDMHAD, MSRAction3D, SkeletonFolder
from muybridge.data.skeleton_checks import (
    LayoutCheck,
    body_size,
    check_layout,
    count_swaps,
    describe_check,
    mean_body,
    number,
    vertical_axis,
)
from muybridge.media.arrays import sequence_from_array
from muybridge.media.skeleton import ReadOptions
from tests.skeletons import figure, figures, pixels, sequence

RNG = np.random.default_rng(0)


def reorder(joints: np.ndarray, source: str, target: str) -> np.ndarray:
    """The same joints in the order of another layout with the same names."""
    return joints[..., [LAYOUTS[source].joints.index(name) for name in LAYOUTS[target].joints], :]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("view", ["room", "image", "lying", "turned"])
def test_every_layout_is_recognized_by_its_bodies(layout, view):
    joints = figure(layout)
    joints = {
        "room": joints,
        "image": pixels(joints),
        "lying": joints[..., [1, 0, 2]],
        "turned": 1000 * joints @ np.linalg.qr(RNG.normal(size=(3, 3)))[0],
    }[view]
    check = check_layout([sequence(joints)])
    assert check.best == layout
    assert next(iter(check.plausibility)) == layout
    assert set(check.plausibility) == {known.name for known in layouts_of(len(LAYOUTS[layout]))}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_joints_in_no_known_order_fit_no_layout(layout):
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(len(LAYOUTS[layout]))
        check = check_layout([sequence(figure(layout)[:, order])])
        assert check.best is None
        assert not check.ambiguous


@pytest.mark.parametrize("config", [MSRAction3D(), SBU(), UTDMHAD()], ids=lambda config: config.name)
def test_every_real_recording_fits_its_own_layout_best(real_data, config):
    """By itself, and in the order of the other layouts of the same joints."""
    own = config.holds().layout.name
    for record in config.index("train").records[::16]:
        recording = config.open(record)
        check = check_layout([recording])
        assert check.best == own
        assert check.plausibility[own] > 0.6
        assert vertical_axis(mean_body(recording), LAYOUTS[own]) in ("y", None)
        assert count_swaps(recording) == 0
        for other in layouts_of(20) if own != "sbu15" else ():
            joints = reorder(recording.joints.numpy(), own, other.name)
            assert check_layout([sequence(joints)]).best == other.name


def test_a_check_is_certain_ambiguous_or_neither():
    assert LayoutCheck({"a": 0.8, "b": 0.6}).best == "a"
    close = LayoutCheck({"a": 0.8, "b": 0.75})
    assert (close.best, close.ambiguous) == (None, True)
    poor = LayoutCheck({"a": 0.4, "b": 0.1})
    assert (poor.best, poor.ambiguous) == (None, False)
    assert LayoutCheck({}).best is None
    assert str(close) == "a 0.80, b 0.75"


def test_a_layout_that_is_named_is_checked_too():
    own = get_layout("kinect20")
    assert check_layout([sequence(figure("kinect20"))], own).plausibility["kinect20"] > 0.9
    assert check_layout([sequence(figure("kinect20")[:, :7])], own).plausibility == {}
    assert check_layout([]).plausibility == {}


@pytest.mark.parametrize(
    ("layout", "named", "message"),
    [
        ("kinect20", "kinect20", r"the layout is kinect20 \(plausibility of those with 20 joints: kinect20 0\.9"),
        ("kinect_sdk20", "kinect20", r"kinect20 \(plausibility 0\.0.*look like kinect_sdk20 .* = 'kinect_sdk20'"),
        ("h36m17", "coco17", r"look like h36m17"),
        ("openpose25", "kinect25", r"look like openpose25"),
        ("kinect20", "plain20", r"of no known layout \(plausibility: kinect20 0\.9.*no mirroring.*set data\.layout"),
    ],
)
def test_a_layout_that_does_not_fit_is_reported(layout, named, message):
    known = get_layout(named)
    (text,) = [describe_check(check_layout([sequence(figure(layout))], known), known)]
    assert re.search(message, text)


def test_joints_of_no_order_are_reported():
    scrambled = sequence(figure("coco17")[:, RNG.permutation(17)])
    text = describe_check(check_layout([scrambled], LAYOUTS["coco17"]), LAYOUTS["coco17"])
    assert "the joints do not look like it" in text
    assert "nose, left_eye, right_eye" in text
    assert "the 7 joints are of no known layout; without bones" in describe_check(LayoutCheck({}), unnamed_layout(7))


def test_the_vertical_is_where_heads_are_above_feet():
    joints, layout = figure("kinect20"), LAYOUTS["kinect20"]
    for axes, vertical in (([0, 1, 2], "y"), ([0, 2, 1], "z"), ([1, 0, 2], "x")):
        assert vertical_axis(mean_body(sequence(joints[..., axes])), layout) == vertical
        assert vertical_axis(mean_body(sequence(-joints[..., axes])), layout) == f"-{vertical}"
    assert vertical_axis(mean_body(sequence(pixels(joints))), layout) == "-y"  # y of an image points down
    assert vertical_axis(mean_body(sequence(pixels(joints)[..., ::-1])), layout) == "-x"
    slanted = joints @ np.array([[1, 0, 0], [0, 0.7, 0.7], [0, -0.7, 0.7]])
    assert vertical_axis(mean_body(sequence(slanted)), layout) is None
    assert vertical_axis(mean_body(sequence(joints)), unnamed_layout(20)) is None
    assert vertical_axis(torch.zeros(20, 3), layout) is None


def test_the_mean_body_is_of_those_who_are_seen():
    body = np.zeros((3, 2, 4, 3))
    body[0, 0], body[2, 1] = 1.0, 4.0
    assert mean_body(sequence(body)).tolist() == [[2.5] * 3] * 4


@pytest.mark.parametrize(
    ("value", "text"), [(1.7, "1.7"), (0.01234, "0.0123"), (1613.2, "1610"), (999.6, "1e+03"), (123456, "123000")]
)
def test_sizes_are_written_in_three_digits(value, text):
    assert number(value) == text.replace("1e+03", "1000")


def test_people_who_change_places_are_counted():
    two = figures("kinect20")
    assert count_swaps(sequence(two)) == 0
    swapped = two.copy()
    swapped[10:20] = swapped[10:20, ::-1]
    assert count_swaps(sequence(swapped)) == 2
    swapped[10:20, 1] = 0.0
    assert count_swaps(sequence(swapped)) == 0  # one of them is away, so that nobody knows
    assert count_swaps(sequence(two[:1])) == 0
    assert count_swaps(sequence(two[:, :1])) == 0


def test_the_size_of_a_body_is_its_longest_extent():
    body = np.zeros((4, 2, 5, 3))
    body[:, 0, 1] = [0.3, 1.7, 0.2]
    body[3, 0, 1] = [0.3, 9.0, 0.2]
    assert body_size(sequence(body)) == pytest.approx(1.7)


# In a folder


def write_folder(root, recordings):
    for index, (label, joints) in enumerate(recordings):
        (root / label).mkdir(parents=True, exist_ok=True)
        np.save(root / label / f"p{index}.npy", joints)
    return root


def people(layout, view=lambda joints: joints, count=4):
    return [(label, view(figure(layout, person=person))) for label in ("a", "b") for person in range(1, count + 1)]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_folder_takes_the_layout_its_recordings_fit(tmp_path, layout):
    data = SkeletonFolder(root=write_folder(tmp_path / "data", people(layout, count=2)))
    assert data.holds().layout is LAYOUTS[layout]
    assert data.resolved().layout == layout
    (notice,) = data.notices()
    assert notice.startswith(f"the layout is {layout} (plausibility of those with")


def test_a_folder_of_unknown_joints_says_what_that_costs(tmp_path):
    data = SkeletonFolder(root=write_folder(tmp_path / "data", people("kinect20", lambda joints: joints[:, :13])))
    assert data.holds().layout.name == "plain13"
    (notice,) = data.notices()
    assert "the 13 joints are of no known layout, and " in notice
    assert "; without bones there are no bone features" in notice


def test_a_folder_that_names_another_layout_is_told_so(tmp_path):
    root = write_folder(tmp_path / "data", people("kinect_sdk20"))
    data = SkeletonFolder(root=root, layout="kinect20", people=1, coordinates=3)
    (notice,) = data.notices()
    assert "the joints look like kinect_sdk20" in notice
    assert data.holds().layout.name == "kinect20"  # what is named is taken


def test_a_folder_whose_layout_is_ambiguous_asks(tmp_path, monkeypatch):
    from muybridge.data.datasets import skeleton_folder

    root = write_folder(tmp_path / "data", people("kinect20"))
    monkeypatch.setattr(skeleton_folder, "_check", lambda *_: LayoutCheck({"kinect20": 0.8, "kinect_sdk20": 0.75}))
    with pytest.raises(DataError, match=r"of 20 joints fit several layouts .* one of kinect20 \(UTD.*Set data\.layout"):
        SkeletonFolder(root=root).holds()
    assert SkeletonFolder(root=root, layout="msr20").holds().layout.name == "msr20"


@pytest.mark.parametrize("named", [False, True])
def test_recordings_with_other_numbers_of_joints_are_refused_with_the_file(tmp_path, named):
    recordings = people("kinect20")
    recordings[2] = ("a", recordings[2][1][:, :17])
    root = write_folder(tmp_path / "data", recordings)
    data = SkeletonFolder(root=root, layout="kinect20", people=1, coordinates=3) if named else SkeletonFolder(root=root)
    wanted = r"p2\.npy: the recording has 17 joints of 3 coordinates\. Expected 20 joints of 3"
    for judge in (data.notices,) if named else (data.holds, data.resolved, data.notices):
        with pytest.raises(DataError, match=wanted):
            judge()
    with pytest.raises(ValueError, match="the sequences have 17 and 20 joints"):
        check_layout([sequence(joints) for _, joints in recordings])


def test_a_folder_that_is_not_upright_is_told_and_turned(tmp_path):
    root = write_folder(tmp_path / "data", people("kinect20", lambda joints: joints[..., [0, 2, 1]] * [1, -1, 1]))
    data = SkeletonFolder(root=root)
    assert data.notices()[1:] == (
        "bodies stand along z and not along y, about which recordings are turned: set data.up = 'z'",
    )
    turned = SkeletonFolder(root=root, up="z")
    assert len(turned.notices()) == 1
    record = turned.index("train").records[0]
    right = figure("kinect20", person=int(record.path.stem[1:]) % 4 + 1)
    assert torch.allclose(turned.open(record).joints[:, 0], torch.from_numpy(right).float(), atol=1e-5)


# The axes of other files from those of the Kinect (x to the right hand, y up, z away), by the axis that points up.
AXES = {
    "-y": lambda joints: joints * [-1, -1, 1],
    "z": lambda joints: joints[..., [0, 2, 1]] * [1, -1, 1],
    "-z": lambda joints: joints[..., [0, 2, 1]] * [1, 1, -1],
    "x": lambda joints: joints[..., [1, 0, 2]] * [1, -1, 1],
    "-x": lambda joints: joints[..., [1, 0, 2]] * [-1, 1, 1],
}


@pytest.mark.parametrize("up", AXES)
def test_a_folder_that_is_not_upright_says_what_to_set_and_is_turned(tmp_path, up):
    root = write_folder(tmp_path / "data", people("kinect20", AXES[up]))
    (notice,) = SkeletonFolder(root=root).notices()[1:]
    assert f"set data.up = {up!r}" in notice
    data = SkeletonFolder(root=root, up=up)
    assert len(data.notices()) == 1
    record = data.index("train").records[0]
    right = figure("kinect20", person=int(record.path.stem[1:]) % 4 + 1)
    assert torch.allclose(data.open(record).joints[:, 0], torch.from_numpy(right).float(), atol=1e-5)
    wrong = SkeletonFolder(root=root, up="y" if up != "y" else "z").notices()
    assert "with data.up = 'y' bodies stand" in wrong[1]
    assert "correct data.up" in wrong[1]


def test_bodies_whose_y_points_down_are_noticed_in_3d_alone(tmp_path):
    root = write_folder(tmp_path / "space", people("kinect20", lambda joints: joints * [1, -1, -1]))
    assert SkeletonFolder(root=root).notices()[1].startswith("bodies stand head down (y points down)")
    image = write_folder(tmp_path / "image", people("coco17", pixels))
    assert len(SkeletonFolder(root=image).notices()) == 1


@pytest.mark.parametrize(("count", "kind"), [(1, "-y"), (4, "-y"), (2, "z")])
def test_recordings_with_different_axes_are_named(tmp_path, count, kind):
    recordings = people("kinect20")
    recordings[:count] = [(label, AXES[kind](joints)) for label, joints in recordings[:count]]
    (notice,) = SkeletonFolder(root=write_folder(tmp_path / "data", recordings)).notices()[1:]
    names = ", ".join(f"p{index}.npy" for index in range(count))
    how = "stand head down along y" if kind == "-y" else "stand along z"
    if count < 4:
        assert notice.startswith(
            f"recordings stand in different ways: {8 - count} stand along y; {count} {how} ({names}). Unless people lie"
        )
    else:  # as many as of the other kind
        assert "4 stand along y" in notice
        assert "4 stand head down along y" in notice


def test_coordinates_as_y_x_are_noticed(tmp_path):
    data = SkeletonFolder(root=write_folder(tmp_path / "data", people("coco17", lambda j: pixels(j)[..., ::-1])))
    assert "stored as x, y and not as y, x" in data.notices()[1]


def test_a_folder_keeps_how_its_arrays_are_meant(tmp_path):
    def view(joints):
        return np.concatenate([pixels(joints), np.full_like(joints[..., :1], 0.9)], axis=-1).transpose(2, 0, 1)

    root = write_folder(tmp_path / "data", people("coco17", view))
    with pytest.raises(DataError, match=r"p0\.npy: joints is 3 x \d+ x 17 .*data\.axes = \"CTV\""):
        SkeletonFolder(root=root).holds()
    with pytest.raises(DataError, match=r"p0\.npy: .* looks like a confidence score.*data\.coordinates = 2"):
        SkeletonFolder(root=root, axes="CTV").holds()
    data = SkeletonFolder(root=root, axes="CTV", coordinates=2)
    resolved = data.resolved()
    assert (resolved.axes, resolved.coordinates, resolved.layout) == ("CTV", 2, "coco17")
    assert resolved.read_options() == ReadOptions("CTV", 2)
    recording = data.open(data.index("train").records[0])
    assert recording.joints.shape[1:] == (1, 17, 2)
    new = sequence_from_array(view(figure("coco17", person=3)), options=resolved.read_options())
    assert torch.allclose(new.joints[:, 0], torch.from_numpy(pixels(figure("coco17", person=3))).float(), rtol=1e-5)


def test_what_is_odd_in_a_folder_is_counted(tmp_path):
    recordings = people("coco17", pixels)
    recordings[0][1][4:6, 9] = 0.0
    recordings[1][1][7, 3] = 0.0
    recordings[2] = ("a", recordings[2][1] / 1000)
    pair = pixels(figures("coco17"))
    pair[5:] = pair[5:, ::-1]
    recordings.append(("b", pair))
    notices = SkeletonFolder(root=write_folder(tmp_path / "data", recordings)).notices()
    filled, swaps, units = notices[1:]
    assert filled.startswith("3 of ")
    assert ", in 2 recordings, are missing (NaN, or at the origin, where" in filled
    assert swaps.startswith("in 1 recordings people change places from one frame to the next (1 times)")
    assert "recordings seem to be in different units" in units


def test_recordings_in_different_layouts_are_noticed(tmp_path):
    recordings = people("kinect20") + people("kinect_sdk20", count=1)
    data = SkeletonFolder(root=write_folder(tmp_path / "data", recordings))
    assert data.holds().layout.name == "kinect20"
    assert "in different layouts (8 of kinect20, 2 of kinect_sdk20 among 10)" in data.notices()[1]


@pytest.mark.parametrize("count", [2, 3])
def test_people_stored_as_one_with_many_joints_are_noticed(tmp_path, count):
    recordings = [(label, figures("coco17", count).reshape(30, -1, 3)) for label in ("a", "b")]
    data = SkeletonFolder(root=write_folder(tmp_path / "data", recordings))
    assert data.holds().layout.name == f"plain{17 * count}"
    assert (
        f"the {17 * count} joints look like {count} people of coco17: save them as frames x {count}"
        in data.notices()[1]
    )


def test_one_person_with_two_identities_and_crowds_are_noticed(tmp_path):
    alternating = figures("kinect20")
    alternating[:10, 0], alternating[10:, 1] = 0.0, 0.0
    recordings = [*people("kinect20"), ("a", alternating), ("b", figures("kinect20", people=7))]
    notices = SkeletonFolder(root=write_folder(tmp_path / "data", recordings)).notices()
    assert notices[1].startswith("in 1 recordings several people are listed and never two in the same frame")
    assert notices[2].startswith("recordings have up to 7 people, and half of them 1 or fewer: data.people keeps")


def test_millimetres_are_noticed(tmp_path):
    root = write_folder(tmp_path / "data", people("kinect20", lambda joints: 1000 * joints))
    wanted = r"bodies are 1[0-9]{2}0 units high or wide, so the unit is not the metre"
    assert re.match(wanted, SkeletonFolder(root=root).notices()[1])


def test_axes_that_are_no_order_are_refused_by_the_recipe(tmp_path):
    with pytest.raises(ValueError, match="axes is 'TXVC' and needs each of T"):
        SkeletonFolder(root=tmp_path, axes="TXVC")
    with pytest.raises(ValueError, match="up"):
        SkeletonFolder.model_validate({"root": tmp_path, "up": "w"})
