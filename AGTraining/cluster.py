"""Batch segmentation on the workers of a Dask cluster: many machines, each scan done exactly once.

The scheduler hands the scans out and gives those of a lost worker to others. Exactly once it becomes by two things on
the shared disk: a worker holds a claim on the scan that it segments, and a finished result carries a report of what it
was made from, in the folder that appears as a whole. Who is given a scan that is finished returns its report.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
import socket
import sys
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import AGTraining
from AGTraining import bundle
from AGTraining.batch import Case, CaseReport, segment_case
from AGTraining.errors import AGTrainingError, BundleError, ClusterError, code, sentence
from AGTraining.inference.result import OrganStatistics, SegmentOptions
from AGTraining.labels import OutputLabel

if sys.platform != "win32":
    import fcntl

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 30

# Memory and GPU of a worker are for one scan, however many threads it has.
_one_scan_at_a_time = threading.Lock()


@dataclass(frozen=True)
class Job:
    """What the scans of a run have in common. All paths are absolute, on a disk that client and workers share.

    model: None is the model that the package brings. checksum: SHA-256 of its file. run: empty when results of earlier
    runs count as finished, else a name that only this run has.
    """

    model: Path | None
    checksum: str
    options: SegmentOptions
    out: Path
    overwrite: bool = False
    run: str = ""
    version: str = AGTraining.__version__

    def loaded_model(self) -> bundle.Bundle:
        """The model, as this machine has it. Raises BundleError."""
        return _model(self.model or bundle.default_path(), self.checksum)

    def origin(self, case: Case) -> dict[str, Any]:
        """What the results of a case are made from, as JSON has it: the same again gives the same results."""
        files = sorted(case.path.iterdir()) if case.path.is_dir() else [case.path]
        status = [file.stat() for file in files]
        origin = {
            "input": str(case.path),
            "bytes": sum(s.st_size for s in status),
            "changed_ns": max((s.st_mtime_ns for s in status), default=0),
            "model": self.checksum,
            "options": asdict(self.options),
            "version": self.version,
            "run": self.run,
        }
        restored: dict[str, Any] = json.loads(json.dumps(origin))
        return restored


def make_job(model: Path | None, options: SegmentOptions, out: Path, overwrite: bool) -> Job:
    """The job of a run; with overwrite, results of earlier runs are made anew, whatever they are made from."""
    checksum = _file_checksum(model or bundle.default_path())
    # Made absolute, but links are kept: behind them a file may have a name without a suffix.
    path = None if model is None else model.absolute()
    return Job(path, checksum, options, out.absolute(), overwrite, uuid4().hex if overwrite else "")


def segment_on_cluster(address: str, cases: Sequence[Case], job: Job) -> Generator[CaseReport, None, None]:
    """The reports of all cases in the order in which they are done; a failed one is a report with an error.

    When the iteration is given up, scans that no worker has begun are withdrawn. Raises ClusterError.
    """
    try:
        from distributed import Client, as_completed
    except ImportError as error:
        raise ClusterError("--scheduler needs Dask; install it with: pip install 'AGTraining[cluster]'.") from error
    try:
        client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ClusterError(
            f"{address}: no Dask scheduler answers there; check the address, as tcp://host:8786, and that it runs."
        ) from error
    with client:
        if not client.nthreads():
            print(f"{address}: has no workers yet; waiting for them.", file=sys.stderr, flush=True)
        futures = {}
        for case in cases:
            # A new key each time: whether a scan is done is for the disk to say, not for Dask's memory.
            key = f"segment-{case.name}-{uuid4().hex}"
            shared = replace(case, path=case.path.absolute())
            futures[client.submit(segment_claimed, shared, job, key=key)] = case
        try:
            with client.as_current():
                done = as_completed(futures)
            for future in done:
                yield _outcome(future, futures[future], job, address)
        finally:
            client.cancel([future for future in futures if not future.done()])


def _outcome(future: Any, case: Case, job: Job, address: str) -> CaseReport:
    """The report of a scan that is done, or one that says why there is none."""
    from distributed import KilledWorker

    try:
        report: CaseReport = future.result()
        return replace(report, input=str(case.path))
    except KilledWorker:
        text = (
            f"{case.path}: each worker that had it was killed, most likely for want of memory; use smaller tiles "
            "(--tile), or give the workers more memory."
        )
    except ModuleNotFoundError as error:
        text = f"A worker of {address} has no {error.name}; install AGTraining {AGTraining.__version__} there."
    except Exception as error:
        text = (
            f"{case.path}: the cluster gave it up ({type(error).__name__}: {error}); start again with the same "
            "command, what is finished is not repeated."
        )
    return CaseReport(case.name, str(case.path), job.out / case.name, error=text, code=ClusterError.code)


def segment_claimed(case: Case, job: Job) -> CaseReport:
    """What a worker does: segments the case unless it is finished, while no other does; never raises."""
    try:
        with _one_scan_at_a_time, claim(job.out / f".{case.name}.claim") as left_behind:
            if left_behind:
                _remove_remains(case, job)
            return finished(case, job) or _segment(case, job)
    except Exception as error:
        if not isinstance(error, AGTrainingError):
            logger.exception("%s", case.path)
        return CaseReport(case.name, str(case.path), job.out / case.name, error=sentence(error), code=code(error))


def _segment(case: Case, job: Job) -> CaseReport:
    if job.version != AGTraining.__version__:
        raise ClusterError(
            f"{socket.gethostname()}: this worker has AGTraining {AGTraining.__version__}, not {job.version}; "
            "install the same version everywhere."
        )
    origin = job.origin(case) if case.path.exists() else {}
    return segment_case(case, job.loaded_model(), job.options, job.out, job.overwrite, origin=origin)


@lru_cache(maxsize=1)
def _model(path: Path, checksum: str) -> bundle.Bundle:
    """The model, kept from scan to scan. Raises BundleError when it is not the client's."""
    if _file_checksum(path) != checksum:
        raise BundleError(
            f"{path}: on {socket.gethostname()} this is another model than where the run was started; put it on a disk "
            "that all machines share, and name it with --model."
        )
    return bundle.load(path)


