"""What several front ends do not offer is refused by the flag that asks for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from serving.cli.start import checked
from serving.config import ServerSettings
from serving.errors import ConfigError


@pytest.mark.parametrize(
    ("more", "flag"),
    [
        ({"grpc_engine": "grpcio"}, "--grpc-engine"),
        ({"client_shared_memory": True}, "--client-shared-memory"),
    ],
)
def test_option_that_goes_with_one_front_end_only_is_refused_with_more(
    more: dict[str, Any], flag: str
) -> None:
    assert checked(ServerSettings(Path("m"), **more)).frontends == 1
    with pytest.raises(ConfigError) as caught:
        checked(ServerSettings(Path("m"), frontends=2, **more))
    assert caught.value.where == flag
    assert "--frontends 1" in caught.value.fix
