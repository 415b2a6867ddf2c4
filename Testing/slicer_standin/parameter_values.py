"""slicer.parameterNodeWrapper: annotations, and how values are kept in a vtkMRMLScriptedModuleNode.

The texts in the node are those that Slicer writes, so that scenes can be exchanged.
"""

import enum
import pathlib
import types
import typing
from collections.abc import Callable, Iterable, MutableSequence
from dataclasses import dataclass
from typing import Annotated, Any

import slicer


class Default:
    """The value of a parameter that was never set; a generator is called each time."""

    def __init__(self, value: Any = None, *, generator: Callable[[], Any] | None = None) -> None:
        self._value, self._generator = value, generator

    @property
    def value(self) -> Any:
        return self._generator() if self._generator else self._value


class Validator:
    """An annotation that refuses values."""

    def validate(self, value: Any) -> None:
        """Raises ValueError when the value is not allowed."""
        raise NotImplementedError


@dataclass
class WithinRange(Validator):
    """Between two bounds, both included."""

    minimum: float
    maximum: float

    def validate(self, value: Any) -> None:
        if not self.minimum <= value <= self.maximum:
            raise ValueError(f"Value must be within range [{self.minimum}, {self.maximum}], is {value}")


@dataclass
class Minimum(Validator):
    """Not below a bound."""

    minimum: float

    def validate(self, value: Any) -> None:
        if value < self.minimum:
            raise ValueError(f"Value must be greater than {self.minimum}, is {value}")


@dataclass
class Maximum(Validator):
    """Not above a bound."""

    maximum: float

    def validate(self, value: Any) -> None:
        if value > self.maximum:
            raise ValueError(f"Value must be less than {self.maximum}, is {value}")


@dataclass
class Choice(Validator):
    """One of a list."""

    choices: Iterable[Any]

    def validate(self, value: Any) -> None:
        if value not in self.choices:
            raise ValueError(f"Value is {value}, but must be in one of the following: {self.choices}")


@dataclass
class Decimals:
    """Digits after the point in the widget."""

    value: int


@dataclass
class SingleStep:
    """One step of the widget."""

    value: float


def splitAnnotations(possiblyAnnotatedType: Any) -> tuple[Any, tuple]:
    """The type, and what Annotated says of it."""
    arguments = typing.get_args(Annotated[possiblyAnnotatedType, None])
    return arguments[0], arguments[1:-1]


def unannotatedType(possiblyAnnotatedType: Any) -> Any:
    """The type without what Annotated says of it."""
    return splitAnnotations(possiblyAnnotatedType)[0]


def findFirstAnnotation(annotations: Iterable[Any], annotationType: type) -> Any:
    """The first annotation of a type, or None."""
    return next((item for item in annotations if isinstance(item, annotationType)), None)


def unionTypes(datatype: Any) -> tuple:
    """The members of a union, or the type alone."""
    isUnion = typing.get_origin(datatype) is typing.Union or isinstance(datatype, types.UnionType)
    return typing.get_args(datatype) if isUnion else (datatype,)


def isNode(datatype: Any) -> bool:
    """Whether a type is a class of MRML nodes."""
    return isinstance(datatype, type) and issubclass(datatype, slicer.vtkMRMLNode)


def isNodeOrUnionOfNodes(datatype: Any) -> bool:
    """Whether a type is a node class, or a union of such and None."""
    members = unionTypes(unannotatedType(datatype))
    return all(isNode(member) or member is type(None) for member in members) and any(isNode(one) for one in members)


def getNodeTypes(datatype: Any) -> tuple[str, ...]:
    """The class names of the nodes that a parameter takes."""
    return tuple(member().GetClassName() for member in unionTypes(unannotatedType(datatype)) if isNode(member))


_SIMPLE: dict[type, tuple[Any, Callable[[Any], str], Callable[[str], Any]]] = {
    int: (0, str, int),
    float: (0, str, float),
    str: ("", str, str),
    bool: (False, str, lambda text: text == "True"),
    pathlib.Path: (pathlib.Path(), str, pathlib.Path),
}


