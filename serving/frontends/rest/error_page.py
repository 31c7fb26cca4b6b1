"""The page at ``/errors``: what each error code means, with an anchor for each."""

from __future__ import annotations

import html
import re

from serving.error_guide import TOPICS

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:45rem;margin:2rem auto;padding:0 1rem}
h3,code{font-family:ui-monospace,monospace}h3{margin:1rem 0 0;font-size:1rem}p{margin:.2rem 0}
h3:target{background:#fff3b0;color:#1b1f24}
"""


def error_page() -> str:
    """Return the page as one HTML document without outside assets."""
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        "<meta name=viewport content='width=device-width,initial-scale=1'>",
        f"<title>serving: errors</title><style>{_STYLE}</style><h1>Errors</h1>",
    ]
    for topic in TOPICS:
        parts.append(f"<h2>{html.escape(topic.title)}</h2><p>{_prose(topic.text)}</p>")
        parts += [f"<h3 id={code}>{code}</h3><p>{_prose(text)}</p>" for code, text in topic.entries]
    return "".join(parts) + "</html>"


def _prose(text: str) -> str:
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", html.escape(text))
