"""Volume nodes and AGTraining's volumes, in both directions: the only place where RAS and LPS meet."""

from collections.abc import Callable
from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from AGTraining.errors import InputError
from AGTraining.imaging.volume import Volume

# MRML's world is RAS, AGTraining's LPS: x and y change their signs.
_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def nodeName(node: Any) -> str:
    """What a node is called in names and sentences: its own name, or where it has none its ID."""
    return node.GetName() or node.GetID() or "volume"


def volumeFromNode(volumeNode: Any, parentToWorld: np.ndarray | None = None) -> Volume:
    """The voxels of a scalar volume node, of any scalar type, and where they lie in the world.

    The array (K, J, I) is a read-only view of the node's own memory. The geometry includes all parent transforms.
    parentToWorld: (4, 4) matrix that takes the place of the node's parent transforms, for a node of another scene.

    Raises InputError for a node that is no scalar volume, holds no voxels or is warped by a non-linear transform.
    """
    if volumeNode is None:
        raise InputError("No volume was chosen; choose the CT to segment.")
    name = nodeName(volumeNode)
    if not volumeNode.IsA("vtkMRMLScalarVolumeNode"):
        raise InputError(f"{name}: this is a {volumeNode.GetNodeTagName()}, not a volume; choose the CT volume.")
    if volumeNode.IsA("vtkMRMLLabelMapVolumeNode"):
        raise InputError(f"{name}: this is a label map, not a CT; choose the CT volume itself.")
    image = volumeNode.GetImageData()
    scalars = image.GetPointData().GetScalars() if image is not None else None
    if scalars is None or scalars.GetNumberOfTuples() == 0:
        raise InputError(f"{name}: the volume holds no voxels; load its file again or choose another volume.")
    if scalars.GetNumberOfComponents() != 1:
        raise InputError(
            f"{name}: each voxel holds {scalars.GetNumberOfComponents()} values (a color, vector or 4-D image); "
            "choose a volume with a single value in each voxel."
        )
    array = vtk_to_numpy(scalars).reshape(image.GetDimensions()[::-1])
    array.flags.writeable = False
    if parentToWorld is None:
        parentToWorld = worldFromParent(volumeNode)
    return Volume(array, _RAS_TO_LPS @ parentToWorld @ _arrayIJKToRAS(volumeNode), name)


def _arrayIJKToRAS(volumeNode: Any) -> np.ndarray:
    """(4, 4) matrix from array indices (i, j, k) to the node's own RAS coordinates, without parent transforms.

    It is the node's IJKToRAS matrix unless the image's extent does not start at zero.
    """
    matrix = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(matrix)
    shift = np.eye(4)
    shift[:3, 3] = volumeNode.GetImageData().GetExtent()[0::2]
    return slicer.util.arrayFromVTKMatrix(matrix) @ shift


def worldFromParent(node: Any, contentOf: Callable[[Any], Any] = lambda transformNode: transformNode) -> np.ndarray:
    """(4, 4) matrix from a transformable node's own RAS coordinates to the world's, through all parent transforms.

    contentOf: gives the node whose matrix counts in place of a transform node's own, as that of another time point.

    Raises InputError when one of them is not linear.
    """
    matrix = np.eye(4)
    ancestor = node.GetParentTransformNode()
    while ancestor is not None:
        content = contentOf(ancestor)
        if not content.IsLinear():
            raise InputError(
                f"{nodeName(node)}: its transform '{ancestor.GetName()}' is not linear; harden it on the volume "
                "(Data module, right-click on the volume's transform) or remove it, then segment again."
            )
        toParent = vtk.vtkMatrix4x4()
        content.GetMatrixTransformToParent(toParent)
        matrix = slicer.util.arrayFromVTKMatrix(toParent) @ matrix
        ancestor = ancestor.GetParentTransformNode()
    return matrix


def addVolumeNode(scene: Any, volume: Volume, name: str, parentTransformNode: Any = None) -> Any:
    """A new scalar volume node with a copy of the volume's voxels, at the volume's place in the world, not displayed.

    parentTransformNode: put the node under this linear transform; its own matrix then undoes the transform.
    """
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    if parentTransformNode is not None:
        node.SetAndObserveTransformNodeID(parentTransformNode.GetID())
    setVolume(node, volume, worldFromParent(node))
    return node


def setVolume(volumeNode: Any, volume: Volume, parentToWorld: np.ndarray) -> None:
    """Gives a scalar volume node a copy of the volume's voxels and its place in the world.

    parentToWorld: (4, 4) matrix of the transforms that the node is or will be under; the node's own matrix undoes it.
    64-bit integers, which VTK cannot show on all systems, become 32-bit integers or, where too large, float64.
    """
    array = volume.array
    if array.dtype.kind in "iu" and array.dtype.itemsize == 8:
        fits = array.size == 0 or (np.iinfo(np.int32).min <= array.min() and array.max() <= np.iinfo(np.int32).max)
        array = array.astype(np.int32 if fits else np.float64)
    ijkToParent = np.linalg.solve(parentToWorld, _RAS_TO_LPS @ volume.ijk_to_world)
    volumeNode.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(ijkToParent))
    slicer.util.updateVolumeFromArray(volumeNode, array)
