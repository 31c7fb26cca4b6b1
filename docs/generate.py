"""Write the part of ``docs/errors.md`` that is made from the code: a section for each error code.

python docs/generate.py
"""

from __future__ import annotations

from pathlib import Path

from serving import error_guide

ERRORS = Path(__file__).resolve().with_name("errors.md")
_FIRST_SECTION = "\n## "


def written(document: str) -> str:
    """Return the document with its own beginning and all sections as the code has them."""
    return document.partition(_FIRST_SECTION)[0] + "\n" + error_guide.markdown()


def main() -> None:
    """Rewrite the file in place."""
    ERRORS.write_text(written(ERRORS.read_text()))


if __name__ == "__main__":
    main()
