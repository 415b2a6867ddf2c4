from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from AGTraining.bundle import Bundle
from AGTraining.inference import predict as predict_module
from AGTraining.inference.predict import predict
from AGTraining.inference.tiles import gaussian_window, pad_to_multiple, tile_slices, tile_starts
from AGTraining.networks import AttentionUNet
from Testing.AGTraining.inference.synthetic import threshold_bundle


@pytest.mark.parametrize("size", [(16, 16, 16), (17, 31, 1), (48, 5, 33)])
def test_padding_is_undone_by_the_crop(size):
    x = torch.rand(1, 2, *size)
    padded, crop = pad_to_multiple(x, 16)
    assert all(n % 16 == 0 for n in padded.shape[2:])
    assert torch.equal(padded[(..., *crop)], x)


def test_padding_repeats_the_edge_or_takes_the_value():
    x = torch.rand(1, 1, 3, 16, 16)
    assert torch.equal(pad_to_multiple(x, 16)[0][:, :, 10], x[:, :, 2])
    assert (pad_to_multiple(x, 16, value=-7.0)[0][:, :, 3:] == -7).all()


@pytest.mark.parametrize(("size", "tile"), [(160, 64), (64, 64), (48, 64), (176, 96), (1024, 112)])
def test_tiles_cover_everything_with_overlap_on_the_coarsest_grid(size, tile):
    starts = tile_starts(size, tile, 0.25, 16)
    assert starts[0] == 0
    assert starts[-1] == max(0, size - tile)
    assert all(start % 16 == 0 for start in starts)
    assert all(b - a <= tile * 0.75 for a, b in pairwise(starts))


def test_tile_slices_cover_each_voxel():
    seen = np.zeros((48, 80, 64), int)
    for place in tile_slices(seen.shape, (32, 48, 64), 0.25, 16):
        seen[place] += 1
        assert seen[place].shape == (32, 48, 64)
    assert seen.min() >= 1


def test_window_is_highest_in_the_middle_and_never_zero():
    window = gaussian_window((8, 8, 9))
    assert window.dtype == np.float32
    assert window.min() > 0
    assert np.unravel_index(window.argmax(), window.shape)[2] == 4
    assert np.allclose(window, window[::-1, ::-1, ::-1])


def trained_like_bundle() -> Bundle:
    """A seeded network whose batch norms have seen images like those of the test: smooth, bounded activations."""
    bundle = threshold_bundle()
    torch.manual_seed(3)
    network = AttentionUNet(features=(4, 6, 8))
    network.train()
    with torch.no_grad():
        for _ in range(30):
            network(torch.from_numpy(image((64, 64, 64), np.random.default_rng()))[None, None])
    bundle.info.arguments.clear()
    return Bundle(bundle.info, network.eval().requires_grad_(False), bundle.device, bundle.path)


def image(shape: tuple[int, int, int], random: np.random.Generator) -> np.ndarray:
    coarse = torch.from_numpy(random.standard_normal((1, 1, *(n // 8 for n in shape))).astype(np.float32))
    return torch.nn.functional.interpolate(coarse, size=shape, mode="trilinear")[0, 0].numpy() * 2


def test_tiled_equals_untiled_away_from_what_a_tile_cannot_see():
    bundle = trained_like_bundle()
    x = image((96, 96, 112), np.random.default_rng(1))
    whole = predict(x, bundle, device="cpu", tile_size=x.shape, attention="gates")
    tiled = predict(x, bundle, device="cpu", tile_size=(64, 64, 64), attention="gates")
    difference = np.abs(whole.probabilities - tiled.probabilities)
    # Its three levels see about 30 voxels far, more than tiles overlap: near their edges they differ, half of all
    # voxels hardly at all. A tile in the wrong place would make a mean difference of about 0.2.
    assert np.median(difference) < 0.005
    assert difference.mean() < 0.02
    assert whole.attention.keys() == tiled.attention.keys() == {"level2.gate1", "level2.gate2"}
    for name, (alpha, factor) in whole.attention.items():
        assert factor == tiled.attention[name][1] == 2
        assert alpha.shape == tiled.attention[name][0].shape == (48, 48, 56)
        assert np.abs(alpha - tiled.attention[name][0]).mean() < 0.01  # pass-through gates: close to 0.95 everywhere


def test_local_network_gives_the_same_in_tiles():
    """The threshold network looks at single voxels, so that its tiles must agree everywhere."""
    bundle = threshold_bundle()
    x = image((64, 80, 96), np.random.default_rng(2))
    whole = predict(x, bundle, device="cpu", tile_size=x.shape)
    tiled = predict(x, bundle, device="cpu", tile_size=(32, 32, 48))
    assert np.abs(whole.probabilities - tiled.probabilities).max() < 1e-3


def test_sizes_that_do_not_divide_are_padded_and_cropped():
    x = image((56, 64, 72), np.random.default_rng(4))[:53, :61, :71]
    prediction = predict(x, threshold_bundle(), device="cpu", attention="levels")
    assert prediction.probabilities.shape == (3, 53, 61, 71)
    assert prediction.attention["level2"][0].shape == (27, 31, 36)


def test_tiles_shrink_with_the_memory_at_hand(monkeypatch):
    network = AttentionUNet()
    sizes = []
    for gib in (8.0, 1.0, 0.25):
        monkeypatch.setattr(predict_module, "free_memory_bytes", lambda device, gib=gib: int(gib * 2**30))
        tile = predict_module._tile((500, 200, 180), None, network, torch.device("cpu"))
        assert all(n % 16 == 0 for n in tile)
        sizes.append(np.prod(tile))
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > sizes[2]


def test_a_failed_tile_is_halved_down_to_the_smallest():
    tiles = [(96, 176, 208)]
    while predict_module._smaller(tiles[-1], 16) != tiles[-1]:
        tiles.append(predict_module._smaller(tiles[-1], 16))
    assert tiles[1] == (96, 176, 112)
    assert tiles[-1] == (64, 64, 64)
    assert predict_module._smaller((32, 48, 64), 16) == (32, 48, 64)
