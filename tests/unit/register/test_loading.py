"""Importing servables: where their modules come from, and what is said when they do not import."""

from __future__ import annotations

import importlib.util
import io
import os
import py_compile
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest

from serving.definition import Definition
from serving.errors import LoadError
from serving.register import package, slow_import
from serving.register.loading import Registered, load

METHOD = """
from mindspore_serving.server import register

def stage(x):
    return {value}

@register.register_method("y")
def predict(x):
    return register.add_stage(stage, x, outputs_count=1)
"""


@pytest.fixture(autouse=True)
def imports(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave this process's import system as it was."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    yield
    package._forget()


def write(folder: Path, text: str, name: str = "servable_config.py") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(dedent(text))
    return folder


def answer(found: Registered) -> object:
    return found.functions["stage"](None)


def test_loading_returns_definition_and_functions(tmp_path: Path) -> None:
    found = load(write(tmp_path / "shop", METHOD.format(value="7")), "shop")
    assert [m.name for m in found.definition.methods] == ["predict"]
    assert answer(found) == 7
    assert found.functions["argmax_cpp"](np.array([1, 3, 2])) == 1


@pytest.mark.parametrize(
    "line",
    [
        "from mindspore_serving.server import register",
        "from serving import register",
        "import serving.register as register",
        "from mindspore_serving.server.register import *; from mindspore_serving import server; "
        "register = server.register",
    ],
)
def test_loading_takes_every_import_name(tmp_path: Path, line: str) -> None:
    text = METHOD.format(value="7").replace("from mindspore_serving.server import register", line)
    found = load(write(tmp_path / "shop", text), "shop")
    assert [m.name for m in found.definition.methods] == ["predict"]


@pytest.mark.parametrize("name", ["types", "json", "numpy", "serving", "time", "my-model", "v1.2"])
def test_servable_may_be_called_like_anything(tmp_path: Path, name: str) -> None:
    text = "import json, types, numpy, time\n" + METHOD.format(
        value="json.dumps([types.SimpleNamespace.__name__, time.time() > 0, VALUE])"
    )
    folder = write(tmp_path / name, "from .values import VALUE\n" + text)
    write(folder, "VALUE = 7\n", "values.py")
    assert answer(load(folder, name)) == '["SimpleNamespace", true, 7]'


@pytest.mark.parametrize(
    "line",
    [
        "from .values import VALUE",
        "from . import values; VALUE = values.VALUE",
        "from shop.values import VALUE",
        "import shop.values; VALUE = shop.values.VALUE",
        "from values import VALUE",
        "from .deeper.values import VALUE",
        "from everybodys import VALUE",
    ],
)
def test_servable_imports_what_lies_in_its_folder_and_beside_it(tmp_path: Path, line: str) -> None:
    folder = write(tmp_path / "shop", f"{line}\n{METHOD.format(value='VALUE')}")
    write(folder, "VALUE = 7\n", "values.py")
    write(folder / "deeper", "from ..values import VALUE\n", "values.py")
    write(tmp_path, "VALUE = 7\n", "everybodys.py")
    assert answer(load(folder, "shop")) == 7
    assert not list(tmp_path.rglob("*.pyc"))


def test_servable_may_import_when_it_is_called(tmp_path: Path) -> None:
    text = METHOD.format(value="late()")
    folder = write(tmp_path / "shop", text + "\ndef late():\n    from .values import VALUE\n    "
                   "return VALUE\n")  # fmt: skip
    write(folder, "VALUE = 7\n", "values.py")
    assert answer(load(folder, "shop")) == 7


def test_servable_may_be_a_package_with_an_init(tmp_path: Path) -> None:
    folder = write(tmp_path / "shop", "from . import VALUE\n" + METHOD.format(value="VALUE"))
    write(folder, "VALUE = 7\n", "__init__.py")
    assert answer(load(folder, "shop")) == 7


def test_servable_sees_its_own_name_and_file(tmp_path: Path) -> None:
    folder = write(tmp_path / "shop", METHOD.format(value="(__name__, __file__)"))
    assert answer(load(folder, "shop")) == (
        "shop.servable_config",
        str(folder.resolve() / "servable_config.py"),
    )


def test_folder_of_the_same_name_elsewhere_is_no_part_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path / "training")
    write(tmp_path / "training" / "shop", "raise RuntimeError('the wrong one')")
    write(tmp_path / "training" / "shop", "VALUE = 'the wrong one'", "values.py")
    folder = write(
        tmp_path / "models" / "shop", "from .values import VALUE\n" + METHOD.format(value="VALUE")
    )
    write(folder, "VALUE = 'the right one'", "values.py")
    assert answer(load(folder, "shop")) == "the right one"


