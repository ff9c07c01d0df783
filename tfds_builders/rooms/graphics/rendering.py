"""Pictures of a lit mesh: Embree finds what each pixel sees, NumPy shades it.

Colours are linear inside; a texture's display value v means the albedo (v / 255)^2, a gamma of 2.
"""

import dataclasses

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Float64, Int32

from tfds_builders.rooms.graphics.illumination import Illumination
from tfds_builders.rooms.graphics.meshes import Mesh
from tfds_builders.rooms.graphics.ray_casting import Hits, RayCaster
from tfds_builders.rooms.graphics.texture_atlas import TextureAtlas

DEPTH_EDGE = 0.03  # relative step of inverse depth between neighbours that is smoothed
NORMAL_EDGE = 0.9  # cosine between neighbouring normals below which their border is smoothed
SUBPIXELS = np.array(
    [[0.3, -0.2], [-0.2, 0.3]]
)  # looked at beside the middle of an outline's pixel
SHARPNESS = 32  # exponent of the highlights


@dataclasses.dataclass(frozen=True)
class Camera:
    """A pinhole camera: OpenCV axes, pixel (0, 0) is the centre of the top-left pixel."""

    world_from_cam: Float64[np.ndarray, "4 4"]
    intrinsics: Float64[np.ndarray, "3 3"]
    width: int
    height: int

    def rays(self, pixels: Float32[np.ndarray, "n 2"]) -> Float32[np.ndarray, "n 3"]:
        """World directions through `pixels` (x, y), of length 1 along the optical axis."""
        backward = (self.world_from_cam[:3, :3] @ np.linalg.inv(self.intrinsics)).astype(np.float32)
        return pixels.astype(np.float32) @ backward[:, :2].T + backward[:, 2]

    def scaled(self, factor: float) -> "Camera":
        """The same view with its pixels `factor` times as many across and down, rounded."""
        width, height = round(self.width * factor), round(self.height * factor)
        stretch = np.diag([width / self.width, height / self.height, 1.0])
        middle = np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])  # of the top-left pixel
        intrinsics = stretch @ (self.intrinsics + middle) - middle
        return dataclasses.replace(self, intrinsics=intrinsics, width=width, height=height)

    @property
    def centre(self) -> Float32[np.ndarray, "3"]:
        return self.world_from_cam[:3, 3].astype(np.float32)


class Renderer:
    """Draws one lit mesh from any camera."""

    def __init__(self, mesh: Mesh, caster: RayCaster, atlas: TextureAtlas, light: Illumination):
        self._caster = caster
        self._atlas = atlas
        self._light = light
        self._triangles = _Triangles(mesh, atlas)
        self.dim(np.ones(len(light.lamps), np.float32))

    def dim(self, dimming: Float32[np.ndarray, "lamps"]) -> None:
        """Multiplies the lamps' intensities, for the pictures that follow."""
        self._lamps = [
            (lamp.position, lamp.intensity * factor)
            for lamp, factor in zip(self._light.lamps, dimming)
        ]
        self._triangles.set_irradiance(self._light.irradiance(dimming))

    def render(
        self, camera: Camera
    ) -> tuple[Float32[np.ndarray, "h w 3"], Float32[np.ndarray, "h w"]]:
        """Linear RGB radiance, and depth in metres along the optical axis at each pixel's centre.

        Pixels on the outline of an object are averaged with their subpixels; depth is not. Depth is
        0 where nothing is seen.
        """
        shape = (camera.height, camera.width)
        y, x = np.mgrid[: camera.height, : camera.width].astype(np.float32)
        pixels = np.stack([x.reshape(-1), y.reshape(-1)], -1)
        rays = camera.rays(pixels)
        hits = self._caster.first_hits(camera.centre, rays)
        depth = np.where(hits.triangle >= 0, hits.distance, np.float32(0)).reshape(shape)
        outline = np.flatnonzero(self._outlines(hits, depth))
        finer = (pixels[outline] + SUBPIXELS[:, None]).reshape(-1, 2)
        fine_rays = camera.rays(finer)
        fine_hits = self._caster.first_hits(camera.centre, fine_rays)
        colour = self._shade(camera, np.concatenate([rays, fine_rays]), _joined(hits, fine_hits))
        planes, fine = colour[:, : len(pixels)], colour[:, len(pixels) :]
        samples = (planes[:, outline], *np.split(fine, len(SUBPIXELS), axis=1))
        planes[:, outline] = sum(samples) / np.float32(len(samples))
        return cv2.merge([plane.reshape(shape) for plane in planes]), depth

    def _outlines(self, hits: Hits, depth: np.ndarray) -> Bool[np.ndarray, "h w"]:
        """Pixels whose neighbour lies on another surface, on either side of the border."""
        normals = np.take(self._triangles.normals, hits.triangle, axis=1).reshape(3, *depth.shape)
        material = np.take(self._triangles.materials, hits.triangle).reshape(depth.shape)
        inverse = 1 / np.maximum(depth, np.float32(1e-3))
        outline = np.zeros(depth.shape, bool)
        for a, b in ((np.s_[..., :-1], np.s_[..., 1:]), (np.s_[..., :-1, :], np.s_[..., 1:, :])):
            step = np.abs(inverse[a] - inverse[b]) > DEPTH_EDGE * inverse[a]
            bend = _dot(normals[a], normals[b]) < NORMAL_EDGE
            different = step | bend | (material[a] != material[b])
            outline[a] |= different
            outline[b] |= different
        return outline

    def _shade(self, camera: Camera, rays: np.ndarray, hits: Hits) -> Float32[np.ndarray, "3 n"]:
        surface = self._triangles.at(hits)
        rays = np.ascontiguousarray(rays.T)
        length = np.sqrt(_dot(rays, rays))
        cosine = np.abs(_dot(rays, surface.normals)) / length
        focal = np.float32(camera.intrinsics[0, 0])
        footprint = hits.distance * length / (focal * np.sqrt(np.maximum(cosine, 0.05)))
        level = np.log2(surface.texels_per_metre * footprint + np.float32(1e-9))
        colour = self._atlas.lookup(surface.materials, surface.uvs, level)
        colour *= surface.tinted_light
        glossy = np.flatnonzero(surface.gloss > 0)
        towards = rays[:, glossy] / length[glossy]
        points = camera.centre[:, None] + rays[:, glossy] * hits.distance[glossy]
        normals, gloss = surface.normals[:, glossy], surface.gloss[glossy]
        colour[:, glossy] += self._highlights(points, normals, towards, gloss)
        colour[:, hits.triangle < 0] = 0
        return colour

    def _highlights(self, points, normals, towards, gloss) -> Float32[np.ndarray, "3 n"]:
        """Blinn's highlights of the lamps; `towards` points from the eye to the points."""
        total = np.zeros_like(points)
        side = -np.sign(_dot(towards, normals))
        for position, intensity in self._lamps:
            to_lamp = position[:, None] - points
            squared = _dot(to_lamp, to_lamp)
            half = to_lamp / np.sqrt(squared) - towards
            half /= np.sqrt(_dot(half, half)) + np.float32(1e-6)
            lobe = np.maximum(side * _dot(half, normals), 0) ** SHARPNESS
            total += intensity[:, None] * (gloss * lobe / squared)
        return total


