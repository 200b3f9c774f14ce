"""Joint layouts: the names, bones and mirror pairs of the skeletons that recordings come in."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from muybridge.core.errors import RecipeError


@dataclass(frozen=True, slots=True)
class Layout:
    """The joints of one kind of skeleton and how they are connected.

    Attributes:
        name: the value of ``data.layout`` in recipes.
        joints: names in file order.
        bones: (parent, child) joint indices, from the root outwards; empty when unknown.
        mirror: (left, right) joint index pairs that a mirror swaps.
        root: the joint that counts as the body's center.
        torso: (lower, upper) joints whose distance is the unit of body size.
        shoulders: (left, right) joints that show which way the body faces.
        source: what writes recordings in this order.
        from_images: whether it is the order of a 2-D pose estimator, whose files often hold a score for each joint.
    """

    name: str
    joints: tuple[str, ...]
    bones: tuple[tuple[int, int], ...] = ()
    mirror: tuple[tuple[int, int], ...] = ()
    root: int = 0
    torso: tuple[int, int] | None = None
    shoulders: tuple[int, int] | None = None
    source: str = ""
    from_images: bool = False

    def __len__(self) -> int:
        return len(self.joints)

    @property
    def known(self) -> bool:
        """Whether the bones are known; normalization by the body and bone features need them."""
        return bool(self.bones)

    @property
    def head(self) -> int | None:
        """The head, or the nose where the layout has no head; None where neither is known."""
        names = [name.lower() for name in self.joints]
        return next((names.index(name) for name in ("head", "nose") if name in names), None)

    @property
    def feet(self) -> tuple[int, ...]:
        """The ankles, or the feet where the layout has no ankles; empty where neither is known."""
        for part in ("ankle", "foot"):
            if joints := tuple(index for index, name in enumerate(self.joints) if name.lower().endswith(part)):
                return joints
        return ()


def _layout(name: str, tree: str, root: str, torso: tuple[str, str], source: str, from_images: bool = False) -> Layout:
    """A layout from ``joint<parent`` words in file order (the root has no parent); mirror pairs come from the names."""
    words = [word.partition("<") for word in tree.split()]
    joints = tuple(joint for joint, _, _ in words)
    index = {joint: position for position, joint in enumerate(joints)}
    parent = {joint: above for joint, _, above in words if above}

    def depth(joint: str) -> int:
        return 1 + depth(parent[joint]) if joint in parent else 0

    outwards = sorted(parent, key=depth)
    return Layout(
        name=name,
        joints=joints,
        bones=tuple((index[parent[joint]], index[joint]) for joint in outwards),
        mirror=tuple((index[j], index[j.replace("left", "right")]) for j in joints if j.startswith("left")),
        root=index[root],
        torso=(index[torso[0]], index[torso[1]]),
        shoulders=(index["left_shoulder"], index["right_shoulder"]),
        source=source,
        from_images=from_images,
    )


_KINECT_ARMS = (
    "left_shoulder<{0} left_elbow<left_shoulder left_wrist<left_elbow left_hand<left_wrist "
    "right_shoulder<{0} right_elbow<right_shoulder right_wrist<right_elbow right_hand<right_wrist "
)
_KINECT_LEGS = (
    "left_hip<hip left_knee<left_hip left_ankle<left_knee left_foot<left_ankle "
    "right_hip<hip right_knee<right_hip right_ankle<right_knee right_foot<right_ankle "
)
_COCO_HEAD = "left_eye<nose right_eye<nose left_ear<left_eye right_ear<right_eye "
_COCO_BODY = (
    "nose " + _COCO_HEAD + "left_shoulder<nose "
    "right_shoulder<nose left_elbow<left_shoulder right_elbow<right_shoulder left_wrist<left_elbow "
    "right_wrist<right_elbow left_hip<left_shoulder right_hip<right_shoulder left_knee<left_hip "
    "right_knee<right_hip left_ankle<left_knee right_ankle<right_knee"
)
_OPENPOSE_ARMS = (
    "right_shoulder<neck right_elbow<right_shoulder right_wrist<right_elbow "
    "left_shoulder<neck left_elbow<left_shoulder left_wrist<left_elbow "
)


def _coco_whole_body() -> str:
    """The 133 joints of COCO-WholeBody: COCO's 17, three of each foot, 68 of the face (iBUG's order), 21 of each hand.

    In an image of somebody who faces the camera, the face's points are listed from the left edge: their right first.
    """
    feet = "left_big_toe<left_ankle left_small_toe<left_ankle left_heel<left_ankle"
    jaw = [f"right_jaw{number}<right_jaw{number + 1}" for number in range(1, 8)] + ["right_jaw8<chin"]
    brow = ["right_brow1<right_brow2", "right_brow2<right_brow3", "right_brow3<right_brow4", "right_brow4<right_brow5"]
    nose = "nose_bridge1<nose_bridge2 nose_bridge2<nose_bridge3 nose_bridge3<nose_tip nose_tip<nose"
    eye = ["outer", "upper_outer", "upper_inner", "inner", "lower_inner", "lower_outer"]
    left_eye = ["inner", "upper_inner", "upper_outer", "outer", "lower_outer", "lower_inner"]
    lip = "right_lip1<right_lip2 right_lip2<right_lip3 right_lip3<upper_lip"
    face = [
        *jaw,
        "chin<lower_lip",
        *_left(jaw[::-1]),
        *brow,
        "right_brow5<nose_bridge1",
        "left_brow5<nose_bridge1",
        *_left(brow[::-1]),
        nose,
        "right_nostril1<right_nostril2 right_nostril2<nose_base nose_base<nose_tip",
        "left_nostril2<nose_base left_nostril1<left_nostril2",
        *(f"right_eye_{part}<right_eye" for part in eye),
        *(f"left_eye_{part}<left_eye" for part in left_eye),
        lip,
        "upper_lip<nose_base",
        *_left(lip.split()[::-1]),
        "left_lip4<left_lip5 left_lip5<lower_lip lower_lip<inner_lower_lip right_lip5<lower_lip right_lip4<right_lip5",
        "right_inner_lip1<right_inner_lip2 right_inner_lip2<inner_upper_lip inner_upper_lip<upper_lip",
        "left_inner_lip2<inner_upper_lip left_inner_lip1<left_inner_lip2",
        "left_inner_lip3<inner_lower_lip inner_lower_lip<inner_upper_lip right_inner_lip3<inner_lower_lip",
    ]
    hand = ["left_hand<left_wrist"]
    for finger in ("thumb", "index", "middle", "ring", "pinky"):
        hand += [f"left_{finger}1<left_hand", *(f"left_{finger}{n}<left_{finger}{n - 1}" for n in (2, 3, 4))]
    sides = [*feet.split(), *_right(feet.split())]
    return " ".join([_COCO_BODY, *sides, *face, *hand, *_right(hand)])


def _left(words: Sequence[str]) -> list[str]:
    return [word.replace("right", "left") for word in words]


def _right(words: Sequence[str]) -> list[str]:
    return [word.replace("left", "right") for word in words]


LAYOUTS: dict[str, Layout] = {
    layout.name: layout
    for layout in (
        _layout(
            "kinect20",
            "head<neck neck<spine spine<hip hip " + _KINECT_ARMS.format("neck") + _KINECT_LEGS,
            root="hip",
            torso=("hip", "neck"),
            source="UTD-MHAD (Kinect v1)",
        ),
        # As kinect20, but for the middle line, which the SDK lists from the hip upwards.
        _layout(
            "kinect_sdk20",
            "hip spine<hip neck<spine head<neck " + _KINECT_ARMS.format("neck") + _KINECT_LEGS,
            root="hip",
            torso=("hip", "neck"),
            source="Kinect for Windows SDK 1.x (Kinect v1)",
        ),
        # The bones are those of the authors' drawing code; right is the side that moves in the one-handed actions and
        # in the forward kick, which the subjects were asked to do so.
        _layout(
            "msr20",
            "left_shoulder<neck right_shoulder<neck neck<spine spine<hip left_hip<hip right_hip<hip hip "
            "left_elbow<left_shoulder right_elbow<right_shoulder left_wrist<left_elbow right_wrist<right_elbow "
            "left_hand<left_wrist right_hand<right_wrist left_knee<left_hip right_knee<right_hip "
            "left_ankle<left_knee right_ankle<right_knee left_foot<left_ankle right_foot<right_ankle head<neck",
            root="hip",
            torso=("hip", "neck"),
            source="MSR Action3D (Kinect v1)",
        ),
        # No hip center: the torso joint is the middle.
        _layout(
            "sbu15",
            "head<neck neck<torso torso "
            "left_shoulder<neck left_elbow<left_shoulder left_hand<left_elbow "
            "right_shoulder<neck right_elbow<right_shoulder right_hand<right_elbow "
            "left_hip<torso left_knee<left_hip left_foot<left_knee "
            "right_hip<torso right_knee<right_hip right_foot<right_knee",
            root="torso",
            torso=("torso", "neck"),
            source="OpenNI and NiTE; SBU Kinect Interaction",
        ),
        # The middle of the spine is the center (Shahroudy et al., CVPR 2016).
        _layout(
            "kinect25",
            "hip spine<hip neck<chest head<neck "
            + _KINECT_ARMS.format("chest")
            + _KINECT_LEGS
            + "chest<spine left_tip<left_hand left_thumb<left_wrist right_tip<right_hand right_thumb<right_wrist",
            root="spine",
            torso=("hip", "chest"),
            source="Kinect for Windows SDK 2.0 (Kinect v2); NTU RGB+D",
        ),
        _layout(
            "azure_kinect32",
            "hip spine<hip chest<spine neck<chest "
            "left_clavicle<chest left_shoulder<left_clavicle left_elbow<left_shoulder left_wrist<left_elbow "
            "left_hand<left_wrist left_tip<left_hand left_thumb<left_wrist "
            "right_clavicle<chest right_shoulder<right_clavicle right_elbow<right_shoulder right_wrist<right_elbow "
            "right_hand<right_wrist right_tip<right_hand right_thumb<right_wrist "
            + _KINECT_LEGS
            + "head<neck nose<head left_eye<head left_ear<head right_eye<head right_ear<head",
            root="hip",
            torso=("hip", "neck"),
            source="Azure Kinect body tracking",
        ),
        _layout(
            "h36m17",
            "hip right_hip<hip right_knee<right_hip right_ankle<right_knee "
            "left_hip<hip left_knee<left_hip left_ankle<left_knee spine<hip thorax<spine neck<thorax head<neck "
            "left_shoulder<thorax left_elbow<left_shoulder left_wrist<left_elbow "
            "right_shoulder<thorax right_elbow<right_shoulder right_wrist<right_elbow",
            root="hip",
            torso=("hip", "thorax"),
            source="Human3.6M and estimators of 3-D joints that learn from it",
        ),
        # The layouts of 2-D pose estimators. Where no joint lies at the hip center, the root is another joint of the
        # middle line, which a mirror leaves in place.
        _layout(
            "coco17",
            _COCO_BODY,
            root="nose",
            torso=("left_hip", "left_shoulder"),
            source="MMPose, RTMPose, Ultralytics, MoveNet, AlphaPose and others (COCO keypoints)",
            from_images=True,
        ),
        _layout(
            "openpose18",
            "nose<neck neck " + _OPENPOSE_ARMS + "right_hip<neck right_knee<right_hip right_ankle<right_knee "
            "left_hip<neck left_knee<left_hip left_ankle<left_knee "
            "right_eye<nose left_eye<nose right_ear<right_eye left_ear<left_eye",
            root="neck",
            torso=("left_hip", "neck"),
            source="OpenPose, model COCO",
            from_images=True,
        ),
        _layout(
            "openpose25",
            "nose<neck neck<hip " + _OPENPOSE_ARMS + "hip right_hip<hip right_knee<right_hip right_ankle<right_knee "
            "left_hip<hip left_knee<left_hip left_ankle<left_knee "
            "right_eye<nose left_eye<nose right_ear<right_eye left_ear<left_eye "
            "left_big_toe<left_ankle left_small_toe<left_ankle left_heel<left_ankle "
            "right_big_toe<right_ankle right_small_toe<right_ankle right_heel<right_ankle",
            root="hip",
            torso=("hip", "neck"),
            source="OpenPose, model BODY_25",
            from_images=True,
        ),
        _layout(
            "halpe26",
            "nose<neck " + _COCO_HEAD + "left_shoulder<neck right_shoulder<neck left_elbow<left_shoulder "
            "right_elbow<right_shoulder left_wrist<left_elbow right_wrist<right_elbow left_hip<hip right_hip<hip "
            "left_knee<left_hip right_knee<right_hip left_ankle<left_knee right_ankle<right_knee "
            "head<neck neck<hip hip left_big_toe<left_ankle right_big_toe<right_ankle left_small_toe<left_ankle "
            "right_small_toe<right_ankle left_heel<left_ankle right_heel<right_ankle",
            root="hip",
            torso=("hip", "neck"),
            source="AlphaPose and RTMPose, 26 joints of Halpe",
            from_images=True,
        ),
        _layout(
            "mediapipe33",
            "nose left_eye_inner<nose left_eye<left_eye_inner left_eye_outer<left_eye "
            "right_eye_inner<nose right_eye<right_eye_inner right_eye_outer<right_eye "
            "left_ear<left_eye_outer right_ear<right_eye_outer left_mouth<nose right_mouth<nose "
            "left_shoulder<nose right_shoulder<nose left_elbow<left_shoulder right_elbow<right_shoulder "
            "left_wrist<left_elbow right_wrist<right_elbow left_pinky<left_wrist right_pinky<right_wrist "
            "left_index<left_wrist right_index<right_wrist left_thumb<left_wrist right_thumb<right_wrist "
            "left_hip<left_shoulder right_hip<right_shoulder left_knee<left_hip right_knee<right_hip "
            "left_ankle<left_knee right_ankle<right_knee left_heel<left_ankle right_heel<right_ankle "
            "left_foot<left_ankle right_foot<right_ankle",
            root="nose",
            torso=("left_hip", "left_shoulder"),
            source="MediaPipe Pose",
            from_images=True,
        ),
        _layout(
            "coco133",
            _coco_whole_body(),
            root="nose",
            torso=("left_hip", "left_shoulder"),
            source="MMPose, RTMPose and DWPose, whole body (COCO-WholeBody)",
            from_images=True,
        ),
        _layout(
            "mpii16",
            "right_ankle<right_knee right_knee<right_hip right_hip<hip left_hip<hip left_knee<left_hip "
            "left_ankle<left_knee hip thorax<hip neck<thorax head<neck "
            "right_wrist<right_elbow right_elbow<right_shoulder right_shoulder<thorax "
            "left_shoulder<thorax left_elbow<left_shoulder left_wrist<left_elbow",
            root="hip",
            torso=("hip", "thorax"),
            source="MPII Human Pose, and estimators that learn from it; head is its top, neck its lower end",
            from_images=True,
        ),
    )
}


def unnamed_layout(num_joints: int) -> Layout:
    """A layout of ``num_joints`` joints about which nothing else is known."""
    return Layout(name=f"plain{num_joints}", joints=tuple(f"joint{index}" for index in range(num_joints)))


def get_layout(name: str) -> Layout:
    """The layout that a recipe names; ``plain15`` is 15 joints about which nothing is known.

    Raises:
        RecipeError: there is no such layout.
    """
    if name in LAYOUTS:
        return LAYOUTS[name]
    if re.fullmatch(r"plain[1-9][0-9]{0,3}", name):
        return unnamed_layout(int(name.removeprefix("plain")))
    raise RecipeError(
        f"no layout is called {name!r}",
        expected=f"one of {', '.join(LAYOUTS)}, or plain15 for 15 joints about which nothing is known",
        hint="correct data.layout, or leave it out so that the data decide (`muybridge layouts` lists all)",
    )


def layouts_of(num_joints: int) -> tuple[Layout, ...]:
    """The known layouts of so many joints; where there are several, the number alone does not decide."""
    return tuple(layout for layout in LAYOUTS.values() if len(layout) == num_joints)
