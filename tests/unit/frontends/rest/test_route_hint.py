"""Which route is named to those whose path is none."""

from __future__ import annotations

import pytest

from serving.frontends.rest.route_hint import hint

ROUTES = (
    "/", "/predict", "/docs", "/errors", "/metrics", "/v1/models", "/v1/models/{name}",
    "/v1/models/{name}:predict", "/model/{name}:{method}", "/v2", "/v2/health/live",
    "/v2/health/ready", "/v2/models/stats", "/v2/models/{name}", "/v2/models/{name}/infer",
    "/v2/models/{name}/versions/{version}/infer", "/v2/repository/index",
)  # fmt: skip


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/v2/models/dyn/", "/v2/models/dyn"),
        ("/v2/models/stats/", "/v2/models/stats"),
        ("/v2/models//dyn/infer", "/v2/models/dyn/infer"),
        ("/V2/models/Dyn", "/v2/models/Dyn"),
        ("/V2/Models/Dyn/Versions/1/INFER", "/v2/models/Dyn/versions/1/infer"),
        ("/V1/models/dyn:Predict", "/v1/models/dyn:predict"),
        ("/v2/models/a:b/", "/v2/models/a:b"),
        ("/predict/", "/predict"),
        ("/Predict", "/predict"),
        ("/predct", "/predict"),
        ("/v2/model/dyn", "/v2/models/dyn"),
        ("/v2/helth/live", "/v2/health/live"),
        ("/v1/models/dyn/predict", "/v1/models/dyn:predict"),
        ("/model/dyn/predict", "/model/dyn:predict"),
        ("/v2/health", "/v2/health/live"),
        ("/healthz", "/v2/health/ready"),
        ("/Health/", "/v2/health/ready"),
        ("/ping", "/v2/health/live"),
    ],
)
def test_a_near_path_is_told_the_route(path: str, meant: str) -> None:
    assert hint(path, ROUTES) == f"did you mean {meant!r}?"


def test_a_probe_gets_no_hint_to_a_route_that_is_not_there() -> None:
    assert hint("/livez", ["/predict"]) == ""


@pytest.mark.parametrize("path", ["/", "//", "/nothing/like/it", "/xyz", "/" + "a/" * 400, ""])
def test_a_path_like_no_route_gets_no_hint(path: str) -> None:
    assert hint(path, [route for route in ROUTES if route != "/"]) == ""
