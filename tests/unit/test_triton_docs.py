"""docs/triton-folders.md speaks of every field that a ``config.pbtxt`` may have."""

import re
from pathlib import Path

import pytest

from serving.repository.stubs import triton_model_config_pb2 as pb

GUIDE = (Path(__file__).parents[2] / "docs" / "triton-folders.md").read_text()
PROSE = re.sub(r"```.*?```", "", GUIDE, flags=re.DOTALL)
NAMED = set(re.findall(r"\w+", " ".join(re.findall(r"`([^`]+)`", PROSE))))


@pytest.mark.parametrize(
    "message",
    [pb.ModelConfig, pb.ModelInput, pb.ModelOutput, pb.ModelDynamicBatching, pb.ModelInstanceGroup],
    ids=lambda message: str(message.DESCRIPTOR.name),
)
def test_triton_guide_names_every_field(message: type[pb.ModelConfig]) -> None:
    fields = {field.name for field in message.DESCRIPTOR.fields} - {"kind"}
    assert fields - NAMED == set()
