"""Generators of small, learnable data in the real on-disk formats."""

from monai_ext.demo.brats import make_demo

__all__ = ["make_demo"]
