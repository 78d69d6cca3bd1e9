"""A small bundle in the manner of the Model Zoo, which conforms."""

import json

TENSOR = {"type": "image", "format": "magnitude", "num_channels": 1, "spatial_shape": ["8*n", "8*n", "8*n"]}
TENSOR |= {"dtype": "float32", "value_range": [0, 1], "is_patch_data": True, "channel_def": {"0": "image"}}
METADATA = {
    **{"schema": "https://example.org/meta_schema_20240725.json", "version": "0.1.0", "changelog": {"0.1.0": "first"}},
    **{"monai_version": "1.6.1", "pytorch_version": "2.13.0", "numpy_version": "2.4.6"},
    **{"required_packages_version": {}, "task": "t", "description": "d", "authors": "a", "copyright": "c"},
    "network_data_format": {"inputs": {"image": TENSOR}, "outputs": {"pred": {**TENSOR, "num_channels": 2}}},
}
COMMON = {
    "imports": ["$import torch"],
    "bundle_root": ".",
    "output_dir": "$@bundle_root + '/eval'",
    "dataset_dir": "/data",
    "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
    "network_def": {
        **{"_target_": "UNet", "spatial_dims": 3, "in_channels": 1, "out_channels": 2, "channels": [4, 8]},
        "strides": [2],
    },
    "network": "$@network_def.to(@device)",
}


def loading(*keys):
    names = list(keys)
    return [
        {"_target_": "LoadImaged", "keys": names},
        {"_target_": "EnsureChannelFirstd", "keys": names},
        {"_target_": "Orientationd", "keys": names, "axcodes": "RAS", "labels": [["L", "R"], ["P", "A"], ["I", "S"]]},
    ]


def loader(dataset):
    return {"_target_": "DataLoader", "dataset": dataset, "batch_size": 1, "num_workers": 1}


INFERENCE = {
    **COMMON,
    "preprocessing": {"_target_": "Compose", "transforms": loading("image")},
    "dataset": {"_target_": "Dataset", "data": "$[]", "transform": "@preprocessing"},
    "dataloader": loader("@dataset"),
    "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [32, 32, 32]},
    "postprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
            {"_target_": "Invertd", "keys": "pred", "transform": "@preprocessing", "orig_keys": "image"},
            {"_target_": "SaveImaged", "keys": "pred", "output_dir": "@output_dir"},
        ],
    },
    "evaluator": {
        **{"_target_": "SupervisedEvaluator", "device": "@device", "val_data_loader": "@dataloader"},
        **{"network": "@network", "inferer": "@inferer", "postprocessing": "@postprocessing"},
    },
    "checkpointloader": {
        "_target_": "CheckpointLoader",
        "load_path": "$@bundle_root + '/models/model.pt'",
        "load_dict": {"model": "@network"},
    },
    "initialize": ["$@checkpointloader(@evaluator)"],
    "run": ["$@evaluator.run()"],
}
TRAIN = {
    **COMMON,
    "epochs": 100,
    "train": {
        "preprocessing": {"_target_": "Compose", "transforms": loading("image", "label")},
        "dataset": {"_target_": "Dataset", "data": "$[]", "transform": "@train#preprocessing"},
        "dataloader": loader("@train#dataset"),
        "inferer": {"_target_": "SimpleInferer"},
        "loss": {"_target_": "DiceLoss", "to_onehot_y": True, "softmax": True},
        "optimizer": {"_target_": "torch.optim.Adam", "params": "$@network.parameters()"},
        "trainer": {
            **{"_target_": "SupervisedTrainer", "max_epochs": "@epochs", "device": "@device"},
            **{"train_data_loader": "@train#dataloader", "network": "@network", "loss_function": "@train#loss"},
            **{"optimizer": "@train#optimizer", "inferer": "@train#inferer"},
        },
    },
    "run": ["$@train#trainer.run()"],
}
FILES = {"metadata": METADATA, "inference": INFERENCE, "train": TRAIN}


def write_bundle(folder):
    """The bundle, in a folder that doesn't exist."""
    (folder / "configs").mkdir(parents=True)
    (folder / "LICENSE").write_text("as you like")
    for name, content in FILES.items():
        (folder / "configs" / f"{name}.json").write_text(json.dumps(content))
    return folder
