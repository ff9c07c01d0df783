"""Rendering a mesh by ray casting: Embree finds what each pixel sees, NumPy shades it.

Colours are linear inside; a texture's display value v means the albedo (v / 255)^2, a gamma of 2.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene
from jaxtyping import Bool, Float32, Int32

from tfds_builders.synthetic_rooms.meshes import Mesh
from tfds_builders.synthetic_rooms.texture_atlas import TextureAtlas

SHADOW_BIAS = 2e-3  # metres between a surface and the start of a shadow ray
DEPTH_EDGE = 0.03  # relative step of inverse depth between neighbours that is smoothed
NORMAL_EDGE = 0.9  # cosine between neighbouring normals below which their border is smoothed
SUBPIXELS = np.array([[-0.125, -0.375], [0.375, -0.125], [0.125, 0.375], [-0.375, 0.125]])


@dataclasses.dataclass(frozen=True)
class Lamp:
    """A square area light with quadratic fall-off that shines in all directions."""

    position: Float32[np.ndarray, "3"]
    intensity: Float32[np.ndarray, "3"]  # RGB irradiance at one metre, facing it
    radius: float = 0.15  # metres; sets the width of the shadows' borders


@dataclasses.dataclass(frozen=True)
class Camera:
    """A pinhole camera: OpenCV axes, pixel (0, 0) is the centre of the top-left pixel."""

    world_from_cam: np.ndarray  # [4, 4]
    intrinsics: np.ndarray  # [3, 3]
    width: int
    height: int

    def rays(self, pixels: np.ndarray) -> Float32[np.ndarray, "n 3"]:
        """World directions through `pixels` [n, 2] (x, y), of length 1 along the optical axis."""
        backward = (self.world_from_cam[:3, :3] @ np.linalg.inv(self.intrinsics)).astype(np.float32)
        pixels = pixels.astype(np.float32)
        return pixels @ backward[:, :2].T + backward[:, 2]

    @property
    def centre(self) -> Float32[np.ndarray, "3"]:
        return self.world_from_cam[:3, 3].astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Hits:
    """Where n rays first meet the mesh."""

    triangle: Int32[np.ndarray, "n"]  # -1 where the ray leaves the scene
    distance: Float32[np.ndarray, "n"]  # in lengths of the ray's direction
    barycentric: Float32[np.ndarray, "n 2"]  # weights of the triangle's second and third corner


class RayCaster:
    """Embree's view of a mesh."""

    def __init__(self, mesh: Mesh):
        self._scene = EmbreeScene()
        self._geometry = TriangleMesh(self._scene, np.ascontiguousarray(mesh.corners, np.float32))

    def first_hits(self, origins: np.ndarray, directions: np.ndarray) -> Hits:
        """The nearest hit of each ray; `origins` is [3] or [n, 3], `directions` [n, 3]."""
        result = self._scene.run(*_contiguous(origins, directions), output=True)
        return Hits(
            result["primID"], result["tfar"], np.stack([result["u"], result["v"]], -1)
        )

    def occluded(self, origins: np.ndarray, directions: np.ndarray) -> Bool[np.ndarray, "n"]:
        """Whether anything lies between each origin and origin + direction."""
        origins, directions = _contiguous(origins, directions)
        reach = np.ones(len(directions), np.float32)
        return self._scene.run(origins, directions, dists=reach, query="OCCLUDED") != -1


def _contiguous(origins, directions) -> tuple[np.ndarray, np.ndarray]:
    directions = np.ascontiguousarray(directions, np.float32)
    origins = np.broadcast_to(np.asarray(origins, np.float32), directions.shape)
    return np.ascontiguousarray(origins), directions


