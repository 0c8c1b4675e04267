"""What an event's content looks like in a list."""

import pytest

from handlers.dashboard.frame.words import filled


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        ('{"method": "otp", "os": null, "tries": 0}', '{"method": "otp", "tries": 0}'),
        ('{"os": null}', "{}"),
        ("[null]", "[null]"),
        ("not JSON", "not JSON"),
    ],
)
def test_only_the_fields_without_a_value_are_left_out(content, shown):
    assert filled(content) == shown
