"""Numbers of CANN's C headers, which its Python module takes and gives but does not name."""

from __future__ import annotations

from typing import Dict

from serving.tensor import (
    BF16,
    BOOL,
    FP16,
    FP32,
    FP64,
    INT8,
    INT16,
    INT32,
    INT64,
    UINT8,
    UINT16,
    UINT32,
    UINT64,
    DType,
)

REPEAT_INITIALIZE = 100002
RUNS_ON_HOST = 1

HOST_TO_DEVICE = 1
DEVICE_TO_HOST = 2

HUGE_PAGES_FIRST = 0
FORMAT_ND = 2

GEAR_INPUT = "ascend_mbatch_shape_data"
"""The input by which a model with gears is told its gear; CANN fills it, callers give it memory."""

DYNAMIC_AIPP_INPUT = "ascend_dynamic_aipp_data"

DTYPES: Dict[int, DType] = {
    0: FP32, 1: FP16, 2: INT8, 3: INT32, 4: UINT8, 6: INT16, 7: UINT16, 8: UINT32, 9: INT64,
    10: UINT64, 11: FP64, 12: BOOL, 27: BF16,
}  # fmt: skip
"""By aclDataType."""

ACL_DTYPES: Dict[DType, int] = {dtype: number for number, dtype in DTYPES.items()}

ERRORS: Dict[int, str] = {
    100000: "a parameter is not valid",
    100001: "acl is not initialised",
    100003: "the file is not valid",
    100011: "no such model",
    100016: "a model attribute is not valid",
    100017: "the inputs do not match the model's",
    100018: "the outputs do not match the model's",
    107000: "a parameter of the runtime is not valid",
    107001: "there is no such device",
    107002: "this thread has no context",
    107003: "the stream is of another context",
    107017: "a handle is not valid",
    107019: "the wait timed out",
    107020: "the task timed out",
    145000: "a parameter is not valid for the model",
    145002: "the model file cannot be read",
    145003: "no such model",
    145006: "the model file is not whole",
    145011: "the gear's memory is not valid",
    145012: "the gear's memory is too small",
    145013: "the size is not one of the model's gears",
    200000: "no memory",
    200001: "not supported",
    207001: "the device has no memory left",
    207004: "there is no device",
    207018: "the device has no memory left",
    245000: "no memory for the model",
    507000: "the runtime failed",
    507010: "the device does not answer",
    507011: "the execution failed on the device",
    507014: "the device's AI core timed out",
    507015: "the device's AI core failed",
    507017: "the device's AI CPU timed out",
    507018: "the device's AI CPU failed",
    507046: "the stream timed out",
    545001: "the model cannot be loaded",
    545601: "the execution timed out",
}
