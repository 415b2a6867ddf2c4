from __future__ import annotations

import errno
import hashlib
import http.client
import json
import os
import pwd
import re
import shutil
import socket
import tempfile
import urllib.error
from pathlib import Path

import pytest
from AttentionSegmentationLib import ModelCatalogue as module
from AttentionSegmentationLib.MemorySettings import MemorySettings
from AttentionSegmentationLib.ModelCatalogue import ModelCatalogue, defaultCacheFolder, downloadWithSlicer

from AGTraining import bundle
from AGTraining.errors import BundleError
from Testing.AttentionSegmentation.modelServer import downloadFromServer, served

TEXTS = {"licence": "CC0", "trainingData": "none", "performance": "none", "description": "A test."}
CLASSES = [
    {"name": "kidney", "type_code": "64033007", "type_meaning": "Kidney", "color": [185, 102, 83], "paired": True}
]


@pytest.fixture
def server(tmp_path, tinyBundle):
    """A web server on this computer with the tiny model as `tiny.safetensors`; gives its address and folder."""
    folder = tmp_path / "server"
    folder.mkdir()
    shutil.copy(tinyBundle, folder / "tiny.safetensors")
    with served(folder) as address:
        yield address, folder


def entry(tinyBundle, address="https://127.0.0.1:9", **changes):
    """A download of the tiny model."""
    content = tinyBundle.read_bytes()
    return {
        "id": "tiny", "title": "Tiny", "task": "segmentation", "source": "download", "file": "tiny.safetensors",
        "url": f"{address}/tiny.safetensors", "sha256": hashlib.sha256(content).hexdigest(), "sizeBytes": len(content),
        "classes": CLASSES, "hasAttention": True, **TEXTS, **changes,
    }  # fmt: skip


@pytest.fixture
def make(tmp_path, tinyBundle):
    """A catalogue of these entries; the folder of models is `models ü` below the test's folder."""

    def catalogue(*entries, settings=None, download=downloadFromServer):
        path = tmp_path / "catalogue" / "catalogue.json"
        path.parent.mkdir(exist_ok=True)
        shutil.copy(tinyBundle, path.parent / "bundled.safetensors")
        path.write_text(json.dumps({"models": entries}), encoding="utf-8")
        made = ModelCatalogue(path, settings, download)
        made.cacheFolder = tmp_path / "models ü"
        return made

    return catalogue


BUNDLED = {
    "id": "bundled", "title": "Bundled", "task": "segmentation", "source": "bundled", "file": "bundled.safetensors",
    **TEXTS,
}  # fmt: skip


def files(catalogue):
    folder = catalogue.cacheFolder
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


# ---- the list


def test_starter_model_is_there_with_its_facts(repository):
    [model] = ModelCatalogue().models("segmentation")
    info = bundle.read_info(repository / "Resources" / "Models" / "abdomen-ct-starter.safetensors")
    assert (model.id, model.source, model.path) == ("abdomen-ct-starter", "bundled", bundle.default_path())
    assert model.labels == info.output_labels
    assert model.licence == info.licence
    assert model.hasAttention
    assert ModelCatalogue().isInstalled(model)
    assert ModelCatalogue().problems() == ()


def test_measured_numbers_of_the_starter_model_are_those_in_its_file(repository):
    [model] = ModelCatalogue().models("segmentation")
    info = bundle.read_info(model.path)
    [unseen] = info.metrics["unseen"].values()
    told = dict(re.findall(r"([a-z ]+) (\d\.\d\d)\b", model.performance.split(":")[1]))
    assert {name.strip(): float(value) for name, value in told.items()} == pytest.approx(unseen, abs=0.005)


def test_models_of_another_task_are_left_out(make, tinyBundle):
    catalogue = make(BUNDLED, entry(tinyBundle, id="planes", task="planes", classes=[]))
    assert [model.id for model in catalogue.models("segmentation")] == ["bundled"]
    assert [model.id for model in catalogue.models("planes")] == ["planes"]
    assert [model.id for model in catalogue.models()] == ["bundled", "planes"]


def test_download_that_is_not_here_says_its_facts(make, tinyBundle):
    catalogue = make(entry(tinyBundle))
    model = catalogue.find("tiny")
    assert (model.path, model.sizeBytes) == (None, tinyBundle.stat().st_size)
    assert [label.name for label in model.labels] == ["right kidney", "left kidney"]
    assert not catalogue.isInstalled(model)


def test_unknown_model_is_refused(make):
    with pytest.raises(BundleError, match="The model 'gone' is not among the models; choose another one"):
        make(BUNDLED).find("gone")


