"""ChartQA, SciCap, charts to tables, own tables: prefixes and suffixes to the letter, odd files named, charts drawn."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from charts_fixtures import build_chartqa, build_scicap, build_tables, chart, write_json

from pgtune.cli import main
from pgtune.data import open_source
from pgtune.data_adapters.charts.chart_tables import TO_TABLE, ChartToTableAdapter, TablesAdapter
from pgtune.data_adapters.charts.plots import KINDS, Chart, kind_for
from pgtune.data_adapters.charts.published import ChartQaAdapter, SciCapAdapter
from pgtune.data_adapters.charts.tables import Table, linearised, numbers_of, questions_about, read_table
from pgtune.errors import AdapterError, DataError
from pgtune.example import Example, Row, Skip, load_adapter
from pgtune.images import open_image
from pgtune.recipe import Source, load_recipe, shipped_recipes

ORIGINAL = "Figure 2: The loss of 1000.0001v1 over 5 epochs. Lower is better (see text)."
SENTENCES = ["the loss of 1000.0001v1 over 5 epochs .", "lower is better ( see text ) ."]


def examples(adapter: Any, source: Path, split: str = "test") -> list[Example]:
    """All examples of a split, checked as a recipe's are."""
    return list(open_source(Source(source=str(source), split=split), adapter))


def rows(adapter: Any, source: Path, split: str | None = None) -> list[Row]:
    return list(adapter.rows(source, split))


# --- ChartQA ---


def test_chartqa_to_the_letter(tmp_path: Path) -> None:
    build_chartqa(tmp_path)
    found = examples(ChartQaAdapter(), tmp_path)
    assert len(found) == 10
    human = [example for example in found if example.part == "human"]
    assert human[2].prefix == "Which bars are above 15?"
    assert human[2].suffix == "[green, blue]"
    assert human[2].references == ("[green, blue]",)
    assert human[2].images == (str(tmp_path / "ChartQA Dataset/test/png/multi_col_test_2.png"),)
    assert human[2].metadata == {"question_id": 2}  # within its part, as in big_vision
    parts = [example.part[0] for example in found]
    assert "".join(parts) == "ahahaahaha"  # 4 and 6: the first so many hold both


@pytest.mark.parametrize("inner", ["", "ChartQA Dataset"])
def test_chartqa_splits_and_the_folder_or_the_one_above(tmp_path: Path, inner: str) -> None:
    source = build_chartqa(tmp_path) / inner
    adapter = ChartQaAdapter()
    assert adapter.splits(source) == ["train", "validation", "test"]
    assert len(examples(adapter, source, "validation")) == 10
    assert len(examples(adapter, source, "train+validation")) == 20
    assert len(rows(adapter, source)) == 30
    assert rows(adapter, source, "val")[0].place == "val_augmented.json, question 1"


def test_chartqa_one_part(tmp_path: Path) -> None:
    found = examples(ChartQaAdapter(parts=["augmented"]), build_chartqa(tmp_path))
    assert {each.part for each in found} == {"augmented"}


@pytest.mark.parametrize("parts", [[], ["humans"], ["human", "human"], "human"])
def test_chartqa_parts_that_are_none(parts: Any) -> None:
    with pytest.raises(AdapterError, match="expected a list of human and augmented"):
        ChartQaAdapter(parts=parts)


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"imgname": "a.png", "query": "q", "label": 10}, "label must be a text, got int 10"),
        ({"imgname": "a.png", "query": "q", "label": ["1"]}, "label must be a text, got list"),
        ({"imgname": "a.png", "query": "q", "lable": "1"}, "the key 'label' is missing; did you mean 'lable'?"),
        ({"imgname": "gone.png", "query": "q", "label": "1"}, "gone.png: no such file"),
        ({"imgname": "../../../secret.png", "query": "q", "label": "1"}, "leads out of"),
        ("q", "expected an object {...}, got str 'q'"),
    ],
)
def test_chartqa_a_bad_question_is_named(tmp_path: Path, record: Any, words: str) -> None:
    home = build_chartqa(tmp_path) / "ChartQA Dataset" / "test"
    questions = json.loads((home / "test_human.json").read_text())
    chart(home / "png" / "a.png", [1, 2])
    write_json(home / "test_human.json", [*questions, record])
    with pytest.raises(DataError) as caught:
        examples(ChartQaAdapter(), tmp_path)
    assert words in str(caught.value)
    assert "test_human.json, question 5" in str(caught.value)


