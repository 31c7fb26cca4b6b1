"""``serving start``: precedence of settings, refusals, exit codes."""

from __future__ import annotations

import dataclasses
import signal
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from serving.cli import main
from serving.config import ServerSettings
from serving.errors import ConfigError, InternalError, ServingError
from serving.exit_codes import ExitCode, exit_code_for


class Server:
    """Stands for the server: keeps the settings it was run with, and returns or raises."""

    def __init__(self) -> None:
        self.settings: ServerSettings | None = None
        self.outcome: int | ServingError = 0

    def run(self, settings: ServerSettings) -> int:
        self.settings = settings
        if isinstance(self.outcome, ServingError):
            raise self.outcome
        return self.outcome


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    fake = Server()
    module = types.ModuleType("serving.master.server")
    module.run = fake.run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "serving.master.server", module)
    return fake


def start(*args: str, env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(main, ["start", *args], env=env)


def settings_of(server: Server, result: Result) -> ServerSettings:
    assert result.exit_code == 0, result.output
    assert server.settings is not None
    return server.settings


@pytest.mark.usefixtures("server")
def test_start_interrupted_before_it_listens_to_signals_ends_as_by_that_signal(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("serving.repository.scanner.check_model_dir", interrupted)
    result = start("--model-dir", str(tmp_path))
    assert result.exit_code == 128 + signal.SIGINT
    assert result.stderr == "\nStopped.\n"


@pytest.mark.parametrize("arguments", [["start"], ["start", "models"], ["list"], ["tune", "net"]])
def test_command_without_the_flag_shows_how_the_folder_is_named(arguments: list[str]) -> None:
    result = CliRunner().invoke(main, arguments, env={"SERVING_MODEL_DIR": ""})
    assert result.exit_code == ExitCode.USAGE
    assert f"main {arguments[0]} --model-dir DIR" in result.output


# One value each for flag, environment and file, all different from the default.
OPTIONS: list[tuple[str, tuple[Any, Any, Any]]] = [
    ("host", ("0.0.0.0", "::1", "10.0.0.1")),
    ("rest_port", (1, 2, 3)),
    ("grpc_port", (0, 2, 3)),
    ("workers", (2, 3, 64)),
    ("max_request_mb", (1, 2, 3)),
    ("memory_mb", (1, 2, 3)),
    ("drain_timeout_s", (0.0, 2.5, 3.0)),
    ("load_timeout_s", (1.0, 2.5, 3.0)),
    ("ready_file", (Path("/a"), Path("/b"), Path("/c"))),
    ("cache_dir", (Path("/a"), Path("/b"), Path("/c"))),
]


def toml(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str | Path) else str(value)


@pytest.mark.parametrize(("name", "values"), OPTIONS)
def test_start_flag_beats_environment_beats_file_beats_default(
    server: Server, tmp_path: Path, name: str, values: tuple[Any, Any, Any]
) -> None:
    flag, environment, file = values
    default = {f.name: f.default for f in dataclasses.fields(ServerSettings)}[name]
    config = tmp_path / "serving.toml"
    config.write_text(f"{name} = {toml(file)}\n")
    args = ["--model-dir", str(tmp_path)]

    assert getattr(settings_of(server, start(*args)), name) == default
    args += ["--config", str(config)]
    assert getattr(settings_of(server, start(*args)), name) == file
    env = {f"SERVING_{name.upper()}": str(environment)}
    assert getattr(settings_of(server, start(*args, env=env)), name) == environment
    args += [f"--{name.replace('_', '-')}", str(flag)]
    assert getattr(settings_of(server, start(*args, env=env)), name) == flag


def test_start_knows_two_engines_for_grpc(server: Server, tmp_path: Path) -> None:
    args = ["--model-dir", str(tmp_path)]
    assert settings_of(server, start(*args)).grpc_engine == "lane"
    args.append("--grpc-engine")
    assert settings_of(server, start(*args, "grpcio")).grpc_engine == "grpcio"
    refused = start(*args, "other")
    assert refused.exit_code == ExitCode.USAGE
    assert "'lane', 'grpcio'" in refused.output


def test_start_without_options_is_the_settings_defaults(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SERVING_WORKER_NICE")
    found = settings_of(server, start("--model-dir", str(tmp_path)))
    assert found == ServerSettings(model_dir=tmp_path)


def test_start_model_dir_may_come_from_environment_or_file(server: Server, tmp_path: Path) -> None:
    config = tmp_path / "serving.toml"
    config.write_text(f'model_dir = "{tmp_path}"\n')
    by_file = start(env={"SERVING_CONFIG": str(config)})
    assert settings_of(server, by_file).model_dir == tmp_path
    by_environment = start(env={"SERVING_MODEL_DIR": str(tmp_path)})
    assert settings_of(server, by_environment).model_dir == tmp_path


def test_start_switch_and_choices_take_every_source(server: Server, tmp_path: Path) -> None:
    config = tmp_path / "serving.toml"
    config.write_text('strict_readiness = true\nlog_format = "json"\nlog_level = "debug"\n')
    args = ["--model-dir", str(tmp_path)]
    by_file = settings_of(server, start(*args, "--config", str(config)))
    assert (by_file.strict_readiness, by_file.log_format, by_file.log_level) == (
        True, "json", "debug",
    )  # fmt: skip
    by_environment = settings_of(server, start(*args, env={"SERVING_STRICT_READINESS": "1"}))
    assert by_environment.strict_readiness
    by_flag = settings_of(server, start(*args, "--strict-readiness", "--log-level", "error"))
    assert (by_flag.strict_readiness, by_flag.log_level) == (True, "error")


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--rest-port", "65536"], "--rest-port"),
        (["--rest-port", "-1"], "--rest-port"),
        (["--grpc-port", "http"], "--grpc-port"),
        (["--workers", "0"], "--workers"),
        (["--workers", "65"], "--workers"),
        (["--max-request-mb", "0"], "--max-request-mb"),
        (["--memory-mb", "0"], "--memory-mb"),
        (["--drain-timeout-s", "-1"], "--drain-timeout-s"),
        (["--drain-timeout-s", "nan"], "--drain-timeout-s"),
        (["--load-timeout-s", "0"], "--load-timeout-s"),
        (["--load-timeout-s", "inf"], "--load-timeout-s"),
        (["--log-level", "loud"], "--log-level"),
        (["--log-format", "xml"], "--log-format"),
        (["--devices", "npu:0"], "a device 'npu:0' that is not known; expected cpu, gpu"),
        (["--host", ""], "--host is empty"),
        (["--rest-port", "7", "--grpc-port", "7"], "both 7"),
        (["--colour"], "--colour"),
    ],
)
def test_start_refuses_a_wrong_value_naming_the_flag(
    server: Server, tmp_path: Path, args: list[str], says: str
) -> None:
    result = start("--model-dir", str(tmp_path), *args)
    assert result.exit_code == ExitCode.USAGE
    assert says in result.stderr
    assert server.settings is None


def test_start_ports_may_both_be_zero(server: Server, tmp_path: Path) -> None:
    args = ("--model-dir", str(tmp_path), "--rest-port", "0", "--grpc-port", "0")
    assert settings_of(server, start(*args)).grpc_port == 0


def test_start_wrong_environment_value_names_the_variable(server: Server, tmp_path: Path) -> None:
    result = start("--model-dir", str(tmp_path), env={"SERVING_WORKERS": "many"})
    assert result.exit_code == ExitCode.USAGE
    assert "SERVING_WORKERS" in result.stderr


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("rest_prot = 1", "key 'rest_prot' is not known (did you mean 'rest_port'?)"),
        ("rest-port = 1", "key 'rest-port' is not known (did you mean 'rest_port'?)"),
        ("config = 'x'", "key 'config' is not known"),
        ("help = true", "key 'help' is not known"),
        ('rest_port = "1"', "key 'rest_port' has a wrong value; expected a whole number"),
        ("rest_port = true", "key 'rest_port' has a wrong value; expected a whole number"),
        ("rest_port = 65536", "key 'rest_port' has a wrong value"),
        ("drain_timeout_s = nan", "key 'drain_timeout_s' has a wrong value"),
        ('strict_readiness = "yes"', "'strict_readiness' has a wrong value; expected true or"),
        ("host = 1", "key 'host' has a wrong value; expected a string"),
        ("ready_file = 1", "key 'ready_file' has a wrong value; expected a string"),
        ('log_level = "loud"', "key 'log_level' has a wrong value"),
        ("x = = 1", "line 1"),
    ],
)
def test_start_refuses_a_wrong_file_naming_file_and_key(
    server: Server, tmp_path: Path, text: str, says: str
) -> None:
    config = tmp_path / "serving.toml"
    config.write_text(text)
    result = start("--model-dir", str(tmp_path), "--config", str(config))
    assert result.exit_code == ExitCode.USAGE
    assert str(config) in result.stderr
    assert says in result.stderr
    assert server.settings is None


