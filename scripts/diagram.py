"""Draw docs/pictures/house.svg: the folders of the package by level, and their imports, read from the sources."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise

from tests.support.imports import LEVELS, ROOT, Graph, import_graph, reachable, room_of

PICTURE = ROOT / "docs" / "pictures" / "house.svg"

#: What each level is for, line by line.
LEVEL_TITLES = (
    ("Commands",),
    ("Entry points",),
    ("Deferred waits",),
    ("Work of", "a waiting task"),
    ("Airflow side", "of the service"),
    ("Decisions",),
    ("The service",),
    ("Basics",),
)
#: What each room is for. A room that is not listed is drawn without a phrase.
PURPOSES = {
    "cli": "commands",
    "__main__": "python -m",
    "operators": "create a job, cancel a job",
    "sensors": "wait for a job",
    "get_provider_info": "what Airflow lists",
    "triggers": "waits, deferred",
    "links": "task button",
    "hooks": "connection",
    "assets": "names of data",
    "exceptions": "errors",
    "models": "values",
    "submission": "creates a job only once",
    "polling": "one poll for many waits",
    "waiting": "one wait on a worker",
    "gate": "when a waiting task succeeds; pure",
    "api": "requests, responses, errors; nothing of Airflow",
    "clock": "time, sleep",
    "_compat": "Airflow versions",
    "_lazy": "exports",
    "configuration": "the section [polaris]",
    "connection_form": "fields of a connection",
    "pytest_plugin": "fixtures for tests of DAGs",
    "local": "a local Polaris for tests",
    "local.http": "speaks HTTP",
    "local.engine": "time",
    "local.engine.jobs": "runs jobs",
    "local.engine.query": "answers queries",
    "local.engine.project": "jobs, tables, specs",
    "local.engine.data": "rows, files, database",
    "local.engine.sql": "Druid SQL",
}

#: The rooms of the local Polaris, from the top down.
STACK = (
    "pytest_plugin", "local", "local.http", "local.engine.jobs", "local.engine.query", "local.engine.project",
    "local.engine.data", "local.engine.sql", "local.engine",
)  # fmt: skip

WIDTH = 1000
LEFT, RIGHT = 120, 730  # the boxes of the levels, between the titles and the long arrows
STACK_LEFT, STACK_RIGHT = 815, 980  # pytest_plugin.py and the local Polaris
PAD, LINE = 10, 15
LANE = 9  # the distance of two arrows side by side
EXPRESS = 3  # an arrow over at least this many levels goes down at the right edge, past all boxes
COLOR = "#0550ae"
SMALL_JOG = 14  # a shift of an arrow that is smaller than this is left out
_FONT = 'font-family="DejaVu Sans, Verdana, sans-serif" font-size="11" fill="#1f2328"'
_FILE_FONT = 'font-family="DejaVu Sans Mono, Menlo, Consolas, monospace"'


@dataclass
class Box:
    """A room, its place in the picture, and the places where arrows leave and enter it."""

    name: str
    files: list[str]
    columns: int = 1
    x: float = 0
    y: float = 0
    width: float = 0
    height: float = 0
    #: The edges at the lower (``True``) and the upper side, each with the x of its other end.
    ports: dict[bool, list[tuple[float, tuple[str, str]]]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        self.columns = max(1, (len(self.files) + 2) // 3) if self.name in {"api", "gate"} else 1
        rows = -(-len(self.files) // self.columns)
        self.column_width = max((len(name) * 6.7 for name in self.files), default=0) + 14
        texts = [self.columns * self.column_width - 14, len(self.title) * 8.1, len(self.purpose) * 6.2]
        self.width = max(texts) + 2 * PAD
        self.height = 2 * PAD + LINE * (1 + bool(self.purpose) + rows)

    @property
    def title(self) -> str:
        """The name of the folder or file in the package."""
        return f"{self.name.replace('.', '/')}/" if self.files else f"{self.name}.py"

    @property
    def purpose(self) -> str:
        """A phrase that says what the room is for."""
        return PURPOSES.get(self.name, "")

    @property
    def middle(self) -> float:
        """The x of the middle of the box."""
        return self.x + self.width / 2

    def svg(self) -> Iterator[str]:
        """Yield the box and its texts."""
        yield (
            f'<rect x="{self.x:.1f}" y="{self.y:.1f}" width="{self.width:.1f}" height="{self.height:.1f}" rx="6" '
            'fill="#fff" stroke="#57606a"/>'
        )
        x, y = self.x + PAD, self.y + PAD + 11
        yield _text(x, y, self.title, 'font-weight="bold" font-size="13"')
        if self.purpose:
            y += LINE
            yield _text(x, y, self.purpose, 'fill="#57606a"')
        rows = -(-len(self.files) // self.columns)
        for number, name in enumerate(self.files):
            place = x + number // rows * self.column_width, y + LINE * (number % rows + 1)
            yield _text(*place, name, _FILE_FONT)


@dataclass
class Segment:
    """A horizontal part of an arrow, in the channel below a level; ``y`` is set once all are known."""

    channel: int
    start: float
    end: float
    y: float = 0


def draw(graph: Graph) -> str:
    """Return the picture of a package's imports, as SVG."""
    levels = [[Box(room, _files(graph, room)) for room in level if _is_drawn(graph, room)] for level in LEVELS]
    stack = [Box(room, _files(graph, room)) for room in STACK]
    edges = _between(graph, {box.name for level in levels for box in level}, room_of)
    arrows = _Arrows(levels, sorted(_without_shortcuts(edges)))
    height = arrows.place()
    _place_stack(stack, levels[0][0].y)
    inside = _without_shortcuts(_between(graph, {box.name for box in stack}, _room_in_stack))
    bottom = max(height, stack[-1].y + stack[-1].height) + 24
    page = f'width="{WIDTH}" height="{bottom + 44:.0f}"'
    beside = stack[-1].y + stack[-1].height - stack[0].y + 20
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + 44:.0f}" role="img" {_FONT}>',
        "<title>The folders of the package and the imports between them</title>",
        f'<rect {page} rx="8" fill="#fff"/>',
        *_bands(levels),
        _band(STACK_LEFT - 15, stack[0].y - 10, STACK_RIGHT - STACK_LEFT + 30, beside),
        *arrows.svg(),
        *(_stack_arrow(stack, edge) for edge in sorted(inside)),
        *(line for level in levels for box in level for line in box.svg()),
        *(line for box in stack for line in box.svg()),
        *(
            _text(STACK_LEFT, stack[-1].y + stack[-1].height + 28 + LINE * number, line, 'fill="#57606a"')
            for number, line in enumerate(("The local Polaris shares", "no code with the rest."))
        ),
        *_legend(bottom),
        "</svg>\n",
    ]
    return "\n".join(parts)


