from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from AttentionSegmentationLib.TemporaryFolder import TemporaryFolder, removeLeftovers, temporaryFolder
from AttentionSegmentationLib.WorkerError import WorkerError


@pytest.fixture
def parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files."""
    folder = tmp_path / "Größe mit Leerzeichen"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def leftover(parent: Path, processId: int, days: float) -> Path:
    """A folder that a process left behind."""
    folder = parent / f"AttentionSegmentation-{processId}-abc_123"
    folder.mkdir()
    (folder / "input.npy").write_bytes(b"voxels")
    when = time.time() - days * 24 * 3600
    os.utime(folder, (when, when))
    return folder


@pytest.fixture
def endedProcess() -> int:
    process = subprocess.Popen([sys.executable, "-S", "-c", ""])
    process.wait()
    return process.pid


def test_folder_lies_among_temporary_files_until_the_block_ends(parent):
    with temporaryFolder() as path:
        (path / "input.npy").write_bytes(b"voxels")
        assert path.parent == parent
    assert not path.exists()


@pytest.mark.skipif(os.name == "nt", reason="modes are POSIX's")
def test_nobody_else_can_read_it(parent):
    with temporaryFolder() as path:
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_it_goes_with_the_object_that_holds_it(parent):
    folder = TemporaryFolder()
    path = folder.path
    assert path.is_dir()
    del folder
    assert not path.exists()


def test_it_can_be_removed_twice(parent):
    folder = temporaryFolder()
    folder.remove()
    folder.remove()
    assert list(parent.iterdir()) == []


def test_what_cannot_be_removed_yet_goes_with_the_next_folder(parent, monkeypatch):
    folder = temporaryFolder()
    with monkeypatch.context() as locked:
        locked.setattr(shutil, "rmtree", lambda path, ignore_errors: None)
        folder.remove()
    assert folder.path.exists()
    with temporaryFolder():
        assert not folder.path.exists()


def test_parent_that_does_not_exist_is_named_with_advice(parent, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(parent / "gone"))
    with pytest.raises(WorkerError, match="gone: no folder can be made there .* TMPDIR") as caught:
        temporaryFolder()
    assert caught.value.code == "disk"


def test_too_little_room_is_told_before_anything_is_written(parent):
    with pytest.raises(WorkerError, match=r"1000000000000 MB are needed") as caught:
        temporaryFolder(neededBytes=10**18)
    assert caught.value.code == "disk"
    assert list(parent.iterdir()) == []


def test_disk_that_does_not_tell_its_room_is_a_sentence(parent, monkeypatch):
    def fail(path):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(shutil, "disk_usage", fail)
    with pytest.raises(WorkerError, match=r"no folder can be used there \(Input/output error\)") as caught:
        temporaryFolder(neededBytes=1)
    assert caught.value.code == "disk"
    assert list(parent.iterdir()) == []


def test_leftovers_of_ended_processes_go_after_a_day(parent, endedProcess):
    old = leftover(parent, endedProcess, days=1.1)
    with temporaryFolder():
        assert not old.exists()


def test_young_leftovers_stay(parent, endedProcess):
    young = leftover(parent, endedProcess, days=0.9)
    removeLeftovers(parent)
    assert young.exists()


def test_folders_of_running_processes_stay(parent):
    busy = leftover(parent, os.getpid(), days=3)
    removeLeftovers(parent)
    assert busy.exists()


def test_other_folders_and_links_stay(parent, endedProcess, tmp_path):
    old = leftover(parent, endedProcess, days=3)
    other = old.rename(parent / "AttentionSegmentation-notes")
    target = tmp_path / "target"
    target.mkdir()
    link = parent / f"AttentionSegmentation-{endedProcess}-link"
    link.symlink_to(target, target_is_directory=True)
    when = time.time() - 3 * 24 * 3600
    os.utime(link, (when, when), follow_symlinks=False)
    removeLeftovers(parent)
    assert other.exists()
    assert link.exists()
