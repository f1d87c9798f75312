"""The methods, by name. One file a paper."""

from __future__ import annotations

from distgan.methods.attend_gan import AttendGAN
from distgan.methods.attend_gan_config import AttendGANConfig

METHODS = {"attend_gan": AttendGAN}
CONFIGS = {"attend_gan": AttendGANConfig}
"""What `method:` holds in a config file, for each."""
