"""Plays ``client.json`` back with MindSpore Serving's own client; run by the interpreter it is for.

    python3.9 mindspore_client_calls.py client.json HOST:PORT [CA CERTIFICATE KEY]

Prints a line for each row that came out otherwise, and last how many came out as recorded.
Python 3.9 with mindspore-serving 2.0.2, numpy below 1.24 and protobuf below 4; nothing of ours.
"""

import ast
import base64
import contextlib
import io
import json
import sys

import numpy as np
from mindspore_serving.client import Client, SSLConfig


def value(recorded):
    """Return what a recording stands for."""
    if isinstance(recorded, list):
        return [value(item) for item in recorded]
    if not isinstance(recorded, dict):
        return recorded
    if "ndarray" in recorded:
        found = np.array(ast.literal_eval(recorded["value"]), recorded["ndarray"])
        return found.reshape(recorded["shape"])
    if "np" in recorded:
        return np.dtype(recorded["np"]).type(ast.literal_eval(recorded["value"]))
    if "bytes_b64" in recorded:
        return base64.b64decode(recorded["bytes_b64"])
    return {name: value(item) for name, item in recorded.items()}


def agree(got, wanted):
    """Compare types, dtypes, shapes and values."""
    if type(got) is not type(wanted):
        return False
    if isinstance(wanted, dict):
        return got.keys() == wanted.keys() and all(agree(got[n], wanted[n]) for n in wanted)
    if isinstance(wanted, list):
        return len(got) == len(wanted) and all(map(agree, got, wanted))
    if isinstance(wanted, np.ndarray):
        alike = got.dtype == wanted.dtype and got.shape == wanted.shape
        return alike and bool((got == wanted).all())
    return got == wanted


def main():
    """Play the rows with a result back, sync and async."""
    file, address, *tls = sys.argv[1:]
    config = SSLConfig(tls[1], tls[2], tls[0]) if tls else None
    with open(file) as stream:
        rows = [r for r in json.load(stream) if "result" in r and r["name"] != "noconn"]
    good = 0
    for row in rows:
        client = Client(address, row["servable"], row["method"], row["version"], config)
        instances, wanted = value(row["instances"]), value(row["result"])
        with contextlib.redirect_stdout(io.StringIO()):
            got = client.infer(instances), client.infer_async(instances).result()
        if agree(got[0], wanted) and agree(got[1], wanted):
            good += 1
        else:
            print(row["name"], got, wanted)
    nobody = Client("127.0.0.1:1", "s", "m")
    with contextlib.redirect_stdout(io.StringIO()):
        error = nobody.infer({"x": 1})["error"]
    assert error.startswith("Grpc Error, (14, 'unavailable')"), error
    print(good, "of", len(rows))


if __name__ == "__main__":
    main()
