"""What of a run folder leaves: each file and key by its name, and nothing that lies beside them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import recipe_for, write_rows
from safetensors.numpy import load_file, save_file

from pgtune.adapting import adapt
from pgtune.data_adapters.radiology.mimic_cxr import MimicCxrAdapter
from pgtune.errors import ModelError, RunError
from pgtune.hub.arguments import public_arguments
from pgtune.hub.cards import card_of
from pgtune.hub.contents import Contents, gather
from pgtune.hub.credentialed import MARK, origin_named, origin_of
from pgtune.hub.privacy import check_private
from pgtune.hub.published import adapter_on_hub, given_texts, public_finding
from pgtune.hub.weights import check_adapter, check_numbers, check_shards, shards_of
from pgtune.overlaps import Finding

CANARY = "CANARY"


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory, small_bases: dict[str, Path], data: Path) -> Path:
    """A finished run with LoRA. Do not write into it."""
    from pgtune import train

    run = tmp_path_factory.mktemp("small-run") / "run"
    more = ("train.max_steps=1", "eval.before=false", f"data.test={data / 'test.jsonl'}")
    train(recipe_for(small_bases["paligemma2"], data, run, *more))
    return run


@pytest.fixture
def run(small_run: Path, tmp_path: Path) -> Path:
    """A copy of the run, to be changed."""
    shutil.copytree(small_run, tmp_path / "run")
    return tmp_path / "run"


def leaves(run: Path, **more: Any) -> tuple[Contents, dict[str, bytes]]:
    """What a push would send, the card included, after the look at it."""
    contents = gather(run, name="x", base="org/base", **more)
    files: dict[str, Path | bytes] = {**contents.files, "README.md": card_of(contents, "org/x").encode()}
    problems = check_private(files, given=given_texts(contents.recipe), public=("org/x", "org/base"))
    if problems:
        raise RunError("; ".join(problems))
    return contents, {name: of if isinstance(of, bytes) else of.read_bytes() for name, of in files.items()}


def told(run: Path, **more: Any) -> list[str]:
    """The files that hold the canary, by name or content."""
    return [name for name, of in leaves(run, **more)[1].items() if CANARY.encode() in of or CANARY in name]


def change(file: Path, **keys: Any) -> None:
    """Other keys in a JSON file."""
    file.write_text(json.dumps({**json.loads(file.read_text()), **keys}))


def change_recipe(run: Path, **keys: Any) -> None:
    """Other values in the run's recipe; two underlines lead into a section."""
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    for key, value in keys.items():
        *sections, last = key.split("__")
        place = recipe
        for section in sections:
            place = place[section]
        place[last] = value
    (run / "recipe.yaml").write_text(yaml.safe_dump(recipe))


# Files

BESIDE = (
    "processor/notes.txt", "processor/patients.json", "processor/predictions.json", "processor/memory.json",
    "processor/chat_template.jinja", "processor/secret.model", "processor/vocab.json", "adapter/notes.json",
    "report.html", "memory.json", "predictions.jsonl", "log.jsonl", "checkpoints/step-1/x.json",
)  # fmt: skip


def test_a_file_that_lies_beside_the_others_stays(run: Path) -> None:
    before = leaves(run)[1].keys()
    for name in BESIDE:
        file = run / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            file.write_text(json.dumps({"at": CANARY}))
    (run / "processor" / "folder.json").mkdir()
    assert leaves(run)[1].keys() == before
    assert told(run) == []


