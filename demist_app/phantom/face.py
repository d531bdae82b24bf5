"""Everything of the head that is not brain, carved from signed distances in template space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from demist_app.phantom.fields import Array, Field, gaussian_noise, upsample
from demist_app.phantom.labels import Label

Point = Sequence[float]
_NOISE_ORIGIN = (-140.0, -190.0, -220.0)


@dataclass(frozen=True)
class Soft:
    """A participant's tissues around the brain: thicknesses in millimetres, and a seed."""

    csf: float
    skull: float
    scalp_fat: float
    neck_fat: float
    skin: float
    seed: int


def sample_soft(rng: np.random.Generator) -> Soft:
    """Draw thin and thick skulls, lean and well-covered scalps, much and little outer CSF."""
    return Soft(
        csf=float(rng.gamma(3.0, 0.55)),
        skull=float(np.clip(rng.normal(6.3, 1.2), 3.5, 10)),
        scalp_fat=float(np.clip(rng.lognormal(np.log(4.0), 0.4), 1.5, 11)),
        neck_fat=float(np.clip(rng.lognormal(np.log(6.0), 0.5), 2.0, 18)),
        skin=float(rng.uniform(1.6, 2.8)),
        seed=int(rng.integers(2**31)),
    )


class Sculptor:
    """Paints labels where a signed distance, evaluated on a coarse lattice, is negative.

    Parameters
    ----------
    coarse
        Template millimetres on a lattice that spans the grid corner to corner, (3, x, y, z).
    shape
        The grid to paint on.
    rng
        Source of the participant's shapes and textures.
    """

    def __init__(self, coarse: Array, shape: tuple[int, int, int], rng: np.random.Generator):
        self.xyz = coarse
        self.shape = shape
        self.rng = rng
        self.labels: NDArray[np.uint8] = np.zeros(shape, np.uint8)
        self._step = [(n - 1) / (c - 1) for n, c in zip(shape, coarse.shape[1:], strict=True)]

    def noise(self, correlation: float) -> Array:
        """Unit Gaussian noise in template space on the lattice."""
        spacing = max(correlation / 3.0, 2.5)
        size = tuple(int(length / spacing) + 2 for length in (280, 340, 350))
        values = gaussian_noise(self.rng, (1, *size), correlation, spacing)
        field = Field(torch.from_numpy(values), _NOISE_ORIGIN, spacing)
        return np.asarray(field.at(self.xyz)[0])

    def fine(self, field: Array) -> Array:
        """A lattice field on the full grid."""
        return upsample(field, self.shape)

    def paint(
        self, label: Label, distance: Array, rim: Label | None = None, thick: float = 1.2
    ) -> None:
        """Set `label` where `distance` < 0, and `rim` within `thick` mm inside the surface."""
        near = np.nonzero(distance < 4.0)
        if not near[0].size:
            return
        low = [max(int(i.min()) - 1, 0) for i in near]
        high = [min(int(i.max()) + 1, n - 1) for i, n in zip(near, distance.shape, strict=True)]
        part = distance[tuple(slice(a, b + 1) for a, b in zip(low, high, strict=True))]
        begin = [int(np.ceil(a * s)) for a, s in zip(low, self._step, strict=True)]
        end = [int(np.floor(b * s)) + 1 for b, s in zip(high, self._step, strict=True)]
        fine = upsample(part, tuple(e - b for b, e in zip(begin, end, strict=True)))
        target = self.labels[tuple(slice(b, e) for b, e in zip(begin, end, strict=True))]
        target[fine < 0] = label
        if rim is not None:
            target[(fine < 0) & (fine > -thick)] = rim

    def ellipsoid(self, centre: Point, radii: Point, mirror: bool = True) -> Array:
        """Approximate signed distance (mm) to an ellipsoid, on both sides when `mirror`."""
        x = np.abs(self.xyz[0]) if mirror else self.xyz[0]
        delta = [x - centre[0], self.xyz[1] - centre[1], self.xyz[2] - centre[2]]
        unit = np.sqrt(sum((d / r) ** 2 for d, r in zip(delta, radii, strict=True)))
        slope = np.sqrt(sum((d / r**2) ** 2 for d, r in zip(delta, radii, strict=True)))
        return np.asarray(unit * (unit - 1) / np.maximum(slope, 1e-4), dtype=np.float32)

    def capsule(self, start: Point, end: Point, radius: float) -> Array:
        """Signed distance (mm) to a capsule, mirrored across the mid-sagittal plane."""
        axis = np.subtract(end, start).astype(np.float32)
        rel = np.stack([np.abs(self.xyz[0]), self.xyz[1], self.xyz[2]])
        rel -= np.asarray(start, np.float32)[:, None, None, None]
        along = np.clip(np.einsum('i,ixyz->xyz', axis, rel) / (axis @ axis), 0, 1)
        rel -= axis[:, None, None, None] * along
        return np.asarray(np.sqrt((rel**2).sum(0)) - radius, dtype=np.float32)

    def vary(self, values: Point, sd: float) -> tuple[float, ...]:
        """`values` jittered by `sd` mm (positions) so that no two faces are alike."""
        return tuple(float(v + self.rng.normal(0, sd)) for v in values)

    def size(self, values: Point, sd: float = 0.12) -> tuple[float, ...]:
        """`values` scaled by a common and by single log-normal factors (radii)."""
        common = self.rng.normal(0, sd)
        return tuple(float(v * np.exp(common + self.rng.normal(0, sd / 2))) for v in values)