BROKEN = [
    ({"sha256": "abc"}, "'sha256' of the model 'tiny' should be 64 hexadecimal digits"),
    ({"sizeBytes": 0}, "'sizeBytes' of the model 'tiny' should be a whole number above 0"),
    ({"url": None}, "'url' of the model 'tiny' should be a text"),
    ({"task": "poetry"}, "'task' of the model 'tiny' should be segmentation or planes"),
    ({"source": "user"}, "'source' of the model 'tiny' should be bundled or download"),
    ({"file": "../tiny.safetensors"}, "'file' of the model 'tiny' should be a file name without folders"),
    ({"file": "C:\\tiny.safetensors"}, "'file' of the model 'tiny' should be a file name without folders"),
    ({"file": "tiny.exe"}, "'file' of the model 'tiny' should be a file name"),
    ({"file": "tiny\0.safetensors"}, "'file' of the model 'tiny' should be a file name"),
    ({"file": "NUL.safetensors"}, "'file' of the model 'tiny' should be a file name"),
    ({"url": "file:///etc/passwd"}, "'url' of the model 'tiny' should be an address that begins with https://"),
    ({"url": "http://example.org/tiny"}, "'url' of the model 'tiny' should be an address that begins with https://"),
    ({"id": "user:/x"}, "'id' of the model 'user:/x' should be lower-case letters and digits"),
    ({"classes": [{"name": "x"}]}, "'classes' of the model 'tiny' should be a list of organs"),
    ({"classes": 3}, "'classes' of the model 'tiny' should be a list of organs"),
    ({"id": "bundled"}, "The model 'bundled' is listed twice"),
    ({"source": "bundled", "file": "none.safetensors"}, "no such model file"),
]


@pytest.mark.parametrize(("changes", "message"), BROKEN, ids=[str(changes) for changes, _ in BROKEN])
def test_broken_entry_is_told_and_leaves_the_others(make, tinyBundle, changes, message):
    catalogue = make(BUNDLED, entry(tinyBundle, **changes), entry(tinyBundle, id="other"))
    assert [model.id for model in catalogue.models()] == ["bundled", "other"]
    [problem] = catalogue.problems()
    assert message in problem


def test_entry_that_is_no_object_leaves_the_others(make):
    catalogue = make(3, BUNDLED)
    assert [model.id for model in catalogue.models()] == ["bundled"]
    assert "no JSON object" in catalogue.problems()[0]


@pytest.mark.parametrize("text", ["", "[]", "{", '{"models": 3}', "\0"], ids=repr)
def test_broken_catalogue_leaves_the_users_models(make, tinyBundle, tmp_path, text):
    catalogue = make()
    catalogue.addFromFile(tinyBundle)
    (tmp_path / "catalogue" / "catalogue.json").write_text(text)
    assert [model.source for model in catalogue.models()] == ["user"]
    assert "catalogue.json: the catalogue of models is not valid" in catalogue.problems()[0]


# ---- downloads


def test_download_puts_the_checked_file_into_the_folder(make, tinyBundle, server):
    catalogue = make(entry(tinyBundle, server[0]))
    path = catalogue.install(catalogue.find("tiny"))
    assert path == catalogue.cacheFolder / "tiny.safetensors"
    assert path.read_bytes() == tinyBundle.read_bytes()
    assert files(catalogue) == ["tiny.safetensors"]
    installed = catalogue.find("tiny")
    assert (installed.path, catalogue.isInstalled(installed)) == (path, True)


def test_model_that_is_there_is_not_downloaded_again(make, tinyBundle):
    catalogue = make(entry(tinyBundle), download=lambda *arguments: pytest.fail("downloaded"))
    catalogue.cacheFolder.mkdir()
    shutil.copy(tinyBundle, catalogue.cacheFolder / "tiny.safetensors")  # as by hand
    assert catalogue.install(catalogue.find("tiny")) == catalogue.cacheFolder / "tiny.safetensors"


def test_file_of_another_content_is_replaced(make, tinyBundle, server):
    catalogue = make(entry(tinyBundle, server[0]))
    catalogue.cacheFolder.mkdir()
    damaged = bytearray(tinyBundle.read_bytes())
    damaged[-1] ^= 1
    (catalogue.cacheFolder / "tiny.safetensors").write_bytes(damaged)
    assert catalogue.install(catalogue.find("tiny")).read_bytes() == tinyBundle.read_bytes()


