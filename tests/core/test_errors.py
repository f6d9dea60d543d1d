"""Errors of preparation become InputError, with their message on one line."""

import pytest

from personax.core.errors import InputError, invalid_input

pytestmark = pytest.mark.quick


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("two\n  lines"), "two lines"),
        (KeyError("No parameter 'x'."), "No parameter 'x'."),
        (FileNotFoundError("There is no file x."), "There is no file x."),
        (TypeError("It takes no 'x'."), "It takes no 'x'."),
    ],
)
def test_an_error_of_preparation_is_an_input_error(error, message):
    with pytest.raises(InputError) as raised, invalid_input():
        raise error
    assert str(raised.value) == message


def test_other_errors_keep_their_type():
    with pytest.raises(ZeroDivisionError), invalid_input():
        _ = 1 / 0
