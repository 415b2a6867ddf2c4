"""What is missing on this computer: each problem with its sentence and the button that solves it."""

from collections.abc import Callable, Iterable
from typing import Any

import qt

from AGTraining.errors import AGTrainingError

from .Dependencies import Dependencies, DependencyProblem
from .DialogsWidget import Dialogs
from .QtConnections import QtConnections


class DependenciesWidget:
    """A row for each problem in a container with a vertical layout.

    onResolved: called after a problem was solved. onError: called with a sentence when that failed.
    """

    def __init__(
        self,
        container: Any,
        dependencies: Dependencies,
        dialogs: Dialogs,
        onResolved: Callable[[], None],
        onError: Callable[[str], None],
    ) -> None:
        self._container = container
        self._dependencies = dependencies
        self._dialogs = dialogs
        self._onResolved = onResolved
        self._onError = onError
        self._connections = QtConnections()
        self._rows: list[Any] = []
        self._buttons: list[Any] = []
        # Solving a problem takes its button away, which must not happen while Qt is inside of that button's click.
        self._clicked: DependencyProblem | None = None
        self._timer = qt.QTimer(container)
        self._timer.singleShot = True
        self._timer.interval = 0
        self._timerConnections = QtConnections()
        self._timerConnections.connect(self._timer, "timeout()", self._onTimeout)
        self.problems: tuple[DependencyProblem, ...] = ()
        self.show(())

    @property
    def buttons(self) -> tuple[Any, ...]:
        """The buttons of the problems that have one."""
        return tuple(self._buttons)

    def check(self) -> bool:
        """Looks for problems and shows them; whether the work can be done all the same."""
        self.show(self._dependencies.problems())
        return not any(problem.blocking for problem in self.problems)

    def show(self, problems: Iterable[DependencyProblem]) -> None:
        """Shows these problems in place of the earlier ones."""
        self._clear()
        self.problems = tuple(problems)
        for problem in self.problems:
            self._addRow(problem)
        self._container.visible = bool(self.problems)

    def showWorkerError(self, error: AGTrainingError) -> None:
        """Shows what an error of the worker says about the packages, if it does."""
        problem = self._dependencies.problemFromWorkerError(error)
        if problem is not None:
            self.show([problem])

    def resolveAll(self) -> bool:
        """Asks once, does what solves all the blocking problems, and whether the work can be done then."""
        return self._resolve(*(problem for problem in self.problems if problem.blocking))

    def _resolve(self, *problems: DependencyProblem) -> bool:
        try:
            resolved = self._dependencies.resolve(*problems, confirm=self._confirm)
        except AGTrainingError as error:
            self._onError(str(error))
            return False
        if not resolved:
            return False
        usable = self.check()
        self._onResolved()
        return usable

    def cleanup(self) -> None:
        """Takes the rows and all connections away."""
        self._timer.stop()
        self._timerConnections.disconnectAll()
        self._clear()

    def _confirm(self, question: str) -> bool:
        return self._dialogs.confirm(question, "Install Python packages")

    def _addRow(self, problem: DependencyProblem) -> None:
        label = qt.QLabel(problem.sentence)
        label.wordWrap = True
        self._container.layout().addWidget(label)
        self._rows.append(label)
        if problem.actionText is not None:
            button = qt.QPushButton(problem.actionText)
            self._container.layout().addWidget(button)
            self._connections.connect(button, "clicked()", lambda: self._onClicked(problem))
            self._rows.append(button)
            self._buttons.append(button)

    def _onClicked(self, problem: DependencyProblem) -> None:
        self._clicked = problem
        self._timer.start()

    def _onTimeout(self) -> None:
        problem, self._clicked = self._clicked, None
        if problem is not None:
            self._resolve(problem)

    def _clear(self) -> None:
        self._connections.disconnectAll()
        for widget in self._rows:
            widget.setParent(None)
            widget.deleteLater()
        self._rows = []
        self._buttons = []
        self.problems = ()
