"""Places on the earth, against values worked by hand and the ellipsoid's own geometry."""

import math

import numpy as np
import pytest

from jaxreloc.formats.common.geodesy import (
    GeographicOrigin,
    earth_from_enu,
    geographic,
    in_map,
    placed,
)
from jaxreloc.usage import UsageError

A, B = 6378137.0, 6356752.314245  # half axes of WGS 84, metres


def random_place(rng) -> GeographicOrigin:
    return GeographicOrigin(
        rng.uniform(-90, 90), rng.uniform(-180, 180), rng.uniform(-400, 9000)
    )


@pytest.mark.parametrize(
    ("place", "centre"),
    [
        ((0, 0, 0), (A, 0, 0)),
        ((0, 90, 100), (0, A + 100, 0)),
        ((90, 0, 0), (0, 0, B)),
        ((-90, 0, 50), (0, 0, -B - 50)),
    ],
)
def test_places_on_the_axes(place, centre):
    np.testing.assert_allclose(
        earth_from_enu(GeographicOrigin(*place))[:3, 3], centre, atol=1e-4
    )


def test_up_is_normal_to_the_ellipsoid_and_east_keeps_the_height(rng):
    place = GeographicOrigin(rng.uniform(-89, 89), rng.uniform(-180, 180), 0.0)
    pose = earth_from_enu(place)
    x, y, z = pose[:3, 3]
    assert (x * x + y * y) / A**2 + z * z / B**2 == pytest.approx(1, abs=1e-9)
    gradient = np.array([x / A**2, y / A**2, z / B**2])
    np.testing.assert_allclose(pose[:3, 2], gradient / np.linalg.norm(gradient), atol=1e-9)
    np.testing.assert_allclose(pose[:3, :3].T @ pose[:3, :3], np.eye(3), atol=1e-12)
    assert np.linalg.det(pose[:3, :3]) == pytest.approx(1)
    assert pose[2, 0] == 0 and pose[2, 1] > 0  # east is level, north leads to the pole


def test_a_place_is_found_again(rng):
    for _ in range(50):
        place = random_place(rng)
        found = geographic(earth_from_enu(place)[:3, 3])
        assert found.latitude_deg == pytest.approx(place.latitude_deg, abs=1e-11)
        assert found.height_m == pytest.approx(place.height_m, abs=1e-6)
        off = math.radians(found.longitude_deg - place.longitude_deg)
        assert abs(math.sin(off)) * math.cos(math.radians(place.latitude_deg)) < 1e-12


def test_a_step_to_the_north_changes_the_latitude_by_the_meridians_curvature(rng):
    latitude = rng.uniform(-80, 80)
    step = np.eye(4)
    step[:3, 3] = 0, 10.0, 3.0
    place, rotation = placed(step, GeographicOrigin(latitude, rng.uniform(-180, 180), 0))
    sin = math.sin(math.radians(latitude))
    e2 = 1 - (B / A) ** 2
    radius = A * (1 - e2) / (1 - e2 * sin**2) ** 1.5
    assert math.radians(place.latitude_deg - latitude) * radius == pytest.approx(10, abs=1e-4)
    assert place.height_m == pytest.approx(3, abs=1e-4)
    np.testing.assert_allclose(rotation, np.eye(3), atol=1e-5)


def test_a_place_in_a_map_is_where_it_was_placed(rng):
    origin = random_place(rng)
    point = np.eye(4)
    point[:3, 3] = 1000 * rng.normal(size=3)
    place, _ = placed(point, origin)
    np.testing.assert_allclose(in_map(place, origin), point[:3, 3], atol=1e-5)


@pytest.mark.parametrize("wrong", [(91, 0, 0), (0, 181, 0), (0, 0, math.nan), (math.inf, 0, 0)])
def test_what_is_no_place(wrong):
    with pytest.raises(UsageError, match="x: (latitude_deg|longitude_deg|height_m) is .*; give"):
        GeographicOrigin(*wrong).check("x")
