"""``python -m monai_ext COMMAND``. One module per command; heavy imports stay inside the functions."""
