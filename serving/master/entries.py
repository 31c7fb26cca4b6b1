"""What front-end processes are told of a servable: an entry of their directory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serving.gateway.words import description_to_json
from serving.lifecycle.lookup import Standing
from serving.master.routes import Door, Routes
from serving.scheduling.line import Line


def standing_of(routes: Routes, servable: str, versions: Mapping[int, Standing]) -> dict[str, Any]:
    """Return that part of an entry which changes without a route being changed."""
    return {
        "versions": {str(n): [v.state.value, v.reason] for n, v in versions.items()},
        "unservable": routes.unservable(servable),
        "available": routes.is_available(servable),
        "offered": routes.labels(servable),
        "wanted": routes.labels_wanted(servable),
    }


def doors_of(routes: Routes, servable: str) -> dict[str, Any]:
    """Return the part with the descriptions of what takes requests."""
    doors = routes.doors.get(servable, {})
    return {"doors": {str(number): _door(door) for number, door in doors.items()}}


def _door(door: Door) -> dict[str, Any]:
    if isinstance(door, Line):
        return {"model": description_to_json(door.description), "names": [], "methods": {}}
    methods = {name: description_to_json(known) for name, known in door.descriptions().items()}
    return {"model": None, "names": list(door.names), "methods": methods}
