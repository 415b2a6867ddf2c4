"""Batch segmentation on a real Dask cluster of processes, with a worker that is killed on the way."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from distributed import Client, LocalCluster

from AGTraining import cluster
from AGTraining.batch import Case
from AGTraining.cli import main
from AGTraining.cluster import Job, claim, finished, make_job, segment_claimed
from AGTraining.data.phantom import PhantomOptions, make_phantom
from AGTraining.imaging.files import write_volume
from AGTraining.inference.result import SegmentOptions
from Testing.AGTraining.test_cli import save_model

SCANS = 5


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model") / "untrained.safetensors")


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Phantoms of one patient; each takes a worker about a second."""
    folder = tmp_path_factory.mktemp("scans")
    write_volume(make_phantom(PhantomOptions(seed=1, spacing=(6.0, 6.0, 8.0))).ct, folder / "scan0.nii.gz")
    paths = [folder / f"scan{number}.nii.gz" for number in range(SCANS)]
    for path in paths[1:]:
        shutil.copy(paths[0], path)
    return paths


@pytest.fixture(scope="module")
def workers() -> Iterator[LocalCluster]:
    """Two worker processes, each of which is started anew by its nanny when it is killed."""
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0", silence_logs="CRITICAL"
    ) as local:
        local.wait_for_workers(2, timeout=120)
        yield local


def segment(workers: LocalCluster, model: Path, out: Path, scans: list[Path], *options: str) -> int:
    arguments = ["segment", *map(str, scans), "--model", str(model), "--out", str(out), "--device", "cpu"]
    return main([*arguments, "--scheduler", workers.scheduler_address, *options])


def wait_for(condition: Callable[[], Any], seconds: float = 120) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.01)
    raise AssertionError("waited in vain")


def holder(out: Path) -> int | None:
    """The process that segments a scan just now."""
    for path in out.glob(".*.claim"):
        try:
            return int(path.read_text(encoding="utf-8").split()[-1])
        except (OSError, IndexError):
            continue
    return None


def modified(out: Path) -> dict[str, int]:
    """When each table of results was written; each is written once for each time that its scan is segmented."""
    return {path.parent.name: path.stat().st_mtime_ns for path in out.glob("[!.]*/*_volumes.csv")}


