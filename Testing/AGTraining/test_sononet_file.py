"""The published SonoNet weights: converted exactly, agreeing with the reference, and bad files refused."""

from __future__ import annotations

import hashlib
import json
import pickle
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from AGTraining import bundle
from AGTraining.bundle_file import read_document
from AGTraining.cli import main
from AGTraining.errors import BundleError
from AGTraining.imaging.frames import open_frames
from AGTraining.inference.planes import PlaneDetector, analyse_clip
from AGTraining.sononet_file import import_sononet

# Of SonoNet16.npz at commit 6c4df39 of baumgach/SonoNet-weights.
PUBLISHED = "bbbf9dde2b3af686c247a3074d890ceb685cd63fc1fc2af7e704edc07810c53f"
# Stated of the reference: what a different rounding of one gray level makes.
TOLERANCE = 1e-3


def layers(features: int, classes: int = 14) -> list[np.ndarray]:
    """Random arrays in the layout of the published files."""
    draw = np.random.default_rng(features)
    before, arrays = 1, []
    shapes = [
        (features * width, 3) for width, n in zip((1, 2, 4, 8, 8), (2, 2, 3, 3, 3), strict=True) for _ in range(n)
    ]
    for channels, kernel in [*shapes, (features * 4, 1), (classes, 1)]:
        arrays.append(draw.normal(0, 0.2, (channels, before, kernel, kernel)).astype(np.float32))
        arrays += [draw.normal(0, 0.5, channels).astype(np.float32) for _ in range(3)]
        arrays.append(draw.uniform(0.5, 2, channels).astype(np.float32))
        before = channels
    return arrays


@pytest.fixture
def small(tmp_path: Path) -> Path:
    np.savez(tmp_path / "SonoNet2.npz", *layers(2))
    return tmp_path / "SonoNet2.npz"


