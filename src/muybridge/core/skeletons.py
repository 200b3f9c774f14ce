"""Joint layouts: the names, bones and mirror pairs of the skeletons that recordings come in."""

import re
from dataclasses import dataclass

from muybridge.core.errors import RecipeError


@dataclass(frozen=True, slots=True)
class Layout:
    """How the joints of one kind of skeleton hang together.

    Attributes:
        name: the word in recipes.
        joints: names in file order.
        bones: (parent, child) joint indices, from the root outwards; empty when unknown.
        mirror: (left, right) joint index pairs that swap in a mirror.
        root: the joint that counts as the body's center.
        torso: (lower, upper) joints whose distance is the unit of body size.
        shoulders: (left, right) joints that show which way the body faces.
    """

    name: str
    joints: tuple[str, ...]
    bones: tuple[tuple[int, int], ...] = ()
    mirror: tuple[tuple[int, int], ...] = ()
    root: int = 0
    torso: tuple[int, int] | None = None
    shoulders: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self.joints)

    @property
    def known(self) -> bool:
        """Whether bones are known; body-frame normalisation and bone angles need them."""
        return bool(self.bones)


def _layout(name: str, tree: str, root: str, torso: tuple[str, str], shoulders: tuple[str, str]) -> Layout:
    """A layout from ``joint<parent`` words in file order (the root stands alone); mirror pairs come from the names."""
    words = [word.partition("<") for word in tree.split()]
    joints = tuple(joint for joint, _, _ in words)
    at = {joint: index for index, joint in enumerate(joints)}
    parent = {joint: above for joint, _, above in words if above}

    def depth(joint: str) -> int:
        return 1 + depth(parent[joint]) if joint in parent else 0

    outwards = sorted(parent, key=depth)
    pairs = [(at[j], at[j.replace("left", "right")]) for j in joints if j.startswith("left")]
    return Layout(
        name=name,
        joints=joints,
        bones=tuple((at[parent[joint]], at[joint]) for joint in outwards),
        mirror=tuple(pairs),
        root=at[root],
        torso=(at[torso[0]], at[torso[1]]),
        shoulders=(at[shoulders[0]], at[shoulders[1]]),
    )


_SHOULDERS = ("left_shoulder", "right_shoulder")
_KINECT_ARMS = (
    "left_shoulder<{0} left_elbow<left_shoulder left_wrist<left_elbow left_hand<left_wrist "
    "right_shoulder<{0} right_elbow<right_shoulder right_wrist<right_elbow right_hand<right_wrist "
)
_KINECT_LEGS = (
    "left_hip<hip left_knee<left_hip left_ankle<left_knee left_foot<left_ankle "
    "right_hip<hip right_knee<right_hip right_ankle<right_knee right_foot<right_ankle "
)

