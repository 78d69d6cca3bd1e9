from brats_files import brats_dir, save_volume, table_dir

__all__ = ["brats_dir", "save_volume", "table_dir"]
