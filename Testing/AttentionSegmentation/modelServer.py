"""A web server with model files on this computer: for the tests of downloads."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from AttentionSegmentationLib.ModelCatalogue import downloadWithSlicer


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serves the files of a folder; gives the address.

    Catalogues take https addresses only; the server has no certificate, so `downloadFromServer` asks without.
    """

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(folder))

        def log_message(self, *arguments):
            pass

    httpServer = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpServer.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"https://127.0.0.1:{httpServer.server_port}"
    finally:
        httpServer.shutdown()
        httpServer.server_close()
        thread.join()


def downloadFromServer(url: str, path: Path, sha256: str) -> bool:
    """Slicer's download, without https."""
    return downloadWithSlicer(url.replace("https:", "http:", 1), path, sha256)
