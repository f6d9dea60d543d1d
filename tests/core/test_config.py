"""Dataclasses from mappings: conversion, unset values, and one-line errors."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest

from personax.core.config import option, parse, plain

pytestmark = pytest.mark.quick


@dataclasses.dataclass(frozen=True)
class Inner:
    rate: float = option(0.5, least=0, most=1)
    kind: str | None = option(None, choices=("a", "b"))
    span: tuple[float, float] | None = None


@dataclasses.dataclass(frozen=True)
class Outer:
    name: str = option()
    count: int | None = option(3, least=1)
    flag: bool = False
    words: tuple[str, ...] = ()
    rates: Mapping[str, float | None] = dataclasses.field(default_factory=dict)
    free: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    inner: Inner = Inner()


def test_missing_keys_have_their_defaults():
    assert parse(Outer, {"name": "x"}) == Outer("x")
    with pytest.raises(ValueError, match="has no key 'name'"):
        parse(Outer, {})


def test_unset_values_are_none_and_written_back():
    values = {
        "name": "",
        "count": 0,
        "flag": False,
        "words": (),
        "rates": {"a": 0.0, "b": 2.0},
        "free": {"x": "", "y": (1,)},
        "inner": {"rate": 1.0, "kind": "", "span": ()},
    }
    config = parse(Outer, values)
    assert config == Outer(
        "", None, False, (), {"a": None, "b": 2.0}, values["free"], Inner(1.0)
    )
    assert plain(config) == values
    assert parse(Outer, plain(config)) == config


def test_numbers_and_lists_are_converted():
    config = parse(Outer, {"name": "x", "words": ["a"], "inner": {"span": [0, 1]}})
    assert config.words == ("a",)
    assert config.inner.span == (0.0, 1.0)
    assert type(parse(Inner, {"rate": 1}).rate) is float


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"nam": "x"}, "Unknown config key 'nam'; nearest: name"),
        (
            {"inner": {"knd": "a"}},
            "Unknown config key 'inner.knd'; nearest: inner.kind",
        ),
        ({"count": "many"}, "count='many': expected an integer"),
        ({"count": True}, "count=True: expected an integer"),
        ({"count": 1.5}, "count=1.5: expected an integer"),
        ({"count": -1}, "count=-1: expected a value >= 1"),
        ({"flag": 1}, "flag=1: expected True or False"),
        ({"words": "abc"}, "words='abc': expected a tuple"),
        ({"words": (1,)}, "words=1: expected a string"),
        ({"inner": 3}, "inner=3: expected a mapping"),
        ({"inner": {"rate": 2}}, "inner.rate=2.0: expected a value >= 0 and <= 1"),
        ({"inner": {"kind": "c"}}, "inner.kind='c': expected one of a, b"),
        ({"inner": {"span": (1,)}}, r"inner.span=\(1,\): expected a tuple of 2"),
        ({"rates": {"a": "x"}}, "rates.a='x': expected a number"),
    ],
)
def test_an_error_names_the_key_and_what_is_expected(values, error):
    with pytest.raises(ValueError, match=error):
        parse(Outer, {"name": "x", **values})
