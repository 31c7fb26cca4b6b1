"""Who may ask, who may load and unload, and which settings would open that to strangers."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path

import pytest

from serving.config import ServerSettings
from serving.errors import ConfigError, ControlOff, Unauthenticated
from serving.lifecycle.gate import Gate, Tokens, check_exposed, open_gate

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
        Gate("explicit", Tokens("secret")).admit(given)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("given", ["Bearer secret", "bearer secret", "Bearer  secret "])
def test_gate_admits_the_token(given: str) -> None:
    Gate("explicit", Tokens("secret")).admit(given)


def _basic(pair: bytes) -> str:
    return f"Basic {base64.b64encode(pair).decode()}"


BOTH = Gate("poll", Tokens("admin", "client"))


@pytest.mark.parametrize(
    "given",
    ["Bearer client", "bearer client", "Bearer admin", _basic(b":client"), _basic(b"me:admin")],
)
def test_gate_lets_clients_and_the_administrator_in(given: str) -> None:
    BOTH.let_in(given)


@pytest.mark.parametrize(
    "given",
    [
        None, "", "client", "Bearer", "Bearer Client", "Bearer client client", "Basic", "Basic !",
        "Basic client", _basic(b"client"), _basic(b"client:"), _basic(b":client:"), "Digest client",
        _basic(b":\xff"), "Basic \xe9",
    ],
)  # fmt: skip
def test_gate_shuts_others_out_and_tells_no_secret(given: str | None) -> None:
    with pytest.raises(Unauthenticated, match="--client-token-file") as error:
        BOTH.let_in(given)
    for secret in ("admin", "client client"):
        assert secret not in str(error.value)


def test_gate_without_a_token_for_clients_lets_everybody_in() -> None:
    Gate("explicit", Tokens("admin")).let_in(None)


def test_client_may_not_load_and_a_page_in_a_browser_not_even_for_the_administrator() -> None:
    gate = Gate("explicit", Tokens("admin", "client"))
    for given in ("Bearer client", _basic(b":admin")):
        with pytest.raises(Unauthenticated):
            gate.admit(given)
    gate.admit("Bearer admin")


def test_tokens_are_never_printed() -> None:
    assert "admin" not in repr(BOTH.tokens)
    assert "client" not in f"{BOTH.tokens}"


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
