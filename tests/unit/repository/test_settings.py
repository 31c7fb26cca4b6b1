"""``servable.toml``: values, and errors that name the key."""

from dataclasses import FrozenInstanceError, fields

import pytest

from serving.errors import ConfigError
from serving.inspection import KeySource
from serving.repository.batch_axes import AssertedAxes
from serving.repository.settings import (
    ServableSettings,
    parse_settings,
    reference_markdown,
    setting_reference,
)
from serving.repository.stage_settings import MethodSettings, StageSettings
from serving.repository.version_policy import AllVersions, LatestVersions, SpecificVersions

FILE = "digits/servable.toml"


def parse(text: str) -> ServableSettings:
    return parse_settings(text.encode(), FILE)


def refused(text: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    return caught.value


def test_settings_defaults_are_the_documented_ones() -> None:
    settings = parse("")
    assert settings.model_file is None
    assert settings.backend is None
    assert settings.max_batch_size == 32
    assert settings.max_queue_delay_ms is None
    assert settings.max_queue_size == 1000
    assert settings.max_queue_mb == 512
    assert settings.threads is None
    assert settings.load_timeout_s is None
    assert settings.versions == LatestVersions(1)
    assert settings.batch_axes is None
    assert settings.key is None
    assert settings.dec_mode is None
    assert settings.cache_decrypted is False


def test_settings_read_every_key() -> None:
    settings = parse(
        """
        model_file = "net.onnx"
        backend = "onnxruntime"
        max_batch_size = 8
        max_queue_delay_ms = 2
        max_queue_size = 5
        max_queue_mb = 6
        threads = 2
        load_timeout_s = 1.5
        versions = {specific = [3, 1, 3]}
        [batch_axes]
        inputs = {x = 0, state = 1, temperature = "none"}
        outputs = {y = 0}
        """
    )
    assert settings == ServableSettings(
        model_file="net.onnx",
        backend="onnxruntime",
        max_batch_size=8,
        max_queue_delay_ms=2.0,
        max_queue_size=5,
        max_queue_mb=6,
        threads=2,
        load_timeout_s=1.5,
        versions=SpecificVersions((1, 3)),
        batch_axes=AssertedAxes(
            inputs=(("x", 0), ("state", 1), ("temperature", None)), outputs=(("y", 0),)
        ),
    )


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ('versions = "all"', AllVersions()),
        ("versions = {latest = 3}", LatestVersions(3)),
        ("[versions]\nspecific = [2]", SpecificVersions((2,))),
    ],
)
def test_settings_versions_take_three_forms(text: str, policy: object) -> None:
    assert parse(text).versions == policy


def test_settings_of_tables_are_read_beside_their_defaults() -> None:
    settings = parse(
        '[stages]\nworkers = 64\npython = "/usr/bin/python3"\n[methods]\nhidden = true'
    )
    assert settings.stages == StageSettings(workers=64, python="/usr/bin/python3")
    assert settings.methods == MethodSettings(hidden=True)
    assert settings.set_keys == {"stages", "methods"}


def test_settings_at_their_bounds_are_taken() -> None:
    settings = parse(
        "batch_sizes = [1, 4]\nmax_queue_delay_ms = 0\nrun_timeout_s = 0\nthreads = 1\n"
        'update = "in_turn"\nidempotent = false\nmodel_file = "..a"'
    )
    assert settings.batch_sizes == (1, 4)
    assert (settings.max_queue_delay_ms, settings.run_timeout_s, settings.threads) == (0, 0, 1)
    assert (settings.update, settings.idempotent, settings.model_file) == ("in_turn", False, "..a")


def test_settings_number_that_no_float_holds_is_refused() -> None:
    assert refused(f"load_timeout_s = 1{'0' * 400}").where == "load_timeout_s"


def test_settings_table_that_is_none_says_how_it_is_written() -> None:
    error = refused("stages = 3")
    assert (error.where, error.message) == (
        "stages",
        f"{FILE}: 'stages' is a table: write [stages]",
    )


def test_settings_unknown_keys_do_not_shadow_what_is_kept_beside_them() -> None:
    assert refused("set_keys = []").where == "set_keys"
    assert refused("stages.workres = 1").fix == "did you mean 'stages.workers'?"