def _dot(a: Float32[np.ndarray, "3 *n"], b: Float32[np.ndarray, "3 *n"]) -> np.ndarray:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _joined(a: Hits, b: Hits) -> Hits:
    fields = [field.name for field in dataclasses.fields(Hits)]
    return Hits(*(np.concatenate([getattr(a, name), getattr(b, name)]) for name in fields))


@dataclasses.dataclass(frozen=True)
class _Surface:
    """What shading needs to know of n points on the mesh."""

    normals: Float32[np.ndarray, "3 n"]  # of the triangles, on an arbitrary side
    uvs: Float32[np.ndarray, "2 n"]
    tinted_light: Float32[np.ndarray, "3 n"]
    materials: Int32[np.ndarray, "n"]
    texels_per_metre: Float32[np.ndarray, "n"]
    gloss: Float32[np.ndarray, "n"]


class _Triangles:
    """The mesh's shading data, one plane a quantity, since NumPy is fast along long axes only."""

    def __init__(self, mesh: Mesh, atlas: TextureAtlas):
        self.materials = mesh.material_ids
        corners, uvs = mesh.vertices[mesh.faces], mesh.uvs[mesh.faces]
        cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        area = np.maximum(np.linalg.norm(cross, axis=1), 1e-12)
        self.normals = np.ascontiguousarray((cross / area[:, None]).T, np.float32)
        uv_area = np.abs(np.linalg.det(uvs[:, 1:] - uvs[:, :1]))
        density = np.sqrt(uv_area / area) * atlas.sizes[mesh.material_ids]
        self._density = density.astype(np.float32)
        looks = np.array([(*m.tint, m.emission, m.gloss) for m in mesh.materials], np.float32)
        *tint, self._emission, self._gloss = np.take(looks.T, mesh.material_ids, axis=1)
        self._tint = np.stack(tint)
        self._corners = np.ascontiguousarray(mesh.faces.T)
        self._uvs = self._planes(mesh.uvs)
        self._light = np.zeros((9, len(mesh)), np.float32)

    def set_irradiance(self, irradiance: Float32[np.ndarray, "V 3"]) -> None:
        """Sets the light at the vertices; tint and glow are multiplied and added here."""
        base, *steps = np.split(self._planes(irradiance), 3)
        base += self._emission
        self._light = np.concatenate([self._tint * part for part in (base, *steps)])

    def _planes(self, values: Float32[np.ndarray, "V k"]) -> Float32[np.ndarray, "3k T"]:
        """Vertex values as planes: k at each triangle's first corner, k steps to each other."""
        values = np.ascontiguousarray(values.T)
        base, *others = (np.take(values, corner, axis=1) for corner in self._corners)
        return np.concatenate([base, *(other - base for other in others)])

    def at(self, hits: Hits) -> _Surface:
        index = hits.triangle
        return _Surface(
            normals=np.take(self.normals, index, axis=1),
            uvs=_interpolated(self._uvs, hits),
            tinted_light=_interpolated(self._light, hits),
            materials=np.take(self.materials, index),
            texels_per_metre=np.take(self._density, index),
            gloss=np.take(self._gloss, index),
        )


def _interpolated(planes: np.ndarray, hits: Hits) -> Float32[np.ndarray, "k n"]:
    base, along_u, along_v = np.split(np.take(planes, hits.triangle, axis=1), 3)
    along_u *= hits.u
    along_v *= hits.v
    base += along_u
    base += along_v
    return base
