"""The word list and the tokenizer of the small text tower, written as the files that `transformers` loads."""

from __future__ import annotations

import re
from pathlib import Path

from clipvil.files import atomic_write_json
from clipvil.mini.captions import (
    COLOR_WORDS,
    JUNK,
    NUMBERS,
    PLURALS,
    SHAPE_WORDS,
    SIZE_WORDS,
    TEXTURE_WORDS,
    WHERE,
)
from clipvil.mini.world import BACKGROUNDS, COLORS, SHAPES

CONTEXT = 32
"""Longest text in tokens, with the two markers."""
PAD, START, END, UNKNOWN = 0, 1, 2, 3
SPECIAL = ("<pad>", "<start>", "<end>", "<unknown>")
FUNCTION_WORDS = """
a an the and or of to in on at next left right above below there is are this that with no not some many few
drawing image photo picture pattern background color shape size texture what how which where does do it its
yes object objects shapes thing things more than same as between near beside under over top bottom middle
"""


def words() -> list[str]:
    """All words of the miniature world in alphabetical order."""
    found = set(FUNCTION_WORDS.split()) | set(SHAPES) | set(COLORS) | set(BACKGROUNDS) | set(NUMBERS)
    found |= set(PLURALS) | set(PLURALS.values())
    for table in (WHERE, TEXTURE_WORDS, SIZE_WORDS, COLOR_WORDS, SHAPE_WORDS):
        for texts in table.values():
            found |= {word for text in texts for word in text.split()}
    found |= {word for text in JUNK for word in text.split()}
    return sorted(found)


class WordTable:
    """Words to ids, the same as the tokenizer file gives but without its overhead (training reads 250,000 texts)."""

    def __init__(self) -> None:
        self.ids = {word: i for i, word in enumerate([*SPECIAL, *words()])}

    def __len__(self) -> int:
        return len(self.ids)

    def encode(self, text: str) -> list[int]:
        """Ids with both markers, cut to `CONTEXT` with the end marker kept, not padded."""
        body = [self.ids.get(word, UNKNOWN) for word in re.sub(r"[^a-z0-9 ]", " ", text.lower()).split()]
        return [START, *body[: CONTEXT - 2], END]


def write_tokenizer(folder: Path) -> None:
    """Write `tokenizer.json` (format of the `tokenizers` package) and `tokenizer_config.json` into `folder`."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

    table = WordTable()
    tokenizer = Tokenizer(models.WordLevel(table.ids, unk_token=SPECIAL[UNKNOWN]))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Lowercase(), normalizers.Replace(Regex("[^a-z0-9 ]"), " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{SPECIAL[START]} $A {SPECIAL[END]}",
        special_tokens=[(SPECIAL[START], START), (SPECIAL[END], END)],
    )
    tokenizer.add_special_tokens(list(SPECIAL))
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    atomic_write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": CONTEXT,
            "padding_side": "right",
            "pad_token": SPECIAL[PAD],
            "bos_token": SPECIAL[START],
            "eos_token": SPECIAL[END],
            "unk_token": SPECIAL[UNKNOWN],
        },
    )
