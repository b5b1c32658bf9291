"""`pgtune audit`: is the split honest, and do the texts fit? Looked at before a score is believed.

What is looked for: the same or nearly the same picture on both sides, the same group (patient, work, scene) on both
sides, prompts of the test that training never saw, answers that are cut off, one question with two answers, how
frequent each answer is, and what the most frequent answer alone would score.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from typing import Any

from pgtune import metrics
from pgtune.data import Examples
from pgtune.errors import DataError
from pgtune.example import ImageSource
from pgtune.groups import picture_identities
from pgtune.lookalikes import Print, lookalikes, print_of
from pgtune.overlaps import Finding, finding_of, group_overlaps
from pgtune.progress import Progress
from pgtune.recipe import Recipe
from pgtune.splits import open_splits

__all__ = ["Audit", "audit", "audit_splits", "render"]

_FREQUENT = 8
_PROMPT_SHARE = 0.02


@dataclass(frozen=True)
class Audit:
    """What an audit found. ``splits`` holds counts, ``labels`` the most frequent answers of each split, ``trivial``
    what answering only ``trivial_answer`` scores on the last split."""

    splits: dict[str, dict[str, int]]
    findings: tuple[Finding, ...]
    labels: dict[str, list[tuple[str, int]]]
    lengths: dict[str, dict[str, int]] = field(default_factory=dict)
    trivial_answer: str = ""
    trivial: dict[str, float] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """The same as JSON values."""
        return asdict(self)


def audit(recipe: Recipe, *, pictures: bool = True) -> Audit:
    """Look at the splits of a recipe; ``pictures``: decode and compare them. No weights are loaded.

    Raises DataError and AdapterError as reading the data does, ModelError where the base's tokenizer cannot be read.
    """
    from pgtune.model import base_folder_or_id, explained
    from pgtune.processor import load_processor

    splits = open_splits(recipe, verify="none")
    with explained(recipe.model.base):
        processor = load_processor(base_folder_or_id(recipe.model.base), recipe.model.revision)
    return audit_splits(
        splits,
        recipe.eval.metrics,
        tokenizer=processor.tokenizer,
        max_text_tokens=recipe.data.max_text_tokens,
        max_new_tokens=recipe.eval.max_new_tokens,
        pictures=pictures,
    )


def audit_splits(
    splits: Mapping[str, Examples],
    metric_names: Sequence[str],
    *,
    tokenizer: Any = None,
    max_text_tokens: int | None = None,
    max_new_tokens: int | None = None,
    pictures: bool = True,
) -> Audit:
    """Look at the splits of a recipe, ``train`` first.

    ``tokenizer``: of the base, to measure texts with; None leaves that out. ``pictures``: decode and compare them.
    Raises DataError where a picture cannot be opened, naming the row.
    """
    read = {name: _Read(name, examples) for name, examples in splits.items()}
    findings: list[Finding] = []
    if pictures:
        findings += _pictures(read)
    findings += group_overlaps(splits, pictures=not pictures)
    findings += _prompts(read)
    lengths: dict[str, dict[str, int]] = {}
    if tokenizer is not None:
        lengths = {name: one.lengths(tokenizer) for name, one in read.items()}
        findings += _too_long(lengths, max_text_tokens, max_new_tokens, read)
    for one in read.values():
        findings += one.contradictions()
        findings += one.edges()
    findings += _unseen_labels(read)
    scored = list(splits)[-1]
    examples = splits[scored]
    references = [examples[index].references for index in range(len(examples))]
    answer = metrics.trivial_answer(references)
    types = [examples[index].question_type for index in range(len(examples))]
    parts = [examples[index].part for index in range(len(examples))]
    trivial = {}
    for name in metric_names:
        if name == "map":
            continue  # a detector that always answers alike has no score worth knowing
        trivial[name] = metrics.compute(
            name, [answer] * len(examples), references, parts=parts, question_types=types, where=examples.where
        ).value
    return Audit(
        splits={name: one.counts() for name, one in read.items()},
        findings=tuple(findings),
        labels={name: one.suffixes.most_common(_FREQUENT) for name, one in read.items()},
        lengths=lengths,
        trivial_answer=answer,
        trivial=trivial,
    )


class _Read:
    """What one pass over a split collects."""

    def __init__(self, name: str, examples: Examples) -> None:
        self.name, self.examples = name, examples
        self.prefixes: Counter[str] = Counter()
        self.suffixes: Counter[str] = Counter()
        self.images: dict[str, int] = {}  # a picture's key -> the first example that shows it
        self.of_image: list[tuple[str, ...]] = []
        asked: dict[tuple[tuple[str, ...], str], tuple[str, int]] = {}
        self.clashes: list[int] = []
        self.spaced: list[int] = []
        for index in range(len(examples)):
            example = examples[index]
            keys = tuple(picture_identities(example))
            self.of_image.append(keys)
            for key in keys:
                self.images.setdefault(key, index)
            self.prefixes[example.prefix] += 1
            self.suffixes[example.suffix] += 1
            if example.suffix != example.suffix.strip() or example.prefix != example.prefix.strip():
                self.spaced.append(index)
            first = asked.setdefault((keys, example.prefix), (example.suffix, index))
            if first[0] != example.suffix and example.suffix not in examples[first[1]].references:
                self.clashes.append(index)

    def counts(self) -> dict[str, int]:
        return {
            "examples": len(self.examples),
            "pictures": len(self.images),
            "prompts": len(self.prefixes),
            "answers": len(self.suffixes),
            "skipped": self.examples.skipped,
        }

    def sources(self) -> list[ImageSource]:
        found = []
        for key, index in self.images.items():
            place = self.of_image[index].index(key)
            found.append(self.examples[index].images[place])
        return found

    def lengths(self, tokenizer: Any) -> dict[str, int]:
        """Tokens of the longest prefix and suffix, and of nearly all (99 %) suffixes."""

        def counts(texts: Iterable[str]) -> list[int]:
            return [len(ids) for ids in tokenizer(list(texts), add_special_tokens=False)["input_ids"]]

        suffixes = sorted(
            length
            for length, count in zip(counts(self.suffixes), self.suffixes.values(), strict=True)
            for _ in range(count)
        )
        return {
            "longest_prefix": max(counts(self.prefixes)),
            "longest_suffix": suffixes[-1],
            "suffix_99_percent": suffixes[min(len(suffixes) - 1, int(0.99 * len(suffixes)))],
        }

    def contradictions(self) -> list[Finding]:
        if not self.clashes:
            return []
        return [
            finding_of(
                "contradictions",
                (self.name,),
                "ask the same about the same picture as an earlier row and answer otherwise",
                self.clashes,
                self.examples,
            )
        ]

    def edges(self) -> list[Finding]:
        if not self.spaced:
            return []
        message = "have white space at an end of prefix or suffix, which the model will learn, or stumble over"
        return [finding_of("answers", (self.name,), message, self.spaced, self.examples)]


def _pictures(read: Mapping[str, _Read]) -> list[Finding]:
    total = sum(len(one.images) for one in read.values())
    marks: dict[str, list[Print]] = {}
    sources = {name: one.sources() for name, one in read.items()}
    with Progress(total, "pictures") as progress:
        for name, one in read.items():
            marks[name] = []
            for source, index in zip(sources[name], one.images.values(), strict=True):
                try:
                    marks[name].append(print_of(source))
                except DataError as error:
                    raise DataError(f"{one.examples.where(index)}: {error}") from error
                progress.advance()
    found = []
    for first, second in combinations(read, 2):
        alike = lookalikes(sources[second], marks[second], sources[first], marks[first])
        for kind in ("same", "nearly the same"):
            keys = list(read[second].images)
            affected = {keys[one.index] for one in alike if one.kind == kind}
            indices = [i for i, shown in enumerate(read[second].of_image) if affected.intersection(shown)]
            if indices:
                words = "the same picture as an example" if kind == "same" else "nearly the same picture as an example"
                message = f"show {words} of {first}"
                found.append(finding_of("pictures", (first, second), message, indices, read[second].examples))
    return found


def _shape(prefix: str) -> str:
    """What kind of prompt it is: its first two words, "answer en"."""
    return " ".join(prefix.split()[:2]).lower()


def _prompts(read: Mapping[str, _Read]) -> list[Finding]:
    if "train" not in read:
        return []
    train = read["train"]
    fixed = len(train.prefixes) <= max(20, len(train.examples) // 50)
    shapes = {_shape(prefix) for prefix in train.prefixes}
    endings = _endings(train.prefixes)
    found = []
    for name, one in read.items():
        if name == "train":
            continue
        total = len(one.examples)
        if fixed:
            new = [i for i in range(total) if one.examples[i].prefix not in train.prefixes]
            if new:
                known = ", ".join(repr(prefix) for prefix, _ in train.prefixes.most_common(3))
                message = f"have a prompt that train never uses (train has {len(train.prefixes)}, such as {known})"
                found.append(finding_of("prompts", ("train", name), message, new, one.examples))
            continue
        new = [i for i in range(total) if _shape(one.examples[i].prefix) not in shapes]
        if len(new) > _PROMPT_SHARE * total:
            message = "have a prompt that begins with two words no prompt of train begins with"
            found.append(finding_of("prompts", ("train", name), message, new, one.examples))
        for ending, share in _endings(one.prefixes).items():
            if abs(share - endings.get(ending, 0.0)) > 0.5:
                indices = [i for i in range(total) if _ending(one.examples[i].prefix) == ending]
                other = 100 * endings.get(ending, 0.0)
                message = f"have a prompt that ends in {ending}, in train {other:.0f} % do"
                found.append(finding_of("prompts", ("train", name), message, indices, one.examples))
    return found


def _ending(prefix: str) -> str:
    mark = re.search(r"[^\w\s]\s*$", prefix)
    return repr(mark[0].strip()) if mark else "a letter or digit"


def _endings(prefixes: Counter[str]) -> dict[str, float]:
    counts: Counter[str] = Counter()
    for prefix, count in prefixes.items():
        counts[_ending(prefix)] += count
    return {ending: count / prefixes.total() for ending, count in counts.items()}


def _too_long(
    lengths: Mapping[str, Mapping[str, int]],
    max_text_tokens: int | None,
    max_new_tokens: int | None,
    read: Mapping[str, _Read],
) -> list[Finding]:
    found = []
    for name, one in lengths.items():
        total = len(read[name].examples)
        longest = one["longest_suffix"] + 1  # <eos>
        if name != "train" and max_new_tokens is not None and longest > max_new_tokens:
            message = f"the longest answer has {longest} tokens with <eos>, eval.max_new_tokens = {max_new_tokens}"
            found.append(Finding("answers", (name,), message, 1, total))
        both = one["longest_prefix"] + one["longest_suffix"] + 3
        if name == "train" and max_text_tokens is not None and both > max_text_tokens:
            message = f"prefix and suffix can reach {both} tokens, data.max_text_tokens = {max_text_tokens}"
            found.append(Finding("answers", (name,), message, 1, total))
    return found


def _unseen_labels(read: Mapping[str, _Read]) -> list[Finding]:
    """Answers of the test that training never saw, where answers are labels: few different ones for many examples."""
    if "train" not in read:
        return []
    train = read["train"]
    if len(train.suffixes) > len(train.examples) / 4:
        return []
    found = []
    for name, one in read.items():
        unseen = [i for i in range(len(one.examples)) if one.examples[i].suffix not in train.suffixes]
        if name != "train" and unseen:
            message = "have an answer that train never gives"
            found.append(finding_of("labels", ("train", name), message, unseen, one.examples))
    return found


def render(audit: Audit) -> str:
    """An audit for a terminal."""
    lines = []
    for name, counts in audit.splits.items():
        lines.append(f"{name:12}" + ", ".join(f"{count:,} {what}" for what, count in counts.items() if count))
    lines.append("")
    for name, labels in audit.labels.items():
        total = audit.splits[name]["examples"]
        frequent = ", ".join(f"{_short(text)} {100 * count / total:.0f} %" for text, count in labels)
        lines.append(f"{name:12}most frequent answers: {frequent}")
    for name, one in audit.lengths.items():
        words = f"longest prefix {one['longest_prefix']} tokens, longest suffix {one['longest_suffix']}"
        lines.append(f"{name:12}{words} (99 % have at most {one['suffix_99_percent']})")
    if audit.trivial:
        scores = ", ".join(f"{name} {value:.3f}" for name, value in audit.trivial.items())
        lines += ["", f"always answering {_short(audit.trivial_answer)} scores: {scores}"]
    lines.append("")
    for finding in audit.findings:
        lines.append(f"warning: {finding.words()}")
        if finding.places:
            more = f" and {finding.count - len(finding.places):,} more" if finding.count > len(finding.places) else ""
            lines.append(f"         {', '.join(finding.places)}{more}")
    if not audit.findings:
        lines.append("nothing found that speaks against the split")
    return "\n".join(lines)


def _short(text: str) -> str:
    return repr(text if len(text) <= 30 else text[:27] + "...")
