"""Networks: the widened UNet, the pocket model's parts, and what they make of pictures and prompts."""
