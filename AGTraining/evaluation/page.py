"""HTML that needs no other file: headings, tables and pictures of a report."""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Iterable, Sequence

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 75em; margin: 2em auto; padding: 0 1em; color: #1c2126; }
h1, h2 { line-height: 1.2; } img { max-width: 100%; } .wide { overflow-x: auto; }
table { border-collapse: collapse; } th, td { padding: .25em .8em; text-align: right; white-space: nowrap; }
th, td { border-bottom: 1px solid #d5dadf; }
th:first-child, td:first-child { text-align: left; }
pre { background: #f3f5f7; padding: 1em; overflow: auto; }
.note { background: #fdf3d8; padding: .4em .8em; }
"""


def document(title: str, parts: Iterable[str]) -> str:
    """A whole page; the parts are HTML."""
    body = "\n".join((f"<h1>{html.escape(title)}</h1>", *parts))
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{STYLE}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


def heading(text: str) -> str:
    """A heading of a section."""
    return f"<h2>{html.escape(text)}</h2>"


def paragraph(text: str) -> str:
    """A paragraph of plain text."""
    return f"<p>{html.escape(text)}</p>"


def note(text: str) -> str:
    """A paragraph that should not be overlooked."""
    return f'<p class="note">{html.escape(text)}</p>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of plain text; the first column is flush left."""
    lines = [_row("th", head), *(_row("td", row) for row in rows)]
    return f'<div class="wide"><table>{"".join(lines)}</table></div>'


def picture(figure: Figure, text: str, dpi: int = 100) -> str:
    """A figure as PNG inside of the page; text: what it shows, for those who cannot see it."""
    buffer = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(buffer, format="png", dpi=dpi, facecolor=figure.get_facecolor())
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f'<p><img alt="{html.escape(text)}" src="data:image/png;base64,{data}"></p>'


def number(value: float, digits: int) -> str:
    """The number, or a dash for NaN."""
    # Without the minus of a zero.
    return "–" if math.isnan(value) else f"{round(value, digits) + 0.0:.{digits}f}"


def _row(tag: str, cells: Sequence[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>\n"
