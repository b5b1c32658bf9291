"""CSV files and data sets of the library datasets: columns, templates, odd files, lines as an editor counts them."""

from __future__ import annotations

import io
import pickle
import tarfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pgtune.adapting import adapt
from pgtune.data import open_source
from pgtune.data_adapters.generic.columns import CsvAdapter, fields_of, filled
from pgtune.data_adapters.generic.hf import HfAdapter, HfPicture
from pgtune.errors import AdapterError, DataError, HubError
from pgtune.example import Example, Row
from pgtune.images import open_image
from pgtune.recipe import Source


def picture(path: Path, colour: str = "red") -> Path:
    """A picture file of one colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6), colour).save(path)
    return path


def examples(adapter: Any, source: Path | str, split: str = "train") -> list[Example]:
    return list(open_source(Source(source=str(source), split=split), adapter))


def table(folder: Path, text: str, name: str = "rows.csv", encoding: str = "utf-8") -> Path:
    """A table whose pictures a.png and b.png lie beside it."""
    for image in ("a.png", "b.png"):
        picture(folder / image)
    (folder / name).write_bytes(text.encode(encoding))
    return folder / name


# --- CSV ---


def test_the_usual_columns(tmp_path: Path) -> None:
    path = table(tmp_path, "image,prefix,suffix,id\na.png,what?, two  words ,7\nb.png,,x,8\n")
    found = examples(CsvAdapter(metadata=["id"]), path)
    assert found[0] == Example(str(tmp_path / "a.png"), "what?", " two  words ", metadata={"id": "7"})
    assert found[1].prefix == ""


def test_every_argument(tmp_path: Path) -> None:
    header = "file;frage;antwort;alle;Teil;Art;Pat;Nr"
    path = table(tmp_path, f"{header}\na;Welche?;Ja; Ja | ja |;offen;Farbe;P7;1\nb;Wo?;links;links;zu;Ort;;2\n")
    adapter = CsvAdapter(
        image_template="{file}.png", prefix_template="answer de {frage} {{{Nr}}}", suffix="antwort", references="alle",
        separator="|", part="Teil", question_type="Art", groups={"patient": "Pat"}, metadata=["Nr"],
    )  # fmt: skip
    first, second = examples(adapter, path)
    assert first.prefix == "answer de Welche? {1}"
    assert first.references == ("Ja", "ja")
    assert (first.part, first.question_type, first.groups) == ("offen", "Farbe", {"patient": "P7"})
    assert second.groups == {}
    assert first.metadata == {"Nr": "1"}


def test_a_fixed_prefix_and_two_pictures(tmp_path: Path) -> None:
    path = table(tmp_path, "left,right,same\na.png,b.png,yes\n")
    [found] = examples(CsvAdapter(image=["left", "right"], prefix_template="same?", suffix="same"), path)
    assert found.images == (str(tmp_path / "a.png"), str(tmp_path / "b.png"))
    assert found.prefix == "same?"


@pytest.mark.parametrize(
    ("text", "name", "encoding"),
    [
        ("image;prefix;suffix\r\na.png;q, r;é\r\n", "rows.csv", "utf-8-sig"),
        ("sep=\t\r\nimage\tprefix\tsuffix\r\na.png\tq, r\té\r\n", "rows.csv", "utf-8"),
        ("image\tprefix\tsuffix\r\na.png\tq, r\té\r\n", "rows.csv", "utf-16"),
        ("image\tprefix\tsuffix\na.png\tq, r\té\n", "rows.tsv", "utf-8"),
        ('image,prefix,suffix\ra.png,"q, r",é\r', "rows.csv", "utf-8"),
        ("\n\nimage|prefix|suffix\n\na.png|q, r|é\n||\n\n", "rows.csv", "utf-8"),
    ],
)
def test_spellings_of_a_table(tmp_path: Path, text: str, name: str, encoding: str) -> None:
    [found] = examples(CsvAdapter(), table(tmp_path, text, name, encoding))
    assert (found.prefix, found.suffix) == ("q, r", "é")


def test_another_encoding_is_refused_with_its_line_and_read_by_name(tmp_path: Path) -> None:
    path = table(tmp_path, "image,prefix,suffix\n" + "a.png,q,x\n" * 3000 + "a.png,q,grün\n", encoding="cp1252")
    with pytest.raises(DataError, match=r"rows.csv, line 3002: byte 0xfc is not utf-8; .*cp1252"):
        examples(CsvAdapter(), path)
    assert examples(CsvAdapter(encoding="cp1252"), path)[-1].suffix == "grün"
    with pytest.raises(DataError, match="is not ascii; choose another encoding"):
        examples(CsvAdapter(encoding="ascii"), path)


def test_rows_are_named_by_the_line_an_editor_shows(tmp_path: Path) -> None:
    text = 'image,prefix,suffix\na.png,"two\nlines",x\n\nb.png,q,y\na.png,"q\r\nr",z\na.png,q\nb.png,q,w\n'
    found = list(CsvAdapter().rows(table(tmp_path, text), None))
    assert [row.place for row in found] == [f"rows.csv, line {line}" for line in (2, 5, 6, 8, 9)]
    assert found[0].value["prefix"] == "two\nlines"
    assert isinstance(found[3].value, DataError)
    assert "has 2 fields, the header has 3; is a comma in a text" in str(found[3].value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('image,prefix,suffix\na.png,"q"r,x\n', "line 2: is not readable"),
        ('image,prefix,suffix\na.png,"q,x\nb.png,q,y\n', "line 2: a quote opens here and is never closed"),
        ("imag,prefix,suffix\na.png,q,x\n", "line 1: there is no column 'image'; did you mean 'imag'?"),
        ("image,prefix,suffix,suffix\na.png,q,x,y\n", "line 1: the column 'suffix' is there twice"),
        ("image,prefix,suffix\n,q,x\n", "line 2: image is empty, expected a picture"),
        ("image,prefix,suffix\na.png,q,\n", "line 2: suffix is empty"),
        ("image,prefix,suffix\nc.png,q,x\n", "c.png: no such file"),
        ("image,prefix,suffix\n../c.png,q,x\n", "is outside of"),
        ("", "holds no header and no rows"),
    ],
)
def test_a_bad_table_is_named(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(DataError) as caught:
        examples(CsvAdapter(), table(tmp_path, text))
    assert words in str(caught.value)


def test_a_folder_of_tables_and_a_column_of_splits(tmp_path: Path) -> None:
    table(tmp_path, "image,prefix,suffix\na.png,q,x\n", "train.csv")
    table(tmp_path, "image\tprefix\tsuffix\nb.png\tq\ty\n", "val.tsv")
    assert CsvAdapter().splits(tmp_path) == ["train", "validation"]
    assert [each.suffix for each in examples(CsvAdapter(), tmp_path, "validation")] == ["y"]
    with pytest.raises(DataError, match="no split 'test'; it has train, validation"):
        examples(CsvAdapter(), tmp_path, "test")
    path = table(tmp_path / "one", "image,prefix,suffix,set\na.png,q,x,Train\nb.png,q,y,VAL\nb.png,q,z,train\n")
    adapter = CsvAdapter(split_column="set")
    assert adapter.splits(path) == ["train", "validation"]
    assert [each.suffix for each in examples(adapter, path, "train")] == ["x", "z"]
    assert [each.suffix for each in examples(adapter, path.parent, "validation")] == ["y"]
    assert len(examples(adapter, path, "all")) == 3
    with pytest.raises(DataError, match="no row whose 'set' is 'test'; it has train, validation"):
        examples(adapter, path, "test")
    with pytest.raises(DataError, match="there is no split_column 'sett'; did you mean 'set'"):
        examples(CsvAdapter(split_column="sett"), path, "test")
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match=r"expected train.csv, test.csv or the like; it holds no table"):
        examples(CsvAdapter(), tmp_path / "none")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"prefix": "q", "prefix_template": "{q}"}, "give one of the two"),
        ({"prefix_template": "a {q"}, "expected columns in braces"),
        ({"prefix_template": "a {} b"}, "expected columns in braces"),
        ({"separator": "|"}, "has no effect without references"),
        ({"references": "all"}, "needs separator"),
        ({"references": "all", "separator": ""}, "must not be empty"),
        ({"groups": "patient"}, "are lists of columns"),
        ({"image": [""]}, "a column's name must be a text"),
        ({"delimiter": "tab"}, "expected one character"),
        ({"encoding": "latin-11"}, "encoding = 'latin-11'"),
    ],
)
def test_arguments_that_cannot_be(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(AdapterError) as caught:
        CsvAdapter(**arguments)
    assert words in str(caught.value)


def test_templates() -> None:
    assert fields_of("a {x y} {{z}} {x y} {w:d}", "t") == ["x y", "w:d"]
    assert filled("{a}{{a}}{b}", {"a": "{b}", "b": "1"}) == "{b}{a}1"


def test_rows_are_read_as_they_are_asked_for(tmp_path: Path) -> None:
    path = table(tmp_path, "image,prefix,suffix\n" + "a.png,q,x\n" * 50_000)
    reading = CsvAdapter().rows(path, None)
    assert next(reading).place == "rows.csv, line 2"
    assert next(reading).place == "rows.csv, line 3"


# --- the library datasets ---


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One small data set, saved in every form."""
    import datasets

    root = tmp_path_factory.mktemp("hf")
    colours = ["red", "green", "blue", "white"]
    pixels = []
    for colour in colours:
        file = io.BytesIO()
        Image.new("RGB", (8, 6), colour).save(file, "PNG")
        pixels.append(file.getvalue())
    features = datasets.Features(
        {
            "image": datasets.Image(), "raw": datasets.Value("binary"), "many": datasets.List(datasets.Image()),
            "path": datasets.Value("string"), "q": datasets.Value("string"), "n": datasets.Value("int64"),
            "kind": datasets.ClassLabel(names=["warm", "cold"]), "all": datasets.List(datasets.Value("string")),
            "share": datasets.Value("float64"),
        }
    )  # fmt: skip
    columns = {
        "image": [{"bytes": each, "path": None} for each in pixels], "raw": pixels,
        "many": [[{"bytes": each, "path": None}] * 2 for each in pixels], "path": [f"{each}.png" for each in colours],
        "q": [f"colour {place}?" for place in range(4)], "n": [0, 10, 20, 30], "kind": [0, 1, 1, 0],
        "all": [[each, each.upper()] for each in colours], "share": [0.5] * 4,
    }  # fmt: skip
    data = datasets.Dataset.from_dict(columns, features=features)
    for colour in colours:
        picture(root / "saved" / f"{colour}.png", colour)
    datasets.DatasetDict({"train": data.select([0, 1, 2]), "valid": data.select([3])}).save_to_disk(root / "saved")
    data.save_to_disk(root / "flat")
    (root / "parquet" / "data").mkdir(parents=True)
    data.select([0, 1, 2]).to_parquet(root / "parquet" / "data" / "train-00000-of-00001.parquet")
    data.select([3]).to_parquet(root / "parquet" / "data" / "validation-00000-of-00001.parquet")
    data.to_parquet(root / "some.parquet")
    with tarfile.open(root / "shard.tar", "w") as tar:
        for place, each in enumerate(pixels):
            for ending, content in (("png", each), ("txt", colours[place].encode())):
                entry = tarfile.TarInfo(f"{place:04d}.{ending}")
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
    return root


