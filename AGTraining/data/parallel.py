"""Work on many cases at once, in processes of their own."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

import SimpleITK as sitk

from AGTraining.errors import InputError

Task = TypeVar("Task")
Result = TypeVar("Result")


def usable_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_processes(work: Callable[[Task], Result], tasks: Sequence[Task], workers: int) -> Iterator[Result]:
    """The results in the order of the tasks, as they come; in this process where one worker or task is enough.

    work: a function at file scope. Raises what it raises, and InputError when a process was ended from outside.
    """
    workers = min(workers, len(tasks))
    if workers <= 1:
        yield from map(work, tasks)
        return
    # Not forked: threads of torch and ITK in this process could leave locks behind that nobody opens.
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    if hasattr(context, "set_forkserver_preload"):
        # Once for all workers, and not once each.
        context.set_forkserver_preload([work.__module__])
    threads = max(1, usable_cores() // workers)
    pool = ProcessPoolExecutor(workers, context, initializer=_limit_threads, initargs=(threads,))
    try:
        yield from pool.map(work, tasks)
    except BrokenProcessPool as error:
        raise InputError(
            f"One of {workers} processes was ended from outside, most likely for want of memory; use fewer workers."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _limit_threads(count: int) -> None:
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(count)