def test_failed_download_says_how_to_do_it_by_hand(make, tinyBundle, server):
    address, folder = server
    (folder / "tiny.safetensors").unlink()
    catalogue = make(entry(tinyBundle, address))
    with pytest.raises(BundleError) as error:
        catalogue.install(catalogue.find("tiny"))
    assert "no answer; there may be no network, or a firewall" in str(error.value)
    place = catalogue.cacheFolder / "tiny.safetensors"
    assert f"fetch {address}/tiny.safetensors on another computer and save it as {place}" in str(error.value)
    assert files(catalogue) == []


def test_firewalls_page_is_not_taken_for_the_model(make, tinyBundle, server):
    address, folder = server
    (folder / "tiny.safetensors").write_text("<html>Blocked by the hospital</html>")
    catalogue = make(entry(tinyBundle, address))
    with pytest.raises(BundleError, match="what arrived is not this model's file"):
        catalogue.install(catalogue.find("tiny"))
    assert files(catalogue) == []


def test_file_with_the_right_hash_that_is_no_model_is_refused(make, tinyBundle, server):
    address, folder = server
    content = b"not a model"
    (folder / "tiny.safetensors").write_bytes(content)
    changes = {"sha256": hashlib.sha256(content).hexdigest(), "sizeBytes": len(content)}
    catalogue = make(entry(tinyBundle, address, **changes))
    with pytest.raises(BundleError, match="not a complete"):
        catalogue.install(catalogue.find("tiny"))
    assert files(catalogue) == []


def test_failed_download_keeps_the_file_that_was_there(make, tinyBundle):
    catalogue = make(entry(tinyBundle), download=lambda url, path, sha256: False)
    catalogue.cacheFolder.mkdir()
    (catalogue.cacheFolder / "tiny.safetensors").write_text("older")
    with pytest.raises(BundleError):
        catalogue.install(catalogue.find("tiny"))
    assert (catalogue.cacheFolder / "tiny.safetensors").read_text() == "older"


def test_disk_that_is_too_small_is_noticed_before_the_download(make, tinyBundle):
    catalogue = make(entry(tinyBundle, sizeBytes=10**18), download=lambda *arguments: pytest.fail("downloaded"))
    with pytest.raises(BundleError, match="needs 1000000000000 MB, but the disk of .* choose another folder"):
        catalogue.install(catalogue.find("tiny"))


def test_folder_that_cannot_be_written_is_named(make, tinyBundle, tmp_path):
    catalogue = make(entry(tinyBundle))
    (tmp_path / "file").touch()
    catalogue.cacheFolder = tmp_path / "file" / "models"
    with pytest.raises(BundleError, match="'Tiny' cannot be saved in .*models .* choose another folder"):
        catalogue.install(catalogue.find("tiny"))


def test_disk_that_fills_up_while_downloading(make, tinyBundle):
    def download(url, path, sha256):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    catalogue = make(entry(tinyBundle), download=download)
    with pytest.raises(BundleError, match="No space left on device"):
        catalogue.install(catalogue.find("tiny"))
    assert files(catalogue) == []


@pytest.mark.parametrize(
    "problem",
    [ValueError("unknown url type"), urllib.error.URLError("name not known"), http.client.IncompleteRead(b"")],
    ids=lambda problem: type(problem).__name__,
)
def test_whatever_a_download_raises_is_told_with_the_way_by_hand(make, tinyBundle, problem):
    def download(url, path, sha256):
        path.write_bytes(b"half")
        raise problem

    catalogue = make(entry(tinyBundle), download=download)
    with pytest.raises(BundleError, match=rf"could not be downloaded \({type(problem).__name__}.*fetch https://"):
        catalogue.install(catalogue.find("tiny"))
    assert files(catalogue) == []


def test_server_that_never_answers_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_SECONDS_WITHOUT_ANSWER", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/tiny.safetensors"
        assert not downloadWithSlicer(url, tmp_path / "tiny.safetensors", "0" * 64)
    assert socket.getdefaulttimeout() is None


def test_bundled_model_needs_no_installation(make, tmp_path):
    catalogue = make(BUNDLED)
    model = catalogue.find("bundled")
    assert catalogue.install(model) == tmp_path / "catalogue" / "bundled.safetensors"
    model.path.unlink()
    with pytest.raises(BundleError, match="'Bundled' is gone; choose another model"):
        catalogue.install(model)


# ---- the user's own models


