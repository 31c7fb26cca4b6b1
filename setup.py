"""Adds a ``.pth`` file to what pyproject.toml says: it makes ``mindspore_serving`` importable.

Its one line appends the folder serving/register/compat to the end of ``sys.path``, so that a real
MindSpore Serving that is installed comes first.
"""

from pathlib import Path
from typing import ClassVar

from setuptools import Command, setup
from setuptools.command.build import build

FILE = "serving-mindspore.pth"
FOLDER = "serving/register/compat"


class BuildPth(Command):
    """A step of ``build``; in a wheel the line is relative to the file, else to nothing."""

    description = "write the .pth file of the import name mindspore_serving"
    user_options: ClassVar[list[tuple[str, str, str]]] = []
    editable_mode = False

    def initialize_options(self) -> None:
        """Begin without a folder: only what is None is taken from another step."""
        self.build_lib: str | None = None

    def finalize_options(self) -> None:
        """Take the folder of the build."""
        self.set_undefined_options("build_py", ("build_lib", "build_lib"))

    def run(self) -> None:
        """Write the file: to the build's folder, or into the wheel of an editable installation."""
        folder, line = Path(self.build_lib or ""), FOLDER
        if self.editable_mode:
            folder = Path(self.get_finalized_command("install").install_lib)
            line = str(Path(FOLDER).resolve())
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FILE).write_text(f"{line}\n")

    def get_outputs(self) -> list[str]:
        """Return what ``run`` writes where nothing is editable."""
        return [str(Path(self.build_lib or "") / FILE)]

    def get_output_mapping(self) -> dict[str, str]:
        """Return nothing: the file is made, not copied."""
        return {}

    def get_source_files(self) -> list[str]:
        """Return nothing: the file is made from nothing."""
        return []


class Build(build):
    """The usual steps of a build, and the file."""

    sub_commands: ClassVar = [*build.sub_commands, ("build_pth", None)]


setup(cmdclass={"build": Build, "build_pth": BuildPth})
