"""Which file of a version folder is its model."""

import pytest

from serving.repository.layout import Entry, Kind
from serving.repository.model_file import choose_bare, choose_model


def files(*names: str) -> list[Entry]:
    return [Entry(name, Kind.FILE, 10) for name in names]


@pytest.mark.parametrize(
    "entries",
    [
        files("model.onnx"),
        files("model.onnx", "model.onnx.data", "README.md", "sample.json", "x.py"),
        files("model.onnx", "lenet.ckpt"),
        files(".model.onnx.swp", "model.onnx", ".cache"),
    ],
)
def test_model_is_the_file_named_model(entries: list[Entry]) -> None:
    assert choose_model(entries).name == "model.onnx"


@pytest.mark.parametrize(
    "name",
    ["a.onnx", "a.mindir", "a.om", "a.air", "a.ckpt", "a.ms", "a.plan", "a.engine",
     "a.safetensors", "saved_model.pb", "A.ONNX"],
)  # fmt: skip
def test_model_is_the_only_file_of_a_known_ending(name: str) -> None:
    assert choose_model(files("notes.txt", name)).name == name


@pytest.mark.parametrize(
    "parts", [(), ("fingerprint.pb",), ("fingerprint.pb", "keras_metadata.pb")]
)
def test_model_of_a_saved_model_is_its_graph_until_it_is_converted(parts: tuple[str, ...]) -> None:
    entries = [*files("saved_model.pb", *parts), Entry("variables", Kind.FOLDER)]
    assert choose_model(entries).name == "saved_model.pb"
    assert choose_model([*entries, *files("model.onnx")]).name == "model.onnx"
    both = choose_model([*entries, *files("net.onnx")])
    assert "several models: 'net.onnx', 'saved_model.pb' (set" in both.reason.replace(
        "'saved_model.pb', 'net.onnx'", "'net.onnx', 'saved_model.pb'"
    )
    assert choose_model(files("fingerprint.pb")).name == "fingerprint.pb"


def test_model_of_a_split_mindir_is_its_graph() -> None:
    entries = [*files("net_graph.mindir"), Entry("net_variables", Kind.FOLDER)]
    assert choose_model(entries).name == "net_graph.mindir"


def test_model_beside_others_says_what_is_not_served() -> None:
    assert choose_model(files("model.onnx", "b.ckpt")).notes == (
        "'b.ckpt' beside it is not served",
    )


@pytest.mark.parametrize("names", [("a.onnx", "b.onnx"), ("model.onnx", "model.mindir")])
def test_several_models_are_refused_naming_them_and_the_setting(names: tuple[str, str]) -> None:
    choice = choose_model(files(*names))
    assert choice.name == ""
    assert all(name in choice.reason for name in names)
    assert "set model_file in servable.toml" in choice.reason


def test_model_file_setting_chooses_any_ending() -> None:
    assert choose_model(files("model.onnx", "net.bin"), "net.bin").name == "net.bin"


def test_model_file_setting_that_is_not_there_names_the_nearest() -> None:
    choice = choose_model(files("model.onnx"), "modle.onnx")
    assert choice.name == ""
    assert "model_file is 'modle.onnx'" in choice.reason
    assert "did you mean 'model.onnx'?" in choice.reason


@pytest.mark.parametrize(
    "entries",
    [
        [],
        files(".DS_Store"),
        files("model.onnx.part"),
        files("model.onnx.tmp"),
        files("model.onnx~"),
        files(".model.onnx.Zx81Qq"),
        [Entry("model.onnx", Kind.FILE, 0)],
    ],
)
def test_half_copied_version_is_suspected_of_it(entries: list[Entry]) -> None:
    choice = choose_model(entries)
    assert choice.name == ""
    assert "still being copied?" in choice.reason


def test_model_with_half_copied_neighbour_is_served_with_a_note() -> None:
    choice = choose_model(files("model.onnx", "model.onnx.data.part"))
    assert choice.name == "model.onnx"
    assert choice.notes == ("model.onnx.data.part lies beside it: still being copied?",)


def test_folder_without_a_model_says_what_it_holds_and_what_is_known() -> None:
    reason = choose_model(files("model.pt")).reason
    assert "holds 'model.pt'" in reason
    assert ".onnx" in reason
    assert ".mindir" in reason


def test_folder_without_a_model_says_what_another_framework_s_file_is() -> None:
    assert "model.pt is a PyTorch file" in choose_model(files("notes.txt", "model.pt")).reason


@pytest.mark.parametrize(
    ("name", "way_out"),
    [("net.pt2", "torch.onnx.export"), ("trees.ubj", "onnxmltools"), ("trees.cbm", "'onnx'"),
     ("net.trt", "let it end in .plan"), ("pytorch_model.bin", "optimum-cli export onnx")],
)  # fmt: skip
def test_folder_says_the_way_out_however_many_files_lie_beside(name: str, way_out: str) -> None:
    others = files("a.json", "b.json", "c.json", "d.json", "e.json")
    reason = choose_model([*others, *files(name)]).reason
    assert f"; {name} is a" in reason
    assert way_out in reason


def test_folder_names_four_files_of_other_frameworks_at_most() -> None:
    reason = choose_model(files(*(f"{n}.pt" for n in range(9)))).reason
    assert reason.count("a PyTorch file") == 4


@pytest.mark.parametrize("name", ["model.py", "README.md"])
def test_folder_of_code_or_notes_alone_is_not_called_empty(name: str) -> None:
    reason = choose_model(files(name)).reason
    assert f"it holds '{name}'" in reason
    assert "empty" not in reason


def test_external_data_linked_from_outside_refuses_the_version() -> None:
    entries = [*files("model.onnx"), Entry("model.onnx.data", Kind.FILE, 10, outside=True)]
    choice = choose_model(entries)
    assert choice.name == ""
    assert choice.reason.startswith("model.onnx.data is a link that leaves the model directory")


def test_dangling_model_link_is_the_reason() -> None:
    choice = choose_model([Entry("model.onnx", Kind.BROKEN)])
    assert choice.reason == "model.onnx is a link to something that is not there"


def test_bare_files_of_one_name_are_refused_together() -> None:
    choice = choose_bare(files("net.onnx", "net.mindir"))
    assert choice.name == ""
    assert "'net.onnx', 'net.mindir'" in choice.reason


@pytest.mark.parametrize("weights", ["net.ckpt", "net-3_1875.ckpt", "model.ckpt", "a.safetensors"])
def test_weights_alone_do_not_stand_in_the_way_of_the_network(weights: str) -> None:
    choice = choose_model(files(weights, "net.mindir"))
    assert (choice.name, choice.reason) == ("net.mindir", "")
    assert choice.notes == (f"'{weights}' beside it is not served",)


def test_bare_checkpoint_of_the_same_name_leaves_the_network_to_be_served() -> None:
    choice = choose_bare(files("net.ckpt", "net.mindir"))
    assert (choice.name, choice.reason) == ("net.mindir", "")


def test_weights_alone_are_chosen_where_nothing_else_is_so_that_they_are_explained() -> None:
    assert choose_model(files("net.ckpt")).name == "net.ckpt"
    assert "several models" in choose_model(files("a.ckpt", "b.ckpt")).reason


def test_bare_file_linked_from_outside_is_refused() -> None:
    assert choose_bare([Entry("net.onnx", Kind.FILE, 10, outside=True)]).name == ""


def test_bare_empty_file_is_refused() -> None:
    assert "still being copied?" in choose_bare([Entry("net.onnx", Kind.FILE, 0)]).reason
