"""A token, as server and clients write it on any wire: ``Authorization: Bearer TOKEN``."""

from __future__ import annotations

TOKEN_FORM = "printable ASCII characters without spaces"
"""What ``is_token`` asks for, in words."""


def is_token(text: str) -> bool:
    """Return whether a text can be a token."""
    return bool(text) and text.isascii() and text.isprintable() and " " not in text


def bearer(token: str) -> str:
    """Return the value of the header, or of the metadata, called ``authorization``."""
    return f"Bearer {token}"