def test_start_config_file_that_is_not_there_is_named(server: Server, tmp_path: Path) -> None:
    result = start("--model-dir", str(tmp_path), "--config", str(tmp_path / "none.toml"))
    assert result.exit_code == ExitCode.USAGE
    assert "none.toml cannot be read: No such file" in result.stderr


def test_start_without_model_dir_is_a_usage_error(server: Server) -> None:
    result = start()
    assert result.exit_code == ExitCode.USAGE
    assert "--model-dir" in result.stderr


def test_start_model_dir_that_is_not_there_has_its_exit_code(
    server: Server, tmp_path: Path
) -> None:
    result = start("--model-dir", str(tmp_path / "none"))
    assert result.exit_code == ExitCode.NO_MODEL_DIR
    assert "does not exist" in result.stderr
    assert server.settings is None


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        (0, 0),
        (5, 5),
        (ConfigError("port 1500 is taken", code="port_taken"), 3),
        (ConfigError("wrong"), 2),
        (ConfigError("gone", code="no_model_dir"), 4),
        (InternalError("no workers", code="start_failed"), 5),
        (InternalError("bug"), 1),
    ],
)
def test_start_exit_code_is_the_servers(
    server: Server, tmp_path: Path, outcome: int | ServingError, code: int
) -> None:
    server.outcome = outcome
    result = start("--model-dir", str(tmp_path))
    assert result.exit_code == code
    if isinstance(outcome, ServingError):
        assert result.stderr == f"Error: {outcome}\n"