def test_chartqa_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected ChartQA's folders train, val and test"):
        rows(ChartQaAdapter(), tmp_path, "test")
    build_chartqa(tmp_path)
    (tmp_path / "ChartQA Dataset" / "test" / "test_human.json").unlink()
    with pytest.raises(DataError, match=r"test_human.json: cannot be read.*did you mean 'test_augmented.json'"):
        rows(ChartQaAdapter(), tmp_path, "test")
    with pytest.raises(DataError, match=r"no split 'tset'; it has train, validation, test; did you mean 'test'"):
        rows(ChartQaAdapter(), tmp_path, "tset")
    (tmp_path / "ChartQA Dataset" / "val" / "val_human.json").write_text("[{]")
    with pytest.raises(DataError, match=r"val_human.json: is not JSON"):
        rows(ChartQaAdapter(), tmp_path, "validation")


# --- SciCap ---


@pytest.mark.parametrize("spelling", [("Train", "Val", "Test"), ("train", "val", "test")])
def test_scicap_as_paligemma(tmp_path: Path, spelling: tuple[str, str, str]) -> None:
    build_scicap(tmp_path, spelling)
    found = examples(SciCapAdapter(), tmp_path, "train")
    assert [example.prefix for example in found] == ["caption en"] * 2
    assert found[0].suffix == " ".join(SENTENCES)  # the whole caption: the list is called after its first sentence
    assert found[0].groups == {"paper": "1000.0001v1"}
    assert SciCapAdapter().splits(tmp_path) == ["train", "validation", "test"]
    place = rows(SciCapAdapter(), tmp_path / "scicap_data", "validation")[1].place
    assert place.endswith("file_idx.json, figure 2 (1011.0001v1-Figure2-1.png)")


@pytest.mark.parametrize(
    ("arguments", "suffix"),
    [
        ({"sentences": "first"}, SENTENCES[0]),
        ({"caption": "0-originally-extracted"}, ORIGINAL),
        ({"caption": "2-1-basic-num"}, f"{SENTENCES[0].replace('5', 'NUM-TK')} {SENTENCES[1]}"),
        ({"caption": "2-2-advanced-euqation-bracket", "sentences": "first"}, SENTENCES[0].replace("5", "NUM-TK")),
    ],
)  # fmt: skip
def test_scicap_other_captions(tmp_path: Path, arguments: dict[str, Any], suffix: str) -> None:
    assert examples(SciCapAdapter(**arguments), build_scicap(tmp_path), "train")[0].suffix == suffix


