"""gRPC over an HTTP/2 connection of our own, for the engine ``lane``; see docs/grpc-lane.md."""
