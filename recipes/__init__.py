"""Named runs as Python functions: `python -m recipes.pretrain --help`."""
