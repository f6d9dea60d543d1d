"""Every number of a training config and of a method has a range, and a key in it."""

import dataclasses
import types
import typing
from collections.abc import Mapping

import numpy as np
import pytest

from personax import methods
from personax.data.augment import Augmentation
from personax.methods.arguments import fields
from personax.training.config import TrainConfig, train_config

WRONG = (-(10**30), 10**30, float("nan"), float("inf"), -float("inf"))


def numbers(kind):
    """The number types within a field's type."""
    if kind in (int, float):
        return {kind}
    return set().union(*(numbers(inner) for inner in typing.get_args(kind)))


def numeric(cls, path=""):
    """(key, field, the type of its numbers, the field's own type) of a config."""
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        key, kind = f"{path}{field.name}", hints[field.name]
        if dataclasses.is_dataclass(kind):
            yield from numeric(kind, f"{key}.")
        for number in numbers(kind):
            yield key, field, number, kind


def own(kind):
    """A type without None."""
    if isinstance(kind, types.UnionType):
        (kind,) = (each for each in kind.__args__ if each is not types.NoneType)
    return kind


def outside(field, number):
    """Values that the bounds exclude, by a little and by far."""
    bounds = field.metadata["bounds"]
    step = 1 if number is int else 1e-3
    near = {">=": -step, ">": 0, "<=": step, "<": 0}
    for sign, bound in bounds.items():
        # 0 is an unset value, where a field may be unset.
        yield number(bound + near[sign]) or number(-1)
    yield from (value for value in WRONG if number is float or value == 10**30)
    yield number(-(10**30)) if number is int else -1e300


def nested(key, value):
    for name in reversed(key.split(".")):
        value = {name: value}
    return value


def shaped(kind, value):
    origin = typing.get_origin(own(kind)) or own(kind)
    if origin is tuple:
        return (value, value)
    return {"tokens": value} if issubclass(origin, Mapping) else value


CONFIG = list(numeric(TrainConfig))


@pytest.mark.parametrize("case", CONFIG, ids=[case[0] for case in CONFIG])
def test_every_number_of_the_config_has_a_range(case):
    key, field, number, kind = case
    bounds = field.metadata.get("bounds", {})
    assert {">=", ">"} & bounds.keys(), f"{key} has no lower bound"
    # A rate or a norm may be as large as the user likes.
    free = ("optimizer.learning_rate", "optimizer.learning_rates", "optimizer.clip")
    assert key in free or {"<=", "<"} & bounds.keys(), f"{key} has no upper bound"
    for value in outside(field, number):
        if key in free and value == 10**30:
            continue
        values = {"method": "lora", **nested(key, shaped(kind, value))}
        with pytest.raises(ValueError, match=rf"^{key}[.=]") as error:
            train_config(values)
        assert "\n" not in str(error.value)


METHODS = [
    (name, field)
    for name, recipe in methods.METHODS.items()
    for field in dataclasses.fields(fields(recipe))
    if numbers(field.type)
]


@pytest.mark.parametrize(
    ("name", "field"), METHODS, ids=[f"{name} {field.name}" for name, field in METHODS]
)
def test_every_number_of_a_method_has_a_range(name, field):
    (number,) = numbers(field.type)
    bounds = field.metadata["bounds"]
    assert {">=", ">"} & bounds.keys()
    assert {"<=", "<"} & bounds.keys()
    for value in outside(field, number):
        arguments = {field.name: shaped(field.type, value)}
        with pytest.raises(ValueError, match=rf"^method_args\.{field.name}="):
            methods.make(name, **arguments)


@pytest.mark.parametrize("name", methods.METHODS)
def test_arguments_of_another_type_are_refused(name):
    for field in dataclasses.fields(fields(methods.METHODS[name])):
        with pytest.raises(ValueError, match=rf"^method_args\.{field.name}="):
            methods.make(name, **{field.name: {"a": 1}})


@pytest.mark.parametrize("name", methods.METHODS)
def test_the_defaults_of_a_method_are_in_range(name):
    own = dataclasses.fields(fields(methods.METHODS[name]))
    methods.make(name, **{field.name: field.default for field in own})


@pytest.mark.parametrize("shrink", [(0.4,), (0.4, 0.5, 0.6), (0.9, 0.4), (0, 1), 0.4])
def test_a_range_of_shares_is_ordered_and_positive(shrink):
    with pytest.raises(ValueError, match=r"data\.shrink"):
        train_config({"method": "lora", "data": {"shrink": shrink}})


def test_augmentation_accepts_its_own_range():
    assert Augmentation(shrink=(0.4, 1.0)).shrink == (0.4, 1.0)
    given = train_config({"data": {"shrink": (np.float32(0.5), 1)}}).data.shrink
    assert given == (0.5, 1.0)


@pytest.mark.parametrize(
    "key",
    [
        "base",
        "corpus",
        "concepts_list",
        "concept.images",
        "concept.masks",
        "concept.prior_images",
        "stream.data_dir",
        "prior.clip",
        "validation.images",
    ],
)
def test_the_home_directory_is_expanded(key, monkeypatch):
    monkeypatch.setenv("HOME", "/homes/me")
    config = train_config(nested(key, "~/x"))
    for name in key.split("."):
        config = getattr(config, name)
    assert config == "/homes/me/x"


def test_the_home_directory_is_expanded_behind_a_prefix(monkeypatch):
    monkeypatch.setenv("HOME", "/homes/me")
    source = "wds:~/a-{0..9}.tar::~/b.tar"
    config = train_config({"stream": {"source": source}, "before": ("<v1>=~/c@0.5",)})
    assert config.stream.source == "wds:/homes/me/a-{0..9}.tar::/homes/me/b.tar"
    assert config.before == ("<v1>=/homes/me/c@0.5",)
    assert train_config({"concept": {"initial": "~"}}).concept.initial == "~"
