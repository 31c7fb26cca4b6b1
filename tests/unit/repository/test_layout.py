"""Decisions on listings, without a disk."""

import pytest

from serving.repository import layout
from serving.repository.layout import Entry, Kind


def file(name: str, size: int = 10, outside: bool = False) -> Entry:
    return Entry(name, Kind.FILE, size, outside)


def folder(name: str, outside: bool = False) -> Entry:
    return Entry(name, Kind.FOLDER, outside=outside)


def test_root_folders_are_servables_and_caches_are_not() -> None:
    found = layout.read_root(
        [folder("digits"), folder(".git"), folder("__pycache__"), folder("lost+found")]
    )
    assert found == layout.RootLayout(("digits",), (), (), ())


def test_root_bare_model_file_is_a_servable_of_its_stem() -> None:
    model = file("resnet50.v1.onnx")
    assert layout.read_root([model]).bare == (("resnet50.v1", (model,)),)


def test_root_stray_files_are_ignored_without_a_word() -> None:
    strays = [file(n) for n in ("README.md", "sample.json", "train.py", ".x", "weights.bin")]
    assert layout.read_root(strays) == layout.RootLayout((), (), (), ())


def test_root_models_of_other_frameworks_are_noted_with_the_way_out() -> None:
    found = layout.read_root([file("net.pt"), file("forest.PKL"), file(".hidden.pt")])
    assert found.bare == ()
    assert [note.split(" is not served: it is ")[0] for note in found.notes] == [
        "net.pt", "forest.PKL",
    ]  # fmt: skip
    assert "torch.onnx.export" in found.notes[0]
    assert "skl2onnx" in found.notes[1]


def test_root_files_of_one_stem_stay_together_to_be_refused() -> None:
    found = layout.read_root([file("net.ckpt"), file("net.mindir")])
    assert found.bare == (("net", (file("net.ckpt"), file("net.mindir"))),)


def test_root_split_mindir_is_one_servable_without_its_suffix() -> None:
    graph = file("net_graph.mindir")
    found = layout.read_root([graph, folder("net_variables")])
    assert found.bare == (("net", (graph,)),)
    assert found.folders == ()


def test_root_graph_suffix_without_variables_stays_in_the_name() -> None:
    assert layout.read_root([file("net_graph.mindir")]).bare[0][0] == "net_graph"


def test_root_variables_folder_without_graph_is_looked_at() -> None:
    assert layout.read_root([folder("net_variables")]).folders == ("net_variables",)


def test_root_folder_wins_over_a_bare_file_and_says_so() -> None:
    found = layout.read_root([folder("net"), file("net.onnx")])
    assert found.folders == ("net",)
    assert found.bare == ()
    assert found.notes == ("'net.onnx' is not served: the folder 'net' has the same name",)


def test_root_bad_names_are_refused_and_printable() -> None:
    found = layout.read_root([folder("a:b"), file("c\n.onnx")])
    assert [name for name, _ in found.refused] == ["a:b", "c\\n"]
    assert found.folders == ()
    assert found.bare == ()


def test_root_folder_linked_from_outside_is_refused_with_the_way_out() -> None:
    ((name, reason),) = layout.read_root([folder("net", outside=True)]).refused
    assert name == "net"
    assert "leaves the model directory" in reason
    assert "copy it in" in reason


def test_root_half_copied_file_and_broken_link_are_noted() -> None:
    found = layout.read_root([file("net.onnx.part"), Entry("gone", Kind.BROKEN)])
    assert found.notes == (
        "net.onnx.part is not served: still being copied?",
        "gone is a link to something that is not there",
    )


def test_root_servable_files_at_the_top_are_noted() -> None:
    (note,) = layout.read_root([file("servable.toml")]).notes
    assert note == "servable.toml is not read here: it belongs in a servable's folder"


def test_single_servable_is_seen_by_its_version_folder() -> None:
    inner = {"1": (file("model.onnx"),)}
    why = layout.single_servable([folder("1"), file("servable.toml")], inner.__getitem__)
    assert why == "it holds 1/model.onnx"


def test_single_servable_is_seen_though_its_versions_are_empty() -> None:
    why = layout.single_servable([folder("2"), folder("10")], lambda _: ())
    assert why == "it holds only version folders ('2', '10')"


def test_single_servable_is_not_a_repository_with_a_servable_named_1() -> None:
    inner = {"1": (folder("1"),)}
    assert layout.single_servable([folder("1")], inner.__getitem__) == ""


def test_single_servable_is_not_a_repository_with_other_servables() -> None:
    assert layout.single_servable([folder("1"), folder("digits")], lambda _: ()) == ""


