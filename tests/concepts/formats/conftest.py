"""The base that adapters' files are bound to, one for all tests."""

import pytest

from personax.concepts.bind import from_base
from personax.loading import load_base
from tests.small_models import write_small


@pytest.fixture(scope="package")
def base(tmp_path_factory):
    return load_base(write_small(tmp_path_factory.mktemp("formats") / "base"))


@pytest.fixture(scope="package")
def plain(base):
    return from_base(base)
