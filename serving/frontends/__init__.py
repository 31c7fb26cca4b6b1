"""What clients talk to. The environment of grpc is set before it is imported anywhere."""

import os

# Workers are started by exec, never by fork: gRPC's fork handlers would only print that they
# were skipped.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
# What its core would print (a taken port, a peer that went away) is said by this server's own log.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