class _Arrows:
    """The arrows between the rooms of the levels: each goes through the channels between the levels, apart from others.

    :param edges: from a room to a room of the same level or of a lower one. A test holds that there are no others.
    """

    def __init__(self, levels: list[list[Box]], edges: list[tuple[str, str]]) -> None:
        self.levels = levels
        self.boxes = {box.name: box for level in levels for box in level}
        self.rank = {box.name: number for number, level in enumerate(levels) for box in level}
        self.beside = [edge for edge in edges if self._are_neighbours(*edge)]
        #: Each edge as its upper and its lower room. Inside a level, an arrow leaves both rooms at the lower side.
        self.routed = [edge for edge in edges if edge not in self.beside]
        #: The x at which an edge passes each level between its rooms.
        self.ways: dict[tuple[str, str], list[float]] = {}
        self.segments: dict[tuple[str, str], list[Segment]] = {}

    def place(self) -> float:
        """Place all boxes and arrows, and return the y at which the lowest box ends."""
        for level in self.levels:
            _spread(level)
        self._choose_ports()
        self._choose_ways()
        lanes = self._choose_lanes()
        y = 24.0
        for number, level in enumerate(self.levels):
            for box in level:
                box.y = y
                box.height = max(other.height for other in level)
            y += level[0].height
            for segments in self.segments.values():
                for segment in segments:
                    if segment.channel == number:
                        segment.y += y + 22
            y += 44 + LANE * max(0, lanes[number] - 1)
        return self.levels[-1][0].y + self.levels[-1][0].height

    def svg(self) -> Iterator[str]:
        """Yield the arrows."""
        for source, target in self.beside:
            left, right = self.boxes[source], self.boxes[target]
            y = left.y + left.height / 2
            ends = (left.x + left.width, right.x) if left.x < right.x else (left.x, right.x + right.width)
            yield _arrow([(ends[0], y), (ends[1], y)])
        for edge in self.routed:
            yield _arrow(self._points(edge))

    def _are_neighbours(self, source: str, target: str) -> bool:
        level = [box.name for box in self.levels[self.rank[source]]]
        return target in level and abs(level.index(source) - level.index(target)) == 1

    def _choose_ports(self) -> None:
        for upper, lower in self.routed:
            is_level = self.rank[upper] == self.rank[lower]
            self.boxes[upper].ports[True].append((self.boxes[lower].middle, (upper, lower)))
            self.boxes[lower].ports[is_level].append((self.boxes[upper].middle, (upper, lower)))

    def _port(self, name: str, edge: tuple[str, str], *, is_lower_side: bool) -> float:
        box = self.boxes[name]
        edges = [other for _, other in sorted(box.ports[is_lower_side])]
        return box.x + box.width * (edges.index(edge) + 1) / (len(edges) + 1)

    def _choose_ways(self) -> None:
        """Choose the x at which each arrow passes each level: beside the boxes, as near as possible to its target."""
        spans = {edge: self.rank[edge[1]] - self.rank[edge[0]] for edge in self.routed}
        express = sorted((edge for edge in self.routed if spans[edge] >= EXPRESS), key=lambda edge: (spans[edge], edge))
        self.ways = {edge: [RIGHT + 8 + LANE * n] * (spans[edge] - 1) for n, edge in enumerate(express)}
        passing: dict[tuple[int, float, float], list[tuple[float, tuple[str, str], int]]] = defaultdict(list)
        for edge in self.routed:
            if edge in self.ways:
                continue
            upper, lower = edge
            between = range(self.rank[upper] + 1, self.rank[lower])
            self.ways[edge] = [0.0] * len(between)
            x = self._port(upper, edge, is_lower_side=True)
            for number, level in enumerate(between):
                share = (number + 1) / (len(between) + 1)
                wanted = x + (self.boxes[lower].middle - x) * share
                gap = min(_gaps(self.levels[level]), key=lambda gap: abs(sum(gap) / 2 - wanted))
                passing[(level, *gap)].append((self.boxes[lower].middle, edge, number))
        for (_, start, end), arrows in passing.items():
            for place, (_, edge, number) in enumerate(sorted(arrows)):
                self.ways[edge][number] = start + (end - start) * (place + 1) / (len(arrows) + 1)

    def _choose_lanes(self) -> list[int]:
        """Give each horizontal part a lane of its channel, and return how many lanes each channel has."""
        lanes: list[list[list[tuple[float, float]]]] = [[] for _ in self.levels]
        for edge in self.routed:
            upper, lower = edge
            is_level = self.rank[upper] == self.rank[lower]
            last = self._port(lower, edge, is_lower_side=is_level)
            stops = [self._port(upper, edge, is_lower_side=True), *self.ways[edge], last]
            if len(stops) == 2 and abs(stops[0] - stops[1]) < SMALL_JOG:
                stops[1] = stops[0]
            self.segments[edge] = [
                Segment(self.rank[upper] + number, start, end) for number, (start, end) in enumerate(pairwise(stops))
            ]
        order = sorted(
            (segment for segments in self.segments.values() for segment in segments),
            key=lambda segment: (segment.channel, segment.end < segment.start, _lane_order(segment)),
        )
        for segment in order:
            span = min(segment.start, segment.end) - LANE, max(segment.start, segment.end) + LANE
            taken = lanes[segment.channel]
            lane = next(
                (n for n, spans in enumerate(taken) if all(span[1] < low or high < span[0] for low, high in spans)), -1
            )
            if lane < 0:
                lane = len(taken)
                taken.append([])
            taken[lane].append(span)
            segment.y = lane * LANE
        return [len(taken) for taken in lanes]

    def _points(self, edge: tuple[str, str]) -> Iterator[tuple[float, float]]:
        upper, lower = self.boxes[edge[0]], self.boxes[edge[1]]
        segments = self.segments[edge]
        yield segments[0].start, upper.y + upper.height
        for segment in segments:
            yield segment.start, segment.y
            yield segment.end, segment.y
        is_level = self.rank[edge[0]] == self.rank[edge[1]]
        yield segments[-1].end, lower.y + (lower.height if is_level else 0)


