"""One benchmark per file, and the user's own."""

from typing import Annotated

from pydantic import Field

from muybridge.data.datasets.msr_action3d import MSRAction3D
from muybridge.data.datasets.sbu import SBU
from muybridge.data.datasets.utd_mhad import UTDMHAD

AnyDataset = Annotated[MSRAction3D | SBU | UTDMHAD, Field(discriminator="name")]
"""Every data set there is; recipes, the command line and the tests read this union."""
