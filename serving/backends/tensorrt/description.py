"""``engine.json``: what a builder tells about the engine beside it. A foreign engine has none.

::

    {"file": "model.plan", "module": "tensorrt", "version": "10.14.1.48", "gpu": "NVIDIA L4 (8.9)",
     "signature": {...}, "batch_sizes": [1, 8, 32]}

TensorRT keeps no names of sizes and no order that is promised: the signature has both.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any, Dict, Mapping, Optional, Tuple

from serving.backends.base import BackendError
from serving.tensor import Signature

FILE = "engine.json"


@dataclass(frozen=True)
class Description:
    """See the module's text."""

    file: str
    module: str
    version: str
    gpu: str
    signature: Signature
    batch_sizes: Tuple[int, ...]

    def to_json(self) -> Dict[str, Any]:
        """Return a form that survives JSON."""
        return {
            "file": self.file,
            "module": self.module,
            "version": self.version,
            "gpu": self.gpu,
            "signature": self.signature.to_json(),
            "batch_sizes": list(self.batch_sizes),
        }

    @staticmethod
    def from_json(told: Mapping[str, Any]) -> "Description":
        """Rebuild what ``to_json`` wrote."""
        signature = Signature.from_json(told["signature"])
        sizes = tuple(int(size) for size in told["batch_sizes"])
        words = [str(told[key]) for key in ("file", "module", "version", "gpu")]
        return Description(words[0], words[1], words[2], words[3], signature, sizes)


def beside(engine: str) -> Optional[Description]:
    """Return what is told of an engine file, None where nothing is; raises BackendError."""
    path = os.path.join(os.path.dirname(engine), FILE)
    try:
        with open(path, encoding="utf-8") as file:
            description = Description.from_json(json.load(file))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BackendError(
            f"{FILE} beside the engine cannot be read ({type(error).__name__}); delete it, or "
            "build the engine again"
        ) from error
    return description if description.file == os.path.basename(engine) else None