def _smooth_union(first: Array, second: Array, width: float) -> Array:
    """Polynomial smooth minimum of two signed distances."""
    blend = np.clip(0.5 + 0.5 * (second - first) / width, 0, 1)
    return np.asarray(
        second * (1 - blend) + first * blend - width * blend * (1 - blend), dtype=np.float32
    )


def _outer_surface(c: Sculptor, cavity: Array, cover: Array) -> Array:
    """Signed distance to the skin: vault, face, jaw, nose and neck, blended."""
    y, z = c.xyz[1], c.xyz[2]
    face = c.ellipsoid(c.vary((0, 36, -62), 2), c.size((64, 52, 58), 0.05))
    jaw = c.ellipsoid(c.vary((0, 44, -106), 4), c.size((48, 44, 30), 0.08))
    neck_radius = c.rng.uniform(50, 66)
    slope = np.clip((-150 - z) / 60, 0, 1) ** 2
    neck = np.hypot(c.xyz[0] / (1.0 + 0.9 * slope), y + 34 - 0.12 * (z + 110)) - neck_radius
    neck = np.maximum(neck, z + 50)
    occiput = c.ellipsoid((0, -70, -62), c.size((54, 38, 34), 0.07))
    surface = _smooth_union(cavity - cover, face, 16)
    surface = _smooth_union(surface, jaw, 18)
    surface = _smooth_union(surface, _smooth_union(neck, occiput, 20), 22)
    nose = c.capsule(c.vary((0, 86, -40), 2), c.vary((0, 99, -66), 3), c.rng.uniform(6, 9))
    nose = _smooth_union(nose, c.ellipsoid((7, 90, -68), (8, 9, 7)), 6)
    surface = _smooth_union(surface, nose, 8)
    lips = c.ellipsoid(c.vary((0, 84, -92), 2), (22, 9, 10))
    surface = _smooth_union(surface, lips, 8)
    sockets = c.ellipsoid((34, 88, -38), c.size((17, 12, 12)))
    return np.asarray(np.maximum(surface, -0.8 * sockets - 0.4), dtype=np.float32)


def _soft_tissue(c: Sculptor, surface: Array, soft: Soft) -> None:
    """Skin, subcutaneous fat, and muscle with fat septa beneath."""
    z = c.xyz[2]
    neckness = np.clip((-35 - z) / 40, 0, 1)
    fat = soft.scalp_fat * (1 - neckness) + soft.neck_fat * neckness
    fat = fat * np.exp(0.35 * c.noise(30.0))
    depth = -c.fine(surface)
    fat_depth = c.fine(fat.astype(np.float32)) + soft.skin
    strands = c.noise(5.0)
    septa = c.fine(np.abs(strands) - 0.10 * np.exp(0.5 * c.noise(20.0)))
    bundles = c.fine(c.noise(8.0))
    inside = depth > 0
    c.labels[inside] = Label.MUSCLE
    c.labels[inside & (bundles > 1.1)] = Label.FACE
    c.labels[inside & (bundles < -1.4)] = Label.FAT
    c.labels[inside & (septa < 0)] = Label.FAT
    c.labels[inside & (depth < fat_depth)] = Label.FAT
    c.labels[inside & (depth < soft.skin)] = Label.SKIN


