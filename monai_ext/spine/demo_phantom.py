"""Synthetic anatomy for the demo of `spinal_cord_cascade`: positions and intensities of tissues.

World coordinates are mm, RAS+, with the centre of the image at 0. The classes of every stage differ in structure or
contrast: regions of the spine in curve, vertebrae and neighbouring organs, sequences in which tissue is bright. The
cord is thicker than a real one, so that it is visible in few pixels. Use it to try out a training run, never for a
statement about real patients.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

AIR, SOFT, BONE, DISC, FLUID, CORD, LESION, ORGAN = range(8)
# Intensity of the tissues, in that order.
CONTRASTS = {
    "T1w": (0.0, 0.50, 0.80, 0.40, 0.12, 0.55, 0.52, 0.62),
    "T2w": (0.0, 0.28, 0.45, 0.65, 1.00, 0.38, 0.80, 0.55),
    "T2starw": (0.0, 0.45, 0.06, 0.75, 0.80, 0.55, 0.95, 0.50),
    "other": (0.0, 0.90, 0.20, 0.55, 0.45, 0.70, 0.85, 0.75),
}
ANATOMIES = ("brain", "knee", "spine")
LOCATIONS = ("cervical", "thoracic", "lumbar")


@dataclass(frozen=True)
class Region:
    """Shape of one region of the spine, in mm.

    Attributes:
        bend: distance of the middle of the curve in front of its ends.
        body: half axes (x, y) of the trunk or neck.
        period: of the vertebrae along z; ``depth`` and ``width`` of their bodies.
        cord_from: z below which there is no cord.
    """

    bend: float
    body: tuple[float, float]
    period: float
    depth: float
    width: float
    cord_from: float = -np.inf


REGIONS = {
    "cervical": Region(14.0, (40.0, 48.0), 15.0, 14.0, 10.0),
    "thoracic": Region(-14.0, (75.0, 55.0), 22.0, 20.0, 14.0),
    "lumbar": Region(10.0, (62.0, 60.0), 36.0, 30.0, 22.0, cord_from=25.0),
}


@dataclass(frozen=True)
class Patient:
    """Individual anatomy.

    Attributes:
        scale: size relative to the average.
        bend: curvature of the spine relative to the average.
        phase: position of the vertebrae, 0 to 1, as a fraction of their period.
        canal: radius of the spinal canal in mm.
        cord: radius of the cord in mm.
        lesions: offset from the centre of the cord (x, y), z, half the length, and radius of each, in mm.
    """

    scale: float
    bend: float
    phase: float
    canal: float
    cord: float
    lesions: tuple[tuple[float, float, float, float, float], ...]

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Patient:
        """A patient with up to three separate lesions in the cervical cord.

        Args:
            rng: source of all random numbers.
        """
        places = rng.permutation([-36.0, -12.0, 12.0, 36.0])[: rng.integers(4)]
        lesions = tuple(
            (*rng.uniform(-1.5, 1.5, 2), place + rng.uniform(-4, 4), rng.uniform(4.5, 8.0), rng.uniform(3.5, 5.0))
            for place in places
        )
        return cls(
            scale=rng.uniform(0.94, 1.06),
            bend=rng.uniform(0.7, 1.3),
            phase=rng.uniform(0, 1),
            canal=rng.uniform(11.5, 13.0),
            cord=rng.uniform(7.0, 8.5),
            lesions=lesions,
        )


def tissues(patient: Patient, anatomy: str, location: str, points: np.ndarray) -> np.ndarray:
    """Tissue at each point.

    Args:
        patient: the individual anatomy.
        anatomy: ``"spine"``, ``"brain"`` or ``"knee"``.
        location: a region of the spine; not used for other anatomies.
        points: (..., 3), mm.

    Returns:
        uint8 (...), an index into the values of `CONTRASTS`.
    """
    x, y, z = np.moveaxis(points / patient.scale, -1, 0)
    if anatomy == "spine":
        return _spine(patient, REGIONS[location], location, x, y, z)
    return _brain(x, y, z) if anatomy == "brain" else _knee(x, y, z)


def _spine(patient: Patient, region: Region, location: str, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    found = np.full(x.shape, AIR, np.uint8)
    found[(x / region.body[0]) ** 2 + (y / region.body[1]) ** 2 < 1] = SOFT
    inside = found == SOFT
    if location == "thoracic":  # lungs
        found[inside & (((np.abs(x) - 42) / 24) ** 2 + ((y - 8) / 34) ** 2 < 1)] = AIR
    if location == "lumbar":  # kidneys
        found[((np.abs(x) - 42) / 12) ** 2 + ((y + 5) / 15) ** 2 + (z / 35) ** 2 < 1] = ORGAN
    if location == "cervical":  # windpipe
        found[(x / 8) ** 2 + ((y - 34) / 6) ** 2 < 1] = AIR
    depth = y - region.bend * patient.bend * (1 - (z / 64) ** 2) + 8
    part = (z / region.period + patient.phase) % 1
    body = (np.abs(x) < region.width) & (depth > patient.canal) & (depth < patient.canal + region.depth)
    found[body] = np.where(part < 0.25, DISC, BONE)[body]
    found[(np.abs(x) < 4) & (depth < -patient.canal) & (depth > -patient.canal - 18) & (part > 0.5)] = BONE
    radius = np.hypot(x, depth)
    found[radius < patient.canal] = FLUID
    found[(radius < patient.cord) & (z > region.cord_from)] = CORD
    if location == "cervical":
        for offset_x, offset_y, place, half_length, half_width in patient.lesions:
            across = ((x - offset_x) ** 2 + (depth - offset_y) ** 2) / half_width**2
            found[(found == CORD) & (across + ((z - place) / half_length) ** 2 < 1)] = LESION
    return found


def _brain(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    distance = np.sqrt((x / 50) ** 2 + (y / 60) ** 2 + (z / 54) ** 2)
    found = np.full(x.shape, AIR, np.uint8)
    found[distance < 1] = BONE
    found[distance < 0.92] = FLUID
    found[distance < 0.86] = ORGAN
    found[distance < 0.55] = SOFT
    found[((np.abs(x) - 9) / 6) ** 2 + (y / 26) ** 2 + ((z - 4) / 12) ** 2 < 1] = FLUID
    return found


def _knee(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    found = np.full(x.shape, AIR, np.uint8)
    found[np.hypot(x, y) < 44] = SOFT
    wide = 20 + 8 * np.exp(-((np.abs(z) - 8) ** 2) / 200)  # condyles
    bone = np.hypot(x, y) < wide
    found[bone] = BONE
    found[bone & (np.abs(z) < 5)] = DISC
    found[(x / 10) ** 2 + ((y - 36) / 6) ** 2 + ((z - 12) / 14) ** 2 < 1] = BONE
    return found
