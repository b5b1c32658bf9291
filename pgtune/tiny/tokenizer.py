"""The tokenizer of `tiny`: Gemma's class and rules, with a vocabulary learnt from text that this package writes.

As in the real one: ids 0 to 4 are `<pad> <eos> <bos> <unk> <mask>`, spaces become "▁", what has no token of its own
falls back to bytes, a digit is always one token, "\\n" is one token that merges with nothing, and after the base
vocabulary come `<loc0000>` to `<loc1023>`, `<seg000>` to `<seg127>` and `<image>`, in this order.
"""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise

from tokenizers import AddedToken
from transformers import GemmaTokenizer

from pgtune.data_adapters.generated.generated import GeneratedAdapter
from pgtune.data_adapters.generated.scenes import WORDS

MERGES = 460
SPECIAL = ("<pad>", "<eos>", "<bos>", "<unk>", "<mask>")
LOCATIONS = tuple(f"<loc{index:04d}>" for index in range(1024))
SEGMENTS = tuple(f"<seg{index:03d}>" for index in range(128))
IMAGE = "<image>"

ENGLISH = """
The picture shows a small town by the river. There is a long road between the houses and the forest, and the fields on
the other side are green in spring and brown in autumn. Seen from the air, the land is divided into parts: water,
forest, crop land, pasture, highway, industrial buildings, residential areas, bare rock and snow. An aerial image of
an airport shows runways, an image of a harbour shows ships. Which of these do you see in this satellite image? How
many buildings are there? The chart has a title, an axis for the year and an axis for the total. The highest value is
in the last month and the lowest value is in the first. What is the difference between the two? The share of each
country is given in percent. The table lists the name, the date, the price and the quantity of every item, with the
sum at the end. Sales increased by ten percent in one year and then they decreased again; the average is about the
same as before. Yes, more than half. No, less than half. The music is written on a staff with a treble clef, a key
signature and a time signature. There are whole notes, half notes, quarter notes and eighth notes, rests, sharps and
flats, in major or minor keys. The melody starts on the first line, goes up and comes down to the tonic. What is the
name of the third note? Is the interval a second, a third or a fifth? The chest image shows the heart and both lungs.
The heart size is normal and the lungs are clear. There is no pleural effusion, no pneumothorax and no focal
consolidation. Findings: normal. Impression: no acute disease. A fracture of the left rib is seen. What abnormality is
shown in the image, and where is it? The answer is short: right upper lobe. Describe the image in one sentence. Read
the text. Write what you see and nothing that you do not know. People can read and write, say and think; they want to
know who, what, when, where, why and how. He said that she was there, they were not, and it would have been good if we
had come with them. I think this is the most important question for all of us, because there could be something new
under the sun. Some days are long, others are short. My friend has been working here for many years. Monday, Tuesday,
Wednesday, Thursday, Friday, Saturday, Sunday; January, February, March, April, May, June, July, August, September,
October, November, December. One two three four five six seven eight nine ten, hundred, thousand, million. First name,
last name, address, city, street, number, phone, email, order, invoice, receipt, tax, amount due, date, cash.
"""
JSON = '{"name": "value", "items": [{"id": null, "price": true, "text": false}], "total": "", "type": "list"}\n'


def corpus() -> Counter[str]:
    """The words that the merges are learnt from, with their counts; a word carries the space before it as "▁"."""
    counts: Counter[str] = Counter()
    adapter = GeneratedAdapter(tasks=["caption", "texture", "detect", "answer", "chart", "music"])
    texts = [ENGLISH.replace("\n", " "), JSON]
    for index in range(2000):
        _, prefix, suffix, _ = adapter.scene("tokenizer", index)
        texts += [prefix, re.sub(r"<loc\d{4}>", "", suffix)]
    texts += [word for word in WORDS for _ in range(2)]
    texts += [f" {word}" for word in WORDS]
    for text in texts:
        # a word is letters only: digits, line breaks and punctuation therefore never take part in a merge
        counts.update(word.replace(" ", "▁") for word in re.findall(r" ?[A-Za-z]+", text))
    # the generator repeats few words very often; the square root lets the rest of the language have merges too
    return Counter({word: max(1, round(count**0.5)) for word, count in counts.items()})


def learn_merges(words: Counter[str], number: int) -> list[tuple[str, str]]:
    """Byte-pair merges, most frequent first; of equals the alphabetically first pair, so that it is reproducible."""
    pieces = {word: list(word) for word in words}
    merges = []
    for _ in range(number):
        pairs: Counter[tuple[str, str]] = Counter()
        for word, parts in pieces.items():
            for pair in pairwise(parts):
                pairs[pair] += words[word]
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        for parts in pieces.values():
            place = 0
            while place < len(parts) - 1:
                if (parts[place], parts[place + 1]) == best:
                    parts[place : place + 2] = ["".join(best)]
                place += 1
    return merges


def new_tokenizer() -> GemmaTokenizer:
    """Build the tokenizer, the same every time; `<loc>` and `<seg>` are ordinary tokens, `<image>` a special one."""
    merges = learn_merges(corpus(), MERGES)
    base = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), "\n", "▁"]
    base += [chr(code) for code in range(33, 127)]
    base += [first + second for first, second in merges]
    # two merges can make the same piece; dict.fromkeys keeps the first
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys(base))}
    tokenizer = GemmaTokenizer(vocab=vocabulary, merges=merges, padding_side="right")
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in (*LOCATIONS, *SEGMENTS)])
    tokenizer.add_special_tokens({"additional_special_tokens": [AddedToken(IMAGE, normalized=False, special=True)]})
    return tokenizer