def _air_spaces(c: Sculptor) -> None:
    """Skull base, nasal cavity with turbinates, sinuses, pharynx, trachea and mouth."""
    cells = c.noise(6.0)
    nasal = c.ellipsoid((0, 60, -62), c.size((13, 34, 20)))
    clivus = c.capsule((0, -6, -34), (0, -22, -62), c.rng.uniform(5, 8))
    c.paint(Label.MARROW, clivus, rim=Label.SKULL_TABLE)
    petrous = c.capsule((16, -14, -42), (52, -28, -38), c.rng.uniform(7, 10))
    c.paint(Label.SKULL_TABLE, petrous)
    c.paint(Label.MARROW, np.maximum(petrous + 1.5, 0.5 - cells))
    c.paint(Label.FACE, nasal)
    turbinate = np.abs(np.abs(c.xyz[0]) - 7 - 1.5 * cells) - 2.2 - 1.2 * cells
    c.paint(Label.SINUS, np.maximum(nasal + 2, turbinate))
    ethmoid = c.ellipsoid((0, 48, -36), c.size((13, 19, 10)))
    c.paint(Label.SKULL_TABLE, ethmoid)
    c.paint(Label.SINUS, np.maximum(ethmoid + 1, 2.5 * (0.25 - np.abs(cells))))
    maxillary = c.ellipsoid(c.vary((29, 48, -66), 1.5), c.size((13, 15, 15), 0.18))
    content = Label.FACE if c.rng.random() < 0.12 else Label.SINUS
    c.paint(content, maxillary, rim=Label.SKULL_TABLE)
    sphenoid = c.ellipsoid((7, 14, -41), c.size((8, 11, 9), 0.2))
    c.paint(Label.SINUS, sphenoid, rim=Label.SKULL_TABLE)
    pharynx = c.capsule((0, 12, -62), (0, 2, -122), c.rng.uniform(4, 9))
    trachea = c.capsule((0, 4, -125), (0, -4, -230), c.rng.uniform(7, 10))
    c.paint(Label.CARTILAGE, trachea - 2.5)
    c.paint(Label.SINUS, np.minimum(pharynx, trachea))
    if c.rng.random() < 0.5:
        c.paint(Label.SINUS, c.ellipsoid((0, 50, -84), (20, 30, c.rng.uniform(2, 6))))


def _jaws(c: Sculptor) -> None:
    """Facial bones, mandible, teeth and tongue."""
    z = c.xyz[2]
    c.paint(Label.MARROW, c.ellipsoid((0, 52, -70), c.size((36, 28, 17))), rim=Label.SKULL_TABLE)
    zygoma = c.capsule((50, 44, -55), (66, 2, -52), c.rng.uniform(4, 6))
    brow = c.capsule((44, 56, -50), (50, 54, -22), 5.5)
    c.paint(Label.MARROW, np.minimum(zygoma, brow), rim=Label.SKULL_TABLE, thick=1.8)
    centre = c.vary((0, 26, -114), 2)
    ring = np.hypot(c.xyz[0] / 0.82, c.xyz[1] - centre[1])
    arch = np.hypot(ring - 48, (z - centre[2]) / 1.4) - c.rng.uniform(6, 8)
    arch = np.maximum(arch, 10 - c.xyz[1])
    ramus = c.capsule((42, 8, -112), (52, -4, -58), c.rng.uniform(5, 7))
    c.paint(Label.MARROW, np.minimum(arch, ramus), rim=Label.SKULL_TABLE, thick=2.2)
    teeth = np.hypot(np.hypot(c.xyz[0], c.xyz[1] - 46) - 26, (z + 94) / 1.8) - 4.5
    c.paint(Label.SKULL_TABLE, np.maximum(teeth, 46 - c.xyz[1]))
    c.paint(Label.MUSCLE, c.ellipsoid(c.vary((0, 46, -100), 2), c.size((21, 28, 16))))
    for position, radii in (((56, 22, -82), (10, 16, 20)), ((64, -12, -78), (9, 14, 20))):
        c.paint(Label.FAT, c.ellipsoid(c.vary(position, 2), c.size(radii, 0.2)))


def _orbits(c: Sculptor) -> None:
    """Orbital fat, globes with lenses, optic nerves and the straight eye muscles."""
    x, y, z = c.vary((32, 62, -38), 1.5)
    c.paint(Label.FAT, c.ellipsoid((x - 3, y - 14, z), c.size((17, 25, 16), 0.06)))
    apex = (14, 20, -30)
    for dx, dz in ((11, 0), (-11, 0), (0, 10), (0, -10)):
        c.paint(Label.MUSCLE, c.capsule((x + dx, y - 4, z + dz), apex, 2.2))
    c.paint(Label.NERVE, c.capsule((x - 1, y - 12, z), apex, 2.6))
    globe = c.size((12.5, 12.5, 12.5), 0.05)
    c.paint(Label.EYE, c.ellipsoid((x, y, z), globe), rim=Label.FACE)
    c.paint(Label.LENS, c.ellipsoid((x, y + 8.5, z), (4.8, 2.4, 4.8)))