def test_single_servable_is_not_an_empty_folder() -> None:
    assert layout.single_servable([file("model.onnx"), folder(".git")], lambda _: ()) == ""


def test_servable_versions_are_sorted_as_numbers() -> None:
    found = layout.read_servable([folder("10"), folder("9"), folder("1")])
    assert found.versions == ((1, "1"), (9, "9"), (10, "10"))
    assert not found.bare


def test_servable_without_version_folder_is_bare() -> None:
    found = layout.read_servable([file("model.onnx"), file("servable.toml")])
    assert found == layout.ServableLayout((), True, (), ())


def test_servable_zero_prefixed_folder_is_named_with_the_fix() -> None:
    found = layout.read_servable([folder("1"), folder("01")])
    assert found.versions == ((1, "1"),)
    assert found.notes == (
        "folder '01' is not a version: a version has no leading zero: rename it to '1'",
    )


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("v1", ": rename it to '1'"),
        ("Version_02", ": rename it to '2'"),
        ("saved", " (if it is a servable, pass this folder as --model-dir)"),
        ("1.0.0", " (if it is a servable, pass this folder as --model-dir)"),
    ],
)
def test_servable_with_only_a_misnamed_version_has_that_as_its_reason(name: str, hint: str) -> None:
    found = layout.read_servable([folder(name)])
    assert found.reason == (
        f"its folder holds no version folder: folder {name!r} is not a version: version names are "
        f"digits only{hint}"
    )
    assert found.notes == ()  # the log shall not say it twice


@pytest.mark.parametrize(
    "beside", [(), (file("model.safetensors"), file("config.json"), folder("1_Pooling"))]
)
def test_servable_of_a_model_hub_has_its_model_in_a_folder_onnx(beside: tuple[Entry, ...]) -> None:
    entries = [folder("onnx"), folder("openvino"), *beside]
    assert layout.read_servable(entries) == layout.ServableLayout((), True, (), ())
    assert layout.hub_folder(entries) == "onnx"


@pytest.mark.parametrize("other", [file("net.onnx"), folder("1")])
def test_servable_with_a_model_or_a_version_needs_no_folder_onnx(other: Entry) -> None:
    found = layout.read_servable([folder("onnx"), other])
    assert found.notes == ("folder 'onnx' is not a version: version names are digits only",)
    assert layout.hub_folder([folder("onnx", outside=True)]) == ""


def test_servable_that_is_a_hub_s_cache_is_told_what_to_do() -> None:
    found = layout.read_servable([folder("blobs"), folder("refs"), folder("snapshots")])
    assert "cache of the Hugging Face hub" in found.reason
    assert "--local-dir" in found.reason


def test_servable_that_holds_servables_is_taken_for_the_model_directory_that_it_may_be() -> None:
    found = layout.read_servable([folder("digits"), folder("language")])
    assert found.reason == (
        "its folder holds no version folder: folders 'digits', 'language' are not versions: "
        "version names are digits only (if they are servables, pass this folder as --model-dir)"
    )
    found = layout.read_servable([folder(f"part{number}") for number in range(10, 30)])
    assert "'part17' and 12 more are not versions" in found.reason


def test_servable_model_beside_version_folders_is_noted() -> None:
    found = layout.read_servable([folder("1"), file("model.onnx")])
    assert found.notes == ("'model.onnx' beside the version folders is not served",)


def test_servable_version_linked_from_outside_is_refused() -> None:
    found = layout.read_servable([folder("1"), folder("2", outside=True)])
    assert found.versions == ((1, "1"),)
    assert [number for number, _ in found.refused] == [2]


@pytest.mark.parametrize("name", ["servables.toml", "servable.yaml", "Servable.YML"])
def test_servable_foreign_configuration_is_noted_not_ignored(name: str) -> None:
    entries = [folder("1"), file("servable_config.py"), file("labels.yaml"), file(name)]
    notes = layout.read_servable(entries).notes
    assert notes == (f"{name} is not read: settings belong in servable.toml",)


def test_servable_toml_beside_config_pbtxt_wins_and_says_so() -> None:
    both = [folder("1"), file("config.pbtxt"), file("servable.toml")]
    assert layout.read_servable(both).notes == (
        "config.pbtxt is not read: servable.toml beside it wins",
    )
    assert layout.read_servable(both[:2]).notes == ()


def test_servable_variables_folder_of_a_split_model_is_no_stray() -> None:
    found = layout.read_servable([file("net_graph.mindir"), folder("net_variables")])
    assert found == layout.ServableLayout((), True, (), ())
