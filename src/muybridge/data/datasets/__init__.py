"""One benchmark per file, and the user's own."""

from typing import Annotated

from pydantic import Field

from muybridge.data.datasets.diving48 import Diving48
from muybridge.data.datasets.finegym import FineGym
from muybridge.data.datasets.jester import Jester
from muybridge.data.datasets.kinetics import Kinetics
from muybridge.data.datasets.kth import KTH
from muybridge.data.datasets.labelled import Labelled
from muybridge.data.datasets.moving_shapes import MovingShapes
from muybridge.data.datasets.msr_action3d import MSRAction3D
from muybridge.data.datasets.ntu_rgbd import NTURGBD, NTURGBDVideo
from muybridge.data.datasets.pack import Pack
from muybridge.data.datasets.playback import Playback
from muybridge.data.datasets.sbu import SBU
from muybridge.data.datasets.skeleton_folder import SkeletonFolder
from muybridge.data.datasets.something import SomethingV1, SomethingV2
from muybridge.data.datasets.stick_figures import StickFigures
from muybridge.data.datasets.ucf_hmdb import HMDB51, UCF101
from muybridge.data.datasets.utd_mhad import UTDMHAD, UTDMHADArrow, UTDMHADDepth
from muybridge.data.datasets.video_folder import VideoFolder
from muybridge.data.datasets.video_list import VideoList

__all__ = [
    "HMDB51",
    "KTH",
    "NTURGBD",
    "SBU",
    "UCF101",
    "UTDMHAD",
    "AnyDataset",
    "Diving48",
    "FineGym",
    "Jester",
    "Kinetics",
    "MSRAction3D",
    "MovingShapes",
    "NTURGBDVideo",
    "Pack",
    "Playback",
    "SkeletonFolder",
    "SomethingV1",
    "SomethingV2",
    "StickFigures",
    "UTDMHADArrow",
    "UTDMHADDepth",
    "VideoFolder",
    "VideoList",
]

AnyDataset = Annotated[Labelled | Playback, Field(discriminator="name")]
"""Every data set there is; recipes, the command line and the tests read this union."""