def test_settings_batch_axes_none_switches_batching_off() -> None:
    assert parse('batch_axes = "none"').batch_axes == AssertedAxes(off=True)


def test_settings_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        parse("").max_batch_size = 2  # type: ignore[misc]


def test_settings_unknown_key_names_file_key_and_nearest() -> None:
    error = refused("max_batchsize = 2")
    assert error.where == "max_batchsize"
    assert str(error) == (
        "digits/servable.toml: key 'max_batchsize' is not known (did you mean 'max_batch_size'?)"
    )


def test_settings_unknown_key_like_no_other_lists_the_known() -> None:
    assert "max_queue_delay_ms" in refused("zzz = 1").fix


@pytest.mark.parametrize(
    ("text", "key", "given"),
    [
        ('max_batch_size = "8"', "max_batch_size", '"8"'),
        ("max_batch_size = 0", "max_batch_size", "0"),
        ("max_batch_size = true", "max_batch_size", "true"),
        ("max_batch_size = 1.0", "max_batch_size", "1.0"),
        ("max_queue_delay_ms = -1", "max_queue_delay_ms", "-1"),
        ("max_queue_delay_ms = nan", "max_queue_delay_ms", "NaN"),
        ("max_queue_delay_ms = inf", "max_queue_delay_ms", "Infinity"),
        ("load_timeout_s = 0", "load_timeout_s", "0"),
        ("threads = 0", "threads", "0"),
        ('backend = "nosuch"', "backend", '"nosuch"'),
        ('model_file = "../x.onnx"', "model_file", '"../x.onnx"'),
        ('model_file = ""', "model_file", '""'),
        ('model_file = ".."', "model_file", '".."'),
        ("max_queue_delay_ms = true", "max_queue_delay_ms", "true"),
        ('max_queue_delay_ms = "1"', "max_queue_delay_ms", '"1"'),
        ("run_timeout_s = -1", "run_timeout_s", "-1"),
        ("batch_sizes = 4", "batch_sizes", "4"),
        ("batch_sizes = [1, 0]", "batch_sizes", "[1, 0]"),
        ("batch_sizes = [1.0]", "batch_sizes", "[1.0]"),
        ("idempotent = 1", "idempotent", "1"),
        ('update = "later"', "update", '"later"'),
        ("update = []", "update", "[]"),
        ("model_file = 1", "model_file", "1"),
        ("stages.workers = 65", "stages.workers", "65"),
        ("stages.workers = 0", "stages.workers", "0"),
        ("stages.device_id = -1", "stages.device_id", "-1"),
        ("stages.run_timeout_s = 0", "stages.run_timeout_s", "0"),
        ('stages.python = "python3"', "stages.python", '"python3"'),
        ('methods.hidden = "yes"', "methods.hidden", '"yes"'),
        ('versions = "newest"', "versions", "'newest'"),
        ("versions = 3", "versions", "3"),
        ("versions = {latest = 0}", "versions.latest", "0"),
        ("versions = {latest = true}", "versions.latest", "True"),
        ("versions = {specific = []}", "versions.specific", "[]"),
        ('versions = {specific = ["1"]}', "versions.specific", "['1']"),
        ("batch_axes = 0", "batch_axes", "0"),
        ("batch_axes = {inputs = {x = -1}, outputs = {y = 0}}", "batch_axes.inputs.x", "-1"),
        ("batch_axes = {inputs = {x = 0}}", "batch_axes.outputs", "nothing"),
    ],
)
def test_settings_wrong_value_names_key_expected_and_given(text: str, key: str, given: str) -> None:
    error = refused(text)
    assert error.where == key
    assert error.message == f"{FILE}: key {key!r} has a wrong value"
    assert error.given == given
    assert error.expected


def test_settings_several_wrong_keys_are_all_named() -> None:
    error = refused("threads = 0\nmax_queue_mb = 0\nzzz = 1")
    named = {error.where, *error.message.partition("wrong too: ")[2].rstrip(")").split(", ")}
    assert named == {"threads", "max_queue_mb", "zzz"}


