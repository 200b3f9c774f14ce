"""Whether a folder is a run that this version can read, known without importing torch."""

import json
from pathlib import Path

from muybridge.core.errors import RunError

FORMAT = 2
"""Raised whenever a run folder of one version cannot be read by the other."""


def check_run(path: Path) -> None:
    """Refuse a folder that is not a run of this format.

    Raises:
        RunError: no such folder, not a run, damaged, or made by a newer or older version.
    """
    file = path / "run.json"
    if path.is_file():
        raise RunError(
            "a file, not a run folder",
            expected="a run folder, with run.json in it",
            hint="give its folder, or convert a released checkpoint with `muybridge convert FILE --run DIR`",
            where=path,
        )
    if not file.is_file():
        raise RunError(
            "no run in this folder" if path.is_dir() else "no such folder",
            expected="a run folder, with run.json in it",
            hint="train one with `muybridge train RECIPE --run DIR`",
            where=path,
        )
    try:
        number = int(json.loads(file.read_text(encoding="utf-8"))["format"])
    except (ValueError, KeyError, TypeError):
        raise RunError(
            "damaged", expected='JSON with "format"', hint="restore the file or train again", where=file
        ) from None
    if number > FORMAT:
        raise RunError(
            f"made by a newer version (run format {number})",
            expected=f"run format {FORMAT}",
            hint="upgrade with `pip install -U muybridge`",
            where=path,
        )
    if number < FORMAT:
        raise RunError(
            f"made by an older version (run format {number})",
            expected=f"run format {FORMAT}, in which settings and files have other names",
            hint="train again, or use the version that made it",
            where=path,
        )
