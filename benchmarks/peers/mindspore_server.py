"""Runs under the Python of MindSpore Serving: starts its server on all servables of a folder.

``python mindspore_server.py FOLDER REST_PORT GRPC_PORT``
"""

import os
import sys

from mindspore_serving import server


def start() -> None:
    """Start the servables and both servers; they run in threads until the process is ended."""
    folder, rest_port, grpc_port = sys.argv[1:4]
    names = sorted(name for name in os.listdir(folder) if not name.startswith((".", "_")))
    configs = [
        server.ServableStartConfig(folder, name, device_type="CPU", num_parallel_workers=1)
        for name in names
    ]
    server.start_servables(configs, enable_lite=True)
    server.start_grpc_server(f"127.0.0.1:{grpc_port}")
    server.start_restful_server(f"127.0.0.1:{rest_port}")


start()
