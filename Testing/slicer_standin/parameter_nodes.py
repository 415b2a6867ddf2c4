"""slicer.parameterNodeWrapper: typed attributes on a vtkMRMLScriptedModuleNode, bound to widgets."""

import types
import typing
import weakref
from collections.abc import Callable
from typing import Any

import slicer
import vtk

from Testing.slicer_standin import gui_connectors, parameter_values
from Testing.slicer_standin.gui_connectors import GuiConnector, createGuiConnector
from Testing.slicer_standin.parameter_values import Default, Serializer, splitAnnotations

SlicerParameterNamePropertyName = "SlicerParameterName"
_ANNOTATIONS = (
    *("Choice", "Decimals", "Default", "Maximum", "Minimum", "SingleStep", "Validator", "WithinRange"),
    *("findFirstAnnotation", "getNodeTypes", "isNodeOrUnionOfNodes", "splitAnnotations", "unannotatedType"),
)


class _Parameter:
    """One parameter: where and how it is kept, and its default."""

    def __init__(self, name: str, datatype: Any, default: Any) -> None:
        self.name, self.unalteredType, self.default = name, datatype, default
        self.serializer = Serializer(datatype)
        if self.default is None:
            self.default = Default(self.serializer.default())

    def read(self, node: Any) -> Any:
        if not self.serializer.isIn(node, self.name):
            self.serializer.write(node, self.name, self.default.value)
        return self.serializer.read(node, self.name)


class _Cached:
    """The value of a parameter in one node, kept at hand."""

    def __init__(self, parameter: _Parameter, node: Any) -> None:
        self.parameter, self._node = parameter, node
        self.value = parameter.read(node)
        self._isWriting = False
        this = weakref.ref(self)
        tag = node.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *arguments: this()._onModified())
        weakref.finalize(self, node.RemoveObserver, tag)

    def _onModified(self) -> None:
        if not self._isWriting:
            self.value = self.parameter.read(self._node)

    def write(self, value: Any) -> None:
        self._isWriting = True
        try:
            with slicer.util.NodeModify(self._node):
                self.parameter.serializer.write(self._node, self.parameter.name, value)
                self.value = self.parameter.read(self._node)
        finally:
            self._isWriting = False


class _Wrapper:
    """The methods of a class made by `parameterNodeWrapper`."""

    allParameters: dict[str, _Parameter]

    def __init__(self, parameterNode: Any, prefix: str | None = None) -> None:
        if prefix:
            raise NotImplementedError("The stand-in does not emulate prefixes of parameter nodes")
        self.parameterNode = parameterNode
        self._guis: dict[int, tuple[dict[str, GuiConnector], int]] = {}
        self._nextTag = 0
        self._isUpdatingGui = False
        self._values = {name: _Cached(parameter, parameterNode) for name, parameter in self.allParameters.items()}

    def default(self, name: str) -> Default:
        return self._parameter(name).default

    def isCached(self, name: str) -> bool:
        return bool(self._parameter(name))

    def _parameter(self, name: str) -> _Parameter:
        if name not in self.allParameters:
            raise ValueError(f"Cannot find a param with the given name: {name}")
        return self.allParameters[name]

    @classmethod
    def dataType(cls, name: str) -> Any:
        return cls.allParameters[name].unalteredType

    def getValue(self, name: str) -> Any:
        self._parameter(name)
        return self._values[name].value

    def setValue(self, name: str, value: Any) -> None:
        self._parameter(name)
        self._values[name].write(value)

    def connectGui(self, gui: Any) -> int:
        """Binds the widgets whose property SlicerParameterName names a parameter; gives a tag for disconnectGui."""
        import qt

        widgets = gui.findChildren(qt.QWidget) if hasattr(gui, "isWidgetType") else vars(gui).values()
        named = {widget.property(SlicerParameterNamePropertyName): widget for widget in widgets}
        return self.connectParametersToGui({name: widget for name, widget in named.items() if name})

    def connectParametersToGui(self, mapping: dict[str, Any]) -> int:
        for name in mapping:
            self._parameter(name)
        connectors = {
            name: value if isinstance(value, GuiConnector) else createGuiConnector(value, self.dataType(name))
            for name, value in mapping.items()
        }
        for name, connector in connectors.items():
            connector.write(self.getValue(name))
            connector.onChanged(self._onWidget(name, connector))
        tag, self._nextTag = self._nextTag, self._nextTag + 1
        this = weakref.ref(self)
        observer = self.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *arguments: this()._updateGui())
        self._guis[tag] = (connectors, observer)
        return tag

    def disconnectGui(self, tag: int) -> None:
        connectors, observer = self._guis.pop(tag, ({}, None))
        for connector in connectors.values():
            connector.onChanged(None)
        if observer is not None:
            self.RemoveObserver(observer)

    def _onWidget(self, name: str, connector: GuiConnector) -> Callable[[], None]:
        def callback() -> None:
            with slicer.util.NodeModify(self):
                if not self._isUpdatingGui:
                    self.setValue(name, connector.read())

        return callback

    def _updateGui(self) -> None:
        if self._isUpdatingGui:
            return
        self._isUpdatingGui = True
        try:
            with slicer.util.NodeModify(self):
                for connectors, _ in list(self._guis.values()):
                    for name, connector in connectors.items():
                        connector.write(self.getValue(name))
        finally:
            self._isUpdatingGui = False

    def StartModify(self) -> int:
        return self.parameterNode.StartModify()

    def EndModify(self, wasModified: int) -> None:
        self.parameterNode.EndModify(wasModified)

    def AddObserver(self, event: Any, callback: Any, priority: float = 0.0) -> int:
        return self.parameterNode.AddObserver(event, callback, priority)

    def RemoveObserver(self, tag: int) -> None:
        self.parameterNode.RemoveObserver(tag)

    def Modified(self) -> None:
        self.parameterNode.Modified()


