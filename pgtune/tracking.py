"""Numbers to Weights & Biases or TensorBoard. Images and text of the data only where the recipe asks."""

from __future__ import annotations

import importlib.util
import json
import secrets
from pathlib import Path
from typing import Any

from pgtune.errors import ModelError, RecipeError, TrainingError
from pgtune.recipe import Recipe
from pgtune.run_folder import undamaged
from pgtune.writing import write_json


class Tracker:
    """Sends nothing: `tracking: none`, and the interface of the others."""

    def log(self, step: int, numbers: dict[str, float]) -> None:
        """Numbers of one step."""

    def examples(self, step: int, picture: Path) -> None:
        """The picture of predictions, sent only with `tracking.log_examples`."""

    def finish(self) -> None:
        """Flush and close."""


def _config(recipe: Recipe) -> dict[str, Any]:
    """The recipe without what it says about places on this machine."""
    config = recipe.model_dump(mode="json", exclude={"data", "output_dir"})
    if Path(recipe.model.base).is_dir():
        config["model"]["base"] = Path(recipe.model.base).name
    return config


class _Wandb(Tracker):
    def __init__(self, recipe: Recipe, folder: Path) -> None:
        import wandb

        tracking = recipe.tracking
        self.wandb = wandb
        self.run = wandb.init(
            project=tracking.project or "pgtune",
            name=tracking.name or folder.name,
            id=_wandb_id(folder),
            resume="allow",  # steps that are done again are the same, and are counted once
            mode=tracking.mode,
            dir=str(folder),
            config=_config(recipe),
            # Nothing of the machine or of the code around the run is sent.
            settings=wandb.Settings(
                console="off",
                disable_code=True,
                disable_git=True,
                host="",  # else the host's name is sent
                save_code=False,
                silent=True,
                x_disable_machine_info=True,
                x_disable_meta=True,
                x_disable_stats=True,
                x_save_requirements=False,
            ),
        )

    def log(self, step: int, numbers: dict[str, float]) -> None:
        self.run.log(numbers, step=step)

    def examples(self, step: int, picture: Path) -> None:
        self.run.log({"predictions": self.wandb.Image(str(picture))}, step=step)

    def finish(self) -> None:
        self.run.finish()


def _wandb_id(folder: Path) -> str:
    """The run's name at Weights & Biases, drawn once: a resumed training is the same run there."""
    file = folder / "wandb.json"
    if not file.is_file():
        write_json(file, {"id": secrets.token_hex(6)})
    with undamaged(file):
        return str(json.loads(file.read_text(encoding="utf-8"))["id"])


class _TensorBoard(Tracker):
    def __init__(self, folder: Path, done: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer: Any = SummaryWriter(str(folder / "tensorboard"), purge_step=done + 1)

    def log(self, step: int, numbers: dict[str, float]) -> None:
        for name, value in numbers.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def examples(self, step: int, picture: Path) -> None:
        import numpy as np
        from PIL import Image

        with Image.open(picture) as image:
            self.writer.add_image("predictions", np.asarray(image.convert("RGB")), step, dataformats="HWC")

    def finish(self) -> None:
        self.writer.close()


def check(recipe: Recipe) -> None:
    """That the tracker's package is installed, and where it sends numbers away, that it is logged in.

    Raises:
        ModelError: it is not installed.
        RecipeError: it cannot log in.
    """
    name = recipe.tracking.to
    if name != "none" and importlib.util.find_spec(name) is None:
        raise ModelError(f"tracking: {name} is not installed; pip install 'pgtune[{name}]'")
    if name == "wandb" and recipe.tracking.mode == "online":
        import wandb

        try:
            wandb.login()
        except wandb.errors.Error as error:
            raise RecipeError(f"tracking: wandb: {error} (or set tracking.mode=offline)") from error


def start(recipe: Recipe, folder: Path, done: int = 0) -> Tracker:
    """The tracker that the recipe names, writing its local files into the run folder.

    Going on after `done` steps, it goes on with what it has, and shows the steps that are done again once.

    Raises:
        TrainingError: it does not answer.
    """
    if recipe.tracking.to == "wandb":
        import wandb

        try:
            return _Wandb(recipe, folder)
        except wandb.errors.Error as error:
            raise TrainingError(f"tracking: wandb: {error}; go on with --resume tracking.mode=offline") from error
    if recipe.tracking.to == "tensorboard":
        return _TensorBoard(folder, done)
    return Tracker()
