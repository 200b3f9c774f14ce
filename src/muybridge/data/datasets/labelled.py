"""The data sets of labelled recordings, as one type."""

from typing import Annotated

from pydantic import Field

from muybridge.data.datasets.diving48 import Diving48
from muybridge.data.datasets.finegym import FineGym
from muybridge.data.datasets.jester import Jester
from muybridge.data.datasets.kinetics import Kinetics
from muybridge.data.datasets.kth import KTH
from muybridge.data.datasets.moving_shapes import MovingShapes
from muybridge.data.datasets.msr_action3d import MSRAction3D
from muybridge.data.datasets.ntu_rgbd import NTURGBD, NTURGBDVideo
from muybridge.data.datasets.pack import Pack
from muybridge.data.datasets.sbu import SBU
from muybridge.data.datasets.skeleton_folder import SkeletonFolder
from muybridge.data.datasets.something import SomethingV1, SomethingV2
from muybridge.data.datasets.stick_figures import StickFigures
from muybridge.data.datasets.ucf_hmdb import HMDB51, UCF101
from muybridge.data.datasets.utd_mhad import UTDMHAD, UTDMHADArrow, UTDMHADDepth
from muybridge.data.datasets.video_folder import VideoFolder
from muybridge.data.datasets.video_list import VideoList

Labelled = (
    SkeletonFolder
    | Diving48
    | FineGym
    | HMDB51
    | Jester
    | Kinetics
    | KTH
    | MovingShapes
    | MSRAction3D
    | NTURGBD
    | NTURGBDVideo
    | Pack
    | SomethingV1
    | SomethingV2
    | StickFigures
    | SBU
    | UCF101
    | UTDMHAD
    | UTDMHADArrow
    | UTDMHADDepth
    | VideoFolder
    | VideoList
)

LabelledDataset = Annotated[Labelled, Field(discriminator="name")]
"""Every data set whose recordings have labels of their own."""