def test_installed_modules_come_before_those_of_the_folder(tmp_path: Path) -> None:
    text = "import colorsys\n" + METHOD.format(value="colorsys.__doc__")
    folder = write(tmp_path / "shop", text)
    write(folder, '"""Not the one."""', "colorsys.py")
    write(tmp_path, '"""Not the one."""', "colorsys.py")
    assert "Conversion functions between RGB" in str(answer(load(folder, "shop")))


def test_modules_are_those_of_the_files_as_they_are(tmp_path: Path) -> None:
    """Also when a file of the same size is written within the second, as it may be."""
    folder = write(
        tmp_path / "shop", "from shop.values import VALUE\n" + METHOD.format(value="VALUE")
    )
    found = []
    for value in (1, 2, 3):
        write(folder, f"VALUE = {value}\n", "values.py")
        found.append(load(folder, "shop"))
    assert [answer(registered) for registered in found] == [1, 2, 3]
    assert len({registered.definition.digest for registered in found}) == 3
    assert not list(folder.rglob("*.pyc"))


def test_stale_bytecode_is_not_run(tmp_path: Path) -> None:
    folder = write(tmp_path / "shop", METHOD.format(value="1"))
    config = folder / "servable_config.py"
    py_compile.compile(str(config))
    before = config.stat()
    config.write_text(METHOD.format(value="2"))
    os.utime(config, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert answer(load(folder, "shop")) == 2


def test_definition_tells_code_that_registers_the_same_apart(tmp_path: Path) -> None:
    one = load(write(tmp_path / "a" / "shop", METHOD.format(value="1")), "shop").definition
    same = load(write(tmp_path / "b" / "shop", METHOD.format(value="1")), "shop").definition
    two = load(write(tmp_path / "c" / "shop", METHOD.format(value="2")), "shop").definition
    assert one.methods == two.methods
    assert one.digest == same.digest != two.digest
    assert Definition.from_json(one.to_json()) == one


def test_two_servables_do_not_see_each_other(tmp_path: Path) -> None:
    first = write(tmp_path / "a" / "first", "import values\n" + METHOD.format(value="1"))
    write(first, "", "values.py")
    second = write(tmp_path / "b" / "second", "import values\n" + METHOD.format(value="2"))
    load(first, "first")
    with pytest.raises(LoadError, match="No module named 'values'"):
        load(second, "second")


BROKEN: list[tuple[str, str]] = [
    ("x = = 1", "shop/servable_config.py:1: SyntaxError: invalid syntax"),
    ("import os\n\n1 / 0", "shop/servable_config.py:3: ZeroDivisionError: division by zero"),
    ("def f():\n  raise ValueError\nf()", "shop/servable_config.py:2: ValueError"),
    ("import nowhere", "shop/servable_config.py:1: ModuleNotFoundError: No module named 'nowhere' "
     "(install it in the server's environment, or name an interpreter that has it: python under "
     "[stages] in servable.toml)"),
    ("from .lables import LABELS", "shop/servable_config.py:1: ModuleNotFoundError: No module "
     "named 'shop.lables' (put the module into the servable's folder, or correct its name)"),
    ("from mindspore_serving.worker import register", "shop/servable_config.py:1: "
     "ModuleNotFoundError: No module named 'mindspore_serving.worker' (what there is: from "
     "serving.register import declare_model, register_method, add_stage)"),
    ("from serving.register import register_methods", "shop/servable_config.py:1: ImportError: "
     "cannot import name 'register_methods' from 'serving.register' (did you mean "
     "'register_method'?)"),
    ("from collections import Nothing", "shop/servable_config.py:1: ImportError: cannot import "
     "name 'Nothing' from 'collections'"),
    ("raise GeneratorExit", "shop/servable_config.py:1: GeneratorExit"),
    ("from . import broken", "shop/broken.py:2: NameError: name 'nothing' is not defined"),
    ("import sys; sys.exit(2)", "shop/servable_config.py:1: SystemExit: the file left with "
     "sys.exit(2)"),
    ("from serving import register\nregister.declare_model('m', 'pb')",
     "shop/servable_config.py:2: RuntimeError: model format can only be OM"),
    ("open(__file__.replace('config', 'nothing'))", "shop/servable_config.py:1: FileNotFoundError: "
     "[Errno 2] No such file or directory: 'shop/servable_nothing.py'"),
    ("x = 1", "shop/servable_config.py registers no method (wrap a function with register_method"),
    ("raise KeyboardInterrupt", "shop/servable_config.py:1: KeyboardInterrupt"),
    ("x = '\x00'", "shop/servable_config.py:1: SyntaxError: source code string cannot"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "reason"), BROKEN)
def test_loading_says_what_is_wrong_and_where(tmp_path: Path, text: str, reason: str) -> None:
    folder = write(tmp_path / "shop", text)
    write(folder, "\nnothing\n", "broken.py")
    with pytest.raises(LoadError) as caught:
        load(folder, "shop")
    assert reason in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def test_loading_without_the_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"there is no servable_config.py in the folder of 'shop'"):
        load(tmp_path / "shop", "shop")


