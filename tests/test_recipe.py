"""Recipes: what is read, what is refused and in which words."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from pgtune.errors import RecipeError
from pgtune.names import METRICS, nearest, unknown_name
from pgtune.preflight import validate_recipe
from pgtune.recipe import Recipe, Source, json_schema, load_recipe, shipped_recipes
from pgtune.recipe_build import key_table, keys
from pgtune.recipe_yaml import parse

GOOD = """\
model: {base: tiny, dtype: auto, quantization: none, attention: auto}
lora: {rank: 16, alpha: 32, targets: language_model}
data: {adapter: jsonl, train: train.jsonl, test: test.jsonl, adapter_args: {}}
train: {epochs: 1, max_steps: null, batch_size: 8, gradient_accumulation_steps: 1, learning_rate: 1e-4, save_steps: 50}
eval: {metrics: [exact_match], max_new_tokens: 32}
tracking: none
output_dir: runs/mine
seed: 0
"""


def good() -> dict[str, Any]:
    return {"data": {"train": "train.jsonl", "test": "test.jsonl"}, "lora": {}, "output_dir": "runs/mine"}


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write_recipe(text: str | bytes) -> Path:
        path = tmp_path / "mine.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write_recipe


def test_the_recipe_of_the_readme(write: Any) -> None:
    recipe = load_recipe(write(GOOD))
    assert recipe.train.learning_rate == 1e-4
    assert recipe.data.train == Source(source="train.jsonl", split="train")
    assert recipe.data.test == Source(source="test.jsonl", split="test")
    assert recipe.data.validation is None
    assert recipe.eval.metrics == ("exact_match",)
    assert recipe.tracking.to == "none"
    assert recipe.method == "lora"


def test_a_recipe_cannot_be_changed(write: Any) -> None:
    recipe = load_recipe(write(GOOD))
    with pytest.raises(ValidationError, match="frozen"):
        recipe.train.batch_size = 3


@pytest.mark.parametrize(("lora", "rate"), [({"rank": 4}, 1e-4), (None, 1e-5)], ids=["lora", "full"])
def test_learning_rate_auto(lora: dict[str, int] | None, rate: float) -> None:
    assert load_recipe({**good(), "lora": lora}).resolved_learning_rate == rate
    assert load_recipe({**good(), "lora": lora}, ["train.learning_rate=3e-3"]).resolved_learning_rate == 3e-3


def test_a_part_may_have_its_own_learning_rate() -> None:
    both = "lora.targets=[vision_tower, language_model]"
    recipe = load_recipe(good(), [both, "train.learning_rates.vision_tower=1e-6"])
    assert recipe.peak_learning_rate("vision_tower") == 1e-6
    assert recipe.peak_learning_rate("language_model") == recipe.resolved_learning_rate
    assert recipe.rates_in_words == "0.0001 (vision_tower 1e-06)"
    assert load_recipe(good(), ["train.learning_rate=2e-4"]).rates_in_words == "0.0002"
    pattern = load_recipe(good(), ["lora.targets=.*linear", "train.learning_rates.projector=1e-6"])
    assert pattern.peak_learning_rate("projector") == 1e-6, "what a pattern adapts is looked up in the model"


@pytest.mark.parametrize("given", ["1", "0", "-2", "2.5", "yes", "always"])
def test_gradient_checkpointing_is_auto_true_false_or_a_number_from_two(given: str) -> None:
    assert load_recipe(good(), ["train.gradient_checkpointing=true"]).train.gradient_checkpointing is True
    assert load_recipe(good(), ["train.gradient_checkpointing=3"]).train.gradient_checkpointing == 3
    with pytest.raises(RecipeError, match=r"train.gradient_checkpointing: expected auto, or true or false, or an"):
        load_recipe(good(), [f"train.gradient_checkpointing={given}"])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-5", 1e-5), ("1E5", 1e5), ("-1.", -1.0), (".5", 0.5), ("+3", 3), ("010", 10), ("0o10", 8), ("0x1F", 31),
        ("1:30", "1:30"), ("1_000", "1_000"), ("2024-01-01", "2024-01-01"), ("yes", "yes"), ("no", "no"), ("on", "on"),
        ("off", "off"), ("y", "y"), ("true", True), ("FALSE", False), ("null", None), ("~", None), ("", None),
        ("nan", "nan"), ("inf", "inf"), (".inf", float("inf")), ("-.Inf", float("-inf")), ("'1'", "1"), ("=", "="),
        ("<<", "<<"), ("!!str 1", "1"), ("!!float 1", 1.0), ("[a, 1]", ["a", 1]), ("{no: 1}", {"no": 1}),
        ("- &x [1]\n- *x", [[1], [1]]), ("1e400", float("inf")), ("9" * 5000, float("inf")),
    ],
)  # fmt: skip
def test_yaml_is_read_by_the_core_schema_of_yaml_1_2(text: str, value: Any) -> None:
    document = parse(text)
    assert not document.faults
    assert document.value == value
    assert type(document.value) is type(value)


FILES = {
    "empty": (b"", ["mine.yaml: empty", "pgtune show forkme"]),
    "comment only": (b"# nothing\n", ["empty"]),
    "list": (b"- a\n", ["expected a mapping (key: value), not ['a']"]),
    "text": (b"just text", ["expected a mapping", "'just text'"]),
    "not UTF-8": (b"seed: 1\noutput_dir: \xff\n", ["line 2", "not UTF-8", "0xff"]),
    "UTF-16": ("seed: 1".encode("utf-16"), ["line 1", "not UTF-8"]),
    "zero bytes": (b"seed: \x00", ["line 1", "character U+0000 is not allowed"]),
    "tab": (b"train:\n\tepochs: 1\n", ["line 2", "not valid YAML", r"'\t'"]),
    "truncated": (b"data: {train: a.jsonl,\n", ["not valid YAML", "line 2"]),
    "open quote": (b"seed: 0\noutput_dir: 'runs\n", ["not valid YAML"]),
    "bad indentation": (b"train:\n  epochs: 1\n batch_size: 2\n", ["line 3", "not valid YAML"]),
    "two documents": (b"seed: 1\n---\nseed: 2\n", ["line 2", "not valid YAML"]),
    "undefined alias": (b"seed: *x\n", ["line 1", "undefined alias"]),
    "an alias of itself": (b"data: &x {adapter_args: *x}\n", ["line 1", "contains itself"]),
    "aliases that multiply": (
        b"a0: &a0 [1]\n" + b"".join(b"a%d: &a%d [*a%d, *a%d]\n" % (i, i, i - 1, i - 1) for i in range(1, 40)),
        ["not valid YAML: more than 100,000 values"],
    ),
    "python tag": (b"seed: !!python/object/apply:os.getcwd []\n", ["line 1: seed", "!!python/object/apply:os.getcwd"]),
    "wrong tag": (b"seed: !!int x\n", ["line 1: seed", "!!int", "'x'"]),
    "a key that is a number": (b"seed: 0\n1: 2\n", ["line 2", "not text: 1"]),
    "a key that is a list": (b"? [a]\n: 2\n", ["line 1", "not text: a list or mapping"]),
    "deep": (b"[" * 3000, ["too many brackets inside one another"]),
    "merge key": (b"base: &b {seed: 1}\n<<: *b\n", ["line 2: <<: unknown key"]),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_no_recipe(write: Any, name: str) -> None:
    content, expected = FILES[name]
    path = write(content)
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert str(caught.value).startswith(str(path))
    for part in expected:
        assert part in str(caught.value)


def test_a_byte_order_mark_is_no_matter(write: Any) -> None:
    assert load_recipe(write(b"\xef\xbb\xbf" + GOOD.encode())).seed == 0


BAD = {
    "unknown key": ("seeed: 1", ["line 9: seeed: unknown key (given 1); did you mean seed?"]),
    "unknown key elsewhere": ("learning_rate: 1", ["did you mean train.learning_rate?"]),
    "unknown key like no other": ("zzz: {}", ["known here: model, lora, data, augment, train"]),
    "unknown key in a section": ("model: {zzz: 1}", ["model.zzz: unknown key (given 1); known here: base, revision"]),
    "repeated key": ("seed: 1\nseed: 2", ["line 9: seed: repeated key; line 8 has it too"]),
    "repeated section": ("train: {epochs: 3}\ntrain: {epochs: 2}", ["train: repeated key"]),
    "true is not 1": ("train: {batch_size: true}", ["train.batch_size: expected an integer of 1 or more, not true"]),
    "1.0 is not 1": ("train: {batch_size: 1.0}", ["expected an integer of 1 or more, not 1.0"]),
    "text is not a number": ("train: {epochs: one}", ["train.epochs: expected a number above 0, not 'one'"]),
    "a quoted number": ("seed: '1'", ["seed: expected an integer of 0 or more and below 4294967296, not '1'"]),
    "yes is not true": ("lora: {use_dora: yes}", ["lora.use_dora: expected true or false, not 'yes'"]),
    "1 is not true": ("lora: {use_dora: 1}", ["expected true or false, not 1"]),
    "a number is not text": ("output_dir: 3", ["output_dir: expected text that is not empty, not 3"]),
    "empty text": ("output_dir: ''", ["output_dir: expected text that is not empty, not ''"]),
    "null": ("output_dir: null", ["output_dir: expected text that is not empty, not null"]),
    "null section": ("train:", ["train: expected a section (key: value), not null"]),
    "section that is a list": ("train: [1]", ["train: expected a section (key: value), not [1]"]),
    "nan": ("train: {learning_rate: .nan}", ["expected auto, or a number above 0 and at most 1, not .nan"]),
    "infinity": ("train: {learning_rate: .inf}", ["at most 1, not .inf"]),
    "infinite epochs": ("train: {epochs: .inf}", ["train.epochs: expected a number above 0, not .inf"]),
    "a rate of zero": ("train: {learning_rate: 0}", ["above 0 and at most 1, not 0"]),
    "a negative rate": ("train: {learning_rate: -1e-4}", ["not -0.0001"]),
    "a rate beyond reason": ("train: {learning_rate: 2}", ["at most 1, not 2"]),
    "a rate in words": ("train: {learning_rate: atuo}", ["not 'atuo'; did you mean auto?"]),
    "no steps": ("train: {max_steps: 0}", ["train.max_steps: expected an integer of 1 or more, or null, not 0"]),
    "dropout of one": ("lora: {dropout: 1}", ["lora.dropout: expected a number of 0 or more and below 1, not 1"]),
    "rank zero": ("lora: {rank: 0}", ["lora.rank: expected an integer of 1 or more, not 0"]),
    "alpha zero": ("lora: {alpha: 0}", ["lora.alpha: expected a number above 0, not 0"]),
    "a seed below zero": ("seed: -1", ["not -1"]),
    "a seed too large": ("seed: 4294967296", ["below 4294967296"]),
    "a choice misspelt": ("model: {dtype: bfloat}", ["one of auto, float32, bfloat16, float16, not 'bfloat'; did you"]),
    "4 bit": ("model: {quantization: int4}", ["one of none, int8, nf4, not 'int4'"]),
    "flash attention": ("model: {attention: flash_attention_2}", ["auto, eager, sdpa, flex_attention"]),
    "metric unknown": ("eval: {metrics: [exactmatch]}", ["eval.metrics[0]", "cider", "did you mean exact_match?"]),
    "metrics not a list": ("eval: {metrics: anls}", ["eval.metrics: expected a list of", "not 'anls'"]),
    "no metric": ("eval: {metrics: []}", ["eval.metrics: expected a list", "not []"]),
    "metric twice": ("eval: {metrics: [anls, anls]}", ["eval.metrics: expected each entry once (anls is repeated)"]),
    "part unknown": ("model: {trainable: [vision]}", ["model.trainable[0]: expected one of vision_tower, projector"]),
    "part twice": ("model: {trainable: [projector, projector]}", ["projector is repeated"]),
    "target misspelt": ("lora: {targets: langage_model}", ["lora.targets", "did you mean language_model?"]),
    "target in a list misspelt": ("lora: {targets: [vision]}", ["lora.targets"]),
    "no target": ("lora: {targets: []}", ["lora.targets: expected at least one part"]),
    "target no regex": ("lora: {targets: '*q_proj'}", ["lora.targets", "nothing to repeat at position 0"]),
    "source a number": ("data: {train: 3}", ["data.train: expected text that is not empty, or a section (key: value)"]),
    "source empty": ("data: {train: ''}", ["data.train.source: expected text that is not empty, not ''"]),
    "source missing": ("data: {train: {split: x}}", ["data.train.source: required, but absent"]),
    "source with another key": ("data: {train: {source: a, splt: b}}", ["did you mean data.train.split?"]),
    "train missing": ("data: {test: a}", ["data.train: required, but absent: expected text that is not empty"]),
    "arguments a list": ("data: {train: a, adapter_args: [1]}", ["data.adapter_args: expected a section"]),
    "tracker unknown": ("tracking: wandbb", ["tracking.to: expected one of none, wandb, tensorboard"]),
    "tracking a number": ("tracking: 3", ["tracking: expected"]),
    "arguments not finite": (
        "data: {train: a, adapter_args: {x: [1, {y: .nan}]}}",
        ["data.adapter_args.x: expected finite numbers, text, true, false, null, lists or mappings, not [1, {"],
    ),
    "confidence in percent": ("eval: {confidence: 95}", ["eval.confidence: expected a number above 0 and below 1"]),
    "workers": ("train: {num_workers: -1}", ["train.num_workers: expected an integer of 0 or more, not -1"]),
}


@pytest.mark.parametrize("name", BAD)
def test_a_setting_that_is_wrong(write: Any, name: str) -> None:
    text, expected = BAD[name]
    key = text.partition(":")[0]
    kept = [line for line in GOOD.splitlines() if not line.startswith(f"{key}:")]
    path = write("\n".join([*kept, text]))
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    for part in [str(path), *expected]:
        assert part in str(caught.value)
    assert len(caught.value.problems) == 1


CONTRADICTIONS = {
    "quantised and full": (["lora=null", "model.quantization=nf4"], ["model.quantization: 'nf4' needs"]),
    "full in bfloat16": (["lora=null", "model.dtype=bfloat16"], ["model.dtype", "float32", "train.mixed_precision"]),
    "full in float16": (["lora=null", "model.dtype=float16"], ["model.dtype: 'float16' cannot be trained in full"]),
    "nothing to train": (["lora=null", "model.trainable=[]"], ["model.trainable", "nothing to train"]),
    "adapted and in full": (
        ["lora.targets=[projector, vision_tower]", "model.trainable=[vision_tower]"],
        ["lora.targets", "adapts vision_tower, which model.trainable trains in full"],
    ),
    "quantised and in full": (
        ["model.quantization=int8", "lora.targets=projector", "model.trainable=[language_model]"],
        ["model.trainable", "which model.quantization int8 freezes"],
    ),
    "two half precisions": (["model.dtype=float16", "train.mixed_precision=bf16"], ["train.mixed_precision"]),
    "revision of tiny": (["model.revision=main"], ["model.revision: 'main' has no meaning for the shipped base tiny"]),
    "evaluation of nothing": (["train.eval_steps=5"], ["train.eval_steps: 5 needs data.validation"]),
    "the best of nothing": (["train.best_metric=loss", "data.validation=v"], ["best_metric", "needs train.eval_steps"]),
    "patience for nothing": (
        ["train.patience=2", "train.eval_steps=5", "data.validation=v"],
        ["train.patience: 2 needs train.best_metric"],
    ),
    "the best of another metric": (
        ["train.best_metric=anls", "train.eval_steps=5", "data.validation=v"],
        ["train.best_metric: 'anls' is neither loss nor one of eval.metrics; known here: loss, exact_match"],
    ),
    "keeping none": (["train.save_steps=null", "train.keep_checkpoints=2"], ["keep_checkpoints: 2 has no effect"]),
    "too long for what": (["data.too_long=truncate"], ["data.too_long: 'truncate' has no effect"]),
    "a share of what": (["data.validation_share=0.2"], ["data.validation_share: 0.2 needs data.split_by"]),
    "a cut of nothing": (["data.split_by=patient"], ["data.split_by: 'patient' has no effect: data.validation_share"]),
    "two tests": (
        ["data.split_by=patient", "data.test_share=0.2", "data.test=t"],
        ["data.test_share: 0.2 and data.test are both given: cut it or name it"],
    ),
    "a cut that leaves nothing": (
        ["data.split_by=image", "data.test_share=0.5", "data.validation_share=0.5", "data.test=null"],
        ["data.test_share: 0.5 and validation_share 0.5 leave nothing to train on"],
    ),
    "a split twice": (["data.train.split=train+train"], ["data.train.split: 'train+train' is no split: train is"]),
    "all and more": (["data.train.split=all+test"], ["data.train.split: 'all+test' is no split: all is every split"]),
    "half a split": (["data.train.split=train+"], ["data.train.split: 'train+' is no split: expected names joined"]),
    "a project for no tracker": (["tracking.project=x"], ["tracking.project: 'x' has no effect with tracking none"]),
    "offline tensorboard": (["tracking=tensorboard", "tracking.mode=offline"], ["mode: 'offline' has no effect"]),
    "nearest pixels bicubically": (["model.antialias=false"], ["model.antialias: false needs model.resample bilinear"]),
    "a visible share of what": (["augment.min_visibility=0.5"], ["min_visibility: 0.5 has no effect: augment.crop"]),
    "a rate for what": (["train.learning_rates.projector=1e-3"], ["projector: 0.001 has no effect: nothing of proj"]),
    "a rate for a frozen part": (
        ["lora=null", "model.trainable=[projector]", "train.learning_rates.language_model=1e-3"],
        ["train.learning_rates.language_model: 0.001 has no effect: nothing of language_model is trained"],
    ),
    "8 bits in shards": (["train.optimizer=adamw_8bit", "train.strategy=fsdp"], ["'adamw_8bit' does not go with fsdp"]),
    "examples to nobody": (["tracking.log_examples=true"], ["tracking.log_examples: true has no effect"]),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_settings_that_contradict_each_other(name: str) -> None:
    overrides, expected = CONTRADICTIONS[name]
    with pytest.raises(RecipeError) as caught:
        load_recipe(good(), overrides)
    for part in expected:
        assert part in str(caught.value)
    assert len(caught.value.problems) == 1


def test_all_problems_are_reported_together_in_the_order_of_the_file(write: Any) -> None:
    path = write("""\