def reader(tmp_path: Path, **arguments: Any) -> HfAdapter:
    return HfAdapter(**{"prefix": "q", "suffix": "n", "cache": str(tmp_path / "cache"), **arguments})


@pytest.mark.parametrize("source", ["saved", "parquet"])
def test_splits_rows_and_pictures(made: Path, tmp_path: Path, source: str) -> None:
    adapter = reader(tmp_path)
    assert adapter.splits(made / source) == ["train", "validation"]
    found = examples(adapter, made / source, "train")
    assert [(each.prefix, each.suffix) for each in found] == [(f"colour {n}?", str(10 * n)) for n in range(3)]
    assert [open_image(each.images[0]).getpixel((0, 0)) for each in found] == [(255, 0, 0), (0, 128, 0), (0, 0, 255)]
    [last] = examples(adapter, made / source, "validation")
    assert open_image(pickle.loads(pickle.dumps(last.images[0]))).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("source", ["flat", "some.parquet"])
def test_one_table_is_every_split(made: Path, tmp_path: Path, source: str) -> None:
    assert reader(tmp_path).splits(made / source) == ["all"]
    found = examples(reader(tmp_path, suffix="kind"), made / source, "test")
    assert [each.suffix for each in found] == ["warm", "cold", "cold", "warm"]


