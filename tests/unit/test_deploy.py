"""The files of ``deploy/`` and the Dockerfile: valid, and true of the server as it is."""

from __future__ import annotations

import configparser
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import kubernetes_validate
import pytest
import yaml

from serving.cli.start import start_command
from serving.config import ServerSettings
from serving.devices import parse_devices
from serving.exit_codes import ExitCode
from serving.frontends.rest.routes import build_routes
from tests.doubles.plane import StubPlane

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
DOCKERFILE = (ROOT / "Dockerfile").read_text()
UNIT = (DEPLOY / "systemd" / "serving.service").read_text()
KUBERNETES = [
    document
    for file in sorted((DEPLOY / "kubernetes").glob("*.yaml"))
    for document in yaml.safe_load_all(file.read_text())
]
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["serving"]
OPTIONS = {o.envvar: o for o in start_command.params if isinstance(o, click.Option)}
PORTS = {"rest": ServerSettings.rest_port, "grpc": ServerSettings.grpc_port}


def of_kind(kind: str) -> dict[str, Any]:
    (found,) = [document for document in KUBERNETES if document["kind"] == kind]
    return found


def pod() -> dict[str, Any]:
    spec: dict[str, Any] = of_kind("Deployment")["spec"]["template"]["spec"]
    return spec


def container() -> dict[str, Any]:
    (only,) = pod()["containers"]
    return dict(only)


def stages(text: str) -> list[list[tuple[str, str]]]:
    """Return the instructions of a Dockerfile by stage, continuation lines joined."""
    lines = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ").splitlines()
    found: list[list[tuple[str, str]]] = [[]]
    for word, rest in (line.split(maxsplit=1) for line in lines if line.strip()):
        if word == "FROM":
            found.append([])
        found[-1].append((word, rest))
    return found


def instructions(text: str) -> list[tuple[str, str]]:
    """Return the instructions of a Dockerfile's last stage."""
    return stages(text)[-1]


def image_environment() -> dict[str, str]:
    (env,) = [rest for word, rest in instructions(DOCKERFILE) if word == "ENV"]
    return dict(item.split("=", 1) for item in shlex.split(env))


def health_check() -> list[str]:
    """Return the command that the image's health check runs."""
    (check,) = [rest for word, rest in instructions(DOCKERFILE) if word == "HEALTHCHECK"]
    command: list[str] = yaml.safe_load(check.partition("CMD ")[2])
    return command


def accepts(variables: dict[str, str]) -> None:
    """Fail unless each ``SERVING_...`` variable is one of the command's, with a value it takes."""
    for name, value in variables.items():
        if name.startswith("SERVING_"):
            option = OPTIONS[name]
            option.type.convert(value, option, None)


# -- Dockerfile ------------------------------------------------------------------------------


