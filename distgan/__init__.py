"""distgan: distributed training of adversarial vision-language models."""

__version__ = "0.1.0"