class Renderer:
    """Draws one mesh from any camera."""

    def __init__(
        self,
        mesh: Mesh,
        lamps: Sequence[Lamp],
        ambient: Float32[np.ndarray, "T 3 3"],
        caster: RayCaster,
    ):
        """
        Args:
          ambient: RGB irradiance at each triangle's corners that does not come straight from a lamp.
        """
        self._caster = caster
        self._lamps = tuple(lamps)
        self._triangles = _Triangles(mesh, ambient)

    def render(
        self, camera: Camera
    ) -> tuple[Float32[np.ndarray, "h w 3"], Float32[np.ndarray, "h w"]]:
        """Linear RGB radiance, and depth in metres along the optical axis at each pixel's centre.

        Pixels on the outline of an object are averaged over four subpixels; depth is not. Depth is 0
        where nothing is seen.
        """
        shape = (camera.height, camera.width)
        y, x = np.mgrid[: camera.height, : camera.width]
        pixels = np.stack([x, y], -1).reshape(-1, 2)
        rays = camera.rays(pixels)
        hits = self._caster.first_hits(camera.centre, rays)
        seen = hits.triangle >= 0
        depth = np.where(seen, hits.distance, np.float32(0))
        outline = np.flatnonzero(self._outlines(hits, depth, shape))
        finer = (pixels[outline][:, None] + SUBPIXELS).reshape(-1, 2)
        fine_rays = camera.rays(finer)
        fine_hits = self._caster.first_hits(camera.centre, fine_rays)
        colour = self._shade(camera, np.concatenate([rays, fine_rays]), _joined(hits, fine_hits))
        image = colour[: len(pixels)]
        image[outline] = colour[len(pixels) :].reshape(-1, len(SUBPIXELS), 3).mean(1)
        return image.reshape(*shape, 3), depth.reshape(shape)

    def _outlines(self, hits: Hits, depth: np.ndarray, shape) -> Bool[np.ndarray, "h w"]:
        """Pixels whose right or lower neighbour lies on another surface, and those neighbours."""
        normals = self._triangles.normals[hits.triangle].reshape(*shape, 3)
        material = self._triangles.texture[hits.triangle].reshape(shape)
        inverse = (1 / np.maximum(depth, 1e-3)).reshape(shape)
        outline = np.zeros(shape, bool)
        for a, b in (
            (np.s_[:, :-1], np.s_[:, 1:]),
            (np.s_[:-1], np.s_[1:]),
        ):
            step = np.abs(inverse[a] - inverse[b]) > DEPTH_EDGE * inverse[a]
            bend = np.einsum("ijk,ijk->ij", normals[a], normals[b]) < NORMAL_EDGE
            different = step | bend | (material[a] != material[b])
            outline[a] |= different
            outline[b] |= different
        return outline

    def _shade(self, camera: Camera, rays: np.ndarray, hits: Hits) -> Float32[np.ndarray, "n 3"]:
        surface = self._triangles.at(hits)
        length = np.sqrt(np.einsum("ij,ij->i", rays, rays))
        towards = rays / length[:, None]
        cosine = -np.einsum("ij,ij->i", towards, surface.normals)
        normals = surface.normals * np.sign(cosine)[:, None]
        focal = np.float32(camera.intrinsics[0, 0])
        footprint = hits.distance * length / (focal * np.sqrt(np.maximum(np.abs(cosine), 0.05)))
        level = np.log2(surface.texels_per_metre * footprint + 1e-9)
        albedo = self._triangles.atlas.lookup(surface.texture, surface.uvs, level)
        albedo *= surface.tint
        points = camera.centre + rays * hits.distance[:, None]
        light = surface.ambient
        highlight = np.zeros_like(light)
        for lamp in self._lamps:
            direct, mirrored = self._lit(lamp, points, normals, towards)
            light += direct[:, None] * lamp.intensity
            highlight += (mirrored * surface.gloss)[:, None] * lamp.intensity
        return np.where((hits.triangle >= 0)[:, None], albedo * light + highlight, np.float32(0))

    def _lit(self, lamp: Lamp, points, normals, towards) -> tuple[np.ndarray, np.ndarray]:
        """Shares of the lamp's intensity that arrive as irradiance, and that mirror to the eye.

        Neighbouring points look at different points of the lamp, so that a shadow's border is soft.
        """
        start = points + normals * np.float32(SHADOW_BIAS)
        to_lamp = lamp.position + _lamp_pattern(len(points)) * np.float32(lamp.radius) - start
        squared = np.einsum("ij,ij->i", to_lamp, to_lamp)
        direction = to_lamp / np.sqrt(squared)[:, None]
        incidence = np.maximum(np.einsum("ij,ij->i", normals, direction), 0)
        facing = np.flatnonzero(incidence > 0)
        visible = np.zeros(len(points), np.float32)
        visible[facing] = ~self._caster.occluded(start[facing], to_lamp[facing])
        half = direction - towards
        half /= np.sqrt(np.einsum("ij,ij->i", half, half))[:, None] + 1e-6
        lobe = np.maximum(np.einsum("ij,ij->i", half, normals), 0) ** 32
        arriving = visible * incidence / (squared + 0.1)
        return arriving, lobe * arriving