LAYOUTS: dict[str, Layout] = {
    layout.name: layout
    for layout in (
        # Kinect v1 as UTD-MHAD stores it.
        _layout(
            "kinect20",
            "head<neck neck<spine spine<hip hip " + _KINECT_ARMS.format("neck") + _KINECT_LEGS,
            root="hip",
            torso=("hip", "neck"),
            shoulders=_SHOULDERS,
        ),
        # Kinect v1 as MSR Action3D stores it. The bones are those of the authors' drawing code; right is the side
        # that moves in the one-handed actions and in the forward kick, which the subjects were told to do so.
        _layout(
            "msr20",
            "left_shoulder<neck right_shoulder<neck neck<spine spine<hip left_hip<hip right_hip<hip hip "
            "left_elbow<left_shoulder right_elbow<right_shoulder left_wrist<left_elbow right_wrist<right_elbow "
            "left_hand<left_wrist right_hand<right_wrist left_knee<left_hip right_knee<right_hip "
            "left_ankle<left_knee right_ankle<right_knee left_foot<left_ankle right_foot<right_ankle head<neck",
            root="hip",
            torso=("hip", "neck"),
            shoulders=_SHOULDERS,
        ),
        # OpenNI's skeleton as SBU Kinect Interaction stores it: no hip center, the torso joint is the middle.
        _layout(
            "sbu15",
            "head<neck neck<torso torso "
            "left_shoulder<neck left_elbow<left_shoulder left_hand<left_elbow "
            "right_shoulder<neck right_elbow<right_shoulder right_hand<right_elbow "
            "left_hip<torso left_knee<left_hip left_foot<left_knee "
            "right_hip<torso right_knee<right_hip right_foot<right_knee",
            root="torso",
            torso=("torso", "neck"),
            shoulders=_SHOULDERS,
        ),
        # Kinect v2 as NTU RGB+D stores it; the middle of the spine is the center (Shahroudy et al., CVPR 2016).
        _layout(
            "kinect25",
            "hip spine<hip neck<chest head<neck "
            + _KINECT_ARMS.format("chest")
            + _KINECT_LEGS
            + "chest<spine left_tip<left_hand left_thumb<left_wrist right_tip<right_hand right_thumb<right_wrist",
            root="spine",
            torso=("hip", "chest"),
            shoulders=_SHOULDERS,
        ),
        # The layouts of 2-D pose estimators. Where no joint lies at the hip center, the root is another joint of the
        # middle line, which a mirror leaves in place.
        _layout(
            "coco17",
            "nose left_eye<nose right_eye<nose left_ear<left_eye right_ear<right_eye left_shoulder<nose "
            "right_shoulder<nose left_elbow<left_shoulder right_elbow<right_shoulder left_wrist<left_elbow "
            "right_wrist<right_elbow left_hip<left_shoulder right_hip<right_shoulder left_knee<left_hip "
            "right_knee<right_hip left_ankle<left_knee right_ankle<right_knee",
            root="nose",
            torso=("left_hip", "left_shoulder"),
            shoulders=_SHOULDERS,
        ),
        _layout(
            "openpose18",
            "nose<neck neck right_shoulder<neck right_elbow<right_shoulder right_wrist<right_elbow "
            "left_shoulder<neck left_elbow<left_shoulder left_wrist<left_elbow "
            "right_hip<neck right_knee<right_hip right_ankle<right_knee "
            "left_hip<neck left_knee<left_hip left_ankle<left_knee "
            "right_eye<nose left_eye<nose right_ear<right_eye left_ear<left_eye",
            root="neck",
            torso=("left_hip", "neck"),
            shoulders=_SHOULDERS,
        ),
        _layout(
            "openpose25",
            "nose<neck neck<hip right_shoulder<neck right_elbow<right_shoulder right_wrist<right_elbow "
            "left_shoulder<neck left_elbow<left_shoulder left_wrist<left_elbow hip "
            "right_hip<hip right_knee<right_hip right_ankle<right_knee "
            "left_hip<hip left_knee<left_hip left_ankle<left_knee "
            "right_eye<nose left_eye<nose right_ear<right_eye left_ear<left_eye "
            "left_big_toe<left_ankle left_small_toe<left_ankle left_heel<left_ankle "
            "right_big_toe<right_ankle right_small_toe<right_ankle right_heel<right_ankle",
            root="hip",
            torso=("hip", "neck"),
            shoulders=_SHOULDERS,
        ),
    )
}


def unnamed_layout(num_joints: int) -> Layout:
    """A layout of ``num_joints`` joints about which nothing else is known."""
    return Layout(name=f"plain{num_joints}", joints=tuple(f"joint{index}" for index in range(num_joints)))


def get_layout(name: str) -> Layout:
    """The layout a recipe calls ``name``; ``plain15`` is 15 joints about which nothing is known.

    Raises:
        RecipeError: there is no such layout.
    """
    if name in LAYOUTS:
        return LAYOUTS[name]
    if re.fullmatch(r"plain[1-9]\d*", name):
        return unnamed_layout(int(name.removeprefix("plain")))
    raise RecipeError(
        f"no layout is called {name!r}",
        expected=f"one of {', '.join(LAYOUTS)}, or plain15 for 15 joints about which nothing is known",
        hint="correct the layout in the recipe, or leave it out to have it chosen by the number of joints",
    )


_CUSTOMARY = {17: "coco17", 20: "kinect20", 25: "kinect25"}


def default_layout(num_joints: int) -> Layout:
    """The layout that recordings of ``num_joints`` joints most often have; a plain one where there is no custom."""
    return LAYOUTS[_CUSTOMARY[num_joints]] if num_joints in _CUSTOMARY else unnamed_layout(num_joints)
