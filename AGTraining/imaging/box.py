"""Rectangles in the pixels of a picture."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Box:
    """
    A rectangle on a frame, x to the right and y down.

    The values are pixel edges, not pixel centres: column 0 spans 0 to 1, so that a box around the
    whole frame is ``Box(0, 0, columns, rows)`` and widths need no "+ 1".

    Raises
    ------
    ValueError
        If the box has no area (or a value is not a number).
    """

    x0: float
    y0: float
    x1: float
    y1: float

    def __post_init__(self) -> None:
        # Written so that NaN fails too.
        if not (self.x1 > self.x0 and self.y1 > self.y0):
            raise ValueError(f"The box {self.edges} has no area.")

    @property
    def edges(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom edge."""
        return self.x0, self.y0, self.x1, self.y1

    @property
    def width(self) -> float:
        """Columns that it covers."""
        return self.x1 - self.x0

    @property
    def height(self) -> float:
        """Rows that it covers."""
        return self.y1 - self.y0

    @property
    def area(self) -> float:
        """Width times height, in pixels."""
        return self.width * self.height

    @property
    def centre(self) -> tuple[float, float]:
        """The middle as (x, y)."""
        return (self.x0 + self.x1) / 2, (self.y0 + self.y1) / 2

    def intersection(self, other: Box) -> Box | None:
        """The common part, or None if the boxes do not overlap (a shared edge is no overlap)."""
        x0, y0 = max(self.x0, other.x0), max(self.y0, other.y0)
        x1, y1 = min(self.x1, other.x1), min(self.y1, other.y1)
        return Box(x0, y0, x1, y1) if x1 > x0 and y1 > y0 else None

    def iou(self, other: Box) -> float:
        """Area of the intersection over the area of the union, 0 to 1."""
        common = self.intersection(other)
        if common is None:
            return 0.0
        return common.area / (self.area + other.area - common.area)

    def clipped(self, rows: int, columns: int) -> Box | None:
        """The part that lies on a frame of this size, None if there is none."""
        return self.intersection(Box(0, 0, columns, rows))

    def shifted(self, dx: float, dy: float) -> Box:
        """The same box, dx to the right and dy down."""
        return Box(self.x0 + dx, self.y0 + dy, self.x1 + dx, self.y1 + dy)

    def scaled(self, x: float, y: float | None = None) -> Box:
        """Multiply the x and the y values (both by `x` if `y` is not given), about the corner (0, 0)."""
        y = x if y is None else y
        return Box(self.x0 * x, self.y0 * y, self.x1 * x, self.y1 * y)
