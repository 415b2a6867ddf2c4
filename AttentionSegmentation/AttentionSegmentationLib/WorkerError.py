"""What goes wrong with the worker process itself, and what the worker reports."""

from AGTraining.errors import AGTrainingError


class WorkerError(AGTrainingError):
    """A sentence for the user, the `code` of what went wrong, and the `details` for whoever looks into it.

    Codes of the client: "busy" (it works on another request), "start" (the process could not be started, or never
    became ready), "died" (it ended unexpectedly), "protocol" (it printed what it should not), "disk" (no temporary
    folder). All others are the worker's: those of AGTraining.errors, "package", "memory", "disk", "internal",
    "request".
    """

    def __init__(self, message: str, code: str, details: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.details = details
        """A traceback or the end of the worker's log; may be empty."""