def test_dockerfile_passes_the_linter() -> None:
    linter = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([linter, ROOT / "Dockerfile"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "")


def test_dockerfile_runs_as_a_user_without_rights() -> None:
    (user,) = [rest for word, rest in instructions(DOCKERFILE) if word == "USER"]
    assert int(user) >= 1000
    assert f"--uid {user}" in DOCKERFILE
    assert pod()["securityContext"]["runAsUser"] == int(user)


def test_dockerfile_says_where_it_listens() -> None:
    environment = image_environment()
    accepts(environment)
    assert environment["SERVING_HOST"] == "0.0.0.0"
    (exposed,) = [rest for word, rest in instructions(DOCKERFILE) if word == "EXPOSE"]
    assert [int(port) for port in exposed.split()] == list(PORTS.values())
    assert environment["SERVING_CACHE_DIR"] in [
        rest for word, rest in instructions(DOCKERFILE) if word == "VOLUME"
    ]


def test_dockerfile_is_built_on_the_image_of_a_kind_of_device() -> None:
    arguments, *built = stages(DOCKERFILE)
    bases = {rest.split()[2]: rows for rows in built for word, rest in rows[:1] if " AS " in rest}
    del bases["build"]
    assert ("ARG", "DEVICE=cpu") in arguments
    assert set(bases) == {"cpu", "gpu", "ascend"}
    assert {rows[0][1].split()[0] for rows in built[3:]} == {"${DEVICE}"}
    for kind in ("gpu", "ascend"):
        (env,) = [rest for word, rest in bases[kind] if word == "ENV"]
        variables = dict(item.split("=", 1) for item in shlex.split(env))
        accepts(variables)
        assert parse_devices(variables["SERVING_DEVICES"]).cpu
        assert list(parse_devices(variables["SERVING_DEVICES"]).probed) == [kind]
        assert f"--build-arg DEVICE={kind} " in DOCKERFILE


def test_dockerfile_starts_the_server_in_place_of_its_shell(tmp_path: Path) -> None:
    (entry,) = [rest for word, rest in instructions(DOCKERFILE) if word == "ENTRYPOINT"]
    (given,) = [rest for word, rest in instructions(DOCKERFILE) if word == "CMD"]
    program = tmp_path / "serving"
    program.write_text('#!/bin/sh\necho "$$ $SEEN $@"\n')
    program.chmod(0o755)
    (tmp_path / "set_env.sh").write_text("export SEEN=variables\n")
    with subprocess.Popen(
        [*yaml.safe_load(entry), *yaml.safe_load(given), "--config", "a file"],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "BASH_ENV": str(tmp_path / "set_env.sh")},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        said, _ = process.communicate(timeout=20)
    assert said == f"{process.pid} variables start --config a file\n"


def test_dockerfile_health_check_asks_for_life_and_not_for_models() -> None:
    program, *arguments = health_check()
    assert program == "python"
    assert "/v2/health/live" in arguments[-1]


def test_dockerfile_copies_what_the_ignore_file_lets_through() -> None:
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    names = {name.removeprefix("./") for line in copied for name in line.split()}
    rules = (ROOT / ".dockerignore").read_text().splitlines()
    assert {rule[1:] for rule in rules if rule.startswith("!")} == names
    assert "*" in rules
    assert all((ROOT / name).exists() for name in names)


# -- Kubernetes --------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["1.30", kubernetes_validate.latest_version()])
@pytest.mark.parametrize("document", KUBERNETES, ids=lambda d: d["kind"])
def test_kubernetes_documents_are_valid(document: dict[str, Any], version: str) -> None:
    kubernetes_validate.validate(document, version, strict=True)


async def test_kubernetes_probes_ask_routes_that_are_there() -> None:
    paths = {route.path for route in build_routes(StubPlane()).routes}  # type: ignore[attr-defined]
    asked = {
        kind: container()[f"{kind}Probe"]["httpGet"]
        for kind in ("startup", "liveness", "readiness")
    }
    assert {probe["path"] for probe in asked.values()} <= paths
    assert asked["liveness"]["path"] == "/v2/health/live"
    assert asked["readiness"]["path"] == asked["startup"]["path"] == "/v2/health/ready"


def test_kubernetes_services_set_no_settings() -> None:
    assert pod()["enableServiceLinks"] is False


def test_kubernetes_ports_are_the_servers() -> None:
    declared = {port["name"]: port["containerPort"] for port in container()["ports"]}
    assert declared == PORTS
    service = of_kind("Service")["spec"]
    assert {port["targetPort"]: port["port"] for port in service["ports"]} == PORTS
    assert {probe["httpGet"]["port"] for k, probe in container().items() if "Probe" in k} == {
        "rest"
    }


def test_kubernetes_service_finds_the_pods() -> None:
    template = of_kind("Deployment")["spec"]
    labels = template["template"]["metadata"]["labels"]
    assert template["selector"]["matchLabels"].items() <= labels.items()
    assert of_kind("Service")["spec"]["selector"].items() <= labels.items()


def test_kubernetes_volumes_are_mounted_and_claimed() -> None:
    volumes = {volume["name"]: volume for volume in pod()["volumes"]}
    mounts = {mount["name"]: mount for mount in container()["volumeMounts"]}
    assert set(volumes) == set(mounts)
    claim = volumes["models"]["persistentVolumeClaim"]["claimName"]
    assert claim == of_kind("PersistentVolumeClaim")["metadata"]["name"]
    environment = image_environment()
    assert mounts["models"]["mountPath"] == environment["SERVING_MODEL_DIR"]
    assert mounts["models"]["readOnly"]
    assert mounts["cache"]["mountPath"] == environment["SERVING_CACHE_DIR"]


def test_kubernetes_pod_has_no_rights_that_it_does_not_need() -> None:
    assert pod()["securityContext"]["runAsNonRoot"]
    assert pod()["automountServiceAccountToken"] is False
    rights = container()["securityContext"]
    assert rights["allowPrivilegeEscalation"] is False
    assert rights["readOnlyRootFilesystem"]
    assert rights["capabilities"] == {"drop": ["ALL"]}
    assert container()["resources"]["limits"]["memory"]


def test_kubernetes_gives_the_server_time_to_finish() -> None:
    program, pause = container()["lifecycle"]["preStop"]["exec"]["command"]
    assert program == "sleep"
    needed = int(pause) + ServerSettings.drain_timeout_s
    assert pod()["terminationGracePeriodSeconds"] > needed
    accepts({item["name"]: item["value"] for item in container()["env"]})


# -- compose -----------------------------------------------------------------------------------


def test_compose_is_true_of_the_image() -> None:
    accepts(COMPOSE["environment"])
    environment = image_environment()
    mounts = dict(volume.split(":", 1) for volume in COMPOSE["volumes"])
    assert mounts["../servables"] == environment["SERVING_MODEL_DIR"] + ":ro"
    assert mounts["cache"] == environment["SERVING_CACHE_DIR"]
    assert (DEPLOY / COMPOSE["build"] / "Dockerfile").is_file()
    assert (DEPLOY / "../servables").is_dir()


def test_compose_opens_its_ports_to_this_machine_only() -> None:
    assert COMPOSE["ports"] == [f"127.0.0.1:{port}:{port}" for port in PORTS.values()]
    assert COMPOSE["cap_drop"] == ["ALL"]
    assert COMPOSE["read_only"]


def test_compose_gives_the_server_time_to_finish() -> None:
    assert float(COMPOSE["stop_grace_period"].removesuffix("s")) > ServerSettings.drain_timeout_s


# -- systemd -----------------------------------------------------------------------------------


def unit() -> configparser.RawConfigParser:
    parsed = configparser.RawConfigParser(strict=True, delimiters=("=",))
    parsed.optionxform = str  # type: ignore[assignment, method-assign]
    parsed.read_string(UNIT)
    return parsed


def test_systemd_unit_is_valid(tmp_path: Path) -> None:
    """Held against rules of our own everywhere, and against systemd's where it is there."""
    assert set(unit().sections()) == {"Unit", "Service", "Install"}
    keys = [key for section in unit().sections() for key in unit()[section]]
    assert all(re.fullmatch(r"[A-Z][A-Za-z]+", key) for key in keys)
    program = shutil.which("systemd-analyze")
    if program:
        file = tmp_path / "serving.service"
        file.write_text(UNIT.replace("/opt/serving/bin/serving", sys.executable))
        done = subprocess.run([program, "verify", file], capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, "")


def test_systemd_unit_starts_the_server_with_the_settings_beside_it() -> None:
    _, command, *arguments = shlex.split(unit()["Service"]["ExecStart"])
    assert command == "start"
    assert arguments == ["--config", "/etc/serving/serving.toml"]
    shipped = ["--config", str(DEPLOY / "systemd" / "serving.toml")]
    context = start_command.make_context("start", shipped)
    assert context.params["model_dir"] == Path("/srv/models")
    assert context.params["rest_port"] == PORTS["rest"]
    variables = [v for k, v in unit()["Service"].items() if k == "Environment"]
    assert [v.partition("=")[0] for v in variables] == ["SERVING_CACHE_DIR"]
    assert set(OPTIONS) >= {"SERVING_CACHE_DIR"}


def test_systemd_unit_stops_and_restarts_as_the_server_does() -> None:
    service = unit()["Service"]
    assert float(service["TimeoutStopSec"]) > ServerSettings.drain_timeout_s
    assert service["KillMode"] == "mixed"
    final = {int(code) for code in service["RestartPreventExitStatus"].split()}
    assert final == {ExitCode.USAGE, ExitCode.ADDRESS_IN_USE, ExitCode.NO_MODEL_DIR}