def test_exit_codes_are_the_documented_numbers() -> None:
    assert {code.name: int(code) for code in ExitCode} == {
        "OK": 0, "INTERNAL": 1, "USAGE": 2, "ADDRESS_IN_USE": 3, "NO_MODEL_DIR": 4,
        "START_FAILED": 5, "NO_SERVER": 6, "REFUSED": 7, "BAD_MODEL": 8, "DIFFERS": 9,
        "TARGET_MISSED": 10,
    }  # fmt: skip
    assert exit_code_for(ConfigError("x")) is ExitCode.USAGE


@pytest.mark.parametrize(
    ("file", "problem"),
    [
        ("gone/ready.json", "lies in a folder that is not there"),
        ("", "is a folder"),
        ("a_file/ready.json", "lies in a folder that is not there"),
    ],
)
def test_start_refuses_a_ready_file_that_could_not_be_written(
    server: Server, tmp_path: Path, file: str, problem: str
) -> None:
    (tmp_path / "a_file").touch()
    result = start("--model-dir", str(tmp_path), "--ready-file", str(tmp_path / file))
    assert result.exit_code == ExitCode.USAGE
    assert "--ready-file" in result.output
    assert problem in result.output
    assert server.settings is None


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("SERVING_REST_PROT", "1", "(did you mean 'SERVING_REST_PORT'?)"),
        ("SERVING_WORKER", "4", "(did you mean 'SERVING_WORKERS'?)"),
        ("SERVING_XYZZY", "4", "changes nothing"),
    ],
)
def test_start_names_a_variable_that_is_no_setting(
    server: Server,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: str,
    said: str,
) -> None:
    monkeypatch.setattr("serving.logs.configure", lambda *_: None)  # it would end caplog
    settings_of(server, start("--model-dir", str(tmp_path), env={name: value}))
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert name in record.message
    assert said in record.message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SERVING_MAX_QUEUE_SIZE", "4"),
        ("SERVING_URL", "localhost:5500"),
        ("SERVING_REST_URL", "http://localhost:1500"),
        ("SERVING_SERVICE_HOST", "10.0.0.1"),
        ("SERVING_SERVICE_PORT_REST", "1500"),
        ("SERVING_PORT", "tcp://10.0.0.1:1500"),
        ("SERVING_PORT_1500_TCP_ADDR", "10.0.0.1"),
        ("OTHER_REST_PROT", "1"),
    ],
)
def test_start_says_nothing_of_variables_that_are_heard_or_of_services(
    server: Server,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: str,
) -> None:
    def configure(*_: object) -> None:
        raise AssertionError("there is nothing to log")

    monkeypatch.setattr("serving.logs.configure", configure)
    settings_of(server, start("--model-dir", str(tmp_path), env={name: value}))
    assert not caplog.records


@pytest.mark.parametrize(
    ("flag", "kind"), [("--rest-port", "whole number"), ("--run-timeout-s", "number of seconds")]
)
def test_start_says_what_a_number_is_when_it_is_none(server: Server, flag: str, kind: str) -> None:
    result = start("--model-dir", ".", flag, "abc")
    assert result.exit_code == ExitCode.USAGE
    assert f"'abc' is not a valid {kind}" in result.stderr
