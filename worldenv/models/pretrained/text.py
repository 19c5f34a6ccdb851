"""Prompts to embeddings: UMT5 from transformers, a cache on disk, or embeddings made elsewhere."""

from __future__ import annotations

import hashlib
import html
import re
from pathlib import Path

import torch
from torch import Tensor

from ...base.checkpoint import load_tensors, save_tensors

MAX_TOKENS = 512
"""Tokens of a prompt; shorter ones are padded with zeros, which the model attends to (it was trained so)."""


class PromptEncoder:
    """Turns a prompt into (1, L, text_dim), once: the result is kept on disk.

    A prompt that is the path of a safetensors file is read from it (one tensor, ``text``): no text encoder is needed.
    """

    def __init__(self, folder: Path | None, *, text_dim: int, cache: Path | None = None) -> None:
        """Prepare for the ``text_encoder`` and ``tokenizer`` in ``folder``; nothing is loaded before it is needed."""
        self.folder, self.text_dim = folder, text_dim
        self.cache = Path.home() / ".cache" / "worldenv" / "prompts" if cache is None else cache

    def __call__(self, prompt: str) -> Tensor:
        """Return the embedding of a prompt, (1, L, text_dim).

        Raises:
            ValueError: if there is no text encoder and the prompt was never encoded, or a file does not fit.
        """
        if prompt.endswith(".safetensors"):
            return self._read(Path(prompt))
        key = hashlib.sha256(f"{self.text_dim}/{clean(prompt)}".encode()).hexdigest()
        kept = self.cache / f"{key[:32]}.safetensors"
        if not kept.is_file():
            save_tensors(kept, {"text": self._encode(clean(prompt))}, header={"prompt": prompt})
        return self._read(kept)

    def _read(self, file: Path) -> Tensor:
        tensors, _ = load_tensors(file)
        text = tensors.get("text")
        if text is None or text.ndim != 3 or text.shape[-1] != self.text_dim:
            found = "no tensor 'text'" if text is None else f"text {tuple(text.shape)}"
            raise ValueError(f"{file}: {found}, expected text (1, L, {self.text_dim})")
        return text

    @torch.no_grad()
    def _encode(self, prompt: str) -> Tensor:
        if self.folder is None:
            raise ValueError(
                "there is no text_encoder folder in this release; add text_encoder/ and tokenizer/ of "
                "Wan2.2-TI2V-5B-Diffusers, or pass the path of an embedding (.safetensors with a tensor 'text')"
            )
        try:
            from transformers import AutoTokenizer, UMT5EncoderModel
        except ImportError:
            raise ImportError(
                "WorldPlay's text encoder comes from transformers; pip install 'worldenv[worldplay]'"
            ) from None
        tokenizer = AutoTokenizer.from_pretrained(self.folder / "tokenizer")
        encoder = UMT5EncoderModel.from_pretrained(
            self.folder / "text_encoder", torch_dtype=torch.bfloat16, use_safetensors=True
        ).eval()
        tokens = tokenizer(prompt, max_length=MAX_TOKENS, truncation=True, padding="max_length", return_tensors="pt")
        hidden = encoder(tokens.input_ids, attention_mask=tokens.attention_mask).last_hidden_state
        text: Tensor = hidden * tokens.attention_mask[..., None]
        return text


def clean(prompt: str) -> str:
    """Undo HTML escapes and collapse white space, as Wan2.2's pipeline does."""
    return re.sub(r"\s+", " ", html.unescape(html.unescape(prompt))).strip()
