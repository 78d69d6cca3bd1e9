"""Networks that MONAI lacks, and loading of weights."""

from monai_ext.networks.backbone_unet import BackboneUNet
from monai_ext.networks.build import fine_tuning_stages, initial_network, parameter_groups
from monai_ext.networks.cbam import CBAM
from monai_ext.networks.checkpoints import (
    compare_settings,
    load_model,
    network_settings,
    read_checkpoint,
    saved_epoch,
    saved_setting,
    saved_settings,
    saved_thresholds,
)
from monai_ext.networks.cord_unet import CordUNet
from monai_ext.networks.footprint import Footprint, training_footprint
from monai_ext.networks.joined_targets import JoinedTargets
from monai_ext.networks.medicalnet import MedicalNetResNet50
from monai_ext.networks.saving import save_checkpoint
from monai_ext.networks.slice_classifier import SliceClassifier
from monai_ext.networks.surface_unet import SurfaceUNet
from monai_ext.networks.vgg3d import VGG3D, VGG3DAdapter
from monai_ext.networks.volume_classifier import VolumeClassifier
from monai_ext.networks.weights import LoadReport, load_pretrained

__all__ = [
    "CBAM",
    "VGG3D",
    "BackboneUNet",
    "CordUNet",
    "Footprint",
    "JoinedTargets",
    "LoadReport",
    "MedicalNetResNet50",
    "SliceClassifier",
    "SurfaceUNet",
    "VGG3DAdapter",
    "VolumeClassifier",
    "compare_settings",
    "fine_tuning_stages",
    "initial_network",
    "load_model",
    "load_pretrained",
    "network_settings",
    "parameter_groups",
    "read_checkpoint",
    "save_checkpoint",
    "saved_epoch",
    "saved_setting",
    "saved_settings",
    "saved_thresholds",
    "training_footprint",
]
