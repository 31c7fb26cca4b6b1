"""Write the Python stubs of the .proto files, or check that the committed ones are theirs.

    python protos/generate.py            write the stubs into their folders, see HOMES
    python protos/generate.py --check    exit 1 when a committed stub says something else

Needs grpcio-tools. The check compares descriptors, not text, so any version of it will do;
generated code, on the other hand, refuses protobuf runtimes older than the compiler, so
writing is refused for a compiler newer than the oldest runtime that pyproject.toml admits.
"""

from __future__ import annotations

import argparse
import ast
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from google.protobuf import descriptor_pb2

ROOT = Path(__file__).resolve().parent.parent
STUBS = ROOT / "serving" / "frontends" / "grpc" / "stubs"
HOMES = {
    "mindir": ROOT / "serving" / "formats" / "mindir" / "stubs",
    "serving_v1": ROOT / "serving" / "v1" / "stubs",
    "triton_model_config": ROOT / "serving" / "repository" / "stubs",
}
"""Where the stubs live that others than the gRPC front end need; the rest is in ``STUBS``."""

APART = (
    "grpc_health", "grpc_reflection", "tensorflow", "tensorflow_error", "tensorflow_serving",
)  # fmt: skip
"""What other packages declare under the same names: their stubs have a pool of their own."""

_DEFAULT_POOL = "from google.protobuf import descriptor_pool as _descriptor_pool"
_OWN_POOL = "from serving.frontends.grpc import apart_pool as _descriptor_pool"
_NEIGHBOUR = re.compile(r"^import (tensorflow\w*_pb2) as", re.MULTILINE)

OLDEST_RUNTIME = (6, 31, 0)
_GENCODE = re.compile(r"^# Protobuf Python Version: (\d+)\.(\d+)\.(\d+)", re.MULTILINE)
_SERIALIZED = re.compile(r"AddSerializedFile\((b(?:'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"))\)")


class GenerateError(Exception):
    """The stubs cannot be written, or are not those of the .proto files."""


def compile_python(proto: Path) -> str:
    """Return the text of the stub that the installed compiler writes for ``proto``."""
    with tempfile.TemporaryDirectory() as scratch:
        _protoc(proto, f"--python_out={scratch}")
        text = (Path(scratch) / f"{proto.stem}_pb2.py").read_text()
    return _apart(text) if proto.stem in APART else text


def compile_descriptor(proto: Path) -> descriptor_pb2.FileDescriptorProto:
    """Return what ``proto`` declares."""
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch) / "set"
        _protoc(proto, f"--descriptor_set_out={target}")
        return descriptor_pb2.FileDescriptorSet.FromString(target.read_bytes()).file[0]


def stub_descriptor(stub: Path) -> descriptor_pb2.FileDescriptorProto:
    """Return what a committed stub declares, without importing it."""
    found = _SERIALIZED.search(stub.read_text())
    if found is None:
        raise GenerateError(f"{stub.name} holds no descriptor")
    return descriptor_pb2.FileDescriptorProto.FromString(ast.literal_eval(found.group(1)))


def check(proto: Path, stub: Path) -> None:
    """Raise GenerateError when ``stub`` is missing or declares other things than ``proto``."""
    if not stub.exists():
        raise GenerateError(f"{stub.name} is missing: run python protos/generate.py")
    if _without_json_names(compile_descriptor(proto)) != _without_json_names(stub_descriptor(stub)):
        raise GenerateError(f"{stub.name} is not that of {proto.name}: run protos/generate.py")


def write(proto: Path, stub: Path) -> None:
    """Write ``stub``; raises GenerateError when the compiler is too new for our runtimes."""
    text = compile_python(proto)
    found = _GENCODE.search(text)
    if found is None:
        raise GenerateError("the generated code does not say which protobuf it is for")
    if tuple(map(int, found.groups())) > OLDEST_RUNTIME:
        oldest = ".".join(map(str, OLDEST_RUNTIME))
        raise GenerateError(
            f"this grpcio-tools writes code for protobuf {'.'.join(found.groups())} and newer, "
            f"but {oldest} must do: use grpcio-tools 1.73"
        )
    stub.write_text(text)


def main(arguments: list[str] | None = None) -> int:
    """Write or check every stub; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare only, write nothing")
    parser.add_argument("--protos", type=Path, default=ROOT / "protos", help="where .proto are")
    parser.add_argument("--stubs", type=Path, help="where the stubs are, all in one folder")
    options = parser.parse_args(arguments)
    protos = sorted(options.protos.glob("*.proto"))
    if not protos:
        parser.error(f"no .proto file in {options.protos}")
    try:
        for proto in protos:
            act = check if options.check else write
            folder = options.stubs or HOMES.get(proto.stem, STUBS)
            act(proto, folder / f"{proto.stem}_pb2.py")
    except GenerateError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _apart(text: str) -> str:
    """Return a stub that takes its pool, and the stubs that it imports, from this package."""
    assert _DEFAULT_POOL in text
    text = text.replace(_DEFAULT_POOL, _OWN_POOL)
    return _NEIGHBOUR.sub(r"from serving.frontends.grpc.stubs import \1 as", text)


def _protoc(proto: Path, target: str) -> None:
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{proto.parent}", target, proto.name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise GenerateError(f"{proto.name}: {done.stderr.strip()}")


def _without_json_names(
    file: descriptor_pb2.FileDescriptorProto,
) -> descriptor_pb2.FileDescriptorProto:
    """Drop the JSON names: they follow from the names, and only descriptor sets spell them out."""
    pending = list(file.message_type)
    while pending:
        message = pending.pop()
        for field in message.field:
            field.ClearField("json_name")
        pending.extend(message.nested_type)
    return file


if __name__ == "__main__":
    sys.exit(main())
