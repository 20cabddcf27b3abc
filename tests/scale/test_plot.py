"""The picture of a run shows each request and each mark."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import pytest

from scale.plot import plot

SVG = "{http://www.w3.org/2000/svg}"


def test_a_bar_is_as_high_as_its_requests_are_many():
    times = [100.0, 101.0, 102.0, 103.0, 112.0, 112.5, 160.0]
    tree = ElementTree.fromstring(plot(times, []))  # noqa: S314 - our own text
    heights = [float(bar.get("height")) for bar in tree.findall(f"{SVG}rect") if bar.get("fill") == "#0b7285"]
    assert [round(height / heights[0], 2) for height in heights] == [1.0, 0.5, 0.25]


def test_the_marks_of_the_run_are_named_and_others_are_left_out():
    text = plot([100.0, 160.0], [(110.0, "kill -9"), (130.0, "a <restart>"), (500.0, "after the end")])
    assert re.findall(r'fill="#c92a2a">([^<]+)<', text) == ["kill -9", "a &lt;restart&gt;"]


def test_a_run_without_requests_has_no_picture():
    with pytest.raises(ValueError, match="no requests"):
        plot([], [])