def test_scicap_other_lists_and_figures_with_parts(tmp_path: Path) -> None:
    build_scicap(tmp_path)
    with_parts = examples(SciCapAdapter(experiment="at_most_100_tokens", subfigures=True), tmp_path, "train")
    assert len(with_parts) == 3
    assert all("SciCap-Yes-Subfig-Img" in str(example.images[0]) for example in with_parts)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"experiment": "first-sentence"}, "experiment = 'first-sentence': expected one of .*mean 'first_sentence'"),
        ({"caption": "2-2-advanced-equation-bracket"}, "did you mean '2-2-advanced-euqation-bracket'"),
        ({"sentences": "one"}, "expected one of all, first"),
        ({"sentences": "first", "caption": "0-originally-extracted"}, "not divided into sentences"),
    ],
)
def test_scicap_arguments(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(AdapterError, match=words):
        SciCapAdapter(**arguments)


def test_scicap_what_is_missing_is_named(tmp_path: Path) -> None:
    build_scicap(tmp_path)
    home = tmp_path / "scicap_data"
    (home / "SciCap-Caption-All" / "Test" / "1020.0001v1-Figure1-1.json").unlink()
    (home / "SciCap-No-Subfig-Img" / "Test" / "1021.0001v1-Figure2-1.png").unlink()
    with pytest.raises(DataError) as caught:
        examples(SciCapAdapter(), tmp_path)
    assert "figure 1 (1020.0001v1-Figure1-1.png)" in str(caught.value)
    assert "1020.0001v1-Figure1-1.json: cannot be read" in str(caught.value)
    write_json(home / "SciCap-Caption-All" / "Test" / "1020.0001v1-Figure1-1.json", {"paper-ID": "x"})
    with pytest.raises(DataError, match="the key '1-lowercase-and-token-and-remove-figure-index' is missing"):
        examples(SciCapAdapter(), tmp_path)
    (home / "SciCap-Caption-All" / "Val").rename(home / "SciCap-Caption-All" / "Hold")
    with pytest.raises(DataError, match="SciCap-Caption-All: has no folder for the split 'validation'"):
        rows(SciCapAdapter(), tmp_path, "validation")


# --- charts to tables ---


def test_a_table_is_written_as_deplot_writes_it(tmp_path: Path) -> None:
    found = examples(ChartToTableAdapter(), build_chartqa(tmp_path))
    assert found[0].prefix == TO_TABLE == "Generate underlying data table of the figure below:"
    assert found[0].suffix == "Fruit | Sold in 2001\na | 10\nb | 20\nc | 35"  # CRLF in the file
    assert str(found[0].images[0]).endswith("png/multi_col_test_0.png")
    always = examples(ChartToTableAdapter(title="always"), tmp_path)
    assert always[0].suffix.startswith("TITLE | \nFruit | Sold")


def test_titles_lie_beside_as_in_chart_to_text(tmp_path: Path) -> None:
    chart(tmp_path / "imgs" / "7.png", [1, 2])
    files = {"data/7.csv": "Quarter,Users\nQ3 '20,2740\n", "titles/7.txt": "Users , by\nquarter\n"}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(text)
    [found] = examples(ChartToTableAdapter(), tmp_path)
    assert found.suffix == "TITLE | Users , by quarter\nQuarter | Users\nQ3 '20 | 2740"
    assert examples(ChartToTableAdapter(title="never"), tmp_path)[0].suffix.startswith("Quarter")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "holds no header and no rows"),
        (b"a,b\n", "has a header and no rows"),
        (b"a,b\n1,2,3\n", "line 2: has 3 fields, the header has 2"),
        (b'a,b\n1," | "\n', "line 2: the cell '|' holds a bar"),
        (b"a,b\nM\xfcnchen,2\n", "line 2: byte 0xfc is not utf-8; save the file as UTF-8, or set encoding"),
        (b'a,b\n1,"2\n', "line 2: a quote opens here and is never closed"),
        (b"PK\x03\x04rest", "is a spreadsheet or an archive"),
    ],
)
def test_a_table_that_cannot_be_read_is_named(tmp_path: Path, content: bytes, words: str) -> None:
    chart(tmp_path / "t.png", [1])
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(DataError) as caught:
        examples(ChartToTableAdapter(), tmp_path)
    assert words in str(caught.value)
    assert "t.csv" in str(caught.value)


def test_a_table_without_its_picture(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match=r"t.csv: there is no picture t.png \(or .jpg\)"):
        examples(ChartToTableAdapter(), tmp_path)
    with pytest.raises(DataError, match="is a file, expected a folder"):
        rows(ChartToTableAdapter(), tmp_path / "t.csv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no tables"):
        rows(ChartToTableAdapter(), tmp_path / "empty")