def test_users_model_is_added_with_what_its_file_says(make, tinyBundle, bundleInfo):
    settings = MemorySettings()
    model = make(BUNDLED, settings=settings).addFromFile(tinyBundle)
    assert (model.source, model.path, model.title, model.licence) == ("user", tinyBundle, "tiny", "Apache-2.0")
    assert model.labels == bundleInfo.output_labels
    again = make(BUNDLED, settings=settings)
    assert again.find(model.id) == model
    assert again.isInstalled(model)


def test_measurements_of_a_users_model_are_shown(tmp_path, make, tiny_network, bundleInfo):
    info = bundleInfo.model_copy(
        update={
            "arguments": {"num_classes": 4, "features": [4, 8, 16], "sub_gates": 2},
            "metrics": {"validation_dsc": {"spleen": 0.951, "pancreas": 0.7}, "measure": "text"},
            "provenance": {"training": "ten scans"},
        }
    )
    bundle.save(tmp_path / "mine.safetensors", tiny_network, info)
    model = make().addFromFile(tmp_path / "mine.safetensors")
    assert model.performance == "validation dsc: spleen 0.95, pancreas 0.70"
    assert model.trainingData == "ten scans"


def test_model_of_another_task_is_refused(make, tinyBundle):
    catalogue = make()
    with pytest.raises(BundleError, match="a model for the task 'segmentation'; choose one for 'planes'"):
        catalogue.addFromFile(tinyBundle, task="planes")
    assert catalogue.models() == ()


def test_file_that_is_no_model_is_refused(make, tmp_path):
    (tmp_path / "scan.safetensors").write_text("no model")
    catalogue = make()
    with pytest.raises(BundleError, match=r"scan\.safetensors: not a complete"):
        catalogue.addFromFile(tmp_path / "scan.safetensors")
    assert catalogue.models() == ()


def test_model_is_added_once(make, tinyBundle):
    catalogue = make(BUNDLED)
    assert catalogue.addFromFile(tinyBundle) == catalogue.addFromFile(str(tinyBundle))
    assert catalogue.addFromFile(catalogue.find("bundled").path).source == "bundled"
    assert [model.source for model in catalogue.models()] == ["bundled", "user"]


def test_users_file_that_vanished_is_told_and_comes_back(make, tinyBundle, tmp_path):
    path = shutil.copy(tinyBundle, tmp_path / "größer mine.safetensors")
    catalogue = make(BUNDLED)
    model = catalogue.addFromFile(path)
    path.rename(tmp_path / "elsewhere")
    assert [found.id for found in catalogue.models()] == ["bundled"]
    assert catalogue.problems() == (f"{path}: no such model file.",)
    assert not catalogue.isInstalled(model)
    (tmp_path / "elsewhere").rename(path)
    assert catalogue.find(model.id) == model


@pytest.fixture
def unreachable(monkeypatch):
    """Makes all below a folder unreachable, as a network drive that is gone; tests may run as root, who may all."""

    def make(folder, error):
        original = Path.stat

        def stat(path, **arguments):
            if folder in path.parents:
                raise OSError(error, os.strerror(error), str(path))
            return original(path, **arguments)

        monkeypatch.setattr(Path, "stat", stat)

    return make


@pytest.mark.parametrize("error", [errno.EACCES, errno.ESTALE, errno.EIO], ids=os.strerror)
def test_users_model_that_cannot_be_reached_leaves_the_others(make, tinyBundle, tmp_path, unreachable, error):
    path = tmp_path / "drive" / "mine.safetensors"
    path.parent.mkdir()
    shutil.copy(tinyBundle, path)
    catalogue = make(BUNDLED)
    model = catalogue.addFromFile(path)
    unreachable(path.parent, error)
    assert [model.id for model in catalogue.models()] == ["bundled"]
    assert catalogue.problems() == (f"{path}: the model file cannot be read ({os.strerror(error)}).",)
    assert not catalogue.isInstalled(model)
    with pytest.raises(BundleError, match="is gone; choose another model"):
        catalogue.install(model)


def test_users_model_with_a_name_that_is_too_long_leaves_the_others(make, tmp_path):
    settings = MemorySettings()
    settings.set("modelFiles", json.dumps([str(tmp_path / ("x" * 300 + ".safetensors"))]))
    catalogue = make(BUNDLED, settings=settings)
    assert [model.id for model in catalogue.models()] == ["bundled"]
    assert "File name too long" in catalogue.problems()[0]


