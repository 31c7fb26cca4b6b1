"""What each error code means and what to do about it, for people; ``docs/errors.md`` is made of it.

A test holds this list against the codes that the code uses, both ways.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Topic:
    """Errors of one kind: a heading, what they have in common, and the codes."""

    title: str
    text: str
    entries: tuple[tuple[str, str], ...]


TOPICS = (
    Topic(
        "Names",
        "The request asks for something that is not there. HTTP 404, gRPC NOT_FOUND; for inputs, "
        "outputs and fields HTTP 400, gRPC INVALID_ARGUMENT. A near miss is named.",
        (
            ("unknown_servable", "No servable has this name. `serving list` and the page at `/` "
             "show the names; a name is that of a folder in the model directory."),
            ("unknown_version", "The servable has no such version or label, or it is not one of "
             "those that `versions` in its `servable.toml` wants. Leave the version out for the "
             "newest."),
            ("unknown_method", "The servable has no such method; a plain model has `predict`."),
            ("unknown_input", "The model has no input of this name. `/v2/models/NAME` lists them."),
            ("unknown_output", "The model has no output of this name. Leave the outputs out to get "
             "all of them."),
            ("unknown_field", "The JSON body has a field that this route does not know."),
            ("unknown_route", "There is no such path. `/docs` lists all."),
            ("method_not_allowed", "The path takes another HTTP method (405); the answer's `Allow` "
             "header names it. Predictions are asked for with POST."),
            ("servable_not_named", "The request names no servable, and several are there: add "
             "`\"servable\": \"NAME\"`. TensorFlow Serving's clients always name one, in "
             "`model_spec.name`."),
            ("no_servable", "The request names no servable and none is ready. The log and the page "
             "at `/` say why."),
            ("not_found", "Something else that was asked for is not there; the message says what."),
        ),
    ),
    Topic(
        "Inputs that do not fit the model",
        "The request was understood, but is not what the model takes. HTTP 400, gRPC "
        "INVALID_ARGUMENT. `where` names the input; `expected` and `given` what differs.",
        (
            ("missing_input", "An input of the model is not in the request. All have to be."),
            ("duplicate_input", "An input is given twice."),
            ("duplicate_output", "An output is asked for twice."),
            ("wrong_dtype", "The tensor has another data type than the input. Convert it before "
             "sending; the server does not, lest precision is lost unseen."),
            ("wrong_rank", "The tensor has too many or too few axes. With a batch axis, one row "
             "has the shape `[1, ...]`; an entry of `instances` goes without that axis."),
            ("wrong_shape", "An axis has another size than the model takes, or two inputs disagree "
             "about a size that they share, such as the number of rows."),
            ("missing_shape", "The shape of binary data cannot be told from its length: say it."),
            ("empty_batch", "The request holds no rows; at least one is needed."),
            ("no_instances", "`instances` is an empty list; at least one is needed."),
            ("too_many_instances", "The instances cannot share a batch and are too many to run one "
             "by one for one call. Send fewer at a time, or of equal shapes."),
            ("ragged", "Lists of different lengths, or numbers and lists, stand side by side: that "
             "is no tensor."),
            ("bad_element", "A value cannot be one of this data type: text for a number, a "
             "fraction for an integer, or a number that is too large."),
            ("out_of_range", "A number is too large or too small for the input's data type."),
            ("not_text", "A string in the answer is not UTF-8, which JSON cannot hold. Ask for "
             "that output as binary data."),
            ("execution_failed", "The model itself refused these values or failed on them, though "
             "names, types and shapes fit: an index outside a table, for example. The message is "
             "the engine's."),
            ("uneven_instances", "The instances of the request came to outputs of different shapes "
             "or types, which cannot be one tensor, or to outputs that have no row for each. Send "
             "them one by one, or as whole tensors."),
            ("stage_failed", "A Python function of the servable failed on these values. The "
             "message names the function, the method and the stage, and ends with the text of the "
             "exception; the log has the lines of code."),
        ),
    ),
    Topic(
        "Requests that cannot be read",
        "The request breaks a rule of its wire format. HTTP 400, gRPC INVALID_ARGUMENT, unless "
        "another status is given.",
        (
            ("invalid_request", "The request is wrong in some other way; the message says how."),
            ("malformed_http", "What came is not an HTTP/1.1 request, such as TLS on a port "
             "without `--tls-cert`, gRPC on the REST port, or two lengths for one body. `given` "
             "says where reading stopped. The connection is closed: where the next request would "
             "begin nobody knows."),
            ("bad_json", "The body is not JSON; the message says where it stops being so."),
            ("bad_body", "A body of `/predict` has either `instances` or `inputs`, not both and "
             "not neither."),
            ("bad_field", "A field of the JSON body is given twice, or its name holds a NUL."),
            ("wrong_type", "A field of the JSON body holds another kind of value, such as text "
             "instead of a list."),
            ("bad_shape", "A shape is a list of a few whole numbers, none of them negative."),
            ("bad_base64", "The text in `b64` is not base64."),
            ("too_deep", "Lists are nested deeper than any tensor can be."),
            ("list_too_long", "One list has more elements than are taken as JSON. Send the tensor "
             "as binary data."),
            ("too_many_fields", "The message has more fields than any honest request."),
            ("bad_input", "An input of V2 has its elements either in `data` or as binary data."),
            ("bad_header_length", "`Inference-Header-Content-Length` is not the length of the JSON "
             "that begins the body."),
            ("wrong_size", "The bytes or elements are more or fewer than the shape says."),
            ("wrong_count", "`raw_input_contents` needs one entry for each input, in order."),
            ("bad_bytes_tensor", "Binary strings are written as length (4 bytes, little-endian) "
             "and content, one after another; these are not."),
            ("bad_message", "The body of the gRPC call is not the protobuf message it should be."),
            ("mixed_contents", "Either all inputs are in `raw_input_contents`, or none is."),
            ("no_typed_contents", "V2 over gRPC has no typed field for this data type; send it in "
             "`raw_input_contents`."),
            ("wrong_contents", "The elements are in a field of `contents` for another data type."),
            ("wrong_field", "The elements are in the field for another kind: in `serving.v1` "
             "numbers go into bytes, strings into items; in TensorFlow's tensors each type has "
             "its list."),
            ("unknown_dtype", "There is no data type of this name."),
            ("bad_parameter", "A parameter has a value that it cannot have."),
            ("reserved_parameter", "A parameter has a name that servers keep for themselves."),
            ("bad_timeout", "`X-Request-Timeout-Ms` is a whole number of milliseconds."),
            ("bad_length", "The `Content-Length` header is not a number."),
            ("bad_compression", "The body is not compressed as `Content-Encoding` says."),
            ("unsupported_encoding", "`Content-Encoding` names a compression that is not read "
             "(HTTP 415); the message lists those that are."),
            ("unsupported_media_type", "`Content-Type` is one that this route does not read "
             "(HTTP 415)."),
            ("request_too_large", "The request is larger than `--max-request-mb` (HTTP 413, gRPC "
             "RESOURCE_EXHAUSTED). Send fewer rows at a time, or raise it."),
            ("unpacked_too_large", "The request is small, but unpacks to more than "
             "`--max-request-mb` (HTTP 413)."),
            ("shared_memory_off", "The request names shared memory, and the server was not started "
             "with `--client-shared-memory` (HTTP 400, gRPC UNIMPLEMENTED)."),
            ("no_cuda_shared_memory", "Memory of a GPU cannot be shared with this server (HTTP "
             "400, gRPC UNIMPLEMENTED). Use system shared memory."),
            ("not_local", "Shared memory is for programs on the server's own machine that are "
             "connected without a proxy (HTTP 401, gRPC UNAUTHENTICATED)."),
            ("bad_region_name", "The name of a region is 1 to 255 printable characters."),
            ("bad_region_key", "The key of a region is the name of a POSIX shared memory object: "
             "no path, one `/` in front at most."),
            ("no_shared_memory_object", "There is no shared memory object of this name, or it is "
             "not a plain object of the user that the server runs as (HTTP 404, gRPC NOT_FOUND)."),
            ("unknown_region", "No region of this name is registered (HTTP 404, gRPC NOT_FOUND). "
             "Register it; after a new start the server knows none."),
            ("region_taken", "The name of the region is registered already. Unregister it first."),
            ("region_range", "The bytes are not all within the region, or the object behind it is "
             "too short, perhaps cut since it was registered. The message has offset and size."),
            ("region_too_small", "An output is larger than its place in shared memory."),
            ("too_many_regions", "More regions are registered, or named by one message, than the "
             "server keeps open (HTTP 429, gRPC RESOURCE_EXHAUSTED). Unregister what is not used."),
            ("unimplemented", "A part of the protocol that this server does not offer (HTTP 400, "
             "gRPC UNIMPLEMENTED)."),
        ),
    ),
    Topic(
        "Busy, not ready, too late",
        "Nothing is wrong with the request. Busy is HTTP 429 and gRPC RESOURCE_EXHAUSTED, not "
        "ready HTTP 503 and UNAVAILABLE; `Retry-After` says when to try again. A 503 without it "
        "will not pass by itself, such as that of a model which failed to load: see the message.",
        (
            ("overloaded", "The server has more to do than it may keep waiting."),
            ("queue_full", "As many requests wait for this servable as `max_queue_size` or "
             "`max_queue_mb` in its `servable.toml` allow. Send fewer at once, add workers, or "
             "raise the limit."),
            ("server_queue_full", "As many requests wait for all servables together as "
             "`--max-queue-size` or `--max-queue-mb` allow. Send fewer at once, add workers, or "
             "raise the limit."),
            ("memory_budget_full", "The tensors of all requests fill `--memory-mb`, or one request "
             "alone takes more; then it comes without `Retry-After`."),
            ("body_memory_full", "Too many large requests are being received at once. Send them "
             "one after another, or raise `--memory-mb`."),
            ("not_ready", "The servable is there and does not serve: it is still being loaded, or "
             "failed to load. The message says which, and why."),
            ("unavailable", "The server cannot take the request now; the message says why."),
            ("draining", "The server has been told to stop and takes no more requests."),
            ("unloaded", "The version was taken out of service while the request waited."),
            ("worker_lost", "The process that ran the request ended, more than once, or its "
             "servable is set `idempotent = false`. The log says what it died of."),
            ("no_worker", "No worker can be started; the message and the log say why. The server "
             "goes on trying."),
            ("run_timeout", "The model, or a function, took longer on this than `--run-timeout-s` "
             "or `run_timeout_s` in its `servable.toml` (HTTP 504, gRPC DEADLINE_EXCEEDED). Do not "
             "send it again as it is."),
            ("crashed_the_worker", "The request ended the process that ran it, also when it ran "
             "there alone (HTTP 500, gRPC INTERNAL). Other requests are not touched. The log says "
             "what the process died of; do not send it again as it is."),
            ("control_off", "The server loads and unloads nothing on request (HTTP 400, gRPC "
             "FAILED_PRECONDITION): it was not started with `--model-control explicit`."),
            ("unauthenticated", "The server asks its clients for the token in its "
             "`--client-token-file`, or, for loading and unloading, for that in its "
             "`--admin-token-file` (HTTP 401, gRPC UNAUTHENTICATED): send `Authorization: Bearer "
             "TOKEN`."),
            ("browser_refused", "A page in a browser tried to load or unload a model (HTTP 401). "
             "Without a token, requests with an `Origin` header are refused."),
            ("deadline_exceeded", "The time that the caller gave the request has passed (HTTP 504, "
             "gRPC DEADLINE_EXCEEDED)."),
            ("cancelled", "The caller went away or withdrew the request."),
            ("internal", "A fault of the server (HTTP 500, gRPC INTERNAL). The log has the details "
             "under the request's id. Please report it."),
        ),
    ),
    Topic(
        "Models that do not load",
        "Shown in the log, on the page at `/` and by `serving list`; everything else is served.",
        (
            ("load_failed", "The engine could not load or warm the model; the message is its own."),
            ("broken_model", "The file is not a whole model. Copy or export it again."),
            ("unsupported_input", "An input is not a tensor (a sequence or a map)."),
            ("unsupported_output", "An output is of a kind that no answer can carry."),
            ("unsupported_dtype", "An input or output has an element type that is not served. Cast "
             "it inside the model."),
            ("weights_missing", "The file with the model's weights is not beside it."),
            ("weights_outside", "The weights are outside the model's folder; they are not read "
             "there. Save them beside the model."),
            ("weights_truncated", "The file with the weights is too short. Copy it again."),
            ("unsupported_operator", "A MindIR file uses operators or settings without a "
             "conversion to ONNX, or TensorRT cannot take an operator of the model; the message "
             "names each and where it is. Export the network as ONNX instead, or without what is "
             "named; a CPU may serve it."),
            ("key_missing", "The MindIR file is encrypted and no key is given."),
            ("wrong_key", "The MindIR file does not open with the key that is given."),
            ("no_room", "The converted model does not fit on the disk, or not into memory where it "
             "may not be on a disk. Make room, or set `cache_decrypted`."),
            ("bad_option", "An option of an engine, in `[options.NAME]` or "
             "`[backends.NAME.options]`, is not known or makes no sense. The message names it."),
            ("unknown_shape", "An engine is built for sizes that are known, and an input has one "
             "that varies beside the batch, or one that its values decide. Say which sizes it may "
             "have in `[options.NAME]`."),
            ("signature_differs", "An engine takes or gives other tensors than the model that it "
             "is to run. Build it of this very model, or export the model with these types."),
            ("no_gpu", "There is no GPU to build an engine for. Build on a machine that has it; "
             "TensorRT-RTX can also be told its `compute_capability`."),
            ("unsupported_format", "The builder of this engine reads no files of this format."),
            ("build_failed", "The engine for a device could not be built; the message has the "
             "words of its builder. Other kinds of devices may serve the model."),
            ("toolkit_missing", "`atc`, the compiler of Ascend's CANN toolkit, is not on PATH. "
             "Install the toolkit and source its `set_env.sh`: [ascend.md](ascend.md)."),
            ("no_chip", "Nobody says which Ascend chip to compile for, and no device is here to "
             "ask. Set `soc_version` in `[options.ascend]`, or `--soc` of `serving convert`."),
            ("not_run_here", "`config.pbtxt` asks for what this server does not do and what would "
             "change answers if it were ignored. The message says what to do instead."),
        ),
    ),
    Topic(
        "The command",
        "Printed by the `serving` command, which then ends with the exit code that "
        "`serving --help` lists.",
        (
            ("bad_configuration", "A flag, a variable or a key of a file is wrong. The message "
             "names it, and the nearest that is known."),
            ("bad_tls", "A file of --tls-cert, --tls-key or --tls-client-ca cannot be used; the "
             "message says which and why. The files are PEM, and the key is without a passphrase."),
            ("no_model_dir", "The model directory is missing, is a file, or cannot be read."),
            ("port_taken", "Another process listens on the port. End it, or choose another port; "
             "0 picks a free one."),
            ("cannot_listen", "The address is not one of this machine, or the port may not be "
             "used."),
            ("missing_extra", "`serving predict` needs a package that is not installed for this "
             "kind of file; the message gives the command that installs it."),
            ("bad_output", "`serving predict` cannot write this answer in the form asked for; "
             "`--output json` can hold all answers."),
            ("refused", "A running server refused what `serving load`, `unload` or `status` asked "
             "for; the message is the server's."),
            ("no_trust", "A TLS connection did not come about: the server's certificate is not "
             "trusted (`--tls-ca`, `Tls(ca=...)`), is for another name, or the server asks for a "
             "certificate or is without TLS."),
            ("missing_package", "A command needs a package that is an extra; the fix names it."),
            ("cannot_tune", "`serving tune` tunes models that are set up by a `servable.toml`, and "
             "this servable is made or set up by something else."),
            ("cannot_copy", "`serving tune` measures a copy of the servable, and that could not be "
             "made; the message says why. `TMPDIR` says where it is made."),
            ("not_served", "The servable that `serving tune` is to measure cannot be loaded; the "
             "message says why, as `serving list` does."),
            ("target_missed", "No setting that `serving tune` tried keeps the p99 of "
             "`--latency-ms`. Nothing was written; the message says how near the best came."),
            ("bad_answer", "What answers at the address does not speak the protocol that was asked "
             "for."),
            ("no_answer", "The server was reached and did not answer in time. It goes on with what "
             "it was asked."),
            ("start_failed", "A worker or a front end did not start; the log says why."),
        ),
    ),
    Topic(
        "The Python client",
        "Raised by `serving.client` itself, without an answer from a server.",
        (
            ("no_server", "Nothing listens on the address, or what does speaks no gRPC. Start the "
             "server, and see that this is its gRPC port."),
            ("bad_address", "The address is not `host:port` of a gRPC server."),
            ("connection_lost", "The connection ended before the answer was there."),
            ("other_server", "Something else than this server answers on that port."),
        ),
    ),
)  # fmt: skip

CODES = tuple(code for topic in TOPICS for code, _ in topic.entries)
PAGE = "/errors"


def type_of(code: str) -> str:
    """Return the problem type of a code (RFC 9457): a reference to the server's own page on it."""
    return f"{PAGE}#{code}" if code in _KNOWN else "about:blank"


def markdown() -> str:
    """Return the guide as Markdown with a heading, and so an anchor, for each code."""
    parts = []
    for topic in TOPICS:
        parts += [f"## {topic.title}", topic.text]
        for code, text in topic.entries:
            parts += [f"### {code}", text]
    return "\n\n".join(parts) + "\n"


_KNOWN = frozenset(CODES)
