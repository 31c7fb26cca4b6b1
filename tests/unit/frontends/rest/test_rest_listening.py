"""What is said where the REST port cannot be opened."""

from __future__ import annotations

import pytest

from serving.errors import ConfigError
from serving.frontends.rest.listening import listen


def test_address_in_brackets_is_shown_without_them() -> None:
    with pytest.raises(ConfigError) as refused:
        listen("[::1]", 0)
    assert (refused.value.where, refused.value.given) == ("--host", "[::1]")
    assert refused.value.fix == "an address is given without brackets: --host ::1"


def test_address_of_another_machine_is_another_matter() -> None:
    with pytest.raises(ConfigError) as refused:
        listen("192.0.2.1", 0)
    assert refused.value.fix == "choose another value for --host"
