"""GPT-2's weights from a folder on the disk, as transformers saves them. Nothing downloads.

The folder holds config.json and model.safetensors (or pytorch_model.bin, opened without running
code). Names are `wte.weight`, `h.0.attn.c_attn.weight`, ..., with `transformer.` before them or
not; products are stored transposed.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from distgan.models.decoder import END, START
from distgan.models.gpt2_captioner import GPT2Captioner

_PARTS = {
    "ln_1": "attention_norm",
    "attn.c_attn": "query_key_value",
    "attn.c_proj": "attention_out",
    "ln_2": "network_norm",
    "mlp.c_fc": "inner",
    "mlp.c_proj": "outer",
}
_EXPECTED = {  # what our blocks compute; absent means the same
    "model_type": ("gpt2",),
    "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
    "layer_norm_epsilon": (1e-5,),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "tie_word_embeddings": (True,),
    "n_inner": (None,),
}


def load_gpt2(captioner: GPT2Captioner, folder: str | Path) -> None:
    """Fill the blocks and places with those in `folder`, START's and END's rows with its
    <|endoftext|>'s. The other words keep theirs: see `GPT2Captioner.load_word_vectors`.

    ValueError naming the file where it is missing, or of another size.
    """
    folder = Path(folder)
    settings = read_settings(folder)
    state = _read_weights(folder)
    body = captioner.body
    own = {"layers": body.layers, "heads": body.heads, "width": body.places.embedding_dim}
    for name, key in (("layers", "n_layer"), ("heads", "n_head"), ("width", "n_embd")):
        if own[name] != settings[key]:
            raise ValueError(f"{name} is {own[name]}, but {folder} has {key}={settings[key]}")
    needed = body.places.num_embeddings
    table = _named(state, "wpe.weight", folder)
    if len(table) < needed:
        raise ValueError(f"{needed} tokens are to be read, but {folder} has {len(table)} places")
    weights = dict(_of_blocks(state, body.layers, folder))
    weights["places.weight"] = table[:needed]
    for part in ("weight", "bias"):
        weights[f"norm.{part}"] = _named(state, f"ln_f.{part}", folder)
    try:
        body.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"{folder}: {error}") from error
    end_of_text = _named(state, "wte.weight", folder)[settings["eos_token_id"]]
    with torch.no_grad():
        captioner.embedding.weight[[START, END]] = end_of_text.to(captioner.embedding.weight)


def read_settings(folder: str | Path) -> dict[str, Any]:
    """config.json; ValueError naming what is missing, or not as our blocks compute it."""
    path = Path(folder) / "config.json"
    if not path.is_file():
        raise ValueError(f"GPT-2's {path} does not exist")
    settings = json.loads(path.read_text("utf-8"))
    for key in ("n_layer", "n_head", "n_embd", "eos_token_id"):
        if not isinstance(settings.get(key), int):
            raise ValueError(f"{path}: {key} must be a whole number, got {settings.get(key)!r}")
    for key, known in _EXPECTED.items():
        if key in settings and settings[key] not in known:
            wanted = " or ".join(map(str, known))
            raise ValueError(f"{path}: {key} must be {wanted}, got {settings[key]!r}")
    return settings


def _of_blocks(state: dict[str, Tensor], layers: int, folder: Path) -> Iterator[tuple[str, Tensor]]:
    """Every block's weights by our names."""
    for layer in range(layers):
        for theirs, ours in _PARTS.items():
            for part in ("weight", "bias"):
                value = _named(state, f"h.{layer}.{theirs}.{part}", folder)
                yield f"blocks.{layer}.{ours}.{part}", value.t() if value.dim() == 2 else value


def _named(state: dict[str, Tensor], name: str, folder: Path) -> Tensor:
    for full in (name, f"transformer.{name}"):
        if full in state:
            return state[full]
    raise ValueError(f"{folder} has no {name}; it has {', '.join(list(state)[:3])}, ...")


def _read_weights(folder: Path) -> dict[str, Tensor]:
    safe, plain = folder / "model.safetensors", folder / "pytorch_model.bin"
    if safe.is_file():
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(safe)
        except SafetensorError as error:
            raise ValueError(f"{safe}: damaged: {error}") from error
    if not plain.is_file():
        raise ValueError(f"{folder} holds neither {safe.name} nor {plain.name}")
    try:
        return torch.load(plain, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise ValueError(f"{plain}: refused: not a plain torch state dict: {error}") from error