@pytest.mark.parametrize(
    ("text", "key", "hint"),
    [
        ("versions = {latets = 1}", "versions.latets", "did you mean 'latest'?"),
        ("[batch_axes]\ninput = {x = 0}", "batch_axes.input", "did you mean 'inputs'?"),
    ],
)
def test_settings_unknown_key_in_a_table_names_the_nearest(text: str, key: str, hint: str) -> None:
    error = refused(text)
    assert error.where == key
    assert error.fix == hint


def test_settings_batch_axes_without_an_axis_point_at_none() -> None:
    error = refused('batch_axes = {inputs = {x = "none"}, outputs = {y = 0}}')
    assert error.where == "batch_axes.inputs"
    assert 'batch_axes = "none"' in error.fix


def test_settings_syntax_error_names_the_line() -> None:
    message = refused("threads = 1\nmax_batch_size = = 2\n").message
    assert message.startswith(f"{FILE} is not valid TOML")
    assert "line 2" in message


def test_settings_bytes_that_are_not_utf8_name_the_line() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_settings(b"threads = 1\n# caf\xe9\n", FILE)
    assert caught.value.message == f"{FILE} is not UTF-8 text (at line 2)"


def test_settings_byte_order_mark_and_crlf_are_read() -> None:
    assert parse_settings(b"\xef\xbb\xbfthreads = 3\r\n", FILE).threads == 3


@pytest.mark.parametrize(
    "text",
    ["threads = " + "[" * 100_000, f"threads{'.a' * 20_000} = 1", f"versions{'.a' * 20_000} = 1"],
)
def test_settings_nested_too_deeply_is_an_error_not_a_crash(text: str) -> None:
    assert FILE in refused(text).message


def test_settings_long_value_is_cut_in_the_message() -> None:
    assert len(refused(f'threads = "{"x" * 10_000}"').given) < 100


def test_reference_covers_every_key_with_words() -> None:
    docs = {doc.name: doc for doc in setting_reference()}
    assert set(docs) >= {"max_batch_size", "stages.workers", "stages.python", "methods.hidden"}
    tables = {name.partition(".")[0] for name in docs}
    assert tables == {f.name for f in fields(ServableSettings)} - {"set_keys"}
    assert all(doc.text.endswith(".") and doc.type for doc in docs.values())
    assert docs["max_batch_size"].default == "`32`"
    assert docs["versions"].default == "`{latest = 1}`"
    assert docs["threads"].default == "automatic"


def test_reference_markdown_has_one_row_a_key() -> None:
    lines = reference_markdown().splitlines()
    assert len(lines) == 2 + len(setting_reference())
    assert all(line.startswith("| ") and line.endswith(" |") for line in lines)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('key_env = "NET_KEY"', KeySource(env="NET_KEY")),
        ('key_file = "/run/secrets/key"', KeySource(file="/run/secrets/key")),
        ('key_env = "K"\ndec_mode = "SM4-CBC"', KeySource(env="K", mode="SM4-CBC")),
    ],
)
def test_settings_name_where_a_key_lies(text: str, key: KeySource) -> None:
    assert parse(text).key == key


@pytest.mark.parametrize(
    ("text", "where", "said"),
    [
        ('key_env = "A"\nkey_file = "/b"', "key_file", "both set"),
        ('dec_mode = "AES-GCM"', "dec_mode", "without a key"),
        ('key_env = "A"\ndec_mode = "AES"', "dec_mode", '"AES-GCM", "AES-CBC" or "SM4-CBC"'),
        ('key_file = "secrets/key"', "key_file", "an absolute path"),
    ],
)
def test_settings_of_keys_that_do_not_go_together_are_refused(
    text: str, where: str, said: str
) -> None:
    error = refused(text)
    assert error.where == where
    assert said in str(error)
    assert FILE in str(error)


@pytest.mark.parametrize("name", ["key_env", "key_file"])
def test_settings_do_not_show_a_key_that_was_written_in_place_of_its_name(name: str) -> None:
    assert "0123456789" not in str(refused(f'{name} = "0123456789ABCDEF"'))
