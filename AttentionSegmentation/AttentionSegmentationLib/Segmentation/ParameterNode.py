"""All that a user chose in the panel, as it is saved with the scene."""

from typing import Annotated

from slicer import vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode
from slicer.parameterNodeWrapper import Choice, WithinRange, parameterNodeWrapper

from .AttentionNodes import ATTENTION_THRESHOLD


@parameterNodeWrapper
class SegmentationParameterNode:
    """The choices of the panel, and which segmentation its results show.

    outputSegmentation: the segmentation whose segments are replaced; None makes a new one. modelId: of the catalogue;
    empty is the catalogue's first. omittedOrgans: names of the labels that were unticked; they stay unticked when
    another model is chosen. tileSize: edge in voxels of the model; 0 is automatic. overlayMap: name of the attention
    map on top; empty is the first. resultSegmentation, resultMessages: what the last run made and said.
    """

    inputVolume: vtkMRMLScalarVolumeNode
    outputSegmentation: vtkMRMLSegmentationNode
    frames: Annotated[str, Choice(["current", "all"])] = "current"
    modelId: str = ""
    omittedOrgans: list[str]
    attention: bool = False
    subGates: bool = False
    overlayVisible: bool = False
    overlayMap: str = ""
    overlayOpacity: Annotated[float, WithinRange(0.0, 1.0)] = 0.5
    overlayThreshold: Annotated[float, WithinRange(0.0, 1.0)] = ATTENTION_THRESHOLD
    overlayLegend: bool = True
    device: str = "auto"
    tileSize: int = 0
    mirror: bool = False
    largestComponent: bool = True
    keepLogs: bool = False
    resultSegmentation: vtkMRMLSegmentationNode
    resultMessages: list[str]
