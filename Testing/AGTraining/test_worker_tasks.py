from __future__ import annotations

import errno
import os
import shutil
import sys
from pathlib import Path

import pytest

from AGTraining import bundle, worker_tasks
from AGTraining.errors import BundleError, Cancelled, DeviceError, PackageError
from AGTraining.inference import segment as inference_segment
from AGTraining.worker_tasks import ModelKeeper, error_fields, load_packages
from Testing.AGTraining.inference.synthetic import grid_matrix, patient, threshold_bundle
from Testing.AGTraining.worker_process import segment_request

COARSE = grid_matrix((0, 1, 2), (1, 1, 1), (16.0, 16.0, 16.0))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    exact = threshold_bundle()
    bundle.save(tmp_path / "thresholds.safetensors", exact.network, exact.info)
    return tmp_path / "thresholds.safetensors"


def test_model_is_loaded_once_while_its_file_stays(model: Path) -> None:
    models = ModelKeeper()

    assert models.load(model) is models.load(model)


def test_changed_model_is_loaded_again(model: Path) -> None:
    models = ModelKeeper()
    first = models.load(model)
    other = threshold_bundle(spacing=3.0)
    bundle.save(model, other.network, other.info)

    assert models.load(model) is not first
    assert models.load(model).info.spacing_mm == (3.0, 3.0, 3.0)


def test_another_model_takes_the_place_of_the_first(model: Path, tmp_path: Path) -> None:
    models = ModelKeeper()
    first = models.load(model)
    second = models.load(Path(shutil.copy(model, tmp_path / "copy.safetensors")))

    assert second.path.name == "copy.safetensors"
    assert models.load(model) is not first


def test_deleted_model_is_missing_though_it_was_loaded(model: Path) -> None:
    models = ModelKeeper()
    models.load(model)
    model.unlink()

    with pytest.raises(BundleError, match="no such model file"):
        models.load(model)


def test_package_that_is_half_installed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "half_installed").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(worker_tasks, "PACKAGES", ("half_installed",))

    with pytest.raises(PackageError, match="package half_installed is only partly there; remove it"):
        load_packages()


def test_package_whose_part_is_missing_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "part_missing").mkdir()
    (tmp_path / "part_missing" / "__init__.py").write_text("import part_missing.core")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(worker_tasks, "PACKAGES", ("part_missing",))

    with pytest.raises(PackageError, match=r"part_missing cannot be loaded \(No module named 'part_missing.core'\)"):
        load_packages()


def test_package_that_was_installed_after_it_was_missing_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(worker_tasks, "PACKAGES", ("installed_late",))
    before = tmp_path.stat()
    with pytest.raises(PackageError, match="installed_late is missing"):
        load_packages()
    (tmp_path / "installed_late.py").write_text("")
    # Python looks into a folder again when its time has changed; a clock may be too coarse for that.
    os.utime(tmp_path, ns=(before.st_atime_ns, before.st_mtime_ns))

    load_packages()

    del sys.modules["installed_late"]


def test_no_room_for_a_library_is_a_lack_of_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What Windows says when the paging file cannot hold PyTorch's libraries.
    (tmp_path / "too_large.py").write_text("error = OSError('paging file')\nerror.winerror = 1455\nraise error")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(worker_tasks, "PACKAGES", ("too_large",))

    with pytest.raises(OSError) as caught:
        load_packages()

    assert error_fields(caught.value)["code"] == "memory"


def test_import_stops_when_cancelled() -> None:
    with pytest.raises(Cancelled):
        load_packages(lambda: True)


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (DeviceError("Device 'cuda:9' is not available."), "device", "Device 'cuda:9' is not available."),
        (MemoryError(), "memory", "not enough memory"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "memory", "not enough memory"),
        (OSError(errno.ENOSPC, "No space left on device", "/tmp/x"), "disk", "/tmp/x"),
        (ImportError("cannot import name 'x'"), "package", "cannot import name 'x'"),
        (OSError(errno.EACCES, "Permission denied"), "internal", "Permission denied"),
        (ZeroDivisionError("division\nby zero"), "internal", "ZeroDivisionError: division by zero"),
    ],
)
def test_error_has_its_code_and_a_sentence(error: Exception, code: str, text: str) -> None:
    fields = error_fields(error)

    assert fields["code"] == code
    assert text in fields["message"]
    assert type(error).__name__ in fields["traceback"]


def test_memory_that_pytorch_lacks_outside_of_the_network_is_a_lack_of_memory(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def segment(*_: object, **__: object) -> None:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes")

    monkeypatch.setattr(inference_segment, "segment", segment)
    request = segment_request("1", tmp_path, patient(*COARSE), model)

    with pytest.raises(MemoryError, match="can't allocate memory"):
        worker_tasks.segment(request, ModelKeeper(), lambda *_: None, lambda: False)
