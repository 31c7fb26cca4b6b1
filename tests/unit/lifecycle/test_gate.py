"""Who may load and unload, and which settings would open that to strangers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from serving.config import ServerSettings
from serving.errors import ConfigError, ControlOff, Unauthenticated
from serving.lifecycle.gate import Gate, check_exposed, open_gate

EXPLICIT = ServerSettings(Path("/models"), model_control="explicit")


@pytest.mark.parametrize("mode", ["none", "poll"])
def test_gate_is_shut_without_explicit_control_and_names_the_flag(mode: str) -> None:
    with pytest.raises(ControlOff, match="--model-control explicit"):
        Gate(mode, None).admit("Bearer anything")


def test_gate_without_a_token_admits_whoever_can_connect() -> None:
    Gate("explicit").admit(None)


@pytest.mark.parametrize(
    "given",
    [
        None, "", "secret", "Basic secret", "Bearer", "Bearer ", "Bearer Secret", "Bearer secrets",
        "Bearer sécret", "Bearer secret secret",
    ],
)  # fmt: skip
def test_gate_refuses_all_but_the_token(given: str | None) -> None:
    with pytest.raises(Unauthenticated) as error:
        Gate("explicit", "secret").admit(given)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("given", ["Bearer secret", "bearer secret", "Bearer  secret "])
def test_gate_admits_the_token(given: str) -> None:
    Gate("explicit", "secret").admit(given)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "example.org", "localhost.evil"])
def test_explicit_control_on_a_network_needs_a_token(host: str) -> None:
    with pytest.raises(ConfigError, match="--admin-token-file"):
        check_exposed(replace(EXPLICIT, host=host))
    check_exposed(replace(EXPLICIT, host=host, admin_token_file=Path("/token")))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.1.2.3"])
def test_explicit_control_on_this_machine_needs_no_token(host: str) -> None:
    check_exposed(replace(EXPLICIT, host=host))


@pytest.mark.parametrize("more", [{"admin_token_file": Path("/t")}, {"load_servables": "a"}])
def test_flags_of_explicit_control_are_refused_without_it(more: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="only used with --model-control explicit"):
        check_exposed(replace(EXPLICIT, model_control="poll", **more))  # type: ignore[arg-type]


def test_token_is_read_from_its_file(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("s3cret\n")
    gate = open_gate(replace(EXPLICIT, admin_token_file=file))
    gate.admit("Bearer s3cret")
    with pytest.raises(Unauthenticated):
        gate.admit("Bearer s3cret\n.")


@pytest.mark.parametrize("content", [b"", b"\n", b"two words", b"\xff\xfe", b"a\nb", b"a" * 5000])
def test_token_file_without_a_usable_token_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "token"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match="no usable token"):
        open_gate(replace(EXPLICIT, admin_token_file=file))


def test_token_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        open_gate(replace(EXPLICIT, admin_token_file=tmp_path / "none"))
