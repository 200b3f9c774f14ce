"""A run as bytes, which every worker opens: none reads a run folder that another program may change meanwhile."""

import hashlib
import socket
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import muybridge
from muybridge.core.errors import RunError
from muybridge.core.hub import is_hub_address
from muybridge.engine.run_format import check_run
from muybridge.hub import fetch
from muybridge.predict import Predictor, Reject

FILES = (
    *("recipe.toml", "labels.txt", "run.json", "weights.safetensors"),
    *("calibration.json", "durations.json", "bodies.json"),
)
"""What a predictor reads of a run folder."""


@dataclass(frozen=True)
class RunSnapshot:
    """The files of a run at one moment.

    Attributes:
        path: of the run folder, or of the ONNX file.
        files: contents by name.
        version: of muybridge, which workers must have too.
    """

    path: Path
    files: dict[str, bytes]
    version: str = muybridge.__version__

    @classmethod
    def take(cls, run: Path) -> "RunSnapshot":
        """Read a run.

        Args:
            run: a run folder, an ONNX file, or the address of a run on the hub.

        Raises:
            RunError: no such run, or it changed while it was read.
        """
        if is_hub_address(run):
            run = fetch(run)
        if run.is_dir():
            check_run(run)
        before = _stamps(run)
        files = {path.name: path.read_bytes() for path in before}
        if _stamps(run) != before:
            raise RunError(
                "it changed while it was read",
                expected="a run that nothing writes to",
                hint="wait until the training or calibration into this folder has ended",
                where=run,
            )
        return cls(run, files)

    def checksums(self) -> dict[str, str]:
        """By which another run, or another state of this one, is recognized."""
        return {name: hashlib.blake2b(content, digest_size=16).hexdigest() for name, content in self.files.items()}

    def load(self, device: str, reject: Reject) -> Predictor:
        """The predictor of these files.

        Raises:
            RunError: this machine has another version of muybridge or no free space, or the run is damaged.
        """
        if muybridge.__version__ != self.version:
            raise RunError(
                f"a worker has muybridge {muybridge.__version__}",
                expected=f"version {self.version}, which started it",
                hint="install the same version on every machine of the cluster",
            )
        with TemporaryDirectory(prefix="muybridge-run-") as folder:
            try:
                for name, content in self.files.items():
                    Path(folder, name).write_bytes(content)
            except OSError as problem:
                raise RunError(
                    f"the run cannot be copied to {folder} on {socket.gethostname()} ({problem.strerror})",
                    expected="free space for temporary files on every machine",
                    hint="free some space there, or set TMPDIR",
                ) from None
            onnx = self.path.suffix.lower() == ".onnx"
            predictor = muybridge.load(Path(folder, self.path.name) if onnx else folder, device, reject=reject)
        predictor.run = self.path
        return predictor


def _stamps(run: Path) -> dict[Path, tuple[int, int]]:
    """The files that there are, with size and time of the last change."""
    paths = [run / name for name in FILES if (run / name).exists()] if run.is_dir() else [run]
    try:
        return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in paths}
    except OSError as problem:
        raise RunError(
            f"cannot be read ({problem.strerror})",
            expected="a run folder, or an ONNX file of `muybridge export`",
            hint="check the path",
            where=run,
        ) from None