def _lane_order(segment: Segment) -> float:
    """Return the order in which arrows turn, so that few of them cross."""
    return -segment.start if segment.end >= segment.start else segment.start


def _is_drawn(graph: Graph, room: str) -> bool:
    is_there = any(room_of(module) == room for module in graph)
    return is_there and room not in {"__init__", "pytest_plugin"}  # these are not in the levels


def _files(graph: Graph, room: str) -> list[str]:
    """Return the names of the files in a folder. A module that is in no folder has none."""
    inside = [module.removeprefix(f"{room}.") for module in graph if module.startswith(f"{room}.")]
    return sorted(f"{name}.py" for name in inside if "." not in name and f"{room}.{name}" not in STACK)


def _room_in_stack(module: str) -> str:
    """Return the room of a module of the local Polaris: the longest one that the module is in."""
    inside = [room for room in STACK if f"{module}.".startswith(f"{room}.")]
    return max(inside, key=len) if inside else room_of(module)


def _between(graph: Graph, rooms: set[str], room_of_module: Callable[[str], str]) -> set[tuple[str, str]]:
    """Return the imports between rooms, each as importing and imported room."""
    pairs = {
        (room_of_module(module), room_of_module(other)) for module, imported in graph.items() for other in imported
    }
    return {(source, target) for source, target in pairs if source != target and {source, target} <= rooms}