@pytest.mark.parametrize(
    ("name", "content", "encoding"),
    [
        ("a.csv", "Land;Wert\nMünchen;1,5\n".encode("cp1252"), "cp1252"),
        ("a.csv", "Land\tWert\nMünchen\t1,5\n".encode(), None),  # tabs in a .csv
        ("a.csv", "Land,Wert\nMünchen,\"1,5\"\n".encode("utf-8-sig"), None),
        ("a.tsv", "Land\tWert\r\nMünchen\t1,5\r\n".encode("utf-16"), None),
        ("a.csv", "sep=;\nLand;Wert\nMünchen;1,5\n".encode(), None),
        ("a.csv", "Land|Wert\nMünchen|1,5\n".encode(), None),
    ],
)  # fmt: skip
def test_encodings_and_delimiters(tmp_path: Path, name: str, content: bytes, encoding: str | None) -> None:
    (tmp_path / name).write_bytes(content)
    assert read_table(tmp_path / name, encoding=encoding) == Table(("Land", "Wert"), (("München", "1,5"),))


# --- numbers ---


@pytest.mark.parametrize(
    ("cells", "decimal", "numbers"),
    [
        (["1", "2.5", "-3"], None, [1, 2.5, -3]),
        (["12%", "7 %"], None, [12, 7]),
        (["1,234,567", "2"], None, [1234567, 2]),
        (["1,234.5"], None, [1234.5]),
        (["1,234"], ".", [1234]),
        (["1,234"], ",", [1.234]),
        (["1.234,5", "2"], ",", [1234.5, 2]),
        (["\u22125", ".5", "1e3"], None, [-5, 0.5, 1000]),
        (["a", "1"], None, None),
        (["", "nan"], None, None),
        (["1,2"], ".", None),
    ],
)
def test_numbers(cells: list[str], decimal: str | None, numbers: list[float] | None) -> None:
    assert numbers_of(cells, decimal) == numbers


@pytest.mark.parametrize(("cells", "words"), [(["1,5", "2"], "decimal comma"), (["1,234", "7"], "may have")])
def test_numbers_that_may_be_others_are_refused(cells: list[str], words: str) -> None:
    with pytest.raises(DataError, match=f"the column 'x' .*{words}.*set decimal"):
        numbers_of(cells, None, "x")


# --- own tables ---


def test_own_tables_are_drawn(tmp_path: Path) -> None:
    build_tables(tmp_path)
    found = examples(TablesAdapter(), tmp_path, "all")
    assert len(found) == 8
    drawn = {example.groups["table"]: example for example in found}
    assert drawn["cities_1.tsv"].suffix == "TITLE | cities 1\nCity | In | Out\nBonn | 1 | 9\nUlm | 3 | 8"
    picture = drawn["share_0.csv"].images[0]
    assert isinstance(picture, Chart)
    assert picture.kind == "line"
    assert pickle.loads(pickle.dumps(picture)) == picture
    first, second = open_image(picture), open_image(picture)
    assert first.size == (448, 448)
    assert first.tobytes() == second.tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_drawn_with_ink_in_it(tmp_path: Path, kind: str) -> None:
    (tmp_path / "t.csv").write_text("Year,Cost in $ and $\n2001,3\n2003,5\n2002,9\n")
    [row] = rows(TablesAdapter(kind=kind, size=[200, 150]), tmp_path)
    example = TablesAdapter()(row.value)
    picture = open_image(example.images[0])
    assert picture.size == (200, 150)
    ink = sum(count for count, colour in picture.getcolors(10**6) or [] if colour == (31, 119, 180))
    assert ink > 20  # matplotlib's first colour


