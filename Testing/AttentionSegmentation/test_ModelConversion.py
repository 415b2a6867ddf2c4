"""Downloads that become model files here, on the way that users take: the catalogue."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from AttentionSegmentationLib.ModelCatalogue import ModelCatalogue

from AGTraining import bundle
from AGTraining.errors import BundleError
from Testing.AGTraining.planes_model import planes_file
from Testing.AGTraining.test_sononet_file import layers
from Testing.AttentionSegmentation.modelServer import downloadFromServer, served

TEXTS = {"licence": "Apache-2.0", "trainingData": "none", "performance": "none", "description": "A test."}


@pytest.fixture
def weights(tmp_path):
    """A weights file in the published layout."""
    np.savez(tmp_path / "Weights.npz", *layers(2))
    return tmp_path / "Weights.npz"


@pytest.fixture
def server(tmp_path, weights):
    """The address and folder of a web server on this computer that has the weights."""
    folder = tmp_path / "server"
    folder.mkdir()
    shutil.copy(weights, folder)
    with served(folder) as address:
        yield address, folder


def noDownload(url, path, sha256):
    pytest.fail("downloaded")


@pytest.fixture
def make(tmp_path, weights):
    """A catalogue whose only model is made of the weights."""

    def catalogue(address="https://127.0.0.1:9", download=downloadFromServer, **changes):
        content = weights.read_bytes()
        entry = {
            "id": "sononet", "title": "Sononet", "task": "planes", "source": "download", "file": "Weights.safetensors",
            "convert": "sononet-npz", "url": f"{address}/Weights.npz", "sizeBytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(), "hasAttention": False, **TEXTS, **changes,
        }  # fmt: skip
        path = tmp_path / "catalogue.json"
        path.write_text(json.dumps({"models": [entry]}), encoding="utf-8")
        made = ModelCatalogue(path, None, download)
        made.cacheFolder = tmp_path / "models ü"
        return made

    return catalogue


def files(catalogue):
    return sorted(path.name for path in catalogue.cacheFolder.iterdir()) if catalogue.cacheFolder.exists() else []


def test_download_becomes_a_model_file_and_goes(make, server):
    catalogue = make(server[0])
    assert not catalogue.isInstalled(catalogue.find("sononet"))
    path = catalogue.install(catalogue.find("sononet"))
    assert files(catalogue) == ["Weights.safetensors"]
    assert len(bundle.load_planes(path).info.classes) == 14
    model = catalogue.find("sononet")
    assert (model.path, model.labels, catalogue.isInstalled(model)) == (path, (), True)


def test_model_that_was_made_is_not_downloaded_again(make, server):
    catalogue = make(server[0])
    path = catalogue.install(catalogue.find("sononet"))
    before = path.stat().st_mtime_ns
    again = make(server[0], download=noDownload)
    assert again.install(again.find("sononet")) == path
    assert path.stat().st_mtime_ns == before


def test_model_made_of_other_weights_is_not_taken_for_it(make, server, tmp_path):
    catalogue = make(server[0])
    catalogue.cacheFolder.mkdir()
    planes_file(catalogue.cacheFolder / "Weights.safetensors")
    model = catalogue.find("sononet")
    assert not catalogue.isInstalled(model)
    assert len(bundle.load_planes(catalogue.install(model)).info.classes) == 14


def test_failed_download_says_where_to_put_the_weights_and_they_are_taken_from_there(make, server, weights):
    address, folder = server
    (folder / "Weights.npz").unlink()
    catalogue = make(address)
    with pytest.raises(BundleError) as error:
        catalogue.install(catalogue.find("sononet"))
    place = catalogue.cacheFolder / "Weights.npz"
    assert f"try again, or fetch {address}/Weights.npz on another computer and save it as {place} before that" in str(
        error.value
    )
    assert files(catalogue) == []
    shutil.copy(weights, place)
    byHand = make(address, download=noDownload)
    byHand.install(byHand.find("sononet"))
    assert files(byHand) == ["Weights.safetensors"]


def test_altered_weights_are_refused_and_nothing_is_left(make, server):
    address, folder = server
    content = bytearray((folder / "Weights.npz").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "Weights.npz").write_bytes(content)
    catalogue = make(address)
    with pytest.raises(BundleError, match="what arrived is not this model's file"):
        catalogue.install(catalogue.find("sononet"))
    assert files(catalogue) == []


def test_weights_of_another_layout_leave_nothing(make, server):
    address, folder = server
    content = b"PK no weights"
    (folder / "Weights.npz").write_bytes(content)
    catalogue = make(address, sha256=hashlib.sha256(content).hexdigest(), sizeBytes=len(content))
    with pytest.raises(BundleError, match="not a complete .npz file"):
        catalogue.install(catalogue.find("sononet"))
    assert files(catalogue) == []


def test_removing_and_clearing_delete_what_was_made(make, server, weights):
    catalogue = make(server[0])
    catalogue.install(catalogue.find("sononet"))
    catalogue.remove(catalogue.find("sononet"))
    assert files(catalogue) == []
    shutil.copy(weights, catalogue.cacheFolder / "Weights.npz")
    assert catalogue.clearCache() == weights.stat().st_size
    assert files(catalogue) == []


def test_unknown_conversion_is_told(make):
    catalogue = make(convert="magic")
    assert catalogue.models() == ()
    assert "'convert' of the model 'sononet' should be sononet-npz" in catalogue.problems()[0]


def test_panel_of_scans_does_not_list_planes(make):
    assert make().models("segmentation") == ()
    assert [model.id for model in make().models("planes")] == ["sononet"]
    assert [model.task for model in ModelCatalogue().models("segmentation")] == ["segmentation"]
    assert "sononet16" in {model.id for model in ModelCatalogue().models("planes")}


def test_users_model_of_planes_says_its_facts_and_is_none_for_scans(make, tmp_path):
    path = planes_file(tmp_path / "mine.safetensors", provenance={"training": "ten frames"})
    model = make().addFromFile(path)
    assert (model.task, model.labels, model.hasAttention) == ("planes", (), True)
    assert (model.title, model.trainingData) == ("tiny planes", "ten frames")
    with pytest.raises(BundleError, match="a model for the task 'planes'; choose one for 'segmentation'"):
        make().addFromFile(path, task="segmentation")


def test_bundled_model_of_another_task_than_its_entry_says_is_told(tmp_path):
    planes_file(tmp_path / "mine.safetensors")
    entry = {"id": "mine", "title": "Mine", "task": "segmentation", "source": "bundled", "file": "mine.safetensors"}
    path = tmp_path / "catalogue.json"
    path.write_text(json.dumps({"models": [entry | TEXTS]}), encoding="utf-8")
    assert ModelCatalogue(path).models() == ()
    assert "'task' of the model 'mine' should be 'planes', as its file says" in ModelCatalogue(path).problems()[0]
    path.write_text(json.dumps({"models": [entry | TEXTS | {"task": "planes"}]}), encoding="utf-8")
    [model] = ModelCatalogue(path).models("planes")
    assert (model.path, model.labels) == (Path(tmp_path, "mine.safetensors"), ())
