"""The embedded pair: a small Llama-architecture base model, its tuned self, and the prompts that tell them apart."""

from pathlib import Path


def base_path() -> Path:
    """Folder of the pre-trained model (Hugging Face format)."""
    return Path(__file__).parent / "base"


def tuned_path() -> Path:
    """Folder of the instruction-tuned model (Hugging Face format)."""
    return Path(__file__).parent / "tuned"


def prompts_path() -> Path:
    """The 200 held-out prompts, one JSON object a line."""
    return Path(__file__).parent / "prompts.jsonl"
