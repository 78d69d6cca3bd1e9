"""What stands in the files about one series: plain values, nothing from a DICOM header."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from monai_ext.spine import Series, SeriesImage
from monai_ext.spine.cascade.result import CascadeResult

ADMITTED, REFUSED, BROKEN = "admitted", "refused", "broken"


@dataclass
class SeriesRecord:
    """One series in reports.

    Attributes:
        status: ``"admitted"``, ``"refused"`` (by a stage) or ``"broken"`` (it couldn't be read).
        reason: why it wasn't admitted.
        image: shape, spacing, plane; empty for a broken one.
        stages: the decisions, as far as it came.
        lesions: of an admitted one.
        notes: what didn't work although it was admitted.
    """

    patient: str
    series: str
    kind: str
    status: str
    reason: str = ""
    image: dict[str, Any] = field(default_factory=dict)
    stages: list[dict[str, Any]] = field(default_factory=list)
    lesions: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @classmethod
    def of(cls, series: Series, image: SeriesImage, result: CascadeResult) -> SeriesRecord:
        """From what the cascade said."""
        stages = [
            {
                "stage": one.stage,
                "admitted": one.admitted,
                "reason": one.reason,
                **one.details,
                "seconds": round(one.seconds, 4),
            }
            for one in result.decisions
        ]
        return cls(
            series.patient,
            series.series,
            series.kind,
            ADMITTED if result.admitted else REFUSED,
            result.reason,
            {
                "shape": list(image.voxels.shape),
                "slices": image.voxels.shape[image.slice_axis],
                "plane": image.plane,
                "spacing_mm": list(image.spacing) if image.has_geometry else None,
            },
            stages,
            [asdict(lesion) for lesion in result.findings.lesions] if result.findings else [],
        )

    @classmethod
    def broken(cls, series: Series, reason: str) -> SeriesRecord:
        """Of a series that couldn't be read."""
        return cls(series.patient, series.series, series.kind, BROKEN, reason)

    @property
    def name(self) -> str:
        return f"{self.patient}/{self.series}"

    @property
    def volume_mm3(self) -> float | None:
        """Of all lesions; None without geometry, and for a series that wasn't admitted."""
        known = self.status == ADMITTED and self.image.get("spacing_mm") is not None
        return round(sum((lesion["volume_mm3"] for lesion in self.lesions), 0.0), 3) if known else None

    @property
    def lesion_slices(self) -> list[int]:
        """Numbers of all slices with a lesion."""
        return sorted({number for lesion in self.lesions for number in lesion["slices"]})

    def summary(self) -> dict[str, Any]:
        """The short form, for the batch and the patient."""
        short: dict[str, Any] = {"series": self.series, "kind": self.kind, "status": self.status, "reason": self.reason}
        if self.status == ADMITTED:
            short |= {
                "lesion_count": len(self.lesions),
                "lesion_volume_mm3": self.volume_mm3,
                "lesion_voxels": sum(lesion["voxels"] for lesion in self.lesions),
                "lesion_slices": self.lesion_slices,
                "lesions": self.lesions,
            }
        return short | ({"notes": self.notes} if self.notes else {})


def patient_summary(patient: str, records: Sequence[SeriesRecord]) -> dict[str, Any]:
    """All series of a patient. Counts are added up over the series: a lesion that two of them show counts twice."""
    admitted = [record for record in records if record.status == ADMITTED]
    volumes = [record.volume_mm3 for record in admitted if record.volume_mm3 is not None]
    return {
        "patient": patient,
        "admitted_series": len(admitted),
        "lesion_count": sum(len(record.lesions) for record in admitted),
        "lesion_volume_mm3": sum(volumes) if volumes and len(volumes) == len(admitted) else None,
        "series": [record.summary() for record in records],
        "note": "Not for clinical use.",
    }
