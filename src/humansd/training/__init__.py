"""Training: the loop, what each network learns, presets, checkpoints, the recipe of the pocket model."""