@pytest.fixture(scope="module")
def published(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> bundle.PlanesBundle:
    path = tmp_path_factory.mktemp("sononet") / "sononet16.safetensors"
    source = shared_data / "ultrasound" / "sononet" / "SonoNet16.npz"
    assert main(["import-sononet", str(source), "--out", str(path)]) == 0
    return bundle.load_planes(path)


def test_published_weights_agree_with_the_reference(
    published: bundle.PlanesBundle, shared_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shared_data / "ultrasound" / "sononet"
    reference = json.loads((folder / "reference.json").read_text(encoding="utf-8"))
    assert list(published.info.names) == reference["class_names"]
    detector = PlaneDetector(published)
    differences = {}
    for result in reference["results"]:
        frame = np.asarray(Image.open(folder / "examples" / result["image"]).convert("RGB"))
        x, _ = published.info.frame.apply(frame)
        plain = torch.softmax(published.network(torch.from_numpy(x)[None, None]), dim=1)[0].numpy()
        with open_frames(folder / "examples" / result["image"]) as sequence:
            [read] = analyse_clip(sequence, detector).frames
        differences[result["image"]] = max(
            float(np.abs(p - result["probabilities"]).max()) for p in (plain, read.result.probabilities)
        )
        assert read.result.plane == result["true"]
    with capsys.disabled():
        print("\nlargest difference of a probability from the reference")
        for name, difference in differences.items():
            print(f"  {name:<20} {difference:.1e}")
    assert len(differences) == 13
    assert max(differences.values()) < TOLERANCE


def test_published_file_is_the_one_of_the_repository(
    published: bundle.PlanesBundle, shared_data: Path, repository: Path
) -> None:
    content = (shared_data / "ultrasound" / "sononet" / "SonoNet16.npz").read_bytes()
    catalogue = json.loads((repository / "Resources" / "Models" / "catalogue.json").read_text(encoding="utf-8"))
    [entry] = [entry for entry in catalogue["models"] if entry["id"] == "sononet16"]
    assert hashlib.sha256(content).hexdigest() == PUBLISHED == entry["sha256"]
    assert len(content) == entry["sizeBytes"]
    assert published.info.provenance["source_sha256"] == PUBLISHED
    assert "/SonoNet-weights/6c4df39927e42f5b873c09a733bc658ff1ff419c/SonoNet16.npz" in entry["url"]


@pytest.mark.parametrize("features", [2, 4])
def test_every_width_of_the_layout_is_converted(tmp_path: Path, features: int) -> None:
    arrays = layers(features)
    np.savez(tmp_path / "in.npz", *arrays)
    assert import_sononet(tmp_path / "in.npz", tmp_path / "out.safetensors") == features
    model = bundle.load_planes(tmp_path / "out.safetensors")
    x = torch.randn(1, 1, 32, 48, generator=torch.Generator().manual_seed(0))
    expected = x
    for n in range(15):
        weight, beta, gamma, mean, inverse_sd = map(torch.from_numpy, arrays[5 * n : 5 * n + 5])
        if n in (2, 4, 7, 10):
            expected = torch.max_pool2d(expected, 2)
        expected = torch.conv2d(expected, weight, padding=weight.shape[-1] // 2)
        scale, shift = (gamma * inverse_sd)[:, None, None], beta[:, None, None]
        expected = (expected - mean[:, None, None]) * scale + shift
        expected = expected if n == 14 else torch.relu(expected)
    torch.testing.assert_close(model.network(x), expected.mean(dim=(2, 3)), rtol=1e-4, atol=1e-4)


def test_the_commands_output_says_what_it_is(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import-sononet", str(small), "--out", str(tmp_path / "m.safetensors")]) == 0
    assert "m.safetensors: SonoNet-2, 14 classes, Apache-2.0" in capsys.readouterr().out
    document = read_document(tmp_path / "m.safetensors")
    assert document["frame"]["fixed"] == [115, 734, 81, 874]
    assert [plane["name"] for plane in document["classes"] if plane["background"]] == ["Background"]


def test_nothing_is_overwritten_unless_asked(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "m.safetensors"
    out.write_text("mine")
    assert main(["import-sononet", str(small), "--out", str(out)]) == 1
    assert "exists already; choose another name, or add --overwrite" in capsys.readouterr().err
    assert out.read_text() == "mine"
    assert main(["import-sononet", str(small), "--out", str(out), "--overwrite"]) == 0
    assert main(["import-sononet", str(small), "--out", str(tmp_path / "m.npz")]) == 1
    assert "must end in .safetensors" in capsys.readouterr().err


def test_conversion_needs_neither_torch_nor_safetensors(small: Path, tmp_path: Path, repository: Path) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(repository)!r}); from pathlib import Path\n"
        "from AGTraining.sononet_file import import_sononet\n"
        f"import_sononet(Path({str(small)!r}), Path({str(tmp_path / 'm.safetensors')!r}))\n"
        "print(sorted({'torch', 'safetensors', 'pydantic'} & set(sys.modules)))"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "[]"
    bundle.load_planes(tmp_path / "m.safetensors")


class CreatesAFile:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def missing(path: Path) -> None:
    path.unlink()


def text(path: Path) -> None:
    path.write_text("404: Not Found")


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3000])


def altered(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[content.index(layers(2)[50].tobytes()) + 100] ^= 1
    path.write_bytes(content)


def other_network(path: Path) -> None:
    np.savez(path, *layers(2)[:18])


def other_shapes(path: Path) -> None:
    np.savez(path, *[*layers(2)[:5], np.zeros((3, 3, 3, 3), np.float32), *layers(2)[6:]])


def other_names(path: Path) -> None:
    np.savez(path, **{f"w{n}": array for n, array in enumerate(layers(2))})


def other_classes(path: Path) -> None:
    np.savez(path, *layers(2, classes=5))


def not_finite(path: Path) -> None:
    arrays = layers(2)
    arrays[7][0] = np.nan
    np.savez(path, *arrays)


def negative(path: Path) -> None:
    arrays = layers(2)
    arrays[9][0] = -1
    np.savez(path, *arrays)


def no_arrays(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("arr_0.txt", "text")


BAD: list[tuple[Callable[[Path], None], str]] = [
    (missing, "no such weights file; download it from github.com/baumgach/SonoNet-weights"),
    (text, "not a complete .npz file .*; download it again"),
    (truncated, "not a complete .npz file .*; download it again"),
    (altered, "not a complete .npz file .*; download it again"),
    (other_network, "not the weights of a SonoNet-16, -32 or -64 .*18 arrays; they have 75.*take one of those files"),
    (other_shapes, r"W of layer 2 is float32 \(3, 3, 3, 3\), not float \(2, 2, 3, 3\)"),
    (other_names, "its arrays are not named arr_0, arr_1"),
    (other_classes, r"W of layer 15 is float32 \(5, 8, 1, 1\), not float \(14, 8, 1, 1\)"),
    (not_finite, "gamma of layer 2 is not finite"),
    (negative, "inv_std of layer 2 is not positive"),
    (no_arrays, "its arrays are not named arr_0, arr_1"),
]


@pytest.mark.parametrize(("spoil", "message"), BAD, ids=[spoil.__name__ for spoil, _ in BAD])
def test_bad_file_is_one_sentence_and_leaves_nothing(
    small: Path, tmp_path: Path, spoil: Callable[[Path], None], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(small)
    assert main(["import-sononet", str(small), "--out", str(tmp_path / "out" / "m.safetensors")]) == 1
    error = capsys.readouterr().err
    assert re.search(f"{re.escape(str(small))}: .*{message}", error)
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_pickled_arrays_are_refused_and_run_nothing(tmp_path: Path) -> None:
    created = tmp_path / "created"
    objects = np.empty(1, object)
    objects[0] = CreatesAFile(created)
    np.savez(tmp_path / "evil.npz", objects, *layers(2)[1:])
    with pytest.raises(BundleError, match=r"evil\.npz: not the weights .*no plain array"):
        import_sononet(tmp_path / "evil.npz", tmp_path / "m.safetensors")
    assert not created.exists()
    # The trap is real.
    with np.load(tmp_path / "evil.npz", allow_pickle=True) as file:
        _ = file["arr_0"]
    assert created.exists()


def test_plain_pickle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "weights.npz").write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(BundleError, match=r"weights\.npz: not a complete \.npz file"):
        import_sononet(tmp_path / "weights.npz", tmp_path / "m.safetensors")


@pytest.mark.parametrize("shape", ["(1000000000000, 10)", "(1, "])
def test_damaged_header_of_an_array_is_one_sentence(tmp_path: Path, shape: str) -> None:
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}".encode().ljust(117) + b"\n"
    if shape.endswith(")"):
        header = header.replace(b")", b")}", 1)
    with zipfile.ZipFile(tmp_path / "w.npz", "w") as archive:
        archive.writestr("arr_0.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(BundleError, match="it holds what is no plain array"):
        import_sononet(tmp_path / "w.npz", tmp_path / "m.safetensors")