@pytest.fixture(scope="module")
def survived(
    workers: LocalCluster, model: Path, scans: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """A run among whose scans is a missing and a damaged one, and whose first busy worker is killed."""
    folder = tmp_path_factory.mktemp("survived")
    damaged = folder / "damaged.nii.gz"
    damaged.write_bytes(scans[0].read_bytes()[:2000])
    out, killed, seen = folder / "out", [], {}

    def kill() -> None:
        process = wait_for(lambda: holder(out))
        os.kill(process, signal.SIGKILL)
        killed.append(process)
        while len(seen) < SCANS:
            for name, written in modified(out).items():
                seen.setdefault(name, written)
            time.sleep(0.02)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    command = [
        sys.executable, "-m", "AGTraining", "segment", damaged, *scans, folder / "missing.nii", "--model", model,
        "--out", "out", "--device", "cpu", "--json", "--scheduler", workers.scheduler_address,
    ]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(Path(cluster.__file__).parents[1])}
    result = subprocess.run(
        list(map(str, command)), cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert result.returncode == 1, result.stderr
    killer.join(60)
    assert not killer.is_alive(), result.stderr
    return {"out": out, "killed": killed[0], "seen": seen, "result": result, "document": json.loads(result.stdout)}


@pytest.mark.slow
def test_every_scan_is_done_though_a_worker_is_killed(survived: dict[str, Any], scans: list[Path]) -> None:
    cases = survived["document"]["cases"]
    names = ["damaged", *(f"scan{number}" for number in range(SCANS)), "missing"]
    assert [case["case"] for case in cases] == names
    assert [case["status"] for case in cases] == ["failed", *["ok"] * SCANS, "failed"]
    assert survived["result"].returncode == 1
    assert [case["input"] for case in cases[1:-1]] == [str(path) for path in scans]
    organs = [case["organs"] for case in cases[1:-1]]
    assert organs == [organs[0]] * SCANS and any(organ["found"] for organ in organs[0])


@pytest.mark.slow
def test_every_scan_is_done_once(survived: dict[str, Any]) -> None:
    assert survived["seen"] == modified(survived["out"])
    # Nothing of the killed worker is left: no temporary folder, no claim.
    assert sorted(path.name for path in survived["out"].iterdir()) == [f"scan{number}" for number in range(SCANS)]


@pytest.mark.slow
def test_killed_worker_was_at_work(survived: dict[str, Any], workers: LocalCluster) -> None:
    with Client(workers.scheduler_address, set_as_default=False) as client:
        living = wait_for(lambda: len(found := client.run(os.getpid).values()) == 2 and set(found))
    assert survived["killed"] not in living


@pytest.mark.slow
def test_failures_on_workers_are_sentences(survived: dict[str, Any]) -> None:
    errors = survived["result"].stderr
    assert "missing.nii: no such file or folder; check the path." in errors
    assert "damaged.nii.gz" in errors
    assert "Traceback" not in errors
    assert [case["code"] for case in survived["document"]["cases"] if case["error"]] == ["input", "input"]


@pytest.mark.slow
def test_paths_are_as_the_user_gave_them(survived: dict[str, Any]) -> None:
    case = survived["document"]["cases"][1]
    assert case["files"]["labels"] == "out/scan0/scan0_labels.nii.gz"
    assert {Path(path).name for path in case["files"].values()} == {
        path.name for path in (survived["out"] / "scan0").iterdir()
    }


@pytest.mark.slow
def test_numbers_are_those_of_a_run_without_a_cluster(
    survived: dict[str, Any], model: Path, scans: list[Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = ["segment", str(scans[0]), "--model", str(model), "--out", str(tmp_path / "out"), "--device", "cpu"]
    assert main([*arguments, "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["cases"][0]["organs"] == survived["document"]["cases"][1]["organs"]


def test_restart_does_what_is_missing_only(
    workers: LocalCluster, model: Path, scans: list[Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert segment(workers, model, out, scans[:2]) == 0
    printed = capfd.readouterr().out
    assert "2 of 2 scans segmented." in printed and "scan1: " in printed and "spleen" in printed
    before = modified(out)
    shutil.rmtree(out / "scan1")
    assert segment(workers, model, out, scans[:3]) == 0
    assert "3 of 3 scans segmented." in capfd.readouterr().out
    after = modified(out)
    assert sorted(after) == ["scan0", "scan1", "scan2"]
    assert after["scan0"] == before["scan0"] and after["scan1"] != before["scan1"]
    # Results of other settings are never taken for those that are asked for.
    assert segment(workers, model, out, scans[:1], "--mirror") == 1
    assert "results are already there; choose another folder, or --overwrite." in capfd.readouterr().err
    assert segment(workers, model, out, scans[:1], "--overwrite") == 0
    assert modified(out)["scan0"] != before["scan0"]


def test_two_workers_with_one_scan_do_it_once(
    workers: LocalCluster, model: Path, scans: list[Path], tmp_path: Path
) -> None:
    """As when a worker was thought to be lost, but is still at work."""
    job, case = make_job(model, SegmentOptions(device="cpu"), tmp_path, overwrite=False), Case("scan0", scans[0])
    with Client(workers.scheduler_address, set_as_default=False) as client:
        addresses = sorted(client.nthreads())
        both = [client.submit(segment_claimed, case, job, workers=[address], pure=False) for address in addresses]
        reports = client.gather(both)
    assert len(addresses) == 2 and [report.error for report in reports] == [None, None]
    assert reports[0].as_json()["organs"] == reports[1].as_json()["organs"]
    assert sum("its results were there already" in " ".join(report.messages) for report in reports) == 1


@pytest.mark.slow
def test_interrupted_run_withdraws_what_is_not_begun(
    workers: LocalCluster, model: Path, scans: list[Path], tmp_path: Path
) -> None:
    job = make_job(model, SegmentOptions(device="cpu"), tmp_path, overwrite=False)
    cases = [Case(f"{number}", scans[number % SCANS]) for number in range(40)]
    reports = cluster.segment_on_cluster(workers.scheduler_address, cases, job)
    next(reports)
    reports.close()
    with Client(workers.scheduler_address, set_as_default=False) as client:
        wait_for(lambda: not any(client.processing().values()))
    wait_for(lambda: not list(tmp_path.glob(".*")))
    assert 1 <= len(modified(tmp_path)) < 20


@pytest.mark.slow
def test_scan_that_kills_its_workers_fails_alone(
    workers: LocalCluster, model: Path, scans: list[Path], tmp_path: Path
) -> None:
    """As a scan that is too large for the workers' memory; sitting in wait for whoever claims it."""
    out, over = tmp_path / "out", threading.Event()

    def kill() -> None:
        while not over.is_set():
            try:
                process = int((out / ".scan0.claim").read_text(encoding="utf-8").split()[-1])
                os.kill(process, signal.SIGKILL)
            except (OSError, IndexError):
                pass
            time.sleep(0.01)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    job = make_job(model, SegmentOptions(device="cpu"), out, overwrite=False)
    out.mkdir()
    try:
        cases = [Case("scan0", scans[0]), Case("scan1", scans[1])]
        reports = {r.case: r for r in cluster.segment_on_cluster(workers.scheduler_address, cases, job)}
    finally:
        over.set()
        killer.join()
    error = reports["scan0"].error
    assert error is not None and "was killed, most likely for want of memory" in error
    assert reports["scan1"].error is None


def test_unreachable_scheduler_is_one_sentence(
    model: Path, scans: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 1)
    arguments = ["segment", str(scans[0]), "--model", str(model), "--out", str(tmp_path / "out")]
    assert main([*arguments, "--scheduler", "tcp://127.0.0.1:9"]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        "error: tcp://127.0.0.1:9: no Dask scheduler answers there; check the address, as tcp://host:8786, and that it "
        "runs."
    )


def test_missing_dask_is_one_sentence(
    model: Path, scans: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    arguments = ["segment", str(scans[0]), "--model", str(model), "--out", str(tmp_path / "out")]
    assert main([*arguments, "--scheduler", "tcp://127.0.0.1:9"]) == 1
    assert "pip install 'AGTraining[cluster]'" in capsys.readouterr().err


def job_for(tmp_path: Path, model: Path, **changes: Any) -> Job:
    return Job(**{"model": model, "checksum": "0", "options": SegmentOptions(), "out": tmp_path, **changes})


def test_worker_refuses_another_model_than_the_run_s(model: Path, scans: list[Path], tmp_path: Path) -> None:
    report = segment_claimed(Case("a", scans[0]), job_for(tmp_path, model))
    assert report.code == "model" and "this is another model than where the run was started" in str(report.error)


def test_worker_refuses_another_version(model: Path, scans: list[Path], tmp_path: Path) -> None:
    report = segment_claimed(Case("a", scans[0]), job_for(tmp_path, model, version="0.0"))
    assert report.code == "cluster" and "install the same version everywhere" in str(report.error)


def test_changed_scan_is_not_taken_for_finished(model: Path, scans: list[Path], tmp_path: Path) -> None:
    scan = tmp_path / "scan.nii.gz"
    shutil.copy(scans[0], scan)
    job, case = make_job(model, SegmentOptions(device="cpu"), tmp_path / "out", overwrite=False), Case("scan", scan)
    job.out.mkdir()
    assert segment_claimed(case, job).error is None
    found = finished(case, job)
    assert found is not None and all(path.is_file() for path in found.files.values())
    os.utime(scan, ns=(0, 0))
    assert finished(case, job) is None


def test_claim_waits_for_its_holder(tmp_path: Path) -> None:
    path, order = tmp_path / ".a.claim", []

    def second() -> None:
        with claim(path):
            order.append("second")

    with claim(path) as left_behind:
        assert not left_behind
        waiting = threading.Thread(target=second)
        waiting.start()
        time.sleep(0.2)
        order.append("first")
    waiting.join(10)
    assert order == ["first", "second"]
    assert not path.exists()


def test_claim_of_a_dead_process_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / ".a.claim"
    code = (
        "import os\nfrom pathlib import Path\nfrom AGTraining.cluster import claim\n"
        f"with claim(Path({str(path)!r})):\n    os.kill(os.getpid(), 9)"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(cluster.__file__).parents[1])}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == -signal.SIGKILL
    assert path.exists()
    with claim(path) as left_behind:
        assert left_behind
    assert not path.exists()
