"""Scans of real folders."""

import os
from pathlib import Path

import pytest

from serving.errors import ConfigError
from serving.repository.scanner import RepositoryScan, ServableScan, VersionScan, scan
from serving.repository.version_policy import AllVersions


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "servables"
    made.mkdir()
    return made


def put(path: Path, text: str = "model") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def only(root: Path) -> ServableScan:
    (servable,) = scan(root).servables
    return servable


def test_scan_of_an_empty_folder_is_empty(root: Path) -> None:
    assert scan(root) == RepositoryScan(root)


def test_scan_finds_versions_folderless_models_and_bare_files(root: Path) -> None:
    put(root / "digits/2/model.onnx")
    put(root / "digits/1/lenet.mindir")
    put(root / "flat/model.onnx")
    put(root / "iris.onnx")
    put(root / "README.md")
    put(root / ".git/HEAD")
    found = {s.name: s.versions for s in scan(root).servables}
    assert found == {
        "digits": (
            VersionScan(1, "digits/1/lenet.mindir", root / "digits/1/lenet.mindir"),
            VersionScan(2, "digits/2/model.onnx", root / "digits/2/model.onnx"),
        ),
        "flat": (VersionScan(1, "flat/model.onnx", root / "flat/model.onnx"),),
        "iris": (VersionScan(1, "iris.onnx", root / "iris.onnx"),),
    }


def test_scan_finds_the_model_of_a_hub_s_folder(root: Path) -> None:
    put(root / "minilm/onnx/model.onnx")
    put(root / "minilm/onnx/model_quantized.onnx")
    put(root / "minilm/openvino/openvino_model.xml")
    put(root / "minilm/model.safetensors")
    put(root / "minilm/tokenizer.json")
    assert only(root).versions == (
        VersionScan(
            1, "minilm/onnx/model.onnx", root / "minilm/onnx/model.onnx",
            notes=("'model_quantized.onnx' beside it is not served",),
        ),
    )  # fmt: skip
    put(root / "minilm/servable.toml", 'model_file = "model_quantized.onnx"\n')
    assert only(root).version(1).path == root / "minilm/onnx/model_quantized.onnx"


def test_scan_finds_the_model_of_a_hub_s_folder_that_is_a_version(root: Path) -> None:
    put(root / "minilm/3/onnx/model.onnx")
    put(root / "minilm/3/config.json")
    assert only(root).version(3).path == root / "minilm/3/onnx/model.onnx"


def test_scan_says_why_a_hub_s_folder_has_no_model(root: Path) -> None:
    put(root / "t5/onnx/encoder_model.onnx")
    put(root / "t5/onnx/decoder_model.onnx")
    servable = only(root)
    assert servable.versions == ()
    assert "several models: 'decoder_model.onnx', 'encoder_model.onnx'" in servable.reason
    assert "give each a folder of its own" in servable.reason


def test_scan_takes_version_1_and_the_stem_from_a_bare_file(root: Path) -> None:
    put(root / "iris.onnx")
    assert only(root).available == {1}


def test_scan_half_copied_version_leaves_the_older_one_available(root: Path) -> None:
    put(root / "digits/1/model.onnx")
    (root / "digits/2").mkdir()
    servable = only(root)
    assert servable.available == {1}
    assert servable.version(2) == VersionScan(
        2, "digits/2", None, "its folder is empty: still being copied?"
    )


def test_scan_folder_without_a_model_is_listed_with_its_reason(root: Path) -> None:
    put(root / "docs/guide.txt")
    servable = only(root)
    assert servable.versions == ()
    assert servable.reason.startswith("its folder holds no model file")


def test_scan_reads_the_settings(root: Path) -> None:
    put(root / "digits/1/a.onnx")
    put(root / "digits/1/b.onnx")
    put(root / "digits/servable.toml", 'model_file = "b.onnx"\nversions = "all"\n')
    servable = only(root)
    assert servable.settings.versions == AllVersions()
    assert servable.version(1).name == "digits/1/b.onnx"


def test_scan_wrong_settings_break_their_servable_alone(root: Path) -> None:
    put(root / "digits/1/model.onnx")
    put(root / "digits/servable.toml", "max_bach_size = 4\n")
    put(root / "iris.onnx")
    digits, iris = scan(root).servables
    assert digits.reason == (
        "digits/servable.toml: key 'max_bach_size' is not known (did you mean 'max_batch_size'?)"
    )
    assert digits.available == set()
    assert iris.available == {1}


