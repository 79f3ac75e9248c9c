"""Readers of the layouts in which others keep images, texts and poses: one file a layout, one table of them."""
