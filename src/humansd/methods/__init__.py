"""Ways of conditioning Stable Diffusion on poses, one file each; `table.METHODS` has them all."""
