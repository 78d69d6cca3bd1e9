"""What the bundles of this repository need and MONAI does not have.

Importing this package is cheap on purpose: the sub-packages import torch and MONAI, this file does not.
"""

__version__ = "0.1.0"
