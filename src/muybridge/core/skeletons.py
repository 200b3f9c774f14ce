"""Joint layouts: the names, bones and mirror pairs of the skeletons that recordings come in."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Layout:
    """How the joints of one kind of skeleton hang together.

    Attributes:
        name: the word in recipes.
        joints: names in file order.
        bones: (parent, child) joint indices, from the root outwards; empty when unknown.
        mirror: (left, right) joint index pairs that swap in a mirror.
        root: the joint that counts as the body's centre.
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

LAYOUTS: dict[str, Layout] = {
    layout.name: layout
    for layout in (
        # Kinect v1 as UTD-MHAD stores it.
        _layout(
            "kinect20",
            "head<neck neck<spine spine<hip hip "
            "left_shoulder<neck left_elbow<left_shoulder left_wrist<left_elbow left_hand<left_wrist "
            "right_shoulder<neck right_elbow<right_shoulder right_wrist<right_elbow right_hand<right_wrist "
            "left_hip<hip left_knee<left_hip left_ankle<left_knee left_foot<left_ankle "
            "right_hip<hip right_knee<right_hip right_ankle<right_knee right_foot<right_ankle",
            root="hip",
            torso=("hip", "neck"),
            shoulders=_SHOULDERS,
        ),
    )
}


def plain(num_joints: int) -> Layout:
    """A layout of ``num_joints`` joints about which nothing else is known."""
    return Layout(name="plain", joints=tuple(f"joint{index}" for index in range(num_joints)))