def test_models_folder_that_cannot_be_reached_shows_downloads_as_not_installed(make, tinyBundle, unreachable):
    catalogue = make(BUNDLED, entry(tinyBundle))
    catalogue.cacheFolder.mkdir()
    shutil.copy(tinyBundle, catalogue.cacheFolder / "tiny.safetensors")
    unreachable(catalogue.cacheFolder, errno.EACCES)
    assert [(model.id, catalogue.isInstalled(model)) for model in catalogue.models()] == [
        ("bundled", True),
        ("tiny", False),
    ]


def test_file_of_an_unknown_account_is_refused(make):
    with pytest.raises(BundleError, match="no such model file"):
        make(BUNDLED).addFromFile("~nobody-of-this-name/x.safetensors")


@pytest.mark.parametrize("text", ["{", "3", '{"a": 1}', "[3]"])
def test_settings_of_another_program_are_no_models(make, text):
    settings = MemorySettings()
    settings.set("modelFiles", text)
    catalogue = make(BUNDLED, settings=settings)
    assert [model.id for model in catalogue.models()] == ["bundled"]


# ---- removing


def test_removing_a_users_model_leaves_its_file(make, tinyBundle):
    catalogue = make(BUNDLED)
    catalogue.remove(catalogue.addFromFile(tinyBundle))
    assert [model.id for model in catalogue.models()] == ["bundled"]
    assert tinyBundle.is_file()


def test_removing_a_download_deletes_its_file(make, tinyBundle, server):
    catalogue = make(entry(tinyBundle, server[0]))
    catalogue.install(catalogue.find("tiny"))
    catalogue.remove(catalogue.find("tiny"))
    assert files(catalogue) == []
    assert not catalogue.isInstalled(catalogue.find("tiny"))


def test_bundled_model_cannot_be_removed(make):
    catalogue = make(BUNDLED)
    with pytest.raises(BundleError, match="part of the extension"):
        catalogue.remove(catalogue.find("bundled"))
    assert catalogue.isInstalled(catalogue.find("bundled"))


def test_clearing_deletes_downloads_and_nothing_else(make, tinyBundle, server):
    catalogue = make(BUNDLED, entry(tinyBundle, server[0]))
    catalogue.install(catalogue.find("tiny"))
    (catalogue.cacheFolder / ".tiny.safetensors.123.part").write_bytes(b"1234")
    (catalogue.cacheFolder / "mine.safetensors").write_bytes(b"my own")
    assert catalogue.clearCache() == tinyBundle.stat().st_size + 4
    assert files(catalogue) == ["mine.safetensors"]
    assert catalogue.clearCache() == 0


def test_what_cannot_be_deleted_is_named_and_the_others_go(make, tinyBundle):
    catalogue = make(entry(tinyBundle), entry(tinyBundle, id="other", file="other.safetensors"))
    (catalogue.cacheFolder / "other.safetensors").mkdir(parents=True)
    shutil.copy(tinyBundle, catalogue.cacheFolder / "tiny.safetensors")
    with pytest.raises(BundleError, match=r"other\.safetensors .*cannot be deleted"):
        catalogue.clearCache()
    assert files(catalogue) == ["other.safetensors"]


# ---- the folder


def test_folder_is_remembered_and_can_be_forgotten(make, tmp_path):
    settings = MemorySettings()
    make(settings=settings).cacheFolder = tmp_path / "chosen ü"
    catalogue = ModelCatalogue(settings=settings)
    assert catalogue.cacheFolder == tmp_path / "chosen ü"
    catalogue.cacheFolder = None
    assert catalogue.cacheFolder == defaultCacheFolder()


@pytest.mark.parametrize(
    ("system", "variable"), [("linux", "XDG_DATA_HOME"), ("win32", "LOCALAPPDATA"), ("darwin", "HOME")]
)
def test_default_folder_is_the_users_own_and_is_not_made(monkeypatch, tmp_path, system, variable):
    monkeypatch.setattr(module.sys, "platform", system)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv(variable, str(tmp_path / "data"))
    folder = defaultCacheFolder()
    assert tmp_path / "data" in folder.parents
    assert folder.parts[-2:] == ("AttentionSegmentation", "Models")
    assert not folder.exists()


def test_account_without_a_home_gets_a_temporary_folder(monkeypatch):
    def getpwuid(uid):
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", getpwuid)
    for variable in ("HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(variable, raising=False)
    assert Path(tempfile.gettempdir()) in defaultCacheFolder().parents


def test_nothing_is_written_by_looking(make, tinyBundle):
    catalogue = make(BUNDLED, entry(tinyBundle))
    catalogue.models()
    catalogue.problems()
    assert not Path(catalogue.cacheFolder).exists()
