"""`pgtune audit`: what it finds in splits that are not honest, and that it finds nothing in one that is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pgtune.audit import Audit, audit, audit_splits, render
from pgtune.cli import main
from pgtune.data import Examples, open_source
from pgtune.example import load_adapter
from pgtune.overlaps import group_overlaps
from pgtune.recipe import Recipe, Source, load_recipe


def picture(folder: Path, seed: int) -> str:
    """A picture of noise, the same for the same seed."""
    name = f"{seed}.png"
    if not (folder / name).exists():
        small = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(small).resize((64, 64), Image.Resampling.BICUBIC).save(folder / name)
    return name


def row(folder: Path, seed: int, suffix: str = "yes", prefix: str = "answer en what?", **more: Any) -> dict[str, Any]:
    return {"image": picture(folder, seed), "prefix": prefix, "suffix": suffix, **more}


def opened(folder: Path, **splits: list[dict[str, Any]]) -> dict[str, Examples]:
    found = {}
    for name, rows in splits.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
        found[name] = open_source(Source(source=str(folder), split=name), load_adapter("jsonl"))
    return found


def look(folder: Path, **splits: list[dict[str, Any]]) -> Audit:
    return audit_splits(opened(folder, **splits), ["exact_match"])


def kinds(result: Audit) -> set[str]:
    return {finding.kind for finding in result.findings}


def test_an_honest_split_has_no_findings(tmp_path: Path) -> None:
    train = [row(tmp_path, seed, "yes" if seed % 3 else "no") for seed in range(40)]
    test = [row(tmp_path, seed, "yes" if seed % 3 else "no") for seed in range(100, 112)]
    result = look(tmp_path, train=train, test=test)
    assert result.findings == ()
    assert result.splits["train"] == {"examples": 40, "pictures": 40, "prompts": 1, "answers": 2, "skipped": 0}
    assert (result.trivial_answer, result.trivial) == ("yes", {"exact_match": pytest.approx(8 / 12)})
    assert result.labels["test"] == [("yes", 8), ("no", 4)]
    assert "nothing found that speaks against the split" in render(result)


def test_the_same_picture_under_another_name(tmp_path: Path) -> None:
    train = [row(tmp_path, seed) for seed in range(10)]
    test = [row(tmp_path, seed) for seed in range(20, 24)]
    Image.open(tmp_path / "3.png").save(tmp_path / "copy.bmp")
    Image.open(tmp_path / "4.png").resize((128, 128), Image.Resampling.BICUBIC).save(tmp_path / "big.jpg", quality=80)
    test += [{**test[0], "image": "copy.bmp"}, {**test[0], "image": "big.jpg"}]
    result = look(tmp_path, train=train, test=test)
    same, near = result.findings
    assert (same.kind, same.splits, same.count, same.of) == ("pictures", ("train", "test"), 1, 6)
    assert same.message == "show the same picture as an example of train"
    assert same.places[0].endswith("test.jsonl:5")
    assert (near.count, near.message) == (1, "show nearly the same picture as an example of train")
    assert near.places[0].endswith("test.jsonl:6")


def test_all_examples_of_a_shared_picture_are_counted(tmp_path: Path) -> None:
    train = [row(tmp_path, seed) for seed in range(5)]
    test = [row(tmp_path, 2, prefix="answer en a?"), row(tmp_path, 2, prefix="answer en b?"), row(tmp_path, 9)]
    (finding,) = (one for one in look(tmp_path, train=train, test=test).findings if one.kind == "pictures")
    assert (finding.count, finding.of) == (2, 3)


def test_a_patient_on_both_sides_is_counted_and_never_named(tmp_path: Path) -> None:
    train = [row(tmp_path, seed, groups={"patient": f"Muster^{seed % 4}"}) for seed in range(12)]
    test = [row(tmp_path, seed, groups={"patient": f"Muster^{seed % 6}"}) for seed in range(100, 112)]
    splits = opened(tmp_path, train=train, test=test)
    (finding,) = group_overlaps(splits)
    assert (finding.kind, finding.splits, finding.count, finding.of) == ("groups", ("train", "test"), 8, 12)
    assert finding.message == "belong to 4 patients that train holds too"
    assert "Muster" not in json.dumps(audit_splits(splits, ["exact_match"]).document())


def test_picture_files_are_compared_by_path_where_none_is_opened(tmp_path: Path) -> None:
    train, test = [row(tmp_path, seed) for seed in range(5)], [row(tmp_path, seed) for seed in range(4, 8)]
    result = audit_splits(opened(tmp_path, train=train, test=test), ["exact_match"], pictures=False)
    (finding,) = result.findings
    assert finding.message == "belong to 1 picture that train holds too"
    assert finding.count == 1


def test_a_prompt_that_train_never_uses(tmp_path: Path) -> None:
    train = [row(tmp_path, seed) for seed in range(30)]
    test = [row(tmp_path, 50), row(tmp_path, 51, prefix="answer en What?")]
    (finding,) = look(tmp_path, train=train, test=test).findings
    assert finding.kind == "prompts"
    assert finding.message == "have a prompt that train never uses (train has 1, such as 'answer en what?')"
    assert finding.places[0].endswith("test.jsonl:2")


def test_prompts_that_are_questions_are_compared_by_their_shape(tmp_path: Path) -> None:
    train = [row(tmp_path, seed, prefix=f"answer en is it {seed}?") for seed in range(60)]
    test = [row(tmp_path, 100 + seed, prefix=f"is it {seed}") for seed in range(10)]
    result = look(tmp_path, train=train, test=test)
    assert [finding.message for finding in result.findings] == [
        "have a prompt that begins with two words no prompt of train begins with",
        "have a prompt that ends in a letter or digit, in train 0 % do",
    ]
    others = [row(tmp_path, 100 + seed, prefix=f"answer en is it {seed + 1000}?") for seed in range(10)]
    assert look(tmp_path, train=train, test=others).findings == ()


def test_one_question_with_two_answers(tmp_path: Path) -> None:
    train = [row(tmp_path, seed) for seed in range(10)]
    train += [row(tmp_path, 3, "no"), row(tmp_path, 4, "yes")]
    (finding,) = look(tmp_path, train=train, test=[row(tmp_path, 50)]).findings
    assert (finding.kind, finding.count) == ("contradictions", 1)
    assert finding.places[0].endswith("train.jsonl:11")


def test_an_answer_that_is_another_reference_is_no_contradiction(tmp_path: Path) -> None:
    both = {"references": ["yes", "yeah"]}
    train = [row(tmp_path, 1, "yes", **both), row(tmp_path, 1, "yeah", **both)]
    assert look(tmp_path, train=train, test=[row(tmp_path, 50)]).findings == ()


def test_an_answer_that_train_never_gives(tmp_path: Path) -> None:
    train = [row(tmp_path, seed, "yes" if seed % 2 else "no") for seed in range(20)]
    (finding,) = look(tmp_path, train=train, test=[row(tmp_path, 50), row(tmp_path, 51, "maybe")]).findings
    assert (finding.kind, finding.count, finding.of) == ("labels", 1, 2)


def test_white_space_at_an_end(tmp_path: Path) -> None:
    train = [row(tmp_path, seed, "yes " if seed < 3 else "yes") for seed in range(20)]
    findings = look(tmp_path, train=train, test=[row(tmp_path, 50)]).findings
    assert [(finding.kind, finding.count) for finding in findings] == [("answers", 3)]


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    long = "seven eight nine ten eleven twelve thirteen"
    opened(tmp_path, train=[row(tmp_path, seed) for seed in range(10)], test=[row(tmp_path, 50, long)])
    (tmp_path / "r.yaml").write_text(
        f"model: {{base: tiny}}\nlora: {{}}\ndata: {{train: {tmp_path}, test: {tmp_path}, max_text_tokens: 8}}\n"
        f"eval: {{max_new_tokens: 4}}\noutput_dir: {tmp_path}/run\n"
    )
    return load_recipe(str(tmp_path / "r.yaml"))


def test_answers_that_do_not_fit(recipe: Recipe) -> None:
    result = audit(recipe, pictures=False)
    messages = [finding.message for finding in result.findings if finding.kind == "answers"]
    (text, answer) = sorted(messages)
    assert text.startswith("prefix and suffix can reach") and text.endswith("data.max_text_tokens = 8")  # noqa: PT018
    assert answer.startswith("the longest answer has") and answer.endswith("eval.max_new_tokens = 4")  # noqa: PT018
    assert result.lengths["test"]["longest_suffix"] > 4


def test_the_verb(recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", str(tmp_path / "r.yaml"), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["splits"]["train"]["examples"] == 10
    assert {finding["kind"] for finding in document["findings"]} == {"answers", "labels"}
    assert main(["audit", str(tmp_path / "r.yaml"), "--no-pictures"]) == 0
    assert "warning: test: the longest answer has" in capsys.readouterr().out


def test_a_picture_that_does_not_open_is_named_by_its_row(recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "4.png").write_bytes(b"no picture")
    assert main(["audit", str(tmp_path / "r.yaml")]) == 2


def test_training_and_evaluation_warn_of_patients_on_both_sides(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = [row(tmp_path, seed, groups={"patient": f"Muster^{seed % 3}"}) for seed in range(8)]
    test = [row(tmp_path, 50 + seed, groups={"patient": f"Muster^{seed % 6}"}) for seed in range(6)]
    opened(tmp_path, train=train, test=test)
    (tmp_path / "r.yaml").write_text(
        f"model: {{base: tiny}}\nlora: {{rank: 2}}\ndata: {{train: {tmp_path}, test: {tmp_path}}}\n"
        "train: {max_steps: 1, batch_size: 2}\neval: {max_new_tokens: 2, before: false}\n"
        f"output_dir: {tmp_path}/run\n"
    )
    warning = "test: 3 of 6 (50 %) belong to 3 patients that train holds too"
    assert main(["train", str(tmp_path / "r.yaml")]) == 0
    assert f"warning    {warning}\n" in capsys.readouterr().err
    assert main(["evaluate", str(tmp_path / "run"), "--json"]) == 0
    said = capsys.readouterr()
    assert f"warning    {warning}\n" in said.err
    assert json.loads(said.out)["warnings"] == [warning]
    assert "Muster" not in (tmp_path / "run" / "overlaps.json").read_text()
    assert main(["evaluate", str(tmp_path / "run"), "--split", "train", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["warnings"] == [warning], "it concerns both sides"
