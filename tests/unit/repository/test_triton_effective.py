"""The configuration that clients are told: what is in effect, in Triton's words."""

from typing import Any

from serving.repository.settings import DEFAULT_SETTINGS, ServableSettings
from serving.repository.stubs import triton_model_config_pb2 as pb
from serving.repository.triton_effective import config_bytes, config_json, effective_config
from serving.repository.triton_folder import TritonFolder, read_folder
from serving.repository.version_policy import AllVersions, SpecificVersions
from serving.tensor import BYTES, FP32, BatchAxes, Signature, TensorSpec

SIGNATURE = Signature((TensorSpec("x", FP32, ("n", "", 3)),), (TensorSpec("label", BYTES, ("n",)),))
ROWS = BatchAxes(True, "proved", (0,), (0,))


def effective(
    settings: ServableSettings = DEFAULT_SETTINGS,
    batch: BatchAxes = ROWS,
    triton: TritonFolder | None = None,
    signature: Signature = SIGNATURE,
) -> Any:
    return effective_config(
        "m", "onnxruntime_onnx", "onnxruntime", "a.onnx", settings, signature, batch, triton
    )


def test_config_of_a_batched_servable_leaves_the_rows_out_of_dims() -> None:
    document = config_json(effective(ServableSettings(max_batch_size=16, max_queue_delay_ms=2)))
    assert document["name"] == "m"
    assert document["platform"] == "onnxruntime_onnx"
    assert document["backend"] == "onnxruntime"
    assert document["default_model_filename"] == "a.onnx"
    assert document["max_batch_size"] == 16
    assert document["version_policy"] == {"latest": {"num_versions": 1}}
    (x,), (label,) = document["input"], document["output"]
    assert (x["name"], x["data_type"], x["dims"]) == ("x", "TYPE_FP32", [-1, 3])
    assert (label["name"], label["data_type"], label["dims"]) == ("label", "TYPE_STRING", [1])
    assert label["reshape"] == {"shape": []}
    assert "reshape" not in x
    assert document["dynamic_batching"]["max_queue_delay_microseconds"] == 2000
    assert document["dynamic_batching"]["default_queue_policy"]["max_queue_size"] == 1000


def test_config_of_an_unbatched_servable_has_every_size_and_no_batching() -> None:
    document = config_json(effective(batch=BatchAxes.refused("no proof")))
    assert document["max_batch_size"] == 0
    assert document["input"][0]["dims"] == [-1, -1, 3]
    assert "dynamic_batching" not in document


def test_config_of_rows_on_another_axis_claims_no_batch() -> None:
    document = config_json(effective(batch=BatchAxes(True, "proved", (1,), (0,))))
    assert document["max_batch_size"] == 0
    assert document["input"][0]["dims"] == [-1, -1, 3]


def test_config_of_an_unknown_rank_says_one_size_that_varies() -> None:
    signature = Signature((TensorSpec("x", FP32, None),), ())
    document = config_json(effective(batch=BatchAxes.refused(""), signature=signature))
    assert document["input"][0]["dims"] == [-1]


def test_config_of_a_scalar_has_a_size_all_the_same() -> None:
    signature = Signature((TensorSpec("x", FP32, ()),), ())
    document = config_json(effective(batch=BatchAxes.refused(""), signature=signature))
    assert (document["input"][0]["dims"], document["input"][0]["reshape"]) == ([1], {"shape": []})
    message = pb.ModelConfig.FromString(config_bytes(document))
    assert (list(message.input[0].dims), list(message.input[0].reshape.shape)) == ([1], [])
    assert message.input[0].HasField("reshape")


def test_config_repeats_what_is_honoured_and_leaves_out_what_is_not() -> None:
    text = b"""
        max_batch_size: 4
        input { name: "x" format: FORMAT_NCHW }
        version_policy { all {} }
        dynamic_batching { preferred_batch_size: 4 priority_levels: 3 }
        response_cache { enable: true }
        parameters { key: "intra_op_thread_count" value { string_value: "2" } }
        parameters { key: "execution_mode" value { string_value: "1" } }
    """
    folder = read_folder(text, "m/config.pbtxt", "m")
    document = config_json(effective(folder.settings, triton=folder))
    assert document["max_batch_size"] == 4
    assert document["input"][0]["format"] == "FORMAT_NCHW"
    assert document["version_policy"] == {"all": {}}
    assert document["dynamic_batching"]["priority_levels"] == 3
    assert document["dynamic_batching"]["preferred_batch_size"] == []
    assert "response_cache" not in document
    assert document["parameters"] == {"intra_op_thread_count": {"string_value": "2"}}


def test_config_says_what_the_file_says_of_rows_even_where_the_proof_failed() -> None:
    folder = read_folder(b"max_batch_size: 4", "m/config.pbtxt", "m")
    document = config_json(effective(folder.settings, BatchAxes.refused("mixed"), folder))
    assert document["max_batch_size"] == 4
    assert document["input"][0]["dims"] == [-1, 3]


def test_config_bytes_are_the_message_that_the_json_describes() -> None:
    for policy in (AllVersions(), SpecificVersions((2, 5))):
        message = effective(ServableSettings(versions=policy, threads=3))
        assert pb.ModelConfig.FromString(config_bytes(config_json(message))) == message
