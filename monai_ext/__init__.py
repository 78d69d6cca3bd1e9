"""Parts that the bundles of this repository need and MONAI does not have.

Importing this package is cheap on purpose: the sub-packages import torch and MONAI, this file does not.
"""

import os
import sys

from monai_ext.moved import MovedModules

# In front: the ordinary finder would load a second copy of a module below a package's old name.
sys.meta_path.insert(0, MovedModules())

# MLflow would report to its makers from every training; `false` in the environment switches that on.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

__version__ = "0.1.0"