def test_lists_bytes_paths_and_class_names(made: Path, tmp_path: Path) -> None:
    [found] = examples(reader(tmp_path, image="raw", suffix="all"), made / "saved", "validation")
    assert (found.suffix, found.references) == ("white", ("white", "WHITE"))
    assert open_image(found.images[0]).getpixel((0, 0)) == (255, 255, 255)
    adapter = reader(tmp_path, image="many", suffix="kind", references="all", question_type="kind", groups=["n"])
    [found] = examples(adapter, made / "saved", "validation")
    assert len(found.images) == 2
    assert (found.suffix, found.references, found.groups) == ("warm", ("white", "WHITE"), {"n": "30"})
    [found] = examples(reader(tmp_path, image="path"), made / "saved", "validation")
    assert found.images == (str(made / "saved" / "white.png"),)


def test_web_dataset(made: Path, tmp_path: Path) -> None:
    adapter = HfAdapter(image="png", prefix_template="caption en", suffix="txt", cache=str(tmp_path / "cache"))
    found = examples(adapter, made / "shard.tar")
    assert [each.suffix for each in found] == ["red", "green", "blue", "white"]
    assert open_image(found[2].images[0]).getpixel((3, 3)) == (0, 0, 255)


def test_pictures_are_not_read_before_they_are_asked_for(made: Path, tmp_path: Path) -> None:
    rows: list[Row] = list(reader(tmp_path).rows(made / "flat", None))
    assert all(isinstance(row.value["image"], HfPicture) for row in rows)
    assert len(pickle.dumps(rows[0].value)) < 1000
    assert rows[3].place.endswith("row 4")


