"""Small, learnable synthetic data in the file layout of BraTS 2018.

Both grades are drawn alike (head, position, size, mean intensity of the lesion) and differ only inside the lesion: high
grade has a dark, necrotic core within a bright, uneven rim, low grade is even. So neither volume nor a mean intensity
of head or lesion predicts the grade; the spread of intensities does, as texture must (and with it whatever is divided
by that spread, such as the lesion's mean after a z-score). Use it to try out a training run, never for a statement
about real tumours.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from monai_ext.data.demo_folder import known_size, write_folder

FOLDER = "MICCAI_BraTS_2018_Data_Training"
# cerebrospinal fluid, grey matter, white matter, and how much brighter (darker) than grey matter the lesion is
CONTRASTS = {
    "t1": (200.0, 420.0, 540.0, -0.15),
    "t1ce": (210.0, 430.0, 550.0, 0.25),
    "t2": (900.0, 560.0, 440.0, 0.55),
    "flair": (180.0, 500.0, 430.0, 0.75),
}


@dataclass(frozen=True)
class Grid:
    """Grid of a volume.

    Args:
        shape: voxels along the file's x, y, z.
        spacing: edge of a voxel in mm.
    """

    shape: tuple[int, int, int]
    spacing: float

    @property
    def affine(self) -> np.ndarray:
        """BraTS' own orientation: growing indices run to the left along x and to the back along y."""
        affine = np.diag([-self.spacing, -self.spacing, self.spacing, 1.0])
        affine[1, 3] = (self.shape[1] - 1) * self.spacing
        return affine


SIZES = {"small": Grid((80, 80, 52), 3.0), "full": Grid((240, 240, 155), 1.0)}


def _smooth(rng: np.random.Generator, geometry: Grid, sigma_mm: float) -> np.ndarray:
    """Gaussian random field of unit variance, float32, axes x, y, z."""
    field = gaussian_filter(rng.standard_normal(geometry.shape, dtype=np.float32), sigma_mm / geometry.spacing)
    return field / field.std()


def make_subject(rng: np.random.Generator, label: int, geometry: Grid) -> dict[str, np.ndarray]:
    """One subject as int16 arrays (x, y, z): the four modalities and ``seg`` (0, 1 core, 2 oedema, 4 enhancing).

    The random numbers drawn don't depend on the grade: with the same ``rng`` both grades give the same head, lesion
    outline and mean intensity of the lesion.

    Args:
        rng: source of all random numbers.
        label: 0 low grade (LGG), 1 high grade (HGG).
        geometry: voxels along x, y, z and their edge in mm.

    Returns:
        "t1", "t1ce", "t2", "flair" and "seg" → array.
    """
    axes = [(np.arange(n, dtype=np.float32) - (n - 1) / 2) * geometry.spacing for n in geometry.shape]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"))

    radii = np.array([68.0, 84.0, 64.0]) * rng.uniform(0.94, 1.06, 3)
    wobble = _smooth(rng, geometry, 12.0)
    distance = np.sqrt(sum((grid[i] / radii[i]) ** 2 for i in range(3)))
    brain = distance < 1 + 0.02 * wobble
    tissue = _smooth(rng, geometry, 6.0) + 2.5 * (distance - 0.8)
    fluid = np.sqrt(sum((grid[i] / radii[i] / size) ** 2 for i, size in enumerate((0.14, 0.3, 0.2)))) < 1

    # anywhere between the middle and the surface, wholly inside
    direction = rng.standard_normal(3)
    centre = direction / np.linalg.norm(direction) * rng.uniform(0.3, 0.5) * radii
    size_mm, squeeze = rng.uniform(23.0, 30.0), rng.uniform(0.85, 1.15, 3)
    radius = np.sqrt(sum(((grid[i] - centre[i]) / squeeze[i]) ** 2 for i in range(3))) / size_mm
    radius = radius * (1 + 0.08 * wobble)
    lesion, oedema = brain & (radius < 1), brain & (radius >= 1) & (radius < 1.3)
    necrosis = lesion & (radius < rng.uniform(0.58, 0.68))
    texture = _smooth(rng, geometry, 3.5)
    strength = rng.uniform(0.85, 1.0)

    pattern = np.zeros(geometry.shape, np.float32)
    if label == 1:
        pattern[lesion] = 0.5 + 0.2 * texture[lesion]
        pattern[necrosis] = -0.5 + 0.1 * texture[necrosis]
        pattern[lesion] -= pattern[lesion].mean()
    else:
        pattern[lesion] = 0.04 * texture[lesion]

    images: dict[str, np.ndarray] = {}
    for modality, (csf, grey, white, lift) in CONTRASTS.items():
        image = np.where(tissue > 0, grey, white).astype(np.float32)
        image = gaussian_filter(np.where(fluid, csf, image), 1.5 / geometry.spacing)
        lift = lift * strength * rng.uniform(0.9, 1.1)
        image[lesion] = grey * (1 + lift)
        image[oedema] = grey * (1 + 0.6 * lift)
        image += grey * strength * pattern
        bias = 1 + 0.05 * _smooth(rng, geometry, 50.0)
        noise = 0.04 * grey * rng.standard_normal(geometry.shape, dtype=np.float32)
        image = rng.lognormal(0.0, 0.15) * (image * bias + noise)
        # every brain voxel stays above the zero background, as after skull-stripping
        images[modality] = np.where(brain, np.clip(image, 10, 32767), 0).astype(np.int16)

    seg = np.zeros(geometry.shape, np.int16)
    seg[oedema], seg[lesion] = 2, 1
    if label == 1:
        seg[lesion & ~necrosis] = 4
    images["seg"] = seg
    return images


def make_demo(output: str | Path, seed: int = 0, size: str = "small", counts: tuple[int, int] = (16, 44)) -> Path:
    """Write a BraTS-like dataset below ``output``: all files appear at once, or none.

    ``<output>/MICCAI_BraTS_2018_Data_Training/{HGG,LGG}/Brats18_DEMO_nnn_1/<id>_{t1,t1ce,t2,flair,seg}.nii.gz``:
    skull-stripped int16 volumes with zero background. The same arguments give the same bytes; a folder made with
    them before is kept as it is.

    Args:
        output: folder, created where it doesn't exist.
        seed: of all random numbers, at least 0.
        size: "small" (80 x 80 x 52 voxels of 3 mm) or "full" (240 x 240 x 155 of 1 mm, as BraTS).
        counts: subjects of LGG and HGG; by default as unbalanced as BraTS 2018 (75 to 210).

    Returns:
        ``output``, usable as ``dataset_dir``.

    Raises:
        ConfigError: for an unknown size.
        DataError: when other data lie at the target already.
    """
    geometry = known_size(SIZES, size)
    settings = {"generated": "not patient data", "seed": seed, "size": size, "counts": list(counts)}
    write_folder(Path(output) / FOLDER, settings, lambda folder: _write(folder, seed, geometry, counts))
    return Path(output)


def _write(root: Path, seed: int, geometry: Grid, counts: tuple[int, int]) -> None:
    import nibabel as nib

    labels = np.random.default_rng(seed).permutation([0] * counts[0] + [1] * counts[1])
    for number, label in enumerate(labels, start=1):
        case = f"Brats18_DEMO_{number:03d}_1"
        folder = root / ("LGG", "HGG")[label] / case
        folder.mkdir(parents=True)
        subject = make_subject(np.random.default_rng([seed, number]), int(label), geometry)
        for name, array in subject.items():
            image = nib.Nifti1Image(array, geometry.affine)
            image.header.set_xyzt_units("mm")
            nib.save(image, folder / f"{case}_{name}.nii.gz")
