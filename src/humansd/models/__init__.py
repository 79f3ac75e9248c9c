"""Networks: the widened UNet, the pocket model's parts, and what they make of images and prompts."""
