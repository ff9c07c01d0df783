"""Geographic coordinates (WGS 84) of points in a map whose axes are East, North, Up."""

import dataclasses
import math

import numpy as np
from jaxtyping import Float64

from jaxreloc.formats.rigid_arrays import inverse
from jaxreloc.usage import UsageError

EQUATORIAL_RADIUS_M = 6378137.0
FLATTENING = 1 / 298.257223563
ECCENTRICITY_SQUARED = FLATTENING * (2 - FLATTENING)
BOUNDS = (-90.0, 90.0), (-180.0, 180.0), (-1e5, 1e5)  # of an origin, in its order
LATITUDE_STEPS = 10  # each takes a factor of 300 off the error, also kilometres above the ground


@dataclasses.dataclass(frozen=True)
class GeographicOrigin:
    """A place on the earth: that of a map's (0, 0, 0), whose axes are East, North, Up there.

    The height is above the ellipsoid of WGS 84.
    """

    latitude_deg: float
    longitude_deg: float
    height_m: float

    def check(self, source: str) -> "GeographicOrigin":
        """Self; UsageError if there is no such place."""
        for (name, value), (low, high) in zip(dataclasses.asdict(self).items(), BOUNDS):
            if not low <= value <= high:
                raise UsageError(f"{source}: {name} is {value:g}; give {low:g} to {high:g}")
        return self


def earth_from_enu(place: GeographicOrigin) -> Float64[np.ndarray, "4 4"]:
    """The pose of a place's axes East, North, Up in the earth's (x at Greenwich, z at the pole)."""
    latitude, longitude = math.radians(place.latitude_deg), math.radians(place.longitude_deg)
    sin, cos = math.sin(latitude), math.cos(latitude)
    up = np.array([cos * math.cos(longitude), cos * math.sin(longitude), sin])
    east = np.array([-math.sin(longitude), math.cos(longitude), 0.0])
    radius = _normal_radius(sin)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([east, np.cross(up, east), up], axis=1)
    pose[:3, 3] = (radius + place.height_m) * up
    pose[2, 3] -= radius * ECCENTRICITY_SQUARED * sin
    return pose


def geographic(earth: Float64[np.ndarray, "3"]) -> GeographicOrigin:
    """The place of a point in the earth's axes, no more than kilometres from the ground.

    The latitude solves tan(latitude) = (z + e^2 N sin(latitude)) / rho, by iteration.
    """
    x, y, z = (float(value) for value in earth)
    rho = math.hypot(x, y)
    latitude = math.atan2(z, rho * (1 - ECCENTRICITY_SQUARED))
    for _ in range(LATITUDE_STEPS):
        sin = math.sin(latitude)
        latitude = math.atan2(z + ECCENTRICITY_SQUARED * _normal_radius(sin) * sin, rho)
    sin, cos = math.sin(latitude), math.cos(latitude)
    height = rho * cos + z * sin - EQUATORIAL_RADIUS_M**2 / _normal_radius(sin)
    return GeographicOrigin(math.degrees(latitude), math.degrees(math.atan2(y, x)), height)


def placed(
    world_from_body: Float64[np.ndarray, "4 4"], origin: GeographicOrigin
) -> tuple[GeographicOrigin, Float64[np.ndarray, "3 3"]]:
    """The place of a body in a map of this origin, and its rotation in East, North, Up there."""
    earth_from_body = earth_from_enu(origin) @ world_from_body
    place = geographic(earth_from_body[:3, 3])
    return place, (inverse(earth_from_enu(place)) @ earth_from_body)[:3, :3]


def in_map(place: GeographicOrigin, origin: GeographicOrigin) -> Float64[np.ndarray, "3"]:
    """A place in the axes of a map of this origin."""
    return (inverse(earth_from_enu(origin)) @ earth_from_enu(place))[:3, 3]


def _normal_radius(sin_latitude: float) -> float:
    """N, of the curvature along the parallel."""
    return EQUATORIAL_RADIUS_M / math.sqrt(1 - ECCENTRICITY_SQUARED * sin_latitude**2)
