from pathlib import Path

import pytest
import torch

from worldenv.base.checkpoint import save_tensors
from worldenv.models.pretrained.text import MAX_TOKENS, PromptEncoder, clean


@pytest.fixture(scope="module")
def encoder_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny UMT5 with a tokenizer of five words."""
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder = tmp_path_factory.mktemp("encoder")
    words = Tokenizer(models.WordLevel({"<pad>": 0, "<unk>": 1, "a": 2, "red": 3, "maze": 4}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", unk_token="<unk>")
    fast.save_pretrained(folder / "tokenizer")
    config = transformers.UMT5Config(
        vocab_size=8, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, relative_attention_num_buckets=8
    )
    torch.manual_seed(0)
    transformers.UMT5EncoderModel(config).save_pretrained(folder / "text_encoder")
    return folder


def test_prompts_are_encoded_once_and_padded_with_zeros(encoder_dir: Path, tmp_path: Path) -> None:
    encode = PromptEncoder(encoder_dir, text_dim=16, cache=tmp_path)
    text = encode("a red maze")
    assert text.shape == (1, MAX_TOKENS, 16)
    assert text[0, :3].abs().amin(0).max() > 0
    assert not text[0, 3:].any()
    assert not torch.equal(text, encode("a maze"))
    # Another process without the encoder finds it on disk.
    assert torch.equal(PromptEncoder(None, text_dim=16, cache=tmp_path)("a red   maze"), text)
    with pytest.raises(ValueError, match="no text_encoder folder"):
        PromptEncoder(None, text_dim=16, cache=tmp_path)("a red red maze")


def test_embeddings_made_elsewhere_are_checked(tmp_path: Path) -> None:
    encode = PromptEncoder(None, text_dim=16, cache=tmp_path)
    save_tensors(tmp_path / "good.safetensors", {"text": torch.ones(1, 4, 16)})
    save_tensors(tmp_path / "narrow.safetensors", {"text": torch.ones(1, 4, 8)})
    save_tensors(tmp_path / "other.safetensors", {"weight": torch.ones(1)})
    assert torch.equal(encode(str(tmp_path / "good.safetensors")), torch.ones(1, 4, 16))
    for name, match in (
        ("narrow", r"text \(1, 4, 8\), expected text \(1, L, 16\)"),
        ("other", "no tensor 'text'"),
        ("none", "no such file"),
    ):
        with pytest.raises(ValueError, match=match):
            encode(str(tmp_path / f"{name}.safetensors"))


def test_prompts_are_cleaned_as_wan_cleans_them() -> None:
    assert clean("  a &amp;amp; b\n\tc ") == "a & b c"
