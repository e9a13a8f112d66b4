"""Wrong layers and folders are refused before torch is imported: one sentence in the time that the help takes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from itlens.errors import ModelError, ProbeError
from itlens.models.configuration import refuse_at_a_glance
from tests.tiny import ARCHITECTURES, tiny_folder

_RUN = """
import sys
from itlens.cli import main
codes = []
for words in {commands!r}:
    sys.argv = ["itlens", *words]
    try:
        main()
    except SystemExit as ended:
        codes.append(ended.code)
print(codes, [name for name in ("torch", "transformers", "transformer_lens") if name in sys.modules])
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("glance") / "model", "llama")


def test_commands_refuse_before_torch_is_imported(folder: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    model, nothing, out = str(folder), str(empty), ["--out", str(tmp_path / "run")]
    commands = [
        ["words", model, "--layer", "2", "--head", "0"],
        ["words", model, "--layer", "1", "--head", "4"],
        ["attend", model, "--layer", "9", "--prompt", "text"],
        ["attend", model, nothing, "--prompt", "text"],
        ["concepts", model, "--layer", "-1"],
        ["attribute", nothing, "--prompt", "text"],
        ["inspect", nothing],
        ["compare", model, nothing, *out],
    ]
    code = _RUN.format(commands=commands)
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == f"{[2] * len(commands)} []"
    said = ended.stderr.strip().splitlines()
    assert len(said) == len(commands)
    assert said[0] == "itlens: layer 2 is not there; the model has layers 0 to 1."
    assert said[1] == "itlens: head 4 is not there; the model has heads 0 to 3."
    assert said[2] == "itlens: layer 9 is not there; the model has layers 0 to 1."
    assert said[3].endswith("has no config.json; expected a Hugging Face checkpoint.")
    assert said[4] == "itlens: layer -1 is not there; the model has layers 0 to 1."
    assert said[5] == said[6] == said[7] == said[3]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_config_says_its_layers_and_heads(architecture: str, tmp_path: Path) -> None:
    made = tiny_folder(tmp_path, architecture)
    refuse_at_a_glance(made, layer=1, head=3)
    with pytest.raises(ProbeError, match="layer 99 is not there"):
        refuse_at_a_glance(made, layer=99)
    with pytest.raises(ProbeError, match="head 99 is not there"):
        refuse_at_a_glance(made, head=99)


def test_what_cannot_be_seen_is_left_to_the_loader(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "other", "text_config": {"num_hidden_layers": 5}}')
    refuse_at_a_glance(tmp_path, "owner/name@main", "gpt2", None, layer=4, head=99)
    with pytest.raises(ProbeError, match="layers 0 to 4"):
        refuse_at_a_glance(tmp_path, layer=5)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelError, match="not readable JSON"):
        refuse_at_a_glance(tmp_path)
