"""Charts as SVG, made on the server; a table beside each has the same figures.

The stylesheet has the colours. Widths are percentages and heights pixels, without a viewBox: text keeps its size on any
screen and only the bars grow. Series differ by shade and by their place in the legend, never by colour alone.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import accumulate

from markupsafe import Markup, escape

HEIGHT, TOP, BOTTOM = 190, 10, 24
SCALE_WIDTH = 52
MOST_SERIES = 6  # shades of the stylesheet
MOST_LINES = 5  # of the grid
LONGEST_NAME = 40
ROW_HEIGHT = 32


@dataclass(frozen=True)
class Series:
    """One figure per place on the axis."""

    name: str
    values: Sequence[float]


def bars(
    title: str,
    places: Sequence[str],
    series: Sequence[Series],
    labels: Mapping[int, str] | None = None,
    decimals: int = 0,
) -> Markup:
    """Bars of stacked series, one per place, with a scale of rounded values. ``labels`` are written under some places.

    Pointing at a place shows its figures, with ``decimals`` digits after the point.
    """
    series = series[:MOST_SERIES]
    tallest = max((sum(each.values[at] for each in series) for at in range(len(places))), default=0)
    lines = list(_grid(tallest))
    top_value = lines[-1]
    inner_height = HEIGHT - BOTTOM - TOP

    def height(value: float) -> float:
        return inner_height * value / top_value

    scale = [f'<svg class="scale" width="{SCALE_WIDTH}" height="{HEIGHT}" aria-hidden="true">']
    parts = [f'<svg class="chart" width="100%" height="{HEIGHT}" aria-hidden="true">']
    for value in lines:
        y = TOP + inner_height - height(value)
        scale.append(f'<text x="{SCALE_WIDTH - 8}" y="{y + 4:.1f}" text-anchor="end">{short(value)}</text>')
        kind = "axis" if value == 0 else "gridline"
        parts.append(f'<line class="{kind}" x1="0" x2="100%" y1="{y:.1f}" y2="{y:.1f}"/>')
    step = 100 / max(len(places), 1)
    for at, place in enumerate(places):
        heights = [height(each.values[at]) for each in series]
        figures = "".join(f"\n{each.name}: {each.values[at]:,.{decimals}f}" for each in series)
        parts.append(f"<g><title>{escape(place)}{escape(figures)}</title>")
        parts.append(
            f'<rect class="hit" x="{at * step:.3f}%" width="{step:.3f}%" y="0" height="{TOP + inner_height}"/>'
        )
        for number, (tall, top) in enumerate(zip(heights, accumulate(heights), strict=True)):
            if tall > 0:
                parts.append(
                    f'<rect class="series-{number}" x="{(at + 0.14) * step:.3f}%" width="{step * 0.72:.3f}%" '
                    f'y="{TOP + inner_height - top:.1f}" height="{max(tall, 1):.1f}"/>'
                )
        parts.append("</g>")
    for at, label in (labels or {}).items():
        anchor = "start" if at == 0 else "end" if at == len(places) - 1 else "middle"
        x = {"start": at * step, "end": (at + 1) * step, "middle": (at + 0.5) * step}[anchor]
        parts.append(f'<text x="{x:.3f}%" y="{HEIGHT - 6}" text-anchor="{anchor}">{escape(label)}</text>')
    drawn = "".join([*scale, "</svg>", *parts, "</svg>"])
    return Markup(f'<div class="plot" role="img" aria-label="{escape(title)}">{drawn}</div>')  # noqa: S704  escaped


def ranking(title: str, rows: Sequence[tuple[str, float, str]]) -> Markup:
    """Horizontal bars from zero: name, value, and the value as text."""
    largest = max((value for _, value, _ in rows), default=0) or 1
    return _horizontal(title, [(name, text, 0, 100 * value / largest, 0) for name, value, text in rows])


def waterfall(title: str, rows: Sequence[tuple[str, float, float, str]]) -> Markup:
    """A bar for each step from one value to another: name, from, to, and the change as text.

    A step that takes away, whose second value is the smaller one, has another shade.
    """
    values = [value for _, start, end, _ in rows for value in (start, end)]
    least = min([0.0, *values])
    span = (max([0.0, *values]) - least) or 1
    return _horizontal(
        title,
        [
            (name, text, 100 * (min(start, end) - least) / span, 100 * abs(end - start) / span, int(end < start))
            for name, start, end, text in rows
        ],
    )


def _horizontal(title: str, rows: Sequence[tuple[str, str, float, float, int]]) -> Markup:
    """One bar per row: name, text, where it begins and how wide it is in percent, and its shade."""
    height = ROW_HEIGHT * max(len(rows), 1)
    parts = [f'<svg class="chart" width="100%" height="{height}" role="img" aria-label="{escape(title)}">']
    for number, (name, text, x, width, shade) in enumerate(rows):
        top = number * ROW_HEIGHT
        cut = name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"
        parts.append(
            f"<g><title>{escape(name)}: {escape(text)}</title>"
            f'<text class="name" x="0" y="{top + 13}">{escape(cut)}</text>'
            f'<text x="100%" y="{top + 13}" text-anchor="end">{escape(text)}</text>'
            f'<rect class="track" x="0" y="{top + 19}" width="100%" height="6" rx="3"/>'
        )
        if width > 0:  # nothing is drawn for zero
            parts.append(
                f'<rect class="series-{shade}" x="{min(x, 99.5):.2f}%" y="{top + 19}" width="{max(width, 0.5):.2f}%" '
                'height="6" rx="3"/>'
            )
        parts.append("</g>")
    return Markup("".join([*parts, "</svg>"]))  # noqa: S704  numbers of ours, and text that was escaped


def legend(names: Sequence[str]) -> Markup:
    """Which shade is whose, in the order in which they are stacked."""
    items = "".join(
        f'<li><svg aria-hidden="true" width="12" height="12"><rect class="series-{number}" width="12" height="12" '
        f'rx="2"/></svg>{escape(name)}</li>'
        for number, name in enumerate(names[:MOST_SERIES])
    )
    return Markup(f'<ul class="legend">{items}</ul>')  # noqa: S704  escaped above


def short(value: float) -> str:
    """A figure for a scale: 250, 1.5k, 20M."""
    for size, unit in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.10g}{unit}"
    return f"{value:.10g}"


def major(minor: int, exponent: int) -> Decimal:
    """An amount in minor units as one in major units, exact."""
    return Decimal(minor).scaleb(-exponent)


def _grid(tallest: float) -> Iterator[float]:
    """0 and up to :data:`MOST_LINES` values above it, each a multiple of 1, 2 or 5 of some power of ten."""
    if tallest <= 0:
        yield from (0, 1)
        return
    power = 10.0 ** math.floor(math.log10(tallest / MOST_LINES))
    step = next(power * each for each in (1, 2, 5, 10) if power * each * MOST_LINES >= tallest)
    for number in range(math.ceil(tallest / step - 1e-9) + 1):
        yield number * step
