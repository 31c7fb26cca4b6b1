"""V2's model repository extension over gRPC: index, load, unload."""

from __future__ import annotations

from serving.dataplane import DataPlane, RepositoryControl
from serving.frontends import repository
from serving.frontends.grpc import v2_codec
from serving.frontends.grpc.calls import Call
from serving.frontends.grpc.methods import Context
from serving.frontends.grpc.stubs import inference_v2_pb2 as pb
from serving.repository.override import PREFIX

_AUTHORIZATION = "authorization"


class RepositoryCalls:
    """The calls of the extension; part of ``inference.GRPCInferenceService``."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane

    def calls(self) -> dict[str, Call]:
        """Return the calls by name."""
        return {
            "RepositoryIndex": self._index,
            "RepositoryModelLoad": self._load,
            "RepositoryModelUnload": self._unload,
        }

    async def _index(self, data: bytes, _context: Context) -> bytes:
        message = v2_codec.parse(pb.RepositoryIndexRequest, data)
        found = repository.entries(await self._plane.index(), ready=message.ready)
        line = pb.RepositoryIndexResponse.ModelIndex
        models = [
            line(name=e.name, version=e.version, state=e.state, reason=e.reason) for e in found
        ]
        return v2_codec.to_bytes(pb.RepositoryIndexResponse(models=models))

    async def _load(self, data: bytes, context: Context) -> bytes:
        control = self._control(context)
        message = v2_codec.parse(pb.RepositoryModelLoadRequest, data)
        config = ""
        files: dict[str, bytes] = {}
        for key, value in message.parameters.items():
            if key == "config" and value.HasField("string_param"):
                config = value.string_param
            elif key.startswith(PREFIX) and value.HasField("bytes_param"):
                files[key] = value.bytes_param
            else:
                raise repository.unknown_parameter(key)
        override = repository.read_override(config, files)
        await control.load(message.model_name, override)
        return v2_codec.to_bytes(pb.RepositoryModelLoadResponse())

    async def _unload(self, data: bytes, context: Context) -> bytes:
        control = self._control(context)
        message = v2_codec.parse(pb.RepositoryModelUnloadRequest, data)
        await control.unload(message.model_name)
        return v2_codec.to_bytes(pb.RepositoryModelUnloadResponse())

    def _control(self, context: Context) -> RepositoryControl:
        given = [str(v) for k, v in context.invocation_metadata() or () if k == _AUTHORIZATION]
        return self._plane.control(given[0] if len(given) == 1 else None)