def _without_shortcuts(edges: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Return the edges, without an edge between two rooms that other edges connect."""
    graph: dict[str, set[str]] = defaultdict(set)
    for source, target in edges:
        graph[source].add(target)
        graph[target] |= set()
    return {
        (source, target)
        for source, target in edges
        if not any(target in reachable(graph, other) for other in graph[source] - {target})
    }


def _spread(level: list[Box]) -> None:
    """Place boxes side by side, with the same gap between them and at both ends."""
    gap = (RIGHT - LEFT - sum(box.width for box in level)) / (len(level) + 1)
    x = float(LEFT)
    for box in level:
        box.x = x + gap
        x = box.x + box.width


def _gaps(level: list[Box]) -> list[tuple[float, float]]:
    starts = [float(LEFT), *(box.x + box.width for box in level)]
    return list(zip(starts, [*(box.x for box in level), float(RIGHT)], strict=True))


def _place_stack(stack: list[Box], y: float) -> None:
    for box in stack:
        box.x, box.y, box.width = STACK_LEFT, y, STACK_RIGHT - STACK_LEFT
        y += box.height + 40


def _stack_arrow(stack: list[Box], edge: tuple[str, str]) -> str:
    source, target = (next(box for box in stack if box.name == name) for name in edge)
    is_down = source.y < target.y
    ends = (source.y + source.height, target.y) if is_down else (source.y, target.y + target.height)
    return _arrow([(source.middle, ends[0]), (target.middle, ends[1])])


def _bands(levels: list[list[Box]]) -> Iterator[str]:
    for titles, level in zip(LEVEL_TITLES, levels, strict=True):
        y, height = level[0].y - 10, level[0].height + 20
        yield _band(10, y, RIGHT + 55, height)
        for number, title in enumerate(titles):
            yield _text(22, y + height / 2 + 4 + LINE * (number - (len(titles) - 1) / 2), title, 'font-weight="bold"')


def _legend(y: float) -> Iterator[str]:
    yield _arrow([(24, y + 8), (60, y + 8)])
    yield _text(70, y + 12, "imports. An arrow is left out if other arrows lead to the same box.", "")


def _band(x: float, y: float, width: float, height: float) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="8" fill="#f6f8fa"/>'


def _arrow(points: Iterable[tuple[float, float]]) -> str:
    """Return a line through points, and its head: some viewers ignore the colour of a marker."""
    points = [point for point, before in pairwise([*points, (-1.0, -1.0)]) if point != before]
    (x, y), (before_x, before_y) = points[-1], points[-2]
    dx, dy = (x > before_x) - (x < before_x), (y > before_y) - (y < before_y)
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in [*points[:-1], (x - 3 * dx, y - 3 * dy)])
    back = x - 7 * dx, y - 7 * dy
    head = (
        f"{x:.1f} {y:.1f} {back[0] + 4 * dy:.1f} {back[1] + 4 * dx:.1f} {back[0] - 4 * dy:.1f} {back[1] - 4 * dx:.1f}"
    )
    line = f'<path d="M{path}" fill="none" stroke="{COLOR}" stroke-width="1.3"/>'
    return f'{line}<polygon points="{head}" fill="{COLOR}"/>'


def _text(x: float, y: float, text: str, style: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(text)}</text>'


def main() -> None:
    """Write the picture."""
    PICTURE.write_text(draw(import_graph()))
    print(f"{PICTURE.relative_to(ROOT)}: drawn")


if __name__ == "__main__":
    main()
