"""Which version of an engine a proof is of."""

from __future__ import annotations

import importlib.metadata

import pytest

from serving.lifecycle.proofs import engine_version


@pytest.mark.parametrize(
    ("installed", "backend", "version"),
    [
        ({"onnxruntime": "1.31.1"}, "onnxruntime", "1.31.1"),
        ({"onnxruntime-gpu": "1.31.0"}, "onnxruntime", "1.31.0"),
        ({"tensorrt": "10.14"}, "tensorrt", "10.14"),
        ({"onnxruntime": "1.31.1"}, "ascend", ""),
    ],
)
def test_version_of_an_engine_is_that_of_the_package_that_brings_it(
    monkeypatch: pytest.MonkeyPatch, installed: dict[str, str], backend: str, version: str
) -> None:
    def found(package: str) -> str:
        if package not in installed:
            raise importlib.metadata.PackageNotFoundError(package)
        return installed[package]

    monkeypatch.setattr(importlib.metadata, "version", found)
    assert engine_version(backend) == version
