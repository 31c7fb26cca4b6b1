"""What a name in a model repository means: servable, version, model file, or nothing of ours.

Pure rules on strings; nothing here touches a disk.
"""

from __future__ import annotations

import re
import unicodedata

SETTINGS_FILE = "servable.toml"
SETTINGS_MEANT = frozenset(
    f"servable.{ending}" for ending in ("yaml", "yml", "json", "ini", "cfg", "conf")
)
"""What a settings file is called by those who think of another language."""
TRITON_FILE = "config.pbtxt"
STAGES_FILE = "servable_config.py"

MODEL_EXTENSIONS = (
    ".onnx", ".mindir", ".om", ".air", ".ckpt", ".ms", ".plan", ".engine", ".safetensors", ".pb",
)  # fmt: skip
"""Endings that make a file a candidate; what it really is, its content decides later."""

SAVED_MODEL = "saved_model.pb"
SAVED_MODEL_PARTS = ("fingerprint.pb", "keras_metadata.pb")
"""TensorFlow's SavedModel, and files beside it that end like models and are none."""

WEIGHTS_EXTENSIONS = (".ckpt", ".safetensors")
"""Endings of files with weights alone: beside a network's file they are what it was made from."""

HUB_FOLDER = "onnx"
"""Where repositories of the Hugging Face hub keep the ONNX form of a model."""
HUB_CACHE = frozenset(("blobs", "snapshots"))
"""Folders of a model in the cache of the hub's own client."""

CODE_EXTENSIONS = (
    ".py", ".so", ".json", ".jsonl", ".yaml", ".yml", ".toml", ".ini", ".cfg", ".txt", ".csv",
    ".tsv", ".vocab", ".npy", ".npz",
)  # fmt: skip
"""Endings of the files beside a ``servable_config.py`` that count as part of it."""

FOREIGN_EXTENSIONS = {
    ".pt": "a PyTorch file: export the network with torch.onnx.export",
    ".pth": "a PyTorch file: export the network with torch.onnx.export",
    ".pt2": "a program of torch.export: give it to torch.onnx.export",
    ".h5": "a Keras model: convert it to ONNX with tf2onnx",
    ".hdf5": "a Keras model: convert it to ONNX with tf2onnx",
    ".keras": "a Keras model: convert it to ONNX with tf2onnx",
    ".tflite": "a TensorFlow Lite model: convert it to ONNX with tf2onnx",
    ".pkl": "a Python pickle, which is never opened: export a scikit-learn model with skl2onnx",
    ".pickle": "a Python pickle, which is never opened: export a scikit-learn model with skl2onnx",
    ".joblib": "a Python pickle, which is never opened: export a scikit-learn model with skl2onnx",
    ".ubj": "an XGBoost model: convert it to ONNX with onnxmltools",
    ".cbm": "a CatBoost model: save it with save_model(..., format='onnx')",
    ".mlmodel": "a Core ML model: export the network that it was made from as ONNX",
    ".trt": "a TensorRT engine by its name: let it end in .plan or .engine",
    ".pdmodel": "a PaddlePaddle model: convert it to ONNX with paddle2onnx",
    ".ort": "an ORT-format model: serve the ONNX model that it was made from",
    ".gguf": "a model for llama.cpp: export the network as ONNX",
}
"""Endings of models of other frameworks, which are never candidates: what they are, the way out."""

_FOREIGN_NAMES = {
    "pytorch_model.bin": "a PyTorch file with weights alone: export the network with "
    "torch.onnx.export, or optimum-cli export onnx",
}
"""The same by whole names, where the ending says nothing."""

_MAX_NAME = 128
_NAME_MARKS = frozenset("_-. +@()")
_MAX_VERSION = 2**63 - 1  # versions are int64 on the wires of TensorFlow and MindSpore Serving

_UNFINISHED_ENDINGS = (".part", ".tmp", ".partial", ".crdownload", ".download", "~")
_RSYNC_TEMPORARY = re.compile(r"\.(?P<name>.+\..+)\.[A-Za-z0-9]{6}")
_LABELLED_VERSION = re.compile(r"v(ersion)?[-_. ]?0*(?P<number>[1-9][0-9]{0,17})", re.IGNORECASE)
_QUIET_FOLDERS = frozenset({"__pycache__", "__MACOSX", "lost+found"})


