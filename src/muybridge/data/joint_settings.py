"""A layout as settings of a recipe, for skeletons whose joints come in no known order."""

from typing import Self

from pydantic import BaseModel, ConfigDict, NonNegativeInt

from muybridge.core.errors import RecipeError
from muybridge.core.skeletons import Layout, unnamed_layout

Pair = tuple[NonNegativeInt, NonNegativeInt]


class JointSettings(BaseModel):
    """What is known of the joints of an unnamed layout, by their numbers; empty: nothing.

    Attributes:
        names: of all joints; "head" and names that end in "ankle" or "foot" tell which way bodies stand.
        bones: parent and child of each bone, from the root outwards.
        mirror: left and right joints that a mirror swaps.
        root: the center of the body.
        torso: two joints whose distance is the unit of size.
        shoulders: left and right joint that show which way the body faces.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    names: tuple[str, ...] = ()
    bones: tuple[Pair, ...] = ()
    mirror: tuple[Pair, ...] = ()
    root: NonNegativeInt = 0
    torso: Pair | None = None
    shoulders: Pair | None = None

    @classmethod
    def of(cls, layout: Layout) -> Self:
        """The settings that give a layout."""
        if not layout.known:
            return cls(names=() if layout == unnamed_layout(len(layout)) else layout.joints)
        return cls(
            names=layout.joints,
            bones=layout.bones,
            mirror=layout.mirror,
            root=layout.root,
            torso=layout.torso,
            shoulders=layout.shoulders,
        )

    def layout(self, plain: Layout) -> Layout:
        """The layout of so many joints with these settings.

        Raises:
            RecipeError: they name joints that do not exist, or bones that are no tree from the root outwards.
        """
        pairs = [*self.bones, *self.mirror, *filter(None, (self.torso, self.shoulders))]
        if wrong := {joint for pair in pairs for joint in pair if joint >= len(plain)} | {self.root} - {
            *range(len(plain))
        }:
            raise _error(f"joint {max(wrong)}", f"numbers from 0 to {len(plain) - 1}")
        if self.names and len(set(self.names)) != len(plain):
            raise _error(f"{len(set(self.names))} different names", f"a name for each of {len(plain)} joints, or none")
        reached = {self.root}
        for parent, child in self.bones:
            if parent not in reached or child in reached:
                raise _error(f"the bone {parent}, {child}", "bones from the root outwards, one to each joint")
            reached.add(child)
        if self.bones and len(reached) < len(plain):
            raise _error(f"bones to {len(reached)} of {len(plain)} joints", "bones that connect all joints")
        return Layout(
            name=plain.name,
            joints=self.names or plain.joints,
            bones=self.bones,
            mirror=self.mirror,
            root=self.root,
            torso=self.torso,
            shoulders=self.shoulders,
        )


def _error(problem: str, expected: str) -> RecipeError:
    return RecipeError(f"data.joints has {problem}", expected=expected, hint="correct data.joints, or leave it out")
