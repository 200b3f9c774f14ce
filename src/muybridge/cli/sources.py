"""What a command is pointed at: a recipe, or recordings of the user's own, for which a starter recipe is taken."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from muybridge.cli.app import expand_user
from muybridge.cli.options import ChosenRecipe, choose_recipe
from muybridge.core.addresses import is_address
from muybridge.core.errors import DataError, RecipeError
from muybridge.core.packed import is_pack


def choose_source(source: str, settings: Mapping[str, Any]) -> ChosenRecipe:
    """The recipe of a name or TOML file; of a folder or a table of recordings, the starter recipe that fits them.

    Raises:
        DataError: the recordings are of several kinds.
        RecipeError: no such recipe, or a wrong setting.
    """
    path = expand_user(Path(source))
    if is_address(source) or path.is_dir() or is_table(path):
        place = source if is_address(source) else str(path.resolve())
        return choose_recipe(None, {**settings, "data.root": place}, starter_of(source), path)
    try:
        return choose_recipe(source, dict(settings))
    except RecipeError as error:
        if path.exists() or str(error.where) != source:
            raise
        expected = f"a folder with class folders, a table of recordings, a pack, {error.expected}"
        problem = f"{error.problem}, and no such folder or file"
        raise RecipeError(problem, expected=expected, hint=error.hint, where=source) from None


def is_table(path: Path) -> bool:
    """Whether a path is a file that names recordings."""
    if not path.is_file() or path.suffix.lower() == ".toml":
        return False
    from muybridge.data.annotations.read import is_annotation_file

    return is_annotation_file(path)


def starter_of(source: str | Path) -> str:
    """A model for the kind of recordings that a folder or a pack holds, or a table names, by the suffixes of files."""
    if is_pack(source):
        from muybridge.core.contracts import SkeletonData
        from muybridge.data.datasets import Pack

        return "drnn" if isinstance(Pack(root=str(source)).holds(), SkeletonData) else "tdn"
    folder = expand_user(Path(source))
    from muybridge.core.files import find_files
    from muybridge.media.container import SUFFIXES as VIDEO_SUFFIXES
    from muybridge.media.skeleton import SUFFIXES as SKELETON_SUFFIXES

    if is_table(folder):
        from muybridge.data.annotations.read import read_annotations

        suffixes = [Path(text).suffix.lower() for text in {each.path for each in read_annotations(folder)}]
        videos, skeletons = (sum(suffix in kind for suffix in suffixes) for kind in (VIDEO_SUFFIXES, SKELETON_SUFFIXES))
    else:
        videos, skeletons = (len(find_files(folder, kind).files) for kind in (VIDEO_SUFFIXES, SKELETON_SUFFIXES))
    if videos and skeletons:
        raise DataError(
            f"the {'table names' if folder.is_file() else 'folder holds'} {videos} videos and {skeletons} files of "
            "skeletons",
            expected="one kind of recordings",
            hint="give a recipe, such as one that `muybridge init --model drnn --data DIR` writes",
            where=folder,
        )
    return "drnn" if skeletons else "tdn"
