"""What is known of a model file before any engine has loaded it.

Written by the inspection helper, read by the master and by ``serving list``; it travels as one
line of JSON, so the master never parses a model file itself. Python 3.9 syntax.
"""

from __future__ import annotations

import enum
from dataclasses import asdict, dataclass, field
from typing import Any, Mapping, Optional, Tuple

from serving.tensor import BatchAxes, Signature


class Format(enum.Enum):
    """The formats this server knows by their content."""

    ONNX = "onnx"
    MINDIR = "mindir"
    MINDIR_ENCRYPTED = "mindir-encrypted"
    CHECKPOINT = "checkpoint"
    SAFETENSORS = "safetensors"
    MINDSPORE_LITE = "mindspore-lite"
    OM = "om"
    AIR = "air"
    TENSORRT = "tensorrt-engine"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Conversion:
    """The ONNX model that was made of a file, and is what an engine loads.

    ``identity`` is a SHA-256 of the file, the converter and its options: equal models, equal
    identities. ``cached`` says that it was made before; ``took_s`` is how long it took then.
    """

    path: str
    identity: str
    took_s: float = 0.0
    cached: bool = False


@dataclass(frozen=True)
class Artifact:
    """One model file (or its main file), described.

    ``backend`` runs it here, or is empty and ``reason`` says why not and what to do about it.
    ``batch`` is the claim of the axis walk; the worker still tests it on real runs.
    ``static_outputs`` is true when every output's shape follows from the inputs' shapes.
    ``digest`` is the SHA-256 of everything the model consists of, external data included.
    ``producer`` and ``detail`` are for people (``pytorch 2.5``, ``opset 17, 84 nodes``);
    ``operators`` counts the file's operators by name.
    ``conversion`` is set where the file had to be converted to run. ``exported_rows`` is the length
    of the batch axis in the file where the conversion freed it, else 0.
    ``trials`` are small ONNX models in base64, each with something that an engine of its kind may
    be too old for, or have nothing of: what it refuses of them it refuses of the file too. None
    where every supported engine knows all of it. ``refusal`` is what came of trying them.
    """

    format: Format
    backend: str = ""
    reason: str = ""
    signature: Optional[Signature] = None
    batch: BatchAxes = field(default_factory=lambda: BatchAxes.refused("not examined"))
    static_outputs: bool = False
    digest: str = ""
    size_bytes: int = 0
    producer: str = ""
    detail: str = ""
    notes: Tuple[str, ...] = field(default_factory=tuple)
    operators: Mapping[str, int] = field(default_factory=dict)
    conversion: Optional[Conversion] = None
    exported_rows: int = 0
    trials: Tuple[str, ...] = ()
    refusal: str = ""

    @property
    def identity(self) -> str:
        """What proofs about the model are remembered by; empty if nothing identifies it."""
        return self.digest if self.conversion is None else self.conversion.identity

    @property
    def runnable(self) -> bool:
        """True when a backend was found for it."""
        return bool(self.backend)

    def to_json(self) -> "dict[str, Any]":
        """Return a form that survives JSON and ``from_json``."""
        return {
            "format": self.format.value,
            "backend": self.backend,
            "reason": self.reason,
            "signature": None if self.signature is None else self.signature.to_json(),
            "batch": self.batch.to_json(),
            "static_outputs": self.static_outputs,
            "digest": self.digest,
            "size_bytes": self.size_bytes,
            "producer": self.producer,
            "detail": self.detail,
            "notes": list(self.notes),
            "operators": dict(self.operators),
            "conversion": None if self.conversion is None else asdict(self.conversion),
            "exported_rows": self.exported_rows,
            "trials": list(self.trials),
            "refusal": self.refusal,
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> "Artifact":
        """Rebuild what ``to_json`` wrote."""
        signature = data["signature"]
        conversion = data.get("conversion")
        return Artifact(
            format=Format(data["format"]),
            backend=data["backend"],
            reason=data["reason"],
            signature=None if signature is None else Signature.from_json(signature),
            batch=BatchAxes.from_json(data["batch"]),
            static_outputs=bool(data["static_outputs"]),
            digest=data["digest"],
            size_bytes=int(data["size_bytes"]),
            producer=data["producer"],
            detail=data["detail"],
            notes=tuple(data["notes"]),
            operators=dict(data.get("operators", {})),
            conversion=None if conversion is None else Conversion(**conversion),
            exported_rows=int(data.get("exported_rows", 0)),
            trials=tuple(data.get("trials", ())),
            refusal=str(data.get("refusal", "")),
        )