def test_scan_settings_that_are_a_folder_are_an_error(root: Path) -> None:
    put(root / "digits/1/model.onnx")
    (root / "digits/servable.toml").mkdir()
    assert only(root).reason == "digits/servable.toml is a folder, not a file"


def test_scan_follows_links_inside_the_repository(root: Path) -> None:
    put(root / "..2024_01/digits/1/model.onnx")
    (root / "..data").symlink_to("..2024_01")
    (root / "digits").symlink_to("..data/digits")
    servable = only(root)
    assert servable.name == "digits"
    assert servable.version(1).path == root / "..2024_01/digits/1/model.onnx"


def test_scan_model_dir_may_be_a_link_itself(root: Path, tmp_path: Path) -> None:
    put(root / "digits/1/model.onnx")
    (tmp_path / "current").symlink_to(root)
    found = scan(tmp_path / "current")
    assert found.root == root
    assert found.servables[0].version(1).path == root / "digits/1/model.onnx"


@pytest.mark.parametrize("link", ["digits", "digits/1", "digits/1/model.onnx", "net.onnx"])
def test_scan_refuses_links_that_leave_the_repository(
    root: Path, tmp_path: Path, link: str
) -> None:
    put(tmp_path / "elsewhere/digits/1/model.onnx")
    put(tmp_path / "elsewhere/net.onnx")
    (root / link).parent.mkdir(parents=True, exist_ok=True)
    (root / link).symlink_to(tmp_path / "elsewhere" / link)
    servable = only(root)
    assert servable.available == set()
    reason = servable.reason or servable.version(1).reason
    assert "leaves the model directory" in reason
    assert str(tmp_path) not in reason


def test_scan_refuses_settings_linked_from_outside(root: Path, tmp_path: Path) -> None:
    put(root / "digits/1/model.onnx")
    secret = put(tmp_path / "secret", "password = 1")
    (root / "digits/servable.toml").symlink_to(secret)
    assert "leaves the model directory" in only(root).reason


def test_scan_sibling_folder_with_the_same_prefix_is_outside(root: Path, tmp_path: Path) -> None:
    put(tmp_path / "servables-old/digits/1/model.onnx")
    (root / "digits").symlink_to(tmp_path / "servables-old/digits")
    assert "leaves the model directory" in only(root).reason


def test_scan_survives_links_in_a_circle(root: Path) -> None:
    (root / "loop").symlink_to("loop")
    put(root / "digits/1/model.onnx")
    (root / "digits/2").symlink_to("2")
    found = scan(root)
    assert found.notes == ("loop is a link to something that is not there",)
    assert found.servables[0].available == {1}


def test_scan_name_that_is_not_utf8_is_refused_printably(root: Path) -> None:
    os.mkdir(os.fsencode(root) + b"/caf\xe9")
    servable = only(root)
    assert servable.name == "caf\\udce9"
    assert "not UTF-8" in servable.reason


def test_scan_pipe_instead_of_a_model_is_not_opened(root: Path) -> None:
    (root / "digits/1").mkdir(parents=True)
    os.mkfifo(root / "digits/1/model.onnx")
    servable = only(root)
    assert servable.available == set()
    assert servable.version(1).reason