@pytest.mark.parametrize(
    ("arguments", "source", "words"),
    [
        ({"prefix": "question"}, "flat", "there is no column 'question'"),
        ({"suffix": "share"}, "flat", "row 1: share must be a text or a whole number, got float 0.5"),
        ({"suffix": "image"}, "flat", "the column 'image' holds pictures, expected text"),
        ({}, "nothing", "no such file or folder; a data set on the Hub is written hub:owner/name"),
        ({}, "saved/red.png", "expected a file that ends in .parquet"),
    ],
)
def test_what_does_not_fit_is_named(
    made: Path, tmp_path: Path, arguments: dict[str, Any], source: str, words: str
) -> None:
    with pytest.raises(DataError) as caught:
        examples(reader(tmp_path, **arguments), made / source)
    assert words in str(caught.value)


def test_the_hub_is_only_asked_by_its_name(made: Path, tmp_path: Path) -> None:
    with pytest.raises(HubError, match="hub:nobody/nothing: the Hub cannot be reached"):  # tests are offline
        examples(reader(tmp_path), "hub:nobody/nothing")
    with pytest.raises(AdapterError, match="only a data set on the Hub has one"):
        examples(reader(tmp_path, revision="main"), made / "flat")


def test_a_damaged_parquet_file(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match=r"x.parquet: datasets cannot read it"):
        examples(reader(tmp_path), tmp_path / "x.parquet")


def test_pictures_as_plain_structs_in_parquet(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    content = io.BytesIO()
    Image.new("RGB", (9, 7), "red").save(content, "PNG")
    cells = arrow.array([{"bytes": content.getvalue(), "path": None}, {"bytes": b"none", "path": None}])
    parquet.write_table(arrow.table({"image": cells, "q": ["a", "b"], "label": ["x", "y"]}), tmp_path / "a.parquet")
    adapter = reader(tmp_path, prefix="q", suffix="label")
    pictures = [adapter(row.value).images[0] for row in adapter.rows(tmp_path / "a.parquet", None)]
    assert pictures[0]().size == (9, 7)
    with pytest.raises(DataError, match="holds 4 bytes that are no picture"):
        pictures[1]()


def test_adapt_asks_the_hub_too(tmp_path: Path) -> None:
    with pytest.raises(HubError, match="hub:nobody/nothing"):
        adapt("hf", "hub:nobody/nothing", out=tmp_path / "a.jsonl", adapter_args={"cache": str(tmp_path)})


def test_a_cell_of_a_megabyte(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('image,prefix,suffix\na.png,q,"' + "x\n" * 500_000 + '"\na.png,q,y\n')
    rows = list(CsvAdapter().rows(tmp_path / "a.csv", None))
    assert [len(row.value["suffix"]) for row in rows] == [1_000_000, 1]


def test_an_encoding_that_is_none_of_text() -> None:
    with pytest.raises(AdapterError, match="'base64': expected a name such as utf-8"):
        CsvAdapter(encoding="base64")
