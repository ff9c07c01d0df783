"""Pictures of a lit mesh: Embree finds what each pixel sees, NumPy shades it.

Colours are linear inside; a texture's display value v means the albedo (v / 255)^2, a gamma of 2.
"""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int32

from tfds_builders.synthetic_rooms.illumination import Illumination
from tfds_builders.synthetic_rooms.meshes import Mesh
from tfds_builders.synthetic_rooms.ray_casting import Hits, RayCaster
from tfds_builders.synthetic_rooms.texture_atlas import TextureAtlas

DEPTH_EDGE = 0.03  # relative step of inverse depth between neighbours that is smoothed
NORMAL_EDGE = 0.9  # cosine between neighbouring normals below which their border is smoothed
SUBPIXELS = np.array([[-0.125, -0.375], [0.375, -0.125], [0.125, 0.375], [-0.375, 0.125]])
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

        Pixels on the outline of an object are averaged over four subpixels; depth is not. Depth is 0
        where nothing is seen.
        """
        shape = (camera.height, camera.width)
        y, x = np.mgrid[: camera.height, : camera.width].astype(np.float32)
        pixels = np.stack([x.reshape(-1), y.reshape(-1)], -1)
        rays = camera.rays(pixels)
        hits = self._caster.first_hits(camera.centre, rays)
        depth = np.where(hits.triangle >= 0, hits.distance, np.float32(0))
        outline = np.flatnonzero(self._outlines(hits, depth, shape))
        finer = (pixels[outline][:, None] + SUBPIXELS).reshape(-1, 2)
        fine_rays = camera.rays(finer)
        fine_hits = self._caster.first_hits(camera.centre, fine_rays)
        colour = self._shade(camera, np.concatenate([rays, fine_rays]), _joined(hits, fine_hits))
        image = colour[: len(pixels)]
        image[outline] = colour[len(pixels) :].reshape(-1, len(SUBPIXELS), 3).mean(1)
        return image.reshape(*shape, 3), depth.reshape(shape)

    def _outlines(self, hits: Hits, depth: np.ndarray, shape) -> Bool[np.ndarray, "h w"]:
        """Pixels whose neighbour lies on another surface, on either side of the border."""
        normals = self._triangles.normals[hits.triangle].reshape(*shape, 3)
        material = self._triangles.materials[hits.triangle].reshape(shape)
        inverse = (1 / np.maximum(depth, 1e-3)).reshape(shape)
        outline = np.zeros(shape, bool)
        for a, b in ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:])):
            step = np.abs(inverse[a] - inverse[b]) > DEPTH_EDGE * inverse[a]
            bend = np.einsum("ijk,ijk->ij", normals[a], normals[b]) < NORMAL_EDGE
            different = step | bend | (material[a] != material[b])
            outline[a] |= different
            outline[b] |= different
        return outline

    def _shade(self, camera: Camera, rays: np.ndarray, hits: Hits) -> Float32[np.ndarray, "n 3"]:
        surface = self._triangles.at(hits)
        length = np.sqrt(np.einsum("ij,ij->i", rays, rays))
        cosine = np.abs(np.einsum("ij,ij->i", rays, surface.normals)) / length
        focal = np.float32(camera.intrinsics[0, 0])
        footprint = hits.distance * length / (focal * np.sqrt(np.maximum(cosine, 0.05)))
        level = np.log2(surface.texels_per_metre * footprint + 1e-9)
        colour = self._atlas.lookup(surface.materials, surface.uvs, level)
        colour *= surface.tinted_light
        glossy = np.flatnonzero(surface.gloss > 0)
        if len(glossy):
            towards = rays[glossy] / length[glossy, None]
            points = camera.centre + rays[glossy] * hits.distance[glossy, None]
            colour[glossy] += self._highlights(
                points, surface.normals[glossy], towards, surface.gloss[glossy]
            )
        colour[hits.triangle < 0] = 0
        return colour

    def _highlights(self, points, normals, towards, gloss) -> Float32[np.ndarray, "n 3"]:
        """Blinn's highlights of the lamps; `towards` points from the eye to the points."""
        total = np.zeros_like(points)
        side = -np.sign(np.einsum("ij,ij->i", towards, normals))
        for position, intensity in self._lamps:
            to_lamp = position - points
            squared = np.einsum("ij,ij->i", to_lamp, to_lamp)
            half = to_lamp / np.sqrt(squared)[:, None] - towards
            half /= np.sqrt(np.einsum("ij,ij->i", half, half))[:, None] + np.float32(1e-6)
            lobe = np.maximum(side * np.einsum("ij,ij->i", half, normals), 0) ** SHARPNESS
            total += (gloss * lobe / squared)[:, None] * intensity
        return total


