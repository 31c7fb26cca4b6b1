"""All whole networks."""

from __future__ import annotations

import structure_networks
import text_networks
import vision_networks

NETWORKS = [
    *vision_networks.NETWORKS,
    *text_networks.NETWORKS,
    *structure_networks.NETWORKS,
]