def _file_checksum(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BundleError(f"{path}: cannot be read on {socket.gethostname()} ({error.strerror}).") from error


def finished(case: Case, job: Job) -> CaseReport | None:
    """The report of a case whose results are there as a whole, and made from the same; None for others."""
    folder = job.out / case.name
    try:
        document = json.loads((folder / f"{case.name}_report.json").read_text(encoding="utf-8"))
        files = {kind: folder / Path(path).name for kind, path in document["files"].items()}
        if document["origin"] != job.origin(case) or not all(path.is_file() for path in files.values()):
            return None
        labels = {label.name: label for label in job.loaded_model().info.output_labels}
        organs = tuple(_organ(labels[values["organ"]], values) for values in document["organs"])
        messages = (*document["messages"], f"{case.path}: its results were there already, made from the same.")
        return CaseReport(
            case.name, str(case.path), folder, files, organs, messages, document["device"], document["seconds"]
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _organ(label: OutputLabel, values: dict[str, Any]) -> OrganStatistics:
    numbers = (values[key] for key in ("volume_ml", "mean_hu", "sd_hu", "confidence"))
    return OrganStatistics(label, values["voxels"], *(float("nan") if n is None else n for n in numbers))


def _remove_remains(case: Case, job: Job) -> None:
    """Removes the unfinished results of a worker that was killed: `case_folder`'s temporary folders."""
    for path in job.out.glob(".*"):
        if re.fullmatch(rf"\.{re.escape(case.name)}-[a-z0-9_]{{8}}", path.name) and path.is_dir():
            shutil.rmtree(path, ignore_errors=True)


@contextmanager
def claim(path: Path) -> Iterator[bool]:
    """Holds a file locked, and waits until no other process or thread does; yields whether somebody left it behind.

    The system ends the lock of a process that is killed, also on another machine, so that no claim outlives its
    worker. Where the disk cannot lock, two workers might segment one scan: then the folder of the second is refused.
    """
    while True:
        left_behind = path.exists()
        with path.open("a", encoding="utf-8") as file:
            if sys.platform != "win32":
                with suppress(OSError):
                    fcntl.flock(file, fcntl.LOCK_EX)
            # Meanwhile its holder may have removed it, and another may have made it anew.
            try:
                same = os.path.samestat(os.fstat(file.fileno()), path.stat())
            except FileNotFoundError:
                same = False
            if not same:
                continue
            file.write(f"{socket.gethostname()} {os.getpid()}\n")
            file.flush()
            try:
                yield left_behind
            finally:
                with suppress(OSError):
                    path.unlink()
            return