def _spine(c: Sculptor) -> None:
    """Cervical vertebrae, discs, canal and cord, large vessels."""
    x, y, z = c.xyz
    shift = 0.10 * (z + 75) + c.rng.normal(0, 3) * np.sin((z + 75) / 40)
    phase = np.mod(z + c.rng.uniform(0, 18), 18.0)
    body = np.hypot(x / 1.25, y + 25 - shift) - 10.5
    column = np.maximum(body, z + 80)
    c.paint(Label.MARROW, column, rim=Label.SKULL_TABLE, thick=1.5)
    c.paint(Label.CARTILAGE, np.maximum(column, np.abs(phase - 9) - 2.2))
    canal = np.hypot(x / 1.15, y + 46 - shift)
    arch = np.maximum(np.abs(canal - 14) - 3, np.abs(np.mod(phase + 9, 18.0) - 9) - 5)
    c.paint(Label.SKULL_TABLE, np.maximum(arch, z + 84))
    spinous = np.maximum(np.abs(x) - 3.5, np.abs(y + 70 - shift) - 11)
    spinous = np.maximum(np.maximum(spinous, np.abs(phase - 9) - 5), z + 90)
    c.paint(Label.MARROW, spinous, rim=Label.SKULL_TABLE)
    c.paint(Label.CSF_SUBARACHNOID, np.maximum(canal - 10, z + 60), rim=Label.DURA)
    c.paint(Label.SPINAL_CORD, np.maximum(np.hypot(x / 1.3, y + 46 - shift) - 5.2, z + 60))
    for start, end, radius in (
        ((27, -6, -52), (30, -16, -220), 3.2),
        ((32, -20, -58), (36, -22, -220), 5),
    ):
        c.paint(Label.VESSEL, c.capsule(start, end, c.rng.uniform(0.8, 1.3) * radius))


def _skull(c: Sculptor, cavity: Array, thickness: Array, texture: Array) -> None:
    """Dura, two tables with marrow between them, mastoid and frontal air cells."""
    table = 0.26 * thickness + 0.4
    shell = (cavity > 0) & (cavity < thickness)
    marrow = (cavity > table) & (cavity < thickness - table)
    sinus = c.fine(c.ellipsoid(c.vary((11, 74, -10), 3), c.size((13, 8, 15), 0.3))) < 0
    mastoid = c.fine(c.ellipsoid(c.vary((55, -36, -46), 2), c.size((12, 17, 18)))) < 0
    c.labels[mastoid & (cavity > 0)] = Label.SKULL_TABLE
    c.labels[shell] = Label.SKULL_TABLE
    c.labels[marrow] = Label.MARROW
    c.labels[mastoid & (cavity > 1.5) & (texture > 0.1)] = Label.SINUS
    if c.rng.random() < 0.75:
        c.labels[sinus & marrow] = Label.SINUS
    c.labels[cavity <= 0] = Label.CSF_SUBARACHNOID
    c.labels[(cavity <= 0) & (cavity > -1.2)] = Label.DURA


def carve_face(c: Sculptor, soft: Soft, cavity: Array) -> None:
    """Paint the head without its brain.

    Parameters
    ----------
    c
        The sculptor; its `labels` are painted.
    soft
        Thicknesses of this participant.
    cavity
        Signed distance (mm) to the inner skull on the full grid.
    """
    x, y, z = c.xyz
    lattice = tuple(
        np.round(np.linspace(0, n - 1, m)).astype(int)
        for n, m in zip(c.shape, x.shape, strict=True)
    )
    coarse = cavity[np.ix_(*lattice)]
    base = np.clip((-12 - z - 0.3 * np.minimum(y, 0)) / 20, 0, 1) * (y > -60)
    temple = np.exp(-(((np.abs(x) - 72) / 18) ** 2 + ((y - 5) / 32) ** 2 + ((z + 8) / 26) ** 2))
    thickness = soft.skull * np.exp(0.22 * c.noise(28.0)) * (1 - 0.45 * base - 0.35 * temple)
    cover = thickness + soft.scalp_fat + soft.skin + 8 * temple
    surface = _outer_surface(c, coarse, cover)
    _soft_tissue(c, surface, soft)
    carved = c.labels.copy()
    _jaws(c)
    _orbits(c)
    _air_spaces(c)
    _spine(c)
    canal = c.capsule((54, -18, -40), (90, -20, -42), 3.2)
    c.paint(Label.AIR, canal)
    outline = np.hypot((y + 26 + 0.15 * (z + 36)) / 15, (z + 36) / 27) - 1
    stand = c.rng.uniform(3, 9) * (0.4 + np.clip((-14 - y) / 20, 0, 1))
    ear = np.maximum.reduce([12 * outline, np.abs(surface - stand / 2) - stand / 2 - 1.5])
    ear = np.maximum(ear, 55 - np.abs(x))
    # Shapes that stick out of this participant's skin are cut off at it.
    c.labels[carved == Label.AIR] = Label.AIR
    c.labels[carved == Label.SKIN] = Label.SKIN
    c.paint(Label.CARTILAGE, ear + 1.5)
    c.paint(Label.SKIN, np.maximum(ear, -(ear + 1.8)))
    _skull(c, cavity, c.fine(thickness.astype(np.float32)), c.fine(c.noise(5.0)))