def test_a_changed_table_is_another_chart(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\nx,3\n")
    before = rows(TablesAdapter(), tmp_path)[0].value["image"]
    (tmp_path / "t.csv").write_text("a,b\nx,4\n")
    assert rows(TablesAdapter(), tmp_path)[0].value["image"] != before


def test_kinds_suit_the_table() -> None:
    years = Table(("y", "v"), tuple((str(2000 + n), "1") for n in range(5)))
    assert kind_for(years, [[1.0] * 5], "x") == "line"
    names = Table(("n", "v"), (("a", "-1"), ("b", "2")))
    assert {kind_for(names, [[-1.0, 2.0]], str(n)) for n in range(20)} == {"bar", "hbar"}
    assert "pie" in {kind_for(names, [[1.0, 2.0]], str(n)) for n in range(20)}


@pytest.mark.parametrize(
    ("content", "arguments", "words"),
    [
        ("a,b\nx,y\n", {}, "a table without a column of numbers"),
        ("a,b\nx,0\ny,1\n", {"kind": "pie"}, "not one column of numbers above 0"),
        ("a,b\nx,0\n", {"kind": "scatter"}, "labels that are not numbers"),
        ("a,b\n" + "x,1\n" * 21, {}, "more than 20 rows"),
        (f"a,b\n{'x' * 61},1\n", {}, "a name of more than 60 letters"),
    ],
)
def test_tables_that_are_passed_over(tmp_path: Path, content: str, arguments: dict[str, Any], words: str) -> None:
    (tmp_path / "t.csv").write_text(content)
    [row] = rows(TablesAdapter(**arguments), tmp_path)
    assert isinstance(row.value, Skip)
    assert words in row.value.reason


@pytest.mark.parametrize(
    ("content", "arguments", "words"),
    [
        ("a,b\n数,1\n", {}, "the font has no '数'"),
        ("a,b\nx,1\n", {"columns": ["a", "c"]}, "there is no column 'c'; the columns are 'a', 'b'"),
        ("a,b\nx,y\n", {"columns": ["a", "b"]}, "the column 'b' is not one of numbers"),
        ("a;b\nx;1,5\n", {}, "set decimal to ',' or '.'"),
    ],
)
def test_tables_that_are_bad_rows(tmp_path: Path, content: str, arguments: dict[str, Any], words: str) -> None:
    (tmp_path / "t.csv").write_text(content, encoding="utf-8")
    [row] = rows(TablesAdapter(**arguments), tmp_path)
    assert isinstance(row.value, DataError)
    assert words in str(row.value)


def test_columns_and_decimal_comma(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id;name;weight;size\n1;ant;0,5;1\n2;bee;1,25;2\n")
    [row] = rows(TablesAdapter(columns=["name", "weight"], decimal=",", title=False), tmp_path)
    assert TablesAdapter()(row.value).suffix == "name | weight\nant | 0,5\nbee | 1,25"


def test_questions(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("City,Area\nBonn,3\nUlm,5\nKiel,4\nKiel,1\n")
    adapter = TablesAdapter(task="questions", per_table=20)
    asked = {example.prefix: (example.suffix, example.question_type) for example in examples(adapter, tmp_path, "all")}
    assert asked == {
        "answer en What is the Area of Bonn?": ("3", "value"),
        "answer en What is the Area of Ulm?": ("5", "value"),
        "answer en Is the Area of Bonn higher than that of Ulm?": ("No", "compare"),
    }  # Kiel stands there twice: nothing that needs all rows has one answer
    (tmp_path / "t.csv").write_text("City,Area\nBonn,3\nUlm,5\nKiel,4\n")
    some = examples(TablesAdapter(task="questions", prefix="{question}"), tmp_path, "all")
    assert [example.question_type for example in some] == ["value", "highest", "lowest", "count", "compare"]
    assert some[1].prefix == "Which City has the highest Area?"
    assert (some[1].suffix, some[2].suffix, some[3].suffix) == ("Ulm", "Bonn", "3")
    assert len({repr(example.images) for example in some}) == 1
    assert some == examples(TablesAdapter(task="questions", prefix="{question}"), tmp_path, "all")


def test_questions_are_made_where_they_have_one_answer() -> None:
    ties = Table(("n", "v"), (("a", "1"), ("b", "1")))
    assert questions_about(ties, [[1.0, 1.0]], ["highest", "lowest", "compare"], 5, "") == []
    gap = Table(("n", "v"), (("a", "1"), ("b", "")))
    assert [each.kind for each in questions_about(gap, [[1.0, float("nan")]], ["highest", "value"], 5, "")] == ["value"]


def test_own_tables_beside_their_pictures(tmp_path: Path) -> None:
    chart(tmp_path / "t.png", [1, 2])
    (tmp_path / "t.csv").write_text("a,b,c\nx,1,one\n")
    [found] = examples(TablesAdapter(picture="beside"), tmp_path, "all")
    assert (found.images, found.suffix) == ((str(tmp_path / "t.png"),), "a | b | c\nx | 1 | one")
    [asked] = examples(TablesAdapter(picture="beside", task="questions", questions=["value"]), tmp_path, "all")
    assert (asked.prefix, asked.suffix) == ("answer en What is the b of x?", "1")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"kind": "donut"}, "kind = 'donut': expected one of auto, bar"),
        ({"task": "table", "per_table": 3}, "have no effect with task: table"),
        ({"task": "questions", "prefix": "what?"}, "must hold {question}"),
        ({"task": "questions", "questions": ["mean"]}, "questions = 'mean'"),
        ({"picture": "beside", "kind": "bar"}, "no effect with picture: beside"),
        ({"size": [10, 10]}, "expected width and height"),
        ({"encoding": "utf9"}, "encoding = 'utf9'"),
        ({"delimiter": ",,"}, "expected one character"),
        ({"columns": ["a"]}, "expected the labels' column and one or more"),
        ({"decimal": "x"}, "decimal = 'x'"),
    ],
)
def test_arguments_of_own_tables(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(AdapterError) as caught:
        TablesAdapter(**arguments)
    assert words in str(caught.value)


def test_the_title_line_is_only_there_with_a_title() -> None:
    assert linearised(Table(("a",), (("1",),))) == "a\n1"
    assert linearised(Table(("a",), (("1",),), "t")) == "TITLE | t\na\n1"


# --- recipes ---

RECIPES = sorted(name for name in shipped_recipes() if name.startswith("charts/") and "real_" not in name)


def test_the_recipes_are_there() -> None:
    methods = ("", "_lora", "_qlora")
    expected = {f"charts/{task}_{side}{method}" for task in ("chartqa", "scicap", "chart_to_table")
                for side in (224, 448) for method in methods}
    assert expected <= set(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_validates_with_each_size(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.data.train.source.startswith("data/")
    lines = shipped_recipes()[name].read_text(encoding="utf-8").splitlines()
    for line in (line for line in lines if line.startswith("# size:")):
        overrides = [word for word in line.split() if "=" in word]
        assert load_recipe(name, overrides).model.base != recipe.model.base
    load_adapter(recipe.data.adapter, recipe.data.adapter_args)


RUN = ("chartqa_224", "chartqa_224_qlora", "scicap_224_lora", "chart_to_table_224_lora", "own_tables_448_lora")


@pytest.mark.parametrize("name", RUN)
def test_a_recipe_runs_on_tiny(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    build_chartqa(tmp_path / "data" / "chartqa")
    build_scicap(tmp_path / "data" / "scicap")
    build_tables(tmp_path / "data" / "tables")
    short = ["train.max_steps=1", "train.batch_size=2", "eval.limit=2", "eval.max_new_tokens=2", "eval.before=false"]
    code = main(["train", f"charts/{name}", "model.base=tiny", "train.gradient_accumulation_steps=1", *short])
    assert code == 0, capsys.readouterr().err