def extension(name: str) -> str:
    """Return the known extension that ``name`` ends with, in lower case, or ``""``."""
    lower = name.lower()
    for known in MODEL_EXTENSIONS:
        if lower.endswith(known) and len(lower) > len(known):
            return known
    return ""


def stem(name: str) -> str:
    """Return the name without its known extension."""
    return name[: len(name) - len(extension(name))]


def is_model_name(name: str) -> bool:
    """Return whether a file of this name may be a model: known ending, not hidden."""
    return not name.startswith(".") and extension(name) != ""


def foreign(name: str) -> str:
    """Say what a model of another framework is and the way out, by its name, or return ``""``."""
    if name.startswith("."):
        return ""
    if name in _FOREIGN_NAMES:
        return _FOREIGN_NAMES[name]
    dot = name.rfind(".")
    return FOREIGN_EXTENSIONS.get(name[dot:].lower(), "") if dot > 0 else ""


def is_settings_name(name: str) -> bool:
    """Return whether somebody meant a file of this name to hold settings."""
    return name.lower().endswith(".toml") or name.lower() in SETTINGS_MEANT


def is_code_name(name: str) -> bool:
    """Return whether a file of this name is part of the servable_config.py beside it."""
    return not name.startswith(".") and name.lower().endswith(CODE_EXTENSIONS)


def unfinished(name: str) -> str:
    """Return the final name of a file that looks half-copied (``x.part`` is ``x``), or ``""``.

    Known: the usual endings of downloads and editors, and rsync's ``.<name>.<six characters>``.
    """
    for ending in _UNFINISHED_ENDINGS:
        if name.endswith(ending) and len(name) > len(ending):
            return name[: -len(ending)]
    match = _RSYNC_TEMPORARY.fullmatch(name)
    return match["name"] if match else ""


def is_quiet_folder(name: str) -> bool:
    """Return whether a folder of this name never holds a servable (hidden, caches)."""
    return name.startswith(".") or name in _QUIET_FOLDERS


def version_of(name: str) -> int | None:
    """Return the version a folder name stands for, or ``None`` when it is not a version."""
    if not _is_digits(name) or version_problem(name):
        return None
    return int(name)


def version_problem(name: str) -> str:
    """Say why a name of digits is not a version, or return ``""`` (also for other names)."""
    if not _is_digits(name):
        return ""
    if name.strip("0") == "":
        return "versions start at 1 (MindSpore clients write 0 for the newest): rename it"
    if name.startswith("0"):
        return f"a version has no leading zero: rename it to '{name.lstrip('0')}'"
    if len(name) > 19 or int(name) > _MAX_VERSION:
        return f"a version is at most {_MAX_VERSION}: rename it to a smaller number"
    return ""


def meant_version(name: str) -> str:
    """Return the number in a name like ``v1`` or ``version_2``, or ``""``."""
    match = _LABELLED_VERSION.fullmatch(name)
    return match["number"] if match else ""


def is_network_name(name: str) -> bool:
    """Return whether a file of this name may be a model, and not its weights alone."""
    return is_model_name(name) and extension(name) not in WEIGHTS_EXTENSIONS


def name_problem(name: str) -> str:
    """Say why a servable cannot have this name and what to do, or return ``""``.

    Accents that stand alone (as some systems store names) and vowel signs are parts of letters.
    """
    if len(name) > _MAX_NAME:
        return f"the name has {len(name)} characters, at most {_MAX_NAME} are allowed: shorten it"
    if name.startswith("."):
        return "the name begins with a dot: rename it"
    if name != name.strip(" "):
        return "the name begins or ends with a space: rename it"
    for char in name:
        if not (char.isalnum() or char in _NAME_MARKS or unicodedata.category(char)[0] == "M"):
            return (
                f"the name holds {_character(char)}; letters, digits, spaces and _ - . + @ ( ) "
                "are allowed: rename it"
            )
    return ""


def printable(name: str) -> str:
    """Return the name safe to print: control and undecodable characters escaped."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in name
    )


def _is_digits(name: str) -> bool:
    return name.isascii() and name.isdigit()


def _character(char: str) -> str:
    if 0xDC80 <= ord(char) <= 0xDCFF:  # how Python carries a byte that is not UTF-8
        return f"the byte 0x{ord(char) - 0xDC00:02x}, which is not UTF-8"
    named = unicodedata.name(char, "a control character")
    return f"U+{ord(char):04X} ({named.lower()})"
