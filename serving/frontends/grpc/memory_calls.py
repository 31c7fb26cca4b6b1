"""V2's shared memory extensions over gRPC: which regions there are, register, unregister."""

from __future__ import annotations

from serving.errors import InvalidRequest
from serving.frontends.grpc import v2_codec
from serving.frontends.grpc.calls import Call
from serving.frontends.grpc.methods import Context
from serving.frontends.grpc.stubs import inference_v2_pb2 as pb
from serving.frontends.shared_memory import gate
from serving.frontends.shared_memory.regions import LARGEST, Regions


class MemoryCalls:
    """The calls of the extensions; part of ``inference.GRPCInferenceService``.

    With ``regions`` None they refuse; those for CUDA memory do so always, but for taking back what
    was never registered, with which Triton's examples and its performance analyzer begin or end.
    """

    def __init__(self, regions: Regions | None) -> None:
        self._regions = regions

    def calls(self) -> dict[str, Call]:
        """Return the calls by name."""
        return {
            "SystemSharedMemoryStatus": self._status,
            "SystemSharedMemoryRegister": self._register,
            "SystemSharedMemoryUnregister": self._unregister,
            "CudaSharedMemoryStatus": _cuda,
            "CudaSharedMemoryRegister": _cuda,
            "CudaSharedMemoryUnregister": self._unregister_cuda,
        }

    async def _status(self, data: bytes, context: Context) -> bytes:
        message = v2_codec.parse(pb.SystemSharedMemoryStatusRequest, data)
        found = self._opened(context).status(message.name or None)
        one = pb.SystemSharedMemoryStatusResponse.RegionStatus
        regions = {
            name: one(name=name, key=r.key, offset=r.offset, byte_size=r.size)
            for name, r in found.items()
        }
        return v2_codec.to_bytes(pb.SystemSharedMemoryStatusResponse(regions=regions))

    async def _register(self, data: bytes, context: Context) -> bytes:
        message = v2_codec.parse(pb.SystemSharedMemoryRegisterRequest, data)
        regions = self._opened(context)
        for field in ("offset", "byte_size"):
            if getattr(message, field) > LARGEST:
                raise InvalidRequest(
                    f"field {field!r} is larger than any object",
                    code="wrong_type",
                    where=field,
                    expected=f"0 to {LARGEST}",
                )
        await regions.register(message.name, message.key, message.offset, message.byte_size)
        return v2_codec.to_bytes(pb.SystemSharedMemoryRegisterResponse())

    async def _unregister(self, data: bytes, context: Context) -> bytes:
        message = v2_codec.parse(pb.SystemSharedMemoryUnregisterRequest, data)
        await self._opened(context).unregister(message.name or None)
        return v2_codec.to_bytes(pb.SystemSharedMemoryUnregisterResponse())

    async def _unregister_cuda(self, _data: bytes, context: Context) -> bytes:
        self._opened(context)
        return v2_codec.to_bytes(pb.CudaSharedMemoryUnregisterResponse())

    def _opened(self, context: Context) -> Regions:
        is_local = gate.local_grpc(context.peer(), context.invocation_metadata())
        return gate.opened(self._regions, is_local, "")


async def _cuda(_data: bytes, _context: Context) -> bytes:
    raise gate.cuda("")