class Serializer:
    """Keeps values of one type in a node under a name. Raises TypeError for a type that it cannot keep."""

    def __init__(self, datatype: Any) -> None:
        self.type, annotations = splitAnnotations(datatype)
        self.validators = [item for item in annotations if isinstance(item, Validator)]
        self._members = (
            [Serializer(member) for member in unionTypes(self.type)] if len(unionTypes(self.type)) > 1 else []
        )
        isList = typing.get_origin(self.type) is list
        self._item = Serializer(typing.get_args(self.type)[0]) if isList else None
        self._isEnum = isinstance(self.type, type) and issubclass(self.type, enum.Enum)
        known = self._members or isList or self._isEnum or self.type in _SIMPLE or isNode(self.type)
        if not known and self.type is not type(None):
            raise TypeError(f"Unable to create serializer for type: {self.type}")

    def default(self) -> Any:
        """The value when no default is given."""
        if self._members:
            return None if self._members[-1].type is type(None) else self._members[0].default()
        if self._item:
            return []
        if self._isEnum:
            return next(iter(self.type))
        return _SIMPLE[self.type][0] if self.type in _SIMPLE else None

    def validate(self, value: Any) -> None:
        """Raises TypeError or ValueError when the value cannot be kept."""
        if self._members:
            self._member(value)
        elif self._item:
            for item in value:
                self._item.validate(item)
        elif value is None and not isNode(self.type) and self.type is not type(None):
            raise ValueError("Value must not be None")
        elif value is not None and not isinstance(value, (int, float) if self.type is float else self.type):
            raise TypeError(f"Value must be of type '{self.type}', is type '{type(value)}' value '{value}'")
        for validator in self.validators:
            validator.validate(value)

    def _member(self, value: Any) -> int:
        for index, member in enumerate(self._members):
            if value is None and member.type is not type(None):
                continue
            try:
                member.validate(value)
            except (TypeError, ValueError):
                continue
            return index
        raise TypeError(f"Unable to write value '{value}' of type '{type(value)}'")

    def isIn(self, node: Any, name: str) -> bool:
        """Whether the node has a value of that name."""
        if self._members:
            return any(member.isIn(node, f"{name}.{index}") for index, member in enumerate(self._members))
        return bool(node.HasParameter(f"{name}.len" if self._item else name))

    def write(self, node: Any, name: str, value: Any) -> None:
        """Keeps a value, after it was validated."""
        self.validate(value)
        with slicer.util.NodeModify(node):
            if self._members:
                self.remove(node, name)
                index = self._member(value)
                self._members[index].write(node, f"{name}.{index}", value)
            elif self._item:
                self.remove(node, name)
                for index, item in enumerate(value):
                    self._item.write(node, f"{name}.{index}", item)
                node.SetParameter(f"{name}.len", str(len(value)))
            elif isNode(self.type):
                node.SetParameter(name, "")
                node.SetNodeReferenceID(name, None if value is None else value.GetID())
            elif self._isEnum:
                node.SetParameter(name, value.name)
            else:
                node.SetParameter(name, "" if value is None else _SIMPLE[self.type][1](value))

    def read(self, node: Any, name: str) -> Any:
        """The value that the node keeps."""
        if self._members:
            for index, member in enumerate(self._members):
                if member.isIn(node, f"{name}.{index}"):
                    return member.read(node, f"{name}.{index}")
            raise KeyError(f"Unable to find value for name: {name}")
        if self._item:
            count = int(node.GetParameter(f"{name}.len"))
            return ObservedList(node, self, name, [self._item.read(node, f"{name}.{index}") for index in range(count)])
        if isNode(self.type):
            return node.GetNodeReference(name)
        if self.type is type(None):
            return None
        text = node.GetParameter(name)
        return self.type[text] if self._isEnum else _SIMPLE[self.type][2](text)

    def remove(self, node: Any, name: str) -> None:
        """Takes the value out of the node."""
        if self._members:
            for index, member in enumerate(self._members):
                member.remove(node, f"{name}.{index}")
        elif self._item:
            for index in range(int(node.GetParameter(f"{name}.len") or 0)):
                self._item.remove(node, f"{name}.{index}")
            node.UnsetParameter(f"{name}.len")
        else:
            node.UnsetParameter(name)
            if isNode(self.type):
                node.RemoveNodeReferenceIDs(name)


class ObservedList(MutableSequence):
    """A list whose changes are kept in the node."""

    def __init__(self, node: Any, serializer: Serializer, name: str, values: list) -> None:
        self._place = (node, name)
        self._serializer = serializer
        self._list = values

    def _save(self) -> None:
        self._serializer.write(*self._place, self._list)

    def __getitem__(self, index: Any) -> Any:
        return self._list[index]

    def __setitem__(self, index: Any, value: Any) -> None:
        self._list[index] = value
        self._save()

    def __delitem__(self, index: Any) -> None:
        del self._list[index]
        self._save()

    def __len__(self) -> int:
        return len(self._list)

    def insert(self, index: int, value: Any) -> None:
        self._list.insert(index, value)
        self._save()

    def __eq__(self, other: Any) -> bool:
        return self._list == (other._list if isinstance(other, ObservedList) else other)

    __hash__ = None