def _joined(a: Hits, b: Hits) -> Hits:
    fields = [field.name for field in dataclasses.fields(Hits)]
    return Hits(*(np.concatenate([getattr(a, name), getattr(b, name)]) for name in fields))


@dataclasses.dataclass(frozen=True)
class _Surface:
    """What shading needs to know of n points on the mesh."""

    normals: Float32[np.ndarray, "n 3"]  # of the triangles, on an arbitrary side
    uvs: Float32[np.ndarray, "n 2"]
    tinted_light: Float32[np.ndarray, "n 3"]
    materials: Int32[np.ndarray, "n"]
    texels_per_metre: Float32[np.ndarray, "n"]
    gloss: Float32[np.ndarray, "n"]


class _Triangles:
    """The mesh's shading data, one row a triangle, so that a hit costs one gather."""

    _LIGHT = slice(11, 20)

    def __init__(self, mesh: Mesh, atlas: TextureAtlas):
        self._mesh = mesh
        self.materials = mesh.material_ids
        corners, uvs = mesh.vertices[mesh.faces], mesh.uvs[mesh.faces]
        cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        area = np.maximum(np.linalg.norm(cross, axis=1), 1e-12)
        self.normals = (cross / area[:, None]).astype(np.float32)
        uv_area = np.abs(np.linalg.det(uvs[:, 1:] - uvs[:, :1]))
        density = np.sqrt(uv_area / area) * atlas.sizes[mesh.material_ids]
        gloss = np.array([m.gloss for m in mesh.materials], np.float32)[mesh.material_ids]
        self._rows = np.empty((len(mesh), self._LIGHT.stop), np.float32)
        self._rows[:, 0:3] = self.normals
        self._rows[:, 3] = density
        self._rows[:, 4] = gloss
        self._rows[:, 5:11] = _planes(uvs)

    def set_irradiance(self, irradiance: Float32[np.ndarray, "V 3"]) -> None:
        """Sets the light at the vertices; tint and glow are multiplied and added here."""
        ids = self._mesh.material_ids
        tint = np.array([m.tint for m in self._mesh.materials], np.float32)[ids, None]
        emission = np.array([m.emission for m in self._mesh.materials], np.float32)[ids]
        light = irradiance[self._mesh.faces] + emission[:, None, None]
        self._rows[:, self._LIGHT] = _planes(light * tint)

    def at(self, hits: Hits) -> _Surface:
        rows = np.take(self._rows, hits.triangle, axis=0)
        u, v = hits.u[:, None], hits.v[:, None]
        return _Surface(
            normals=rows[:, :3],
            texels_per_metre=rows[:, 3],
            gloss=rows[:, 4],
            uvs=rows[:, 5:7] + u * rows[:, 7:9] + v * rows[:, 9:11],
            tinted_light=rows[:, 11:14] + u * rows[:, 14:17] + v * rows[:, 17:20],
            materials=np.take(self.materials, hits.triangle),
        )


def _planes(values: np.ndarray) -> np.ndarray:
    """Corner values [T, 3, k] as rows of the value at the first corner and the steps to the others."""
    base = values[:, :1]
    return np.concatenate([base, values[:, 1:] - base], 1).reshape(len(values), -1)
