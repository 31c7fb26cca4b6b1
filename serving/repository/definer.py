"""Asks a helper process what a ``servable_config.py`` registers: user code never runs in here.

One helper, one import: what a file leaves behind in its process is not there for the next one.
The helper (``python -m serving.register.describe``) reads ``{"id": 1, "folder": "/m/add", "name":
"add"}`` and answers ``{"id": 1, "definition": {...}}``, or ``{"id": 1, "error": "..."}`` with the
reason why there is none, which names file and line.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

from serving.definition import Definition
from serving.errors import LoadError
from serving.repository import names
from serving.repository.helper import Helper, HelperFailed, last_words, unreadable
from serving.repository.stage_settings import StageSettings

_LOG = logging.getLogger(__name__)

HELPER = "serving.register.describe"


async def define(
    name: str,
    folder: Path,
    home: Path,
    *,
    timeout_s: float,
    stages: StageSettings,
    nice: int = 0,
) -> Definition:
    """Return what the ``servable_config.py`` in ``folder`` registers.

    ``home`` is the folder with the version's model files; ``stages`` says which interpreter it
    is, and which device the file hears of; ``nice`` is added to the helper's niceness. Raises
    LoadError with the reason: the file does not import, takes longer than ``timeout_s``, or
    declares a model file that is not there.
    """
    helper = Helper(
        module=HELPER,
        timeout_s=timeout_s,
        interpreter=stages.python or sys.executable,
        env={"PYTHONDONTWRITEBYTECODE": "1"},
        nice=nice,
    )
    try:
        question = {"folder": os.fspath(folder), "name": name, "device_id": stages.device_id}
        answer = await helper.ask(question, ("definition", "error"))
        if "error" in answer:
            raise LoadError(str(answer["error"]))
        try:
            definition = Definition.from_json(answer["definition"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise unreadable(error) from None
    except HelperFailed as failure:
        said = helper.said
        _LOG.warning(
            "import of %s of %r failed: the helper %s\n%s", names.STAGES_FILE, name, failure, said
        )
        words = last_words(said, folder / names.STAGES_FILE)
        raise LoadError(f"the helper that imports {names.STAGES_FILE} {failure}{words}") from None
    finally:
        await helper.close()
    _check_files(definition, folder, home)
    return definition


def _check_files(definition: Definition, folder: Path, home: Path) -> None:
    """Raise LoadError for a model file that is not there, or that lies elsewhere."""
    root = folder.parent.resolve()
    for declared in definition.models:
        for file in declared.files:
            path = home / file
            if not path.resolve().is_relative_to(root):
                raise LoadError(
                    f"declare_model names {names.printable(file)!r}, which is outside of the "
                    "model directory",
                    fix="put the file into the version's folder and name it alone",
                )
            if not path.is_file():
                where = "the folder of the servable" if home == folder else f"folder {home.name}"
                raise LoadError(
                    f"declare_model names {names.printable(file)!r}, which is not in {where}",
                    fix="copy it there, or correct the name in servable_config.py",
                )
