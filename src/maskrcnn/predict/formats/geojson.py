"""`Instances` -> GeoJSON: outlines along pixel edges, in the coordinates of the map where the image lies on one.

The standard knows longitude and latitude alone; other systems are named in its older member `crs`, which GIS programs
obey. Without a map, coordinates are pixels, y downwards.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from maskrcnn.instances import Instances
from maskrcnn.ops.rle import rle_to_polygons
from maskrcnn.predict.whole import write_whole

LONGITUDE_LATITUDE = "EPSG:4326"


def to_geojson(instances: Instances) -> dict[str, Any]:
    """A FeatureCollection; an instance is a (Multi)Polygon with holes, or its box where there are no masks."""
    place = instances.place
    to_map = place.to_map if place and place.to_map else (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    features = [
        {
            "type": "Feature",
            "id": index,
            "geometry": _geometry(_rings(instances, index), to_map),
            "properties": {
                "class": instances.names[index],
                "score": round(float(instances.scores[index]), 6),
                "box": [round(v, 3) for v in instances.boxes[index].astype(float).tolist()],
                **({"track": int(instances.tracks.ids[index])} if instances.tracks else {}),
            },
        }
        for index in range(len(instances))
    ]
    content: dict[str, Any] = {"type": "FeatureCollection", "features": features}
    if place and place.to_map and place.crs and place.crs != LONGITUDE_LATITUDE:
        authority, _, code = place.crs.partition(":")
        content["crs"] = {"type": "name", "properties": {"name": f"urn:ogc:def:crs:{authority}::{code}"}}
    return content


def write(instances: Instances, path: Path) -> Path:
    """`to_geojson` as a file."""
    return write_whole(path, lambda file: file.write(json.dumps(to_geojson(instances)).encode()))


def _rings(instances: Instances, index: int) -> list[np.ndarray]:
    if instances.has_masks:
        return rle_to_polygons(instances.rle[index])
    x0, y0, x1, y1 = instances.boxes[index].tolist()
    return [np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])]


def _geometry(rings: list[np.ndarray], to_map: tuple[float, ...]) -> dict[str, Any] | None:
    """None for an empty mask, as the standard allows. Outer rings run against the clock on the map, holes with it."""
    a, b, c, d, e, f = to_map
    outlines = [ring for ring in rings if _twice_area(ring) > 0]
    polygons = [[outline, *[hole for hole in rings if _twice_area(hole) < 0 and _owner(hole, outlines) == number]]
                for number, outline in enumerate(outlines)]  # fmt: skip

    def mapped(ring: np.ndarray, hole: bool) -> list[list[float]]:
        points = ring.astype(np.float64) @ np.array([[a, d], [b, e]]) + np.array([c, f])
        if (_twice_area(points) > 0) == hole:
            points = points[::-1]
        return [*points.tolist(), points[0].tolist()]

    coordinates = [[mapped(ring, bool(place)) for place, ring in enumerate(polygon)] for polygon in polygons]
    if not coordinates:
        return None
    if len(coordinates) == 1:
        return {"type": "Polygon", "coordinates": coordinates[0]}
    return {"type": "MultiPolygon", "coordinates": coordinates}


def _owner(hole: np.ndarray, outlines: list[np.ndarray]) -> int:
    """The smallest outline around a point just inside the hole's upper left corner."""
    corner = hole[np.lexsort((hole[:, 0], hole[:, 1]))[0]].astype(np.float64)
    around = [(_twice_area(ring), number) for number, ring in enumerate(outlines) if _inside(corner + 0.5, ring)]
    return min(around)[1]


def _inside(point: np.ndarray, ring: np.ndarray) -> bool:
    """Whether an odd number of edges lies to the right."""
    (x, y), ends = point, np.roll(ring, -1, axis=0).astype(np.float64)
    starts = ring.astype(np.float64)
    crossing = (starts[:, 1] > y) != (ends[:, 1] > y)
    way = ends[crossing] - starts[crossing]
    right = starts[crossing, 0] + (y - starts[crossing, 1]) / way[:, 1] * way[:, 0] > x
    return bool(right.sum() % 2)


def _twice_area(ring: np.ndarray) -> float:
    x, y = ring.astype(np.float64).T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1))
