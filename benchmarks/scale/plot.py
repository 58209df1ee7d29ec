"""A small plot for each measure, side by side: ratios by the size of the store."""

from collections.abc import Iterator, Sequence
from html import escape
from math import ceil, log2, log10

from benchmarks.scale.report import BOUND, Flatness

COLUMNS = 4
WIDTH, HEIGHT = 220, 130
HEAD = 24
LEFT, RIGHT, TOP, BOTTOM = 34, 12, 30, 22
_COLOURS = {"PostgreSQL": "#2f6fb3", "SQLite": "#c05a1a"}
_INK = "#444"
_MIDDLE, _END = 'text-anchor="middle"', 'text-anchor="end"'


def svg(found: Sequence[Flatness]) -> str:
    """The picture, readable on light and dark pages as it brings its own ground."""
    titles = dict.fromkeys(one.title for one in found)
    panels = [[one for one in found if one.title == title] for title in titles]
    width, height = COLUMNS * WIDTH, ceil(len(panels) / COLUMNS) * HEIGHT + HEAD
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    font = 'font-family="sans-serif" font-size="10"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} {font} fill="{_INK}">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        *_legend(found),
    ]
    for index, panel in enumerate(panels):
        x, y = index % COLUMNS * WIDTH, index // COLUMNS * HEIGHT + HEAD
        parts += [f'<g transform="translate({x} {y})">', *_panel(panel), "</g>"]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _legend(found: Sequence[Flatness]) -> Iterator[str]:
    x = LEFT
    for database in dict.fromkeys(one.database for one in found):
        yield f'<rect x="{x}" y="8" width="10" height="10" fill="{_COLOURS[database]}"/>'
        yield _text(x + 14, 17, database)
        x += 90
    yield _text(x, 17, f"ratio to the smallest store by events; dashed: the bound, {BOUND}")


def _panel(panel: Sequence[Flatness]) -> Iterator[str]:
    sizes = sorted({events for one in panel for events in one.taken})
    worst = max(one.worst for one in panel)
    top = max(2.0, worst) * 1.1
    low = min(0.5, *(ratio for one in panel for _, ratio in _points(one)))

    def across(events: int) -> float:
        span = log10(sizes[-1] / sizes[0]) or 1.0
        return LEFT + (WIDTH - LEFT - RIGHT) * log10(events / sizes[0]) / span

    def up(ratio: float) -> float:
        share = log2(ratio / low) / log2(top / low)
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share

    yield _text(LEFT, 14, panel[0].title, 'font-weight="bold"')
    for events in sizes:
        x = across(events)
        yield _rule((x, TOP), (x, HEIGHT - BOTTOM), "#ddd")
        yield _text(x, HEIGHT - 8, f"10{_raised(log10(events))}", _MIDDLE)
    for ratio, dashes in ((1.0, ""), (BOUND, 'stroke-dasharray="4 3"')):
        yield _rule((LEFT, up(ratio)), (WIDTH - RIGHT, up(ratio)), "#888", dashes)
    for ratio in [1.0] if worst < BOUND else [1.0, worst]:
        yield _text(LEFT - 4, up(ratio) + 3, f"{ratio:.2g}" if ratio < 10 else f"{ratio:.0f}", _END)
    for one in panel:
        yield from _line(one, [(across(events), up(ratio)) for events, ratio in _points(one)])


def _points(one: Flatness) -> Iterator[tuple[int, float]]:
    yield min(one.taken), 1.0
    for events, ratio in one.ratios():
        yield events, ratio.median


def _line(one: Flatness, points: Sequence[tuple[float, float]]) -> Iterator[str]:
    colour = _COLOURS[one.database]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
    for x, y in points:
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{colour}"/>'


def _raised(power: float) -> str:
    return f"{power:.2g}".translate(str.maketrans("0123456789.", "⁰¹²³⁴⁵⁶⁷⁸⁹·"))


def _text(x: float, y: float, text: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {more}>{escape(text)}</text>'


def _rule(start: tuple[float, float], end: tuple[float, float], colour: str, more: str = "") -> str:
    (x1, y1), (x2, y2) = start, end
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="{colour}" {more}/>'
