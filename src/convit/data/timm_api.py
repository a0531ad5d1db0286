"""What timm's users look for under `data`, from where it lives here."""

from convit.transforms import create_transform, resolve_model_data_config

__all__ = ["create_transform", "resolve_model_data_config"]
