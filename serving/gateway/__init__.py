"""A front end in a process of its own: REST and gRPC over a data plane that asks the master."""
