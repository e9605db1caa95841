from __future__ import annotations

import ast
import json
import math
from pathlib import Path

import pytest

import scout_dask_io
from scout_dask_io.core.json_document import (
    MAX_DEPTH,
    MAX_JSON_NBYTES,
    MAX_VALUES,
    parse_json,
    parse_json_at,
)

KINDS = pytest.mark.parametrize("kind", [str, str.encode], ids=["text", "bytes"])


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


@KINDS
def test_what_json_gives_is_given(kind):
    text = '{"a": [1, 2.5, null, true, "é"], "b": {"c": {}}, "n": NaN}'
    found = parse_json(kind(text))
    assert math.isnan(found.pop("n"))
    assert found == {"a": [1, 2.5, None, True, "é"], "b": {"c": {}}}


@KINDS
def test_the_depth_is_bounded_whatever_the_depth_of_the_caller(kind):
    assert json.dumps(parse_json(kind(nested(MAX_DEPTH)))) == nested(MAX_DEPTH)
    for depth in (MAX_DEPTH + 1, 1_000, 3_000, 100_000, 1_000_000):
        for text in (nested(depth), '{"a":' * depth + "1" + "}" * depth):
            with pytest.raises(ValueError, match="more than 100 objects and lists"):
                parse_json(kind(text))


@KINDS
def test_many_values_and_long_texts_are_refused_before_they_are_parsed(kind, monkeypatch):
    monkeypatch.setattr(json, "loads", None)
    for text in ("[" + "[]," * (MAX_VALUES // 2) + "[]]", "[" + "0," * MAX_VALUES + "0]"):
        with pytest.raises(ValueError, match="values of JSON"):
            parse_json(kind(text))
    with pytest.raises(ValueError, match="bytes of JSON"):
        parse_json(kind('"' + "a" * MAX_JSON_NBYTES + '"'))


@KINDS
def test_a_key_that_stands_twice_is_named(kind):
    for text in ('{"shape": [1], "b": 2, "shape": [9]}', '[{"x": {"shape": 1, "shape": 1}}]'):
        with pytest.raises(ValueError, match="the key 'shape' stands twice"):
            parse_json(kind(text))


def test_a_value_amid_a_text_is_bounded_too():
    assert parse_json_at('Summary: {"a": [1]}, "b": 2', 9) == {"a": [1]}
    for depth in (MAX_DEPTH + 1, 100_000):
        with pytest.raises(ValueError, match="more than 100 objects"):
            parse_json_at("x" + nested(depth), 1)
    with pytest.raises(ValueError, match="Expecting"):
        parse_json_at("x", 1)


def test_json_is_parsed_nowhere_else():
    package = Path(scout_dask_io.__file__).parent
    for path in package.rglob("*.py"):
        if path.name == "json_document.py":
            continue
        used = {
            node.attr
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "json"
        }
        assert used <= {"dumps"}, path
