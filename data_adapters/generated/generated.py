"""Generated pictures with known answers: text, shapes, textures, charts and staves.

What the embedded base model `tiny` is pre-trained on, and an endless source for trying things out. The text of an
example is computed from a scene, and the picture is drawn from it only when it is asked for. Everything is a pure
function of (seed, split, index).
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pgtune.data_adapters.generated.drawing import draw
from pgtune.data_adapters.generated.scenes import (
    NOTES,
    PLACES,
    SHAPES,
    Patch,
    Scene,
    ShapeScene,
    TextureScene,
    bar_scene,
    line_scene,
    shape_scene,
    staff_scene,
    text_scene,
    texture_scene,
)
from pgtune.errors import AdapterError
from pgtune.example import Example
from pgtune.locations import SEPARATOR, encode_detections

TREND = ("falls", "stays level", "rises")


def _article(words: str) -> str:
    return ("an " if words[0] in "aeiou" else "a ") + words


def _where(place: int) -> str:
    name = PLACES[place]
    return {"centre": "in the centre", "left": "on the left", "right": "on the right"}.get(name, f"at the {name}")


def caption(scene: ShapeScene | TextureScene) -> str:
    """The scene in words; the first two shapes of a scene, the rest by their number."""
    if isinstance(scene, TextureScene):
        words = [f"{_colour_pair(patch)} {patch.texture}" for patch in scene.patches]
        if len(words) == 1:
            return f"{_article(words[0])} texture"
        first, second = scene.layout.split()
        return f"{first} {words[0]}, {second} {words[1]}"
    if len(scene.shapes) == 1:
        shape = scene.shapes[0]
        size = "large" if shape.box[2] - shape.box[0] > 0.3 else "small"
        return f"a {size} {shape.colour} {shape.name} {_where(shape.place)} on a {scene.background} background"
    return " and ".join(_article(f"{shape.colour} {shape.name}") for shape in scene.shapes)


def _colour_pair(patch: Patch) -> str:
    first, second = patch.colours
    return first if first == second else f"{first} and {second}"


def _ocr(rng: random.Random, characters: int) -> tuple[Scene, str, str]:
    scene = text_scene(rng, characters)
    return scene, "ocr", scene.text


def _caption(rng: random.Random, characters: int) -> tuple[Scene, str, str]:
    scene = shape_scene(rng, rng.choices((1, 2, 3), (70, 22, 8))[0])
    return scene, "caption en", caption(scene)


def _texture_caption(rng: random.Random, characters: int) -> tuple[Scene, str, str]:
    scene = texture_scene(rng)
    return scene, "caption en", caption(scene)


def _detect(rng: random.Random, characters: int) -> tuple[Scene, str, str]:
    scene = shape_scene(rng, rng.choices((1, 2, 3), (50, 30, 20))[0])
    names = sorted({shape.name for shape in scene.shapes})
    things = rng.sample(names, 2) if len(names) > 1 and rng.random() < 0.3 else [rng.choice(names)]
    if len(things) == 1 and rng.random() < 0.5:
        shape = rng.choice(scene.shapes)
        things = [f"{shape.colour} {shape.name}"]
    found = [
        (shape.box, thing)
        for thing in things
        for shape in scene.shapes
        if thing in (shape.name, f"{shape.colour} {shape.name}")
    ]
    return scene, "detect " + SEPARATOR.join(things), encode_detections(found)


def _answer(rng: random.Random, characters: int) -> tuple[Scene, str, str]:
    question = rng.choice(("count", "count", "shapes", "colour", "where", "which"))
    if question in ("count", "shapes"):
        names = rng.sample(SHAPES, 2)
        scene = shape_scene(rng, rng.randint(1, 5), names)
        if question == "shapes":
            return scene, "answer en how many shapes?", str(len(scene.shapes))
        name = rng.choice(names)
        return scene, f"answer en how many {_plural(name)}?", str(sum(shape.name == name for shape in scene.shapes))
    scene = shape_scene(rng, rng.choice((1, 2, 2, 3)))
    names = [shape.name for shape in scene.shapes]
    unique = [shape for shape in scene.shapes if names.count(shape.name) == 1]
    if question == "which" or not unique:
        shape = rng.choice(scene.shapes)
        return scene, f"answer en what shape is {shape.colour}?", shape.name
    shape = rng.choice(unique)
    if question == "colour":
        return scene, f"answer en what colour is the {shape.name}?", shape.colour
    return scene, f"answer en where is the {shape.name}?", PLACES[shape.place]


def _plural(name: str) -> str:
    return name + ("es" if name.endswith("s") else "s")


def _chart(rng: random.Random, characters: int) -> tuple[Scene, str, str]:
    if rng.random() < 0.25:
        line = line_scene(rng)
        if rng.random() < 0.7:
            return line, "answer en does the line rise or fall?", TREND[line.trend + 1]
        return line, "answer en what colour is the line?", line.colour
    scene = bar_scene(rng)
    question = rng.choice(("tallest", "shortest", "count", "value", "value"))
    if question == "value" and scene.labelled:
        place = rng.randrange(len(scene.values))
        return scene, f"answer en what is the value of the {scene.colours[place]} bar?", str(scene.values[place])
    if question == "count":
        return scene, "answer en how many bars?", str(len(scene.values))
    if question == "shortest":
        return scene, "answer en which bar is the shortest?", scene.colours[scene.values.index(min(scene.values))]
    return scene, "answer en which bar is the tallest?", scene.colours[scene.values.index(max(scene.values))]


def _music(rng: random.Random, characters: int) -> tuple[Scene, str, str]:
    scene = staff_scene(rng)
    steps = [after - before for before, after in zip(scene.positions, scene.positions[1:], strict=False)]
    if len(scene.positions) == 1 and rng.random() < 0.7:
        return scene, "answer en which note is this?", NOTES[scene.positions[0]]
    if steps and (all(step > 0 for step in steps) or all(step < 0 for step in steps)) and rng.random() < 0.6:
        return scene, "answer en does the melody rise or fall?", "rises" if steps[0] > 0 else "falls"
    return scene, "answer en how many notes?", str(len(scene.positions))


_TASKS = {
    "ocr": (_ocr, 30.0),
    "caption": (_caption, 16.0),
    "texture": (_texture_caption, 14.0),
    "detect": (_detect, 10.0),
    "answer": (_answer, 12.0),
    "chart": (_chart, 10.0),
    "music": (_music, 8.0),
}
TASKS = tuple(_TASKS)


@dataclass(frozen=True)
class GeneratedAdapter:
    """Pictures made from a seed; the source is the number of examples, such as "60000".

    Args:
        size: width and height of the pictures in pixels, 16 or more.
        seed: any whole number; another seed gives other examples.
        tasks: names from TASKS, or a mapping of names to weights; None takes all with their own weights.
        characters: longest text of the `ocr` task, 1 to 6.

    Raises:
        AdapterError: for an unknown task, a size below 16 or characters outside 1 to 6.
    """

    size: int = 112
    seed: int = 0
    tasks: Sequence[str] | Mapping[str, float] | None = None
    characters: int = 6

    def __post_init__(self) -> None:
        if self.tasks is not None and not self.tasks:
            raise AdapterError("data.adapter_args.tasks: empty, expected one or more of " + ", ".join(TASKS))
        for task in self.tasks or ():
            if task not in _TASKS:
                raise AdapterError(f"data.adapter_args.tasks: {task!r} is not a task, expected {', '.join(TASKS)}")
        if self.size < 16:
            raise AdapterError(f"data.adapter_args.size: {self.size!r}, expected 16 or more pixels")
        if not 1 <= self.characters <= 6:
            raise AdapterError(f"data.adapter_args.characters: {self.characters!r}, expected 1 to 6")

    def rows(self, source: str | Path, split: str | None) -> Iterable[dict[str, object]]:
        """As many rows as the source says; splits draw from seed spaces of their own.

        Raises:
            AdapterError: where the source is not a whole number above 0.
        """
        if not str(source).isdecimal() or int(str(source)) == 0:
            raise AdapterError(f"generated: source {str(source)!r}, expected a number of examples such as 1000")
        return self._rows(int(str(source)), split or "train")

    def _rows(self, count: int, split: str) -> Iterator[dict[str, object]]:
        for index in range(count):
            yield {"split": split, "index": index}

    def scene(self, split: str, index: int) -> tuple[Scene, str, str, str]:
        """Scene, prefix, suffix and task name of one example."""
        rng = random.Random(f"{self.seed}/{split}/{index}")
        if isinstance(self.tasks, Mapping):
            names, weights = list(self.tasks), list(self.tasks.values())
        else:
            names = list(self.tasks or TASKS)
            weights = [_TASKS[name][1] for name in names]
        task = rng.choices(names, weights)[0]
        return (*_TASKS[task][0](rng, self.characters), task)

    def __call__(self, row: Mapping[str, object]) -> Example:
        """The example of one row; its picture is drawn when it is asked for."""
        scene, prefix, suffix, task = self.scene(str(row["split"]), int(str(row["index"])))
        return Example(partial(draw, scene, self.size), prefix, suffix, metadata={"task": task})
