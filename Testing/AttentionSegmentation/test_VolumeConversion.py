from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
import slicer
import vtk
from AttentionSegmentationLib.VolumeConversion import addVolumeNode, volumeFromNode, worldFromParent

from AGTraining.errors import InputError
from AGTraining.imaging.volume import Volume

SCALAR_TYPES = {
    vtk.VTK_CHAR: np.int8,
    vtk.VTK_SIGNED_CHAR: np.int8,
    vtk.VTK_UNSIGNED_CHAR: np.uint8,
    vtk.VTK_SHORT: np.int16,
    vtk.VTK_UNSIGNED_SHORT: np.uint16,
    vtk.VTK_INT: np.int32,
    vtk.VTK_UNSIGNED_INT: np.uint32,
    vtk.VTK_LONG_LONG: np.int64,
    vtk.VTK_UNSIGNED_LONG_LONG: np.uint64,
    vtk.VTK_FLOAT: np.float32,
    vtk.VTK_DOUBLE: np.float64,
}


def worldLPS(node, index):
    """Where MRML itself puts a voxel (i, j, k), in LPS."""
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    world = [0.0, 0.0, 0.0]
    node.TransformPointToWorld(matrix.MultiplyPoint([*index, 1.0])[:3], world)
    return np.array([-world[0], -world[1], world[2]])


def addTransform(scene, matrix, parent=None):
    node = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    node.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(np.asarray(matrix, dtype=float)))
    if parent is not None:
        node.SetAndObserveTransformNodeID(parent.GetID())
    return node


SHEAR = [[1.1, 0.2, 0.1, 12], [0, 0.9, -0.3, -4], [0.1, 0, 1.3, 77], [0, 0, 0, 1]]
TURN = [[0, -1, 0, 5], [1, 0, 0, 6], [0, 0, 1, -7], [0, 0, 0, 1]]
MIRROR = [[-1, 0, 0, 3], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]


@pytest.mark.parametrize("order", list(permutations(range(3))))
@pytest.mark.parametrize("signs", list(product((1, -1), repeat=3)))
def test_voxels_lie_where_mrml_puts_them_in_any_axis_order(addCT, order, signs):
    matrix = np.eye(4)
    matrix[:3, :3] = (np.eye(3) * signs * np.array([0.7, 0.9, 2.5]))[list(order)]
    matrix[:3, 3] = (-120.0, 30.5, 77.25)
    node = addCT(ijkToRAS=matrix)
    volume = volumeFromNode(node)
    for index in ((0, 0, 0), (22, 16, 11), (3, 1, 7)):
        np.testing.assert_allclose(volume.ijk_to_world @ [*index, 1], [*worldLPS(node, index), 1], atol=1e-9)
    np.testing.assert_array_equal(volume.array, slicer.util.arrayFromVolume(node))


def test_oblique_and_anisotropic_grid_keeps_its_spacing(addCT):
    np.testing.assert_allclose(volumeFromNode(addCT()).spacing, (0.7, 0.9, 2.5), atol=1e-12)


@pytest.mark.parametrize("chain", [[SHEAR], [TURN, SHEAR], [MIRROR, TURN, SHEAR]], ids=["one", "two", "three"])
def test_nested_linear_transforms_move_the_volume(scene, addCT, chain):
    node, parent = addCT(), None
    for matrix in chain:
        parent = addTransform(scene, matrix, parent)
    node.SetAndObserveTransformNodeID(parent.GetID())
    volume = volumeFromNode(node)
    for index in ((0, 0, 0), (22, 16, 11)):
        np.testing.assert_allclose(volume.ijk_to_world @ [*index, 1], [*worldLPS(node, index), 1], atol=1e-9)


def addWarp(scene):
    node = scene.AddNewNodeByClass("vtkMRMLTransformNode", "breathing")
    spline = vtk.vtkThinPlateSplineTransform()
    source, target = vtk.vtkPoints(), vtk.vtkPoints()
    for point in ((0, 0, 0), (50, 0, 0), (0, 50, 0), (0, 0, 50), (50, 50, 50)):
        source.InsertNextPoint(point)
        target.InsertNextPoint(np.array(point) * (1, 1, 1.1) + (0, 0, point[0] * point[1] / 500))
    spline.SetSourceLandmarks(source)
    spline.SetTargetLandmarks(target)
    spline.SetBasisToR()
    node.SetAndObserveTransformToParent(spline)
    return node


def test_non_linear_transform_is_refused_by_name_with_a_way_out(scene, addCT):
    node = addCT()
    node.SetAndObserveTransformNodeID(addWarp(scene).GetID())
    with pytest.raises(InputError, match=r"^CT: its transform 'breathing' is not linear; harden it .* or remove it"):
        volumeFromNode(node)


def test_non_linear_transform_further_up_is_found(scene, addCT):
    node = addCT()
    inner = addTransform(scene, TURN, addWarp(scene))
    node.SetAndObserveTransformNodeID(inner.GetID())
    with pytest.raises(InputError, match="'breathing' is not linear"):
        volumeFromNode(node)