def _lamp_pattern(count: int) -> Float32[np.ndarray, "n 3"]:
    angle = np.arange(count, dtype=np.float32) * 2.399963
    radius = np.sqrt((np.arange(count) % 7 + 0.5) / 7)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), 0 * angle], -1)


def _joined(a: Hits, b: Hits) -> Hits:
    return Hits(
        *(
            np.concatenate([getattr(a, field.name), getattr(b, field.name)])
            for field in dataclasses.fields(Hits)
        )
    )


@dataclasses.dataclass(frozen=True)
class _Surface:
    """What shading needs to know of n points on the mesh."""

    normals: Float32[np.ndarray, "n 3"]
    uvs: Float32[np.ndarray, "n 2"]
    ambient: Float32[np.ndarray, "n 3"]
    tint: Float32[np.ndarray, "n 3"]
    texture: Int32[np.ndarray, "n"]
    texels_per_metre: Float32[np.ndarray, "n"]
    gloss: Float32[np.ndarray, "n"]


class _Triangles:
    """The mesh's shading data as flat arrays, one row a triangle."""

    def __init__(self, mesh: Mesh, ambient: Float32[np.ndarray, "T 3 3"]):
        materials = mesh.materials
        self.atlas = TextureAtlas([m.texture for m in materials])
        ids = mesh.material_ids
        self.texture = ids.astype(np.int32)
        edges = mesh.corners[:, 1:] - mesh.corners[:, :1]
        cross = np.cross(edges[:, 0], edges[:, 1])
        area = np.linalg.norm(cross, axis=1)
        self.normals = (cross / np.maximum(area, 1e-12)[:, None]).astype(np.float32)
        uv_edges = mesh.uvs[:, 1:] - mesh.uvs[:, :1]
        uv_area = np.abs(np.linalg.det(uv_edges))
        density = np.sqrt(uv_area / np.maximum(area, 1e-12)) * self.atlas.sizes[ids]
        tint = np.array([m.tint for m in materials], np.float32)[ids]
        gloss = np.array([m.gloss for m in materials], np.float32)[ids]
        emission = np.array([m.emission for m in materials], np.float32)[ids]
        glowing = ambient + emission[:, None, None]
        self._rows = np.concatenate(
            [
                self.normals,
                tint,
                gloss[:, None],
                density[:, None],
                _as_planes(mesh.uvs),
                _as_planes(glowing),
            ],
            axis=1,
        ).astype(np.float32)

    def at(self, hits: Hits) -> _Surface:
        rows = np.take(self._rows, hits.triangle, axis=0)
        u, v = hits.barycentric[:, :1], hits.barycentric[:, 1:]
        return _Surface(
            normals=rows[:, :3],
            tint=rows[:, 3:6],
            gloss=rows[:, 6],
            texels_per_metre=rows[:, 7],
            uvs=rows[:, 8:10] + u * rows[:, 10:12] + v * rows[:, 12:14],
            ambient=rows[:, 14:17] + u * rows[:, 17:20] + v * rows[:, 20:23],
            texture=self.texture[hits.triangle],
        )


def _as_planes(values: np.ndarray) -> np.ndarray:
    """Corner values [T, 3, k] as rows of value at the first corner and steps to the others."""
    base = values[:, :1]
    return np.concatenate([base, values[:, 1:] - base], 1).reshape(len(values), -1)
