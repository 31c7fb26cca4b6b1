"""TLS as a start script asks for it."""

from __future__ import annotations

from typing import Any

from serving.register import checks


class SSLConfig:
    """PEM files of a server: its certificate and key, and who must have signed those of clients.

    ``custom_ca`` counts only with ``verify_client``. Raises RuntimeError.
    """

    def __init__(
        self, certificate: Any, private_key: Any, custom_ca: Any = None, verify_client: Any = False
    ) -> None:
        checks.text("certificate", certificate)
        checks.text("private_key", private_key)
        checks.flag("verify_client", verify_client)
        if verify_client:
            checks.text("custom_ca", custom_ca)
        self.certificate: str = certificate
        self.private_key: str = private_key
        self.custom_ca: str | None = custom_ca
        self.verify_client: bool = verify_client