@pytest.mark.parametrize("name", ["servable.toml", "config.pbtxt"])
def test_scan_unreadable_settings_are_named(
    name: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(root / "digits/1/model.onnx")
    settings = put(root / "digits" / name, "")

    def refuse(path: Path, mode: str) -> None:
        assert (path, mode) == (settings, "rb")
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("serving.repository.scanner.open", refuse, raising=False)
    assert only(root).reason == f"digits/{name} cannot be read: Permission denied"


def test_scan_unreadable_folder_is_a_reason(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(root / "digits/1/model.onnx")
    put(root / "iris.onnx")
    real = os.scandir

    def refuse(path: Path) -> object:  # permissions do not bind the superuser who runs tests
        if Path(path).name == "digits":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", refuse)
    digits, iris = scan(root).servables
    assert digits.reason == "its folder cannot be read: Permission denied"
    assert iris.available == {1}


@pytest.mark.parametrize("given", ["nowhere", "file.onnx", "file.onnx/below", "loop"])
def test_scan_of_no_folder_names_the_flag_and_the_fix(tmp_path: Path, given: str) -> None:
    put(tmp_path / "file.onnx")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(ConfigError) as caught:
        scan(tmp_path / given)
    assert caught.value.code == "no_model_dir"
    assert caught.value.where == "--model-dir"
    assert caught.value.fix
    assert str(tmp_path / given) in caught.value.message


def test_scan_of_a_file_points_at_its_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        scan(put(tmp_path / "net.onnx"))
    assert caught.value.fix.endswith(f"--model-dir {tmp_path}")


@pytest.mark.parametrize("given", ["dyn/1/model.onnx", "dyn/1/readme.txt"])
def test_scan_of_a_file_in_a_version_points_above_its_servable(root: Path, given: str) -> None:
    with pytest.raises(ConfigError) as caught:
        scan(put(root / given))
    assert caught.value.fix == f"pass the folder that holds servable 'dyn': --model-dir {root}"


def test_scan_of_a_version_s_folder_remarks_on_it(root: Path) -> None:
    put(root / "dyn/1/model.onnx")
    found = scan(root / "dyn/1")
    assert [s.name for s in found.servables] == ["model"]
    assert "called like a version, 1" in found.notes[-1]
    assert str(root) not in found.notes[-1]
    assert scan(root).notes == ()


def test_scan_of_a_single_servable_points_at_its_parent(root: Path) -> None:
    put(root / "digits/1/model.onnx")
    with pytest.raises(ConfigError) as caught:
        scan(root / "digits")
    assert caught.value.code == "bad_configuration"
    assert "it holds 1/model.onnx" in caught.value.message
    assert caught.value.fix == f"pass its parent: --model-dir {root}"


def test_scan_reads_a_triton_folder(root: Path) -> None:
    put(root / "digits/1/net.onnx")
    put(root / "digits/1/model.onnx")
    put(
        root / "digits/config.pbtxt",
        'default_model_filename: "net.onnx" max_batch_size: 4 response_cache { enable: true }',
    )
    servable = only(root)
    assert servable.version(1).name == "digits/1/net.onnx"
    assert servable.settings.max_batch_size == 4
    assert servable.triton is not None
    assert servable.triton.declaration.max_batch_size == 4
    assert servable.notes == (
        "config.pbtxt: not honoured: response_cache: every request runs the model",
    )


def test_scan_servable_toml_wins_over_config_pbtxt(root: Path) -> None:
    put(root / "digits/1/model.onnx")
    put(root / "digits/config.pbtxt", "max_batch_size: 4 and a mistake")
    put(root / "digits/servable.toml", "max_batch_size = 16")
    servable = only(root)
    assert servable.settings.max_batch_size == 16
    assert servable.triton is None
    assert servable.notes == ("config.pbtxt is not read: servable.toml beside it wins",)


def test_scan_refused_triton_folder_is_listed_with_its_reason(root: Path) -> None:
    put(root / "pipeline/config.pbtxt", 'platform: "ensemble"')
    put(root / "pipeline/1/.gitkeep", "")
    put(root / "typo/config.pbtxt", "max_batchsize: 3")
    reasons = {s.name: s.reason for s in scan(root).servables}
    assert reasons["pipeline"].startswith("pipeline/config.pbtxt: platform 'ensemble' is")
    assert reasons["typo"] == (
        "typo/config.pbtxt, line 1, column 1: 'max_batchsize' is not a field of ModelConfig "
        "(did you mean 'max_batch_size'?)"
    )


def test_scan_finds_an_onnx_model_in_a_folder_of_its_files_name(root: Path) -> None:
    put(root / "large/1/model.onnx/model.onnx")
    put(root / "large/1/model.onnx/model.onnx.data")
    put(root / "named/1/net.onnx/net.onnx")
    put(root / "named/config.pbtxt", 'default_model_filename: "net.onnx"')
    found = {s.name: s.version(1).name for s in scan(root).servables}
    assert found == {
        "large": "large/1/model.onnx/model.onnx",
        "named": "named/1/net.onnx/net.onnx",
    }


def test_scan_folderless_model_that_is_half_copied_is_a_reason(root: Path) -> None:
    put(root / "digits/model.onnx.part")
    assert "still being copied?" in only(root).reason


def test_scan_notes_files_of_the_servable_that_lie_in_a_version(tmp_path: Path) -> None:
    folder = tmp_path / "digits" / "1"
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(b"model")
    for name in ("servable_config.py", "servable.toml"):
        (folder / name).write_text("")
    (servable,) = scan(tmp_path).servables
    assert servable.versions[0].notes == (
        "1/servable.toml is not read here: it belongs in a servable's folder",
        "1/servable_config.py is not read here: it belongs in a servable's folder",
    )
