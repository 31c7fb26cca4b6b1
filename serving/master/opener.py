"""Opens the waiting rooms of a version that is loaded, and closes them after their last request."""

from __future__ import annotations

import functools
from typing import Any

from serving.channel.arena import Arena
from serving.definition import Definition
from serving.errors import InternalError
from serving.lifecycle.lookup import usual_method
from serving.lifecycle.member import Member
from serving.lifecycle.version import Version
from serving.master.routes import Door
from serving.repository.declared_model import declared_axes, instance_signature
from serving.repository.names import STAGES_FILE
from serving.repository.settings import ServableSettings
from serving.repository.triton_effective import config_json, effective_config
from serving.request import Description
from serving.scheduling.crowd import Crowd
from serving.scheduling.line import Line, LineSettings
from serving.scheduling.pipeline.pipeline import Pipeline
from serving.scheduling.pipeline.port import Port
from serving.scheduling.pipeline.signature import PortKey, axes_of
from serving.scheduling.scheduler import Scheduler
from serving.scheduling.stages.scheduler import StageScheduler
from serving.scheduling.suspicion import RunTerms
from serving.tensor import BatchAxes, Signature

_PLATFORMS = {
    ("onnx", "onnxruntime"): "onnxruntime_onnx",
    ("mindir", "onnxruntime"): "mindspore_mindir",
    ("mindir-encrypted", "onnxruntime"): "mindspore_mindir",
}
_PIPELINE = "mindspore_serving"
"""The platform of what a ``servable_config.py`` makes."""


class Opener:
    """Knows what a version's rooms are made of. Used by the data plane, event loop only."""

    def __init__(
        self,
        scheduler: Scheduler,
        stages: StageScheduler,
        arena: Arena,
        crowd: Crowd,
        run_timeout_s: float,
    ) -> None:
        self._scheduler = scheduler
        self._stages = stages
        self._arena = arena
        self._crowd = crowd
        self._run_timeout_s = run_timeout_s

    def line(self, version: Version) -> Line:
        """Open the line of a version that is one model."""
        (member,) = version.members
        return self._line(version, member, version.servable)

    def pipeline(self, version: Version, definition: Definition) -> Pipeline:
        """Open the lines of a version's models, and the way to its methods.

        The rooms of its functions are open already: their workers are up.
        """
        lines = [self._line(version, m, f"{version.servable}:{m.file}") for m in version.members]
        ports: dict[PortKey, Port] = {}
        for member, line in zip(version.members, lines, strict=True):
            assert member.declared is not None
            ports[member.declared.key, member.subgraph] = _port(member, line)
        base = Description(
            servable=version.servable,
            version=version.number,
            signature=Signature((), ()),
            batch=BatchAxes.refused("several methods"),
            max_batch_size=version.settings.max_batch_size,
            platform=_PIPELINE,
            generation=version.generation,
        )
        return Pipeline(
            base,
            definition,
            ports,
            self._scheduler,
            self._stages,
            most=version.settings.max_queue_size,
            hidden=version.settings.methods.hidden,
            crowd=self._crowd,
            details=functools.partial(_method_details, version, definition),
        )

    async def close(self, door: Door, deadline_s: float) -> None:
        """Close a version's rooms once every request is answered; what is late fails."""
        if isinstance(door, Pipeline):
            await door.drain(deadline_s)
            for port in door.ports.values():
                await self._scheduler.remove_line(port.line, 0.0)
        else:
            await self._scheduler.remove_line(door, deadline_s)

    def _line(self, version: Version, member: Member, name: str) -> Line:
        artifact = member.artifact
        if artifact is None or artifact.signature is None:
            raise InternalError("a version became ready without a signature")
        settings = version.settings
        platform = _PLATFORMS.get((artifact.format.value, artifact.backend), artifact.backend)
        description = Description(
            servable=name,
            version=version.number,
            signature=artifact.signature,
            batch=member.batch,
            max_batch_size=settings.max_batch_size if member.batch.batched else 0,
            platform=platform,
            details=_model_details(version, member, platform),
            generation=version.generation,
            class_labels=dict(version.class_labels),
        )
        line = Line(
            member.model,
            description,
            _line_settings(settings),
            artifact.static_outputs,
            self._arena,
            self._crowd,
            artifact.exported_rows if member.batch.exact else 1,
        )
        self._scheduler.add_line(line, self._terms(settings))
        return line

    def _terms(self, settings: ServableSettings) -> RunTerms:
        own_s = settings.run_timeout_s
        return RunTerms(self._run_timeout_s if own_s is None else own_s, settings.idempotent)


def _line_settings(settings: ServableSettings) -> LineSettings:
    delay_ms = settings.max_queue_delay_ms
    return LineSettings(
        max_batch_size=settings.max_batch_size,
        max_queue_delay_s=None if delay_ms is None else delay_ms / 1e3,
        max_queue_size=settings.max_queue_size,
        max_queue_bytes=settings.max_queue_mb << 20,
    )


def _port(member: Member, line: Line) -> Port:
    """Return a model as methods see it: by what is declared, whatever the proof left of that."""
    declared, artifact = member.declared, member.artifact
    assert declared is not None
    assert artifact is not None
    signature = instance_signature(declared, artifact)
    assert signature is not None
    axes = declared_axes(declared, signature)
    if axes.batched:
        return Port(line, signature, axes.inputs, axes.outputs)
    whole = (None,) * len(signature.inputs), (None,) * len(signature.outputs)
    return Port(line, signature, *whole)


def _model_details(version: Version, member: Member, platform: str) -> dict[str, Any]:
    """Return what front ends show of a model."""
    artifact = member.artifact
    assert artifact is not None
    assert artifact.signature is not None
    config = effective_config(
        version.servable, platform, artifact.backend, member.path.name, version.settings,
        artifact.signature, member.batch, version.triton,
    )  # fmt: skip
    details = {
        "format": artifact.format.value,
        "backend": artifact.backend,
        "config": config_json(config),
    }
    if version.example is not None and member.declared is None:
        details["example"] = version.example.to_json()
    return details


def _method_details(
    version: Version, definition: Definition, method: str, signature: Signature
) -> dict[str, Any]:
    """Return what front ends show of a method; a request that lies beside it is for one of them."""
    config = effective_config(
        version.servable, _PIPELINE, "python", STAGES_FILE, version.settings, signature,
        axes_of(signature), None,
    )  # fmt: skip
    details = {"format": STAGES_FILE, "backend": "python", "config": config_json(config)}
    example = version.example
    if example is not None:
        usual = usual_method([each.name for each in definition.methods])
        if example.request.get("method", usual) == method:
            details["example"] = example.to_json()
    return details
