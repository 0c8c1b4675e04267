"""Charts as SVG, made on the server: a table beside each says the same in figures.

Nothing here holds a colour or a size in pixels of the screen: the stylesheet does. Series are told apart
by shade and by their place in the legend, never by colour alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from markupsafe import Markup, escape

WIDTH, HEIGHT = 720, 180
LEFT, BOTTOM, TOP = 8, 22, 8
MOST_SERIES = 6  # shades of the stylesheet


@dataclass(frozen=True)
class Series:
    """One figure per place on the axis."""

    name: str
    values: Sequence[float]


def bars(
    title: str, places: Sequence[str], series: Sequence[Series], labels: Mapping[int, str] | None = None
) -> Markup:
    """Bars of stacked series, one per place. ``labels`` are the words under some of the places."""
    series = series[:MOST_SERIES]
    tallest = max((sum(each.values[at] for each in series) for at in range(len(places))), default=0) or 1
    step = (WIDTH - LEFT) / max(len(places), 1)
    room = HEIGHT - BOTTOM - TOP
    parts = [_open(title)]
    for at, place in enumerate(places):
        heights = [room * each.values[at] / tallest for each in series]
        for number, (each, height, top) in enumerate(zip(series, heights, accumulate(heights), strict=True)):
            if height > 0:
                parts.append(
                    f'<rect class="series-{number}" x="{LEFT + at * step + step * 0.12:.1f}" '
                    f'y="{TOP + room - top:.1f}" width="{step * 0.76:.1f}" height="{max(height, 1):.1f}">'
                    f"<title>{escape(place)}: {escape(each.name)} {each.values[at]:,.2f}</title></rect>"
                )
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH}" y1="{TOP + room}" y2="{TOP + room}"/>')
    for at, label in (labels or {}).items():
        parts.append(
            f'<text class="axis-label" x="{LEFT + (at + 0.5) * step:.1f}" y="{HEIGHT - 6}" '
            f'text-anchor="middle">{escape(label)}</text>'
        )
    parts.append("</svg>")
    return Markup("".join(parts))  # noqa: S704  numbers of ours, and text that was escaped


def ranking(title: str, rows: Sequence[tuple[str, float, str]]) -> Markup:
    """Horizontal bars: what, how much of it, and that in words."""
    largest = max((value for _, value, _ in rows), default=0) or 1
    height = 30 * max(len(rows), 1)
    parts = [_open(title, height)]
    for number, (name, value, text) in enumerate(rows):
        top = number * 30
        parts.append(
            f'<text class="bar-label" x="0" y="{top + 12}">{escape(name)}</text>'
            f'<text class="bar-label" x="{WIDTH}" y="{top + 12}" text-anchor="end">{escape(text)}</text>'
            f'<rect class="track" x="0" y="{top + 17}" width="{WIDTH}" height="6" rx="3"/>'
            f'<rect class="series-0" x="0" y="{top + 17}" width="{max(WIDTH * value / largest, 2):.1f}" height="6" '
            'rx="3"/>'
        )
    parts.append("</svg>")
    return Markup("".join(parts))  # noqa: S704  numbers of ours, and text that was escaped


def _open(title: str, height: int = HEIGHT) -> str:
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}" '
        f'xmlns="http://www.w3.org/2000/svg" preserveAspectRatio="none">'
    )
