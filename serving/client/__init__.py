"""The Python client of a running server: ``Client``, and ``AsyncClient`` for asyncio.

    from serving.client import Client

    with Client("localhost:5500") as client:
        answer = client.predict("digits", {"image": images})
        print(answer["label"])

Inputs and outputs are numpy arrays; lists, numbers and strings are made into what the model
declares. Failures are raised as the error classes of ``serving.errors``, the very ones that the
server raised. The guide is ``docs/client.md``.
"""

from serving.client.aio import AsyncClient
from serving.client.blocking import Client
from serving.client.prediction import Prediction
from serving.client.steps import ServableVersion
from serving.client.tls import Tls

__all__ = ["AsyncClient", "Client", "Prediction", "ServableVersion", "Tls"]