@pytest.mark.parametrize("scalarType", list(SCALAR_TYPES))
def test_every_scalar_type_is_kept(addCT, scalarType):
    node = addCT()
    image = vtk.vtkImageData()
    image.SetDimensions(3, 4, 5)
    image.AllocateScalars(scalarType, 1)
    for index in range(60):
        image.GetPointData().GetScalars().SetTuple1(index, index)
    node.SetAndObserveImageData(image)
    array = volumeFromNode(node).array
    assert array.dtype == SCALAR_TYPES[scalarType]
    np.testing.assert_array_equal(array, np.arange(60).reshape(5, 4, 3))


def test_voxels_are_not_copied_and_cannot_be_written(addCT):
    node = addCT()
    array = volumeFromNode(node).array
    assert np.shares_memory(array, slicer.util.arrayFromVolume(node))
    with pytest.raises(ValueError, match="read-only"):
        array[0, 0, 0] = 1


def test_extent_that_does_not_start_at_zero_is_part_of_the_geometry(addCT):
    node = addCT(ijkToRAS=np.diag([2.0, 2.0, 2.0, 1.0]))
    image = vtk.vtkImageData()
    image.SetExtent(10, 12, 20, 23, 30, 34)
    image.AllocateScalars(vtk.VTK_SHORT, 1)
    node.SetAndObserveImageData(image)
    np.testing.assert_allclose(volumeFromNode(node).ijk_to_world[:3, 3], (-20, -40, 60))


def test_no_node_is_refused():
    with pytest.raises(InputError, match="choose the CT"):
        volumeFromNode(None)


def test_node_without_voxels_is_refused(scene):
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty one")
    with pytest.raises(InputError, match=r"^empty one: the volume holds no voxels"):
        volumeFromNode(node)


def test_color_image_is_refused(scene):
    node = slicer.util.addVolumeFromArray(
        np.zeros((4, 5, 6, 3), np.uint8), name="photo", nodeClassName="vtkMRMLVectorVolumeNode"
    )
    with pytest.raises(InputError, match=r"^photo: each voxel holds 3 values"):
        volumeFromNode(node)


def test_label_map_is_refused(scene):
    node = slicer.util.addVolumeFromArray(
        np.zeros((4, 5, 6), np.uint8), name="labels", nodeClassName="vtkMRMLLabelMapVolumeNode"
    )
    with pytest.raises(InputError, match=r"^labels: this is a label map, not a CT"):
        volumeFromNode(node)


@pytest.mark.parametrize("className", ["vtkMRMLSequenceNode", "vtkMRMLModelNode", "vtkMRMLSegmentationNode"])
def test_other_nodes_are_refused_by_their_kind(scene, className):
    node = scene.AddNewNodeByClass(className, "thing")
    with pytest.raises(InputError, match=f"^thing: this is a {node.GetNodeTagName()}, not a volume"):
        volumeFromNode(node)


def test_flat_spacing_is_refused_with_the_node_name(scene, addCT):
    node = addCT()
    node.SetAndObserveTransformNodeID(addTransform(scene, np.diag([1.0, 1.0, 0.0, 1.0])).GetID())
    with pytest.raises(InputError, match=r"^CT: voxel spacing is zero"):
        volumeFromNode(node)


@pytest.mark.parametrize("chain", [[], [TURN], [MIRROR, SHEAR]], ids=["no parent", "one parent", "two parents"])
def test_volume_to_node_and_back_is_the_same_volume(scene, chain):
    parent = None
    for matrix in chain:
        parent = addTransform(scene, matrix, parent)
    matrix = np.array([[0, 0, 2.5, -80], [0.7, 0, 0, 11], [0, -0.9, 0, 40], [0, 0, 0, 1]])
    volume = Volume(np.random.default_rng(1).normal(size=(4, 5, 6)).astype(np.float32), matrix, "map")
    node = addVolumeNode(scene, volume, "map", parent)
    back = volumeFromNode(node)
    assert node.GetParentTransformNode() is parent
    np.testing.assert_allclose(back.ijk_to_world, matrix, atol=1e-9)
    np.testing.assert_array_equal(back.array, volume.array)
    assert back.array.dtype == np.float32


@pytest.mark.parametrize(
    ("values", "dtype"), [([-1024, 3071], np.int32), ([0, 2**40], np.float64)], ids=["small", "large"]
)
def test_64_bit_integers_become_a_type_that_vtk_shows(scene, values, dtype):
    volume = Volume(np.array(values, np.int64).reshape(1, 1, 2), np.eye(4))
    array = slicer.util.arrayFromVolume(addVolumeNode(scene, volume, "big"))
    assert array.dtype == dtype
    assert array.ravel().tolist() == values


def test_axis_aligned_geometry_survives_bit_for_bit(scene):
    """Else the batch script and the command line could disagree on a voxel."""
    matrix = np.array([[-0.791015625, 0, 0, 202.5], [0, 0.7, 0, -171.3], [0, 0, 3.3, 0.1], [0, 0, 0, 1]])
    node = addVolumeNode(scene, Volume(np.zeros((2, 2, 2), np.int16), matrix), "x")
    np.testing.assert_array_equal(volumeFromNode(node).ijk_to_world, matrix)


def test_world_from_parent_is_identity_without_a_transform(addCT):
    np.testing.assert_array_equal(worldFromParent(addCT()), np.eye(4))