def test_what_is_saved_later_belongs_to_another_version(tmp_path: Path) -> None:
    late = "\ndef late():\n    from shop.values import VALUE\n    return VALUE\n"
    folder = write(tmp_path / "shop", METHOD.format(value="late()") + late)
    write(folder, "VALUE = 1\n", "values.py")
    old = load(folder, "shop")
    write(folder, "VALUE = 2\n", "values.py")
    assert answer(old) == 1
    assert answer(load(folder, "shop")) == 2


def test_servable_may_import_what_it_writes(tmp_path: Path) -> None:
    text = "import pathlib\npathlib.Path(__file__).with_name('made.py').write_text('VALUE = 7')\n"
    folder = write(
        tmp_path / "shop", text + "from .made import VALUE\n" + METHOD.format(value="VALUE")
    )
    assert answer(load(folder, "shop")) == 7


def test_repository_may_hold_links(tmp_path: Path) -> None:
    stored = write(tmp_path / "stored" / "v7", "from shared import VALUE\n" + METHOD.format(
        value="VALUE"))  # fmt: skip
    write(tmp_path / "models", "VALUE = 7", "shared.py")
    (tmp_path / "models" / "shop").symlink_to(stored)
    assert answer(load(tmp_path / "models" / "shop", "shop")) == 7


def test_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    folder = write(tmp_path / "shop", METHOD.format(value="1"))
    (folder / "labels.py").symlink_to("nowhere.py")
    (folder / ".#editing.py").symlink_to("nobody@nowhere")
    with pytest.raises(LoadError, match="'labels.py' of 'shop' cannot be read: No such file"):
        load(folder, "shop")


def test_files_may_be_imported_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in tests of a user's own functions; each file stands alone."""
    text = METHOD.format(value="x + 1").replace("def stage", "register.declare_model('m', 'om')\n"
                                                "def stage")  # fmt: skip
    for name in ("shop", "store"):
        spec = importlib.util.spec_from_file_location(
            name, write(tmp_path / name, text) / "servable_config.py"
        )
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        assert module.stage(1) == 2


def test_loading_tells_the_line_of_an_import_that_takes_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "shop", "import shop.waits\n" + METHOD.format(value="1"))
    waits = """
    import sys, time
    for _ in range(3000):
        if sys.stderr.getvalue():
            break
        time.sleep(0.01)
    """
    write(folder, waits, "waits.py")
    said = io.StringIO()
    monkeypatch.setattr(sys, "stderr", said)
    monkeypatch.setattr(slow_import, "_FIRST_S", 0.01)
    load(folder, "shop")
    assert re.match(r"still at shop/waits\.py:[3-6] after \d+ s\n", said.getvalue())