def parameterNodeWrapper(classtype: type | None = None) -> Any:
    """Class decorator: makes annotated names into parameters of a node."""
    return _processed if classtype is None else _processed(classtype)


def _processed(classtype: type) -> type:
    parameters = {}
    for name, datatype in typing.get_type_hints(classtype, include_extras=True).items():
        annotated = [item for item in splitAnnotations(datatype)[1] if isinstance(item, Default)]
        default = Default(getattr(classtype, name)) if hasattr(classtype, name) else next(iter(annotated), None)
        parameters[name] = _Parameter(name, datatype, default)
        setattr(classtype, name, _attribute(name))
    methods = {name: value for name, value in vars(_Wrapper).items() if not name.startswith("__") or name == "__init__"}
    for name, value in methods.items():
        if name != "__init__" and not name.startswith("_") and hasattr(classtype, name):
            raise ValueError(f"Cannot use reserved name '{name}' in a parameterNodeWrapper")
        setattr(classtype, name, value)
    classtype.allParameters = parameters
    classtype._is_parameter_node_wrapper = True
    return classtype


def _attribute(name: str) -> property:
    return property(lambda self: self.getValue(name), lambda self, value: self.setValue(name, value))


def isParameterNodeWrapper(classOrObject: Any) -> bool:
    """Whether a class was made by `parameterNodeWrapper`."""
    return getattr(classOrObject, "_is_parameter_node_wrapper", False)


def findChildWidgetForParameter(widget: Any, parameter: str) -> Any:
    """The child that is bound to a parameter, or None."""
    import qt

    children = widget.findChildren(qt.QWidget)
    return next((child for child in children if child.property(SlicerParameterNamePropertyName) == parameter), None)


def module() -> types.ModuleType:
    """The module `slicer.parameterNodeWrapper`."""
    made = types.ModuleType("slicer.parameterNodeWrapper", __doc__)
    names = {"parameterNodeWrapper", "isParameterNodeWrapper", "findChildWidgetForParameter"}
    made.__dict__.update({name: globals()[name] for name in names | {"SlicerParameterNamePropertyName"}})
    made.GuiConnector, made.createGuiConnector = gui_connectors.GuiConnector, gui_connectors.createGuiConnector
    for name in _ANNOTATIONS:
        setattr(made, name, getattr(parameter_values, name))
    return made
