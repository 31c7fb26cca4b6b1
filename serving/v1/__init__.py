"""The server's own gRPC protocol, ``serving.v1``: what server and client share of it.

The protocol is ``protos/serving_v1.proto``. Nothing here calls gRPC, and nothing here knows the
server's parts or the client's: bytes and messages on one side, tensors, descriptions and errors
on the other.
"""

SERVICE = "serving.v1.Serving"
ERROR_TRAILER = "serving-error-bin"
"""The trailing metadata entry that holds a failed call's serialised ``Error``."""

METHOD = "predict"
"""The name of the only method of a servable without methods of its own."""
