"""Generators of small ONNX models: each writes one file at the path it is given.

By family: ``nets`` (ordinary, fast), ``transformer``, ``forms`` (dtypes, scalars, names),
``outputs`` (sizes and kinds known only after a run), ``axes`` (what the first axis means),
``faulty_runs``, ``faulty_loads``. All return the path they wrote.
"""

from tests.models.axes import (
    attention_over_rows,
    fixed_batch,
    graph_convolution,
    lstm_over_rows,
    recurrent_state,
    softmax_over_rows,
)
from tests.models.faulty_loads import (
    crash_at_load,
    empty_file,
    exhaust_memory_at_load,
    expand_at_load,
    garbage,
    hang_at_load,
    missing_external_data,
    oversized,
    truncated,
    unknown_operator,
    unsupported_ir,
    unsupported_opset,
)
from tests.models.faulty_runs import divider, greedy, grinding, picky, slow, spinning
from tests.models.forms import (
    add,
    empty_size,
    identity,
    multi,
    odd_names,
    scalar_input,
    scalar_output,
    string_lookup,
    variable_width,
)
from tests.models.nets import (
    lenet,
    mlp,
    mlp_external_data,
    mlp_fp16,
    mlp_int8_dynamic,
    mlp_int8_static,
    mlp_whole_numbers,
)
from tests.models.outputs import misdeclared, non_max_suppression, non_zero, sequence, zip_map
from tests.models.transformer import transformer
from tests.models.versions import tagged

__all__ = [
    "add",
    "attention_over_rows",
    "crash_at_load",
    "divider",
    "empty_file",
    "empty_size",
    "exhaust_memory_at_load",
    "expand_at_load",
    "fixed_batch",
    "garbage",
    "graph_convolution",
    "greedy",
    "grinding",
    "hang_at_load",
    "identity",
    "lenet",
    "lstm_over_rows",
    "misdeclared",
    "missing_external_data",
    "mlp",
    "mlp_external_data",
    "mlp_fp16",
    "mlp_int8_dynamic",
    "mlp_int8_static",
    "mlp_whole_numbers",
    "multi",
    "non_max_suppression",
    "non_zero",
    "odd_names",
    "oversized",
    "picky",
    "recurrent_state",
    "scalar_input",
    "scalar_output",
    "sequence",
    "slow",
    "softmax_over_rows",
    "spinning",
    "string_lookup",
    "tagged",
    "transformer",
    "truncated",
    "unknown_operator",
    "unsupported_ir",
    "unsupported_opset",
    "variable_width",
    "zip_map",
]
