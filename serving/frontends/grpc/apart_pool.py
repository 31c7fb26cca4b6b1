"""The pool of messages that others' packages declare as well: apart from protobuf's own.

The stubs of those messages (TensorFlow's, gRPC's health and reflection) take this module for
protobuf's ``descriptor_pool``. In one pool two files must not declare the same names, and a script
that starts a server may well have imported ``tensorflow``, ``tensorflow_serving`` or
``grpc_health``, whichever comes first.
"""

from __future__ import annotations

from google.protobuf import any_pb2, descriptor_pool, wrappers_pb2


def _made() -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    for imported in (any_pb2, wrappers_pb2):
        pool.AddSerializedFile(imported.DESCRIPTOR.serialized_pb)
    return pool


POOL = _made()


def Default() -> descriptor_pool.DescriptorPool:
    """Return the pool, by the name that generated code calls."""
    return POOL