model: {base: tiny, quantization: nf4, dtyp: auto}
data:
  test: [a]
train:
  epochs: 0
  patience: 3
  patience: 4
outputs: runs
""")
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, ["eval.metrics=[anls, ser]", "eval.limit=-1", "nonsense"])
    assert str(caught.value) == f"""\
{path}: 13 problems
  line 1: model.dtyp: unknown key (given 'auto'); did you mean model.dtype?
  line 1: model.quantization: 'nf4' needs the section lora: quantised weights cannot be trained in full
  line 2: data.train: required, but absent: expected text that is not empty, or a section (key: value)
  line 3: data.test: expected text that is not empty, or a section (key: value), or null, not ['a']
  line 5: train.epochs: expected a number above 0, not 0
  line 6: train.patience: 3 needs data.validation
  line 6: train.patience: 3 needs train.eval_steps: when to look at data.validation
  line 6: train.patience: 3 needs train.best_metric: what should get better
  line 7: train.patience: repeated key; line 6 has it too
  line 8: outputs: unknown key (given 'runs'); did you mean output_dir?
  override 'nonsense': expected key.path=value
  override 'eval.limit=-1': eval.limit: expected an integer of 1 or more, or null, not -1
  output_dir: required, but absent: expected text that is not empty
""".rstrip()


OVERRIDES: dict[str, tuple[list[str], dict[str, Any]]] = {
    "a number": (["train.learning_rate=1e-5"], {"train": {"learning_rate": 1e-5}}),
    "null": (["lora=null"], {"lora": None}),
    "a list": (["eval.metrics=[anls, ser]"], {"eval": {"metrics": ["anls", "ser"]}}),
    "a section made": (["lora=null", "lora.rank=8"], {"lora": {"rank": 8}}),
    "text with an equals sign": (["output_dir=runs/a=b"], {"output_dir": "runs/a=b"}),
    "a short form widened": (["data.train.split=dev"], {"data": {"train": {"source": "train.jsonl", "split": "dev"}}}),
    "a short form of another key": (["tracking=wandb", "tracking.mode=offline"], {"tracking": {"to": "wandb"}}),
    "an argument": (["data.adapter_args.image=path"], {"data": {"adapter_args": {"image": "path"}}}),
    "a mapping": (["data.test={source: a, split: b}"], {"data": {"test": {"source": "a", "split": "b"}}}),
    "a regular expression": ([r"lora.targets=.*\.(q|v)_proj"], {"lora": {"targets": r".*\.(q|v)_proj"}}),
}


@pytest.mark.parametrize("name", OVERRIDES)
def test_overrides(name: str) -> None:
    overrides, expected = OVERRIDES[name]

    def holds(part: Any, whole: Any) -> bool:
        if isinstance(part, dict):
            return all(holds(value, whole[key]) for key, value in part.items())
        return bool(part == whole)

    assert holds(expected, load_recipe(good(), overrides).model_dump(mode="json"))


BAD_OVERRIDES = {
    "no equals sign": (["train.epochs"], "override 'train.epochs': expected key.path=value"),
    "no key": (["=3"], "expected key.path=value"),
    "an empty part": (["train..epochs=3"], "expected key.path=value"),
    "unknown": (["train.epoch=3"], "override 'train.epoch=3': train.epoch: unknown key (given 3); did"),
    "unknown section": (["trian.epochs=3"], "trian: unknown key (given {'epochs': 3}); did you mean train?"),
    "below a value": (["seed.x=1"], "seed.x: seed is 0, not a section"),
    "below a list": (["eval.metrics.0=ser"], "eval.metrics is ['exact_match'], not a section"),
    "twice": (["seed=1", "seed=2"], "override 'seed=2': seed: undoes the override 'seed=1'"),
    "undone": (["lora.rank=1", "lora=null"], "lora: undoes the override 'lora.rank=1'"),
    "not YAML": (["lora.targets=*q"], "lora.targets: not valid YAML: found undefined alias 'q'; quote the value"),
    "cut off": (["eval.metrics=[anls"], "but got '<stream end>'; quote the value"),
    "nothing": (["output_dir="], "output_dir: expected text that is not empty, not null"),
    "wrong": (["train.batch_size=0"], "train.batch_size: expected an integer of 1 or more, not 0"),
    "repeated": (["data.adapter_args={a: 1, a: 2}"], "data.adapter_args.a: repeated key"),
    "deep": (["data.adapter_args.x=" + "[" * 3000], "data.adapter_args.x: too many brackets inside one another"),
}


@pytest.mark.parametrize("name", BAD_OVERRIDES)
def test_overrides_that_are_wrong(write: Any, name: str) -> None:
    overrides, expected = BAD_OVERRIDES[name]
    with pytest.raises(RecipeError) as caught:
        load_recipe(write(GOOD), overrides)
    assert expected in str(caught.value)
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_shipped_recipes_are_read_and_written_back(write: Any, name: str) -> None:
    recipe = load_recipe(name)
    assert load_recipe(write(recipe.to_yaml(["a comment"]))) == recipe
    assert load_recipe(write(json.dumps(recipe.model_dump(mode="json")))) == recipe
    assert load_recipe(write(recipe.to_yaml() + "versions: {torch: '2'}\n")) == recipe
    # A plain YAML reader sees the same values.
    assert yaml.safe_load(recipe.to_yaml()) == recipe.model_dump(mode="json")


def test_a_mapping_may_hold_paths_but_no_other_keys_than_text() -> None:
    assert load_recipe({**good(), "output_dir": Path("runs") / "x"}).output_dir == str(Path("runs/x"))
    with pytest.raises(RecipeError, match="recipe: at the top: a key that is not text: 1"):
        load_recipe({**good(), 1: 2})
    with pytest.raises(RecipeError, match="recipe: data: a key that is not text: None"):
        load_recipe({**good(), "data": {None: "x"}})


def test_nesting_without_end_is_refused() -> None:
    with pytest.raises(RecipeError, match="too many levels inside one another"):
        load_recipe(good(), [".".join("a" * 5000) + "=1"])
    around: dict[str, Any] = {}
    around["x"] = around
    with pytest.raises(RecipeError, match="too many levels inside one another"):
        load_recipe(around)


def test_reading_does_not_change_the_mapping_given() -> None:
    given = good()
    load_recipe(given, ["lora.rank=3", "data.train.split=x"])
    assert given == good()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("quickstrt", "no shipped recipe is called 'quickstrt'; did you mean 'quickstart'? Known are "),
        ("chartqa", "the most alike charts/chartqa_448, "),
        ("recipes/quickstart-.yaml", "no such file; 'quickstart' is a shipped recipe"),
        ("nothing/like/it.yaml", "nothing/like/it.yaml: no such file"),
        (".", ".: a folder; expected a recipe file"),
    ],
)
def test_a_recipe_that_is_not_there(tmp_path: Path, monkeypatch: Any, name: str, expected: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecipeError) as caught:
        load_recipe(name)
    assert expected in str(caught.value)


def test_forkme_shows_every_key_with_its_default_and_a_comment() -> None:
    text = shipped_recipes()["forkme"].read_text(encoding="utf-8")
    shown = parse(text).value
    defaults = load_recipe({**good(), "lora": {}, "tracking": "none"}).model_dump(mode="json")
    own = {"data.train", "data.validation", "data.test", "output_dir"}
    for key in keys(Recipe):
        if key.startswith(("data.train.", "data.validation.", "data.test.")):
            continue
        value: Any = shown
        default: Any = defaults
        for part in key.split("."):
            assert part in value, f"forkme.yaml does not show {key}"
            value, default = value[part], default[part]
        if key not in own and not isinstance(default, dict):
            assert value == default, key
    lines = [line for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]
    told = {"beta2:", "epsilon:"}  # beside beta1
    assert not [line for line in lines if "#" not in line and line[0] == " " and line.split()[0] not in told]


def test_every_key_has_a_help() -> None:
    assert [entry["key"] for entry in key_table(Recipe) if not entry["help"]] == []


def test_the_schema_for_editors_is_current() -> None:
    path = Path(__file__).parents[1] / "recipes" / "schema.json"
    assert json.loads(path.read_text(encoding="utf-8")) == json_schema(), (
        "run: pgtune recipes --schema > recipes/schema.json"
    )


def test_the_same_data_twice_is_a_warning() -> None:
    assert load_recipe(good()).warnings == []
    (warning,) = load_recipe(good(), ["data.test=./train.jsonl"]).warnings
    assert "data.train and data.test are the same data (train.jsonl)" in warning
    assert load_recipe(good(), ["data.train=folder", "data.test=folder"]).warnings == []
    assert load_recipe(good(), ["data.train=folder", "data.test={source: folder, split: train}"]).warnings


def test_splits_that_overlap_are_the_same_data() -> None:
    for one, other in (("train+test", "test"), ("all", "test"), ("train", "test+train")):
        overrides = [f"data.train={{source: folder, split: {one}}}", f"data.test={{source: folder, split: {other}}}"]
        assert load_recipe(good(), overrides).warnings
    assert not load_recipe(good(), ["data.train={source: a, split: train+val}", "data.test=a"]).warnings


def test_what_is_cut_is_there_and_train_is_all_of_the_material() -> None:
    cut = load_recipe(good(), ["data.split_by=patient", "data.test_share=0.2", "data.test=null"]).data
    assert cut.splits == ("train", "test")
    assert cut.train.split == "all"
    looked_at = ["data.split_by=patient", "data.validation_share=0.2", "data.test=null", "train.eval_steps=5"]
    assert load_recipe(good(), looked_at).data.splits == ("train", "validation")
    named = ["data.split_by=patient", "data.validation_share=0.2", "data.test=b"]
    assert load_recipe(good(), named).data.train.split == "train", "the given test is not to be learnt from"
    own = ["data.split_by=patient", "data.test_share=0.2", "data.test=null", "data.train={source: a, split: dev}"]
    assert load_recipe(good(), own).data.train.split == "dev"
    resolved = load_recipe(good(), looked_at)
    assert load_recipe(resolved.model_dump(mode="json")) == resolved


PREFLIGHT = {
    "base": (["model.base=tinyy"], ["model.base: 'tinyy' is no folder here", "did you mean tiny?"]),
    "base folder": (["model.base=./nowhere"], ["model.base: './nowhere' is no folder here"]),
    "base file": (["model.base=train.jsonl"], ["train.jsonl is a file"]),
    "base without config": (["model.base=empty"], ["the folder empty has no config.json"]),
    "revision of a folder": (["model.base=model", "model.revision=main"], ["model.revision: 'main' has no effect"]),
    "adapter": (["data.adapter=jsnl"], ["data.adapter", "'jsnl'", "did you mean 'jsonl'?"]),
    "adapter argument": (["data.adapter_args.imag=x"], ["data.adapter_args.imag", "image"]),
    "source": (["data.train=trian.jsonl"], ["data.train: trian.jsonl", "did you mean 'train.jsonl'?"]),
    "split": (["data.test=empty"], ["data.test: empty", "no split 'test'"]),
    "group": (
        ["data.split_by=patiant", "data.test_share=0.5", "data.test=null"],
        ["data.split_by: train.jsonl:1: has no group 'patiant'"],
    ),
    "output": (["output_dir=train.jsonl"], ["output_dir: train.jsonl is a file"]),
    "output below a file": (["output_dir=train.jsonl/run"], ["output_dir: ", "train.jsonl is a file"]),
    "output at a broken link": (["output_dir=link/run"], ["output_dir: ", "is a symbolic link that leads nowhere"]),
    "output around the data": (["output_dir=."], ["output_dir: . holds data.train", "a new run empties its folder"]),
    "output around the base": (["model.base=model", "output_dir=model"], ["output_dir: model holds model.base"]),
    "several": (["model.base=tinyy", "data.test=nope", "output_dir=train.jsonl"], ["mine: 3 problems"]),
}


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: Any) -> None:
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (4, 4)).save("a.png")
    for name in ("train", "test"):
        Path(f"{name}.jsonl").write_text('{"image": "a.png", "prefix": "p", "suffix": "s"}\n')
    Path("empty").mkdir()
    Path("model").mkdir()
    Path("model/config.json").write_text("{}")
    Path("link").symlink_to("nowhere")


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize("name", PREFLIGHT)
def test_what_can_be_checked_without_a_model(name: str) -> None:
    overrides, expected = PREFLIGHT[name]
    recipe = load_recipe(good(), overrides)
    with pytest.raises(RecipeError) as caught:
        validate_recipe(recipe, "mine")
    for part in ["mine", *expected]:
        assert part in str(caught.value)


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize("base", ["tiny", "model", "google/paligemma2-3b-pt-224"])
def test_bases_that_may_be_there(base: str) -> None:
    assert validate_recipe(load_recipe(good(), [f"model.base={base}"])) == []


DOMAINS = ("charts/", "radiology/", "remote_sensing/", "sheet_music/")  # their data is not shipped: test_recipes.py


@pytest.mark.parametrize("name", [name for name in sorted(shipped_recipes()) if not name.startswith(DOMAINS)])
def test_shipped_recipes_validate(name: str) -> None:
    # The base of tiny/pretrain is made by the step before it, which its comment names.
    recipe = load_recipe(name, ["model.base=tiny"] if name == "tiny/pretrain" else [])
    assert validate_recipe(recipe) == recipe.warnings


def test_names() -> None:
    assert nearest("Exactmatch", METRICS) == "exact_match"
    assert nearest("zzz", METRICS) is None
    assert unknown_name("fruit", "aple", ["apple", "pear"]) == (
        "no fruit is called 'aple'; did you mean 'apple'? Known: apple, pear"
    )
    assert unknown_name("fruit", "zz", ["apple"]) == "no fruit is called 'zz'. Known: apple"
    many = [f"apple{number}" for number in range(50)]
    assert unknown_name("fruit", "zz", many) == (
        "no fruit is called 'zz'. Known are 50, such as apple0, apple1, apple10, apple11, apple12"
    )
