"""The record of one series in the report files: plain values, nothing from a DICOM header."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from monai_ext.spine import Series, SeriesImage
from monai_ext.spine.cascade.result import CascadeResult

ADMITTED, REFUSED, BROKEN = "admitted", "refused", "broken"
# In the notes about DICOM segmentations.
NOT_MADE = "could not be made"


@dataclass
class SeriesRecord:
    """One series in reports.

    Args:
        patient: see `Series`.
        series: see `Series`.
        kind: see `Series`.
        status: ``"admitted"``, ``"refused"`` (by a stage) or ``"broken"`` (it couldn't be read, predicted or written).
        reason: why it wasn't admitted; empty when it was.
        image: shape, spacing, plane; empty for a broken series.
        stages: decisions of the stages, up to the one that refused it.
        lesions: lesions of an admitted series.
        notes: what was passed over in its geometry; outputs that couldn't be made, and why.
        seconds: time for reading and prediction.
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
        """Record of a result of the cascade."""
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
            [image.geometry_note] if image.geometry_note else [],
        )

    @classmethod
    def broken(cls, series: Series, reason: str) -> SeriesRecord:
        """Record of a series that couldn't be read, predicted or written."""
        return cls(series.patient, series.series, series.kind, BROKEN, reason)

    @property
    def name(self) -> str:
        return f"{self.patient}/{self.series}"

    @property
    def volume_mm3(self) -> float | None:
        """Volume of all lesions; None without geometry, and for a series that wasn't admitted."""
        known = self.status == ADMITTED and self.image.get("spacing_mm") is not None
        return round(sum((lesion["volume_mm3"] for lesion in self.lesions), 0.0), 3) if known else None

    @property
    def lesion_slices(self) -> list[int]:
        """Numbers of all slices with a lesion."""
        return sorted({number for lesion in self.lesions for number in lesion["slices"]})

    def summary(self) -> dict[str, Any]:
        """The short form, for the reports of batch and patient."""
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