def test_a_link_out_of_the_run_is_refused(run: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.json"
    for name in ("processor/tokenizer.json", "processor/processor_config.json", "adapter/adapter_config.json"):
        file = run / name
        shutil.copy(file, outside)
        file.unlink()
        file.symlink_to(outside)
        with pytest.raises(RunError, match="is a link out of"):
            leaves(run)
        file.unlink()
        shutil.copy(outside, file)


def test_keys_that_nobody_knows_stay(run: Path) -> None:
    mappings = {"loftq_config": {"note": CANARY}, "auto_mapping": {"x": CANARY}}
    change(run / "adapter" / "adapter_config.json", note=CANARY, **mappings)
    change(run / "processor" / "processor_config.json", note=CANARY, deep={"note": CANARY, "list": [{"a": CANARY}]})
    change(run / "processor" / "tokenizer_config.json", name_or_path=CANARY, listed=[{"name_or_path": CANARY}])
    change(run / "metrics.json", note=CANARY, after={"exact_match": 1.0, CANARY: 1.0}, left_out={CANARY: {}})
    change(run / "status.json", note=CANARY, data=CANARY)
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["scores"]["after"]["exact_match"]["classes"] = {CANARY: 1.0}
    (run / "metrics.json").write_text(json.dumps(metrics))
    change_recipe(run, versions={"device": f"{CANARY} at /nfs/x", CANARY: CANARY, "torch": "2.0"})
    assert told(run) == []
    assert leaves(run)[0].versions == {"torch": "2.0"}
    change(run / "processor" / "tokenizer.json", note=CANARY)
    with pytest.raises(RunError, match="which no tokenizer's file has"):
        leaves(run)


@pytest.mark.parametrize("content", ["[]", "null", "{}", '{"scores": {"after": {"exact_match": {}}}}'])
def test_damaged_metrics_are_one_message(run: Path, content: str) -> None:
    (run / "metrics.json").write_text(content)
    with pytest.raises(RunError, match="damaged"):
        leaves(run)


def test_shards_are_those_of_the_index(tmp_path: Path) -> None:
    for number, name in enumerate(("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")):
        save_file({f"weight{number}": np.zeros(2, np.float32)}, tmp_path / name, {"format": "pt"})
    save_file({"x": np.zeros(1)}, tmp_path / f"model_backup_{CANARY}.safetensors")
    index = tmp_path / "model.safetensors.index.json"

    def check(weight_map: dict[str, str]) -> None:
        index.write_text(json.dumps({"weight_map": weight_map}))
        named = shards_of(index)
        check_shards(index, named, {shard: check_numbers(tmp_path / shard) for shard in set(named.values())})

    first, second = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
    check({"weight0": first, "weight1": second})
    wrong = [{"weight0": first}, {"weight0": second, "weight1": first}, {"weight0": first, "weight1": first}]
    wrong += [{"weight0": "model-00003-of-00002.safetensors"}, {"weight0": f"model_backup_{CANARY}.safetensors"}]
    wrong += [{"weight0": first, "weight1": second, "weight2": second}]
    for weight_map in wrong[1:]:
        with pytest.raises(ModelError):
            check(weight_map)


def test_weights_are_those_of_the_configuration(run: Path) -> None:
    file = run / "adapter" / "adapter_model.safetensors"
    config = json.loads((run / "adapter" / "adapter_config.json").read_text())
    whole = load_file(file)
    first = next(name for name in whole if "lora_A" in name)
    cases: dict[str, dict[str, Any]] = {
        "lacks lora_A": {name: weight for name, weight in whole.items() if name != first},
        "NaN": whole | {first: np.full(whole[first].shape, np.nan, np.float16)},
        "no LoRA weights": {"x": np.zeros(1, np.float32)},
        "is no weight that": whole | {"base_model.model.x": np.zeros(1, np.float32)},
        "of rank": whole | {first: np.zeros((9, 4), np.float32)},
        "of the type": {name: weight.astype(np.int32) for name, weight in whole.items()},
    }
    for message, weights in cases.items():
        save_file(weights, file, {"format": "pt"})
        with pytest.raises(ModelError, match=message):
            leaves(run)
    save_file(whole, file, {"format": "pt", "note": CANARY})
    with pytest.raises(ModelError, match="has notes beside the weights"):
        leaves(run)
    save_file(whole, file, {"format": "pt"})
    header = check_numbers(file)
    with pytest.raises(ModelError, match="projector are missing"):
        check_adapter(file, header, {**config, "modules_to_save": ["multi_modal_projector"]})
    with pytest.raises(ModelError, match="lora_magnitude_vector"):
        check_adapter(file, header, {**config, "use_dora": True})


# What the recipe tells

@pytest.mark.parametrize(
    ("adapter", "arguments", "kept"),
    [
        ("csv", {"prefix": "question", "suffix_template": f"{CANARY}"}, {"prefix": "question"}),
        ("csv", {"groups": {"patient": "PatientID"}}, {"groups": {"patient": "PatientID"}}),
        ("csv", {"groups": {CANARY: "PatientID"}, "separator": f"{CANARY}", "delimiter": ";"}, {"delimiter": ";"}),
        ("voc", {"prefix": CANARY, "classes": [CANARY], "labels": {"a": CANARY}, "order": "x"}, {"order": "x"}),
        ("voc", {"prefix": "detect {classes}"}, {"prefix": "detect {classes}"}),
        ("scene_folder", {"question": CANARY, "names": {"n1": CANARY}, "bands": [1, 2]}, {"bands": [1, 2]}),
        ("dicom", {"labels": f"/nfs/{CANARY}/labels.csv"}, {"labels": "labels.csv"}),
        ("my.module:Thing", {"size": 3, "on": True, "text": CANARY, "deep": [{"a": CANARY}]}, {"size": 3, "on": True}),
        ("my.module:Thing", {f"/nfs/{CANARY}/x": 1}, {}),
    ],
)
def test_arguments_that_are_text_of_the_data_stay(
    adapter: str, arguments: dict[str, Any], kept: dict[str, Any]
) -> None:
    found, left_out = public_arguments(adapter, arguments, texts=False)
    assert found == kept
    assert len(left_out) == len(arguments) - len(kept)
    assert CANARY not in "".join(left_out)


def test_the_card_names_the_arguments_that_are_left_out(run: Path) -> None:
    arguments = {"prefix_template": f"{CANARY} what?", "suffix": "answer"}
    change_recipe(run, data__adapter="csv", data__adapter_args=arguments)
    contents, files = leaves(run)
    assert contents.recipe.data.adapter_args == {"suffix": "answer"}
    assert told(run) == []
    assert "Left out there, as they are text: `prefix_template`" in files["README.md"].decode()
    assert json.loads(files["pgtune/status.json"])["left_out_arguments"] == ["prefix_template"]
    contents, files = leaves(run, with_examples=True)
    assert contents.recipe.data.adapter_args == arguments
    assert "Left out" not in files["README.md"].decode()


def test_only_known_kinds_of_groups_are_told(run: Path) -> None:
    words = f"belong to 1 {CANARY}^John 1957 that train holds too"
    finding = {"kind": "groups", "splits": ["train", "test"], "message": words, "count": 1, "of": 2, "places": ["a:1"]}
    (run / "overlaps.json").write_text(json.dumps([finding]))
    change_recipe(run, data__split_by=CANARY, data__test=None, data__test_share=0.2)
    assert told(run) == []
    assert "test: 1 of 2 (50 %) belong to 1 group that train holds too" in leaves(run)[1]["README.md"].decode()
    patients = Finding("groups", ("train", "test"), "belong to 3 patients that train holds too", 4, 8, ("a:1",))
    assert public_finding(patients).words() == "test: 4 of 8 (50 %) belong to 3 patients that train holds too"
    for damaged in ({"splits": []}, {"splits": [CANARY]}, {"count": "<b>"}):
        (run / "overlaps.json").write_text(json.dumps([finding | damaged]))
        with pytest.raises(RunError, match="damaged"):
            leaves(run)


def test_the_run_that_it_went_on_from(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for given in (f"/nfs/{CANARY}/run", f"../{CANARY}", f"runs/{CANARY}/first", f"runs/{CANARY}"):
        change_recipe(run, model__adapter=given)
        assert told(run) == []
        assert "an earlier run" in leaves(run)[1]["README.md"].decode()
    noted = {"adapter_on_hub": True}
    assert adapter_on_hub("org/name@v1", run, noted) == "org/name@v1"
    assert adapter_on_hub("org/name", run, {"adapter_on_hub": False}) is None
    assert adapter_on_hub("org/name", run, {}) is None
    (tmp_path / "org" / "name").mkdir(parents=True)
    assert adapter_on_hub("org/name", run, noted) is None  # beside the run
    (tmp_path / "elsewhere" / "runs" / "first").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert adapter_on_hub("runs/first", run, noted) is None  # below the working directory


# Credentialed data

class Mine(MimicCxrAdapter):
    """Derived from a credentialed one."""


def test_credentialed_data_is_known_by_the_class() -> None:
    assert origin_of(MimicCxrAdapter()) == origin_of(Mine()) == "mimic_cxr"
    assert origin_of(object()) is None
    names = ("mimic_cxr", "pgtune.data_adapters.radiology.mimic_cxr:MimicCxrAdapter", "mine:MimicCxrAdapter")
    assert [origin_named(name) for name in names] == ["mimic_cxr"] * 3
    assert origin_named("jsonl") is None


def test_rows_that_were_adapted_carry_where_they_are_from(
    tmp_path: Path, pictures: list[Path], small_bases: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from pgtune import train

    (tmp_path / "derived.py").write_text(
        "from pgtune.data_adapters.radiology.mimic_cxr import MimicCxrAdapter\n"
        "from pgtune.example import Example\n"
        "class Mine(MimicCxrAdapter):\n"
        "    rows = property()\n"
        "    splits = None\n"
        "    def __call__(self, row):\n"
        "        return Example(row['image'], row['prefix'], row['suffix'])\n"
    )
    monkeypatch.chdir(tmp_path)
    rows = [{"image": str(picture), "prefix": "q", "suffix": str(n)} for n, picture in enumerate(pictures[:4])]
    write_rows(tmp_path / "train.jsonl", rows)
    adapt("derived:Mine", tmp_path / "train.jsonl", out=tmp_path / "out.jsonl", root=pictures[0].parent)
    adapt("jsonl", tmp_path / "out.jsonl", out=tmp_path / "again" / "train.jsonl", root=pictures[0].parent)
    marked = [json.loads(line) for line in (tmp_path / "again" / "train.jsonl").read_text().splitlines()]
    assert [row["metadata"] for row in marked] == [{MARK: "mimic_cxr"}] * 4
    more = (f"data.root={pictures[0].parent}", f"data.test={tmp_path / 'again' / 'train.jsonl'}", "train.max_steps=1")
    run = tmp_path / "run"
    train(recipe_for(small_bases["paligemma2"], tmp_path / "again", run, *more, "eval.before=false"))
    assert json.loads((run / "status.json").read_text())["credentialed"] == "mimic_cxr"
    assert "Its data is credentialed (mimic_cxr" in leaves(run)[1]["README.md"].decode()
    with pytest.raises(RunError, match="no examples of mimic_cxr"):
        leaves(run, with_examples=True)
    change(run / "status.json", credentialed=None)  # the rows know it too
    with pytest.raises(RunError, match="no examples of mimic_cxr"):
        leaves(run, with_examples=True)


def test_a_run_that_noted_nothing_is_known_by_its_data_adapter(run: Path) -> None:
    change_recipe(run, data__adapter="pgtune.data_adapters.radiology.mimic_cxr:MimicCxrAdapter")
    with pytest.raises(RunError, match="no examples of mimic_cxr"):
        leaves(run, with_examples=True)
    status = json.loads((run / "status.json").read_text())
    del status["credentialed"]
    (run / "status.json").write_text(json.dumps(status))
    change_recipe(run, data__adapter=f"{__name__}:Mine")
    with pytest.raises(RunError, match="no examples of mimic_cxr"):
        leaves(run, with_examples=True)
