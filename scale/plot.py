"""A picture of a run: the requests over time, and what happened. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from xml.sax.saxutils import escape

#: Each bar has the requests of so many seconds.
BAR_SECONDS = 5
WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 960, 320, 50, 40, 60


def plot(times: Sequence[float], marks: Iterable[tuple[float, str]]) -> str:
    """Return the requests in each period of five seconds as SVG.

    :param times: when each request came, in seconds since the epoch.
    :param marks: when something happened, and what.
    """
    if not times:
        raise ValueError("there are no requests to draw")
    begin = min(times)
    bars = Counter(int((at - begin) / BAR_SECONDS) for at in times)
    most, end = max(bars.values()), begin + BAR_SECONDS * (max(bars) + 1)
    wide = (WIDTH - LEFT - 10) / (end - begin)

    def across(seconds: float) -> float:
        return LEFT + seconds * wide

    def up(count: float) -> float:
        return HEIGHT - BOTTOM - count / most * (HEIGHT - BOTTOM - TOP)

    shown = "".join(
        f'<rect x="{across(bar * BAR_SECONDS):.1f}" y="{up(count):.1f}" '
        f'width="{max(1.0, BAR_SECONDS * wide - 0.5):.1f}" height="{HEIGHT - BOTTOM - up(count):.1f}" fill="#0b7285"/>'
        for bar, count in sorted(bars.items())
    )
    lines = "".join(
        f'<line x1="{across(at - begin):.1f}" x2="{across(at - begin):.1f}" y1="{TOP - 8 - 14 * (number % 3)}" '
        f'y2="{HEIGHT - BOTTOM}" stroke="#c92a2a" stroke-dasharray="4 3"/>'
        f'<text x="{across(at - begin) + 4:.1f}" y="{TOP - 8 - 14 * (number % 3)}" fill="#c92a2a">{escape(what)}</text>'
        for number, (at, what) in enumerate(marks)
        if begin <= at <= end
    )
    minutes = "".join(
        f'<text x="{across(60 * minute):.1f}" y="{HEIGHT - 22}" text-anchor="middle">{minute}</text>'
        for minute in range(int((end - begin) / 60) + 1)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12">'
        f"<title>Requests to Polaris in each period of {BAR_SECONDS} s</title>"
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>{shown}{lines}{minutes}'
        f'<line x1="{LEFT}" x2="{WIDTH - 10}" y1="{HEIGHT - BOTTOM}" y2="{HEIGHT - BOTTOM}" stroke="#868e96"/>'
        f'<text x="{LEFT - 6}" y="{TOP + 4}" text-anchor="end">{most}</text>'
        f'<text x="{LEFT - 6}" y="{HEIGHT - BOTTOM + 4}" text-anchor="end">0</text>'
        f'<text x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 6}" text-anchor="middle">minutes</text>'
        f'<text x="6" y="{TOP - 44}">requests in {BAR_SECONDS} s</text></svg>\n'
    )
