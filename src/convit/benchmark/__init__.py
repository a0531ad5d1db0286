"""How fast a ConViT is, against others, side by side in one process."""
