"""What is read, and how: one value that is checked when it is made."""

from __future__ import annotations

import pickle

import pytest

from scout_dask_io.core.selection import AS_IT_IS, Selection
from scout_dask_io.errors import ArgumentError


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"order": "numeric"}, "order must be one of 'alphabetical', 'natural', got 'numeric'"),
        ({"missing": "skip"}, "missing must be one of 'error', 'fill', got 'skip'"),
        ({"names": "any"}, "names must be one of 'check', 'allow', 'ignore', got 'any'"),
        ({"pages": "some"}, "pages must be one of 'all', 'counted', None, got 'some'"),
        ({"series": -1}, "series must be 0 or a positive int, got -1"),
        ({"series": True}, "series must be 0 or a positive int, got True"),
        ({"pages": "all", "series": 2}, 'pages="all" gives all pages .* series 2 is a part'),
    ],
)
def test_what_cannot_be_chosen_is_refused_when_it_is_chosen(options, says):
    with pytest.raises(ArgumentError, match=says):
        Selection(**options)


def test_the_first_series_goes_with_all_pages_and_a_level_does_not():
    chosen = Selection(series=0, pages="all")
    chosen.check_level(0)
    with pytest.raises(ArgumentError, match=r'pages="all" gives all pages .* level 1 is a part'):
        chosen.check_level(1)


def test_a_selection_is_taken_out_of_the_arguments_and_leaves_the_others():
    options = {"pages": "counted", "missing": "fill", "chunks": 8}
    assert Selection.taken_from(options) == Selection(missing="fill", pages="counted")
    assert options == {"chunks": 8}


def test_a_selection_goes_to_workers_as_it_is():
    chosen = Selection("natural", pattern="{z}.tif", series=1)
    assert pickle.loads(pickle.dumps(chosen)) == chosen != AS_IT_IS
