"""Build a small radiology data set: which part of the body a slice shows, and whether an organ is in it.

    pip download --no-deps --no-binary TotalSegmentator --dest packages TotalSegmentator==2.18.0
    pip download --no-deps --no-build-isolation --no-binary pyradiomics --dest packages pyradiomics==3.0.1
    python scripts/build_ct_levels.py packages                     # writes data/ct_levels in about 20 s

Needs numpy, Pillow and pydicom (pip install 'pgtune[radiology]'); pyradiomics wants numpy and setuptools installed
before pip can look at it. These packages hold the CT of five people:

=======  ==========================================  ========  =================
patient  from                                        slices    split
=======  ==========================================  ========  =================
ct-a     TotalSegmentator example_ct                 112       train, validation
ct-b     TotalSegmentator aorta_report, contrast     191       train, validation
ct-c     pyradiomics lung1                           48        test
ct-d     pyradiomics lung2                           61        test
ct-e     TotalSegmentator example_ct_dicom           20        test
=======  ==========================================  ========  =================

No patient is on both sides of train and test. Validation is weaker, and only the learning rate is chosen on it: it is
contiguous blocks of slices of ct-a and ct-b, away from the training slices by a gap. What is in a slice was read by us,
who are no radiologists, from the slices (the ranges below) or comes from TotalSegmentator's own masks, which are a
model's output; slices in which we were not sure were left out, so the borders between parts are easier than in
a clinic. It is a test of training, not of medicine.

Licences: TotalSegmentator Apache-2.0, pyradiomics BSD-3-Clause; the packages do not say more about the
pictures in them. Nothing of it is committed here.
"""

from __future__ import annotations

import gzip
import io
import math
import struct
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from real_content import SIZE, Archive, Package, Question, arguments, lot, write

TOTALSEGMENTATOR = Package(
    "TotalSegmentator",
    "2.18.0",
    "5d4223ef93973bc36d710869d11e7742ead2c154c72f7f9edcaaadd5b6c4bd03",
    sdist=True,
)
PYRADIOMICS = Package(
    "pyradiomics",
    "3.0.1",
    "47c57f441d6cb7973fa3b2ea48d3948df78e3348e1c69e1e2ff19001601fc2f5",
    sdist=True,
)

PART = "answer en which part of the body is this?"
ORGANS = ("liver", "heart", "lung")
BODY = -300
"""Hounsfield units above which a voxel is body (or table), not air or lung."""
LOOKS = 5
"""Pictures of a training slice."""
BLOCK, PERIOD, GAP = 6, 30, 3
"""Of every PERIOD slices of ct-a and ct-b, BLOCK are for validation and GAP on either side are not used."""

Range = tuple[int, int]
"""First and last slice, counted from the feet."""


@dataclass(frozen=True)
class Facts:
    """What was read from the slices of one patient; a slice in no range has no answer."""

    parts: Mapping[str, Range]
    present: Mapping[str, Range]
    absent: Mapping[str, tuple[Range, ...]]


NOWHERE: tuple[Range, ...] = ((0, 999),)
FACTS = {
    "ct-a": Facts(
        {"pelvis": (0, 42), "abdomen": (57, 111)},
        {"liver": (69, 111), "lung": (105, 111)},  # from the masks
        {"liver": ((0, 66),), "heart": NOWHERE, "lung": ((0, 98),)},
    ),
    "ct-b": Facts(
        {"abdomen": (0, 34), "chest": (62, 160), "shoulders": (174, 190)},
        {"liver": (0, 56), "heart": (42, 104), "lung": (15, 168)},
        {"liver": ((62, 190),), "heart": ((0, 34), (124, 190)), "lung": ((178, 190),)},
    ),
    "ct-c": Facts(
        {"chest": (6, 38), "shoulders": (43, 47)},
        {"heart": (1, 17), "lung": (0, 39)},
        {"liver": ((7, 47),), "heart": ((26, 47),), "lung": ((44, 47),)},
    ),
    "ct-d": Facts(
        {"abdomen": (0, 13), "chest": (20, 53), "shoulders": (58, 60)},
        {"liver": (0, 16), "heart": (18, 32), "lung": (8, 55)},
        {"liver": ((21, 60),), "heart": ((0, 12), (40, 60)), "lung": ((59, 60),)},
    ),
    # from the masks: they name the liver in every slice, and neither heart nor lung
    "ct-e": Facts({"abdomen": (0, 19)}, {"liver": (0, 19)}, {"heart": NOWHERE, "lung": NOWHERE}),
}
TEST = ("ct-c", "ct-d", "ct-e")


@dataclass(frozen=True)
class Volume:
    """Voxels as slices x rows x columns, from the feet up, front at the top, the patient's right on the left."""

    voxels: NDArray[np.float32]
    spacing: tuple[float, float]
    """Millimetres between rows and between columns."""


def read_nifti(content: bytes) -> Volume:
    """A 3-D NIfTI-1 file whose axes are those of the body (diagonal affine), gzipped."""
    raw = gzip.decompress(content)
    if struct.unpack("<i", raw[:4])[0] != 348:
        raise SystemExit("not a little-endian NIfTI-1 file")
    shape = struct.unpack("<8h", raw[40:56])[1:4]
    kind = {2: "<u1", 4: "<i2", 8: "<i4", 16: "<f4", 64: "<f8", 512: "<u2"}[struct.unpack("<h", raw[70:72])[0]]
    offset = int(struct.unpack("<f", raw[108:112])[0])
    slope, intercept = struct.unpack("<2f", raw[112:120])
    affine = np.frombuffer(raw[280:328], "<f4").reshape(3, 4)[:, :3]
    if np.count_nonzero(affine) != 3 or not affine.diagonal().all():
        raise SystemExit("expected a volume whose axes are right, front and up")
    array = np.frombuffer(raw, kind, int(np.prod(shape)), offset).reshape(shape, order="F").astype(np.float32)
    array = array * (slope or 1.0) + (intercept if slope else 0.0)
    # NIfTI counts to the right, the front and up; a picture from the patient's right to the left, and front to back.
    for axis, wanted in enumerate((-1, -1, 1)):
        if np.sign(affine[axis, axis]) != wanted:
            array = np.flip(array, axis)
    return Volume(array.transpose(2, 1, 0), (abs(float(affine[1, 1])), abs(float(affine[0, 0]))))


def read_nrrd(content: bytes) -> Volume:
    """A gzipped 3-D NRRD file of int16 in left-posterior-superior axes."""
    header, _, body = content.partition(b"\n\n")
    fields = dict(line.split(": ", 1) for line in header.decode().splitlines() if ": " in line and line[0] != "#")
    shape = tuple(map(int, fields["sizes"].split()))
    if (fields["type"], fields["space"], fields["encoding"]) != ("short", "left-posterior-superior", "gzip"):
        raise SystemExit(f"a NRRD file of an unexpected kind: {fields}")
    steps = [float(v.strip("()").split(",")[axis]) for axis, v in enumerate(fields["space directions"].split())]
    array = np.frombuffer(gzip.decompress(body), "<i2").reshape(shape, order="F").astype(np.float32)
    for axis, step in enumerate(steps):
        if step < 0:
            array = np.flip(array, axis)
    return Volume(array.transpose(2, 1, 0), (abs(steps[1]), abs(steps[0])))


def read_dicom(files: Iterable[bytes]) -> Volume:
    """A series of axial CT slices of one patient lying on the back, in any order."""
    import pydicom

    slices = [pydicom.dcmread(io.BytesIO(content)) for content in files]
    slices.sort(key=lambda item: float(item.ImagePositionPatient[2]))
    if any(list(map(float, item.ImageOrientationPatient)) != [1, 0, 0, 0, 1, 0] for item in slices):
        raise SystemExit("expected axial slices of a patient on the back")
    voxels = [item.pixel_array * float(item.RescaleSlope) + float(item.RescaleIntercept) for item in slices]
    rows, columns = map(float, slices[0].PixelSpacing)
    return Volume(np.stack(voxels).astype(np.float32), (rows, columns))


def read_volumes(packages: Path) -> dict[str, Volume]:
    """All volumes by patient."""
    total, radiomics = TOTALSEGMENTATOR.open(packages), PYRADIOMICS.open(packages)
    reference = "tests/reference_files/"
    volumes = {}
    wanted: list[tuple[Archive, dict[str, tuple[str, Callable[[bytes], Volume]]]]] = [
        (
            total,
            {
                f"{reference}example_ct.nii.gz": ("ct-a", read_nifti),
                f"{reference}aorta_report/example_ct.nii.gz": ("ct-b", read_nifti),
            },
        ),
        (
            radiomics,
            {
                "data/lung1_image.nrrd": ("ct-c", read_nrrd),
                "data/lung2_image.nrrd": ("ct-d", read_nrrd),
            },
        ),
    ]
    for archive, members in wanted:
        for name, content in archive.read(list(members)):
            patient, reader = members[name]
            volumes[patient] = reader(content)
    series = [name for name in total.names if name.startswith(f"{reference}example_ct_dicom/")]
    volumes["ct-e"] = read_dicom(content for _, content in total.read(series))
    return volumes


@dataclass(frozen=True)
class Look:
    """How a slice is shown: the window (Hounsfield units), and the frame around the body in shares of its size."""

    centre: float = 40
    width: float = 500
    margin: float = 0.03
    right: float = 0
    down: float = 0
    turn: float = 0
    """Degrees."""


def looks(patient: str, place: int, split: str) -> list[Look]:
    """The usual look, and for training some others: patients differ in contrast, size and where they lie."""
    if split != "train":
        return [Look()]

    def draw(number: int, name: str, low: float, high: float) -> float:
        return low + (high - low) * lot(patient, place, number, name) / 2**64

    return [Look()] + [
        Look(
            centre=draw(number, "centre", 0, 80),
            width=draw(number, "width", 350, 900),
            margin=draw(number, "margin", -0.04, 0.14),
            right=draw(number, "right", -0.06, 0.06),
            down=draw(number, "down", -0.06, 0.06),
            turn=draw(number, "turn", -10, 10),
        )
        for number in range(1, LOOKS)
    ]


def render(volume: Volume, place: int, look: Look) -> Image.Image:
    """One slice through the window, cropped to the body, in square pixels, as a square picture."""
    plane = volume.voxels[place]
    grey = np.clip((plane - (look.centre - look.width / 2)) / look.width, 0, 1)
    image = Image.fromarray((grey * 255).astype(np.uint8))
    rows, columns = (span((plane > BODY).mean(axis=axis)) for axis in (1, 0))
    middle = [(columns[0] + columns[1]) / 2 * volume.spacing[1], (rows[0] + rows[1]) / 2 * volume.spacing[0]]
    side = max((columns[1] - columns[0]) * volume.spacing[1], (rows[1] - rows[0]) * volume.spacing[0])
    step = side * (1 + 2 * look.margin) / SIZE  # millimetres a pixel
    turn = math.radians(look.turn)
    cosine, sine = math.cos(turn) * step, math.sin(turn) * step
    x, y = middle[0] - look.right * side, middle[1] - look.down * side
    half = SIZE / 2
    wide, tall = volume.spacing[1], volume.spacing[0]
    # Where a pixel of the picture lies in the slice: turned about the body's middle, then from millimetres to voxels.
    affine = (
        *(cosine / wide, -sine / wide, (x - cosine * half + sine * half) / wide),
        *(sine / tall, cosine / tall, (y - sine * half - cosine * half) / tall),
    )
    return image.transform((SIZE, SIZE), Image.Transform.AFFINE, affine, Image.Resampling.BICUBIC).convert("RGB")


def span(shares: NDArray[np.float64]) -> Range:
    """First and last line of which 3 % or more is body."""
    hits = np.flatnonzero(shares > 0.03)
    return (int(hits[0]), int(hits[-1]) + 1) if len(hits) else (0, len(shares))


def answers(patient: str, place: int) -> dict[str, str]:
    """Question -> answer for one slice, where there is one."""
    facts, found = FACTS[patient], {}
    for part, (first, last) in facts.parts.items():
        if first <= place <= last:
            found[PART] = part
    for organ in ORGANS:
        question = f"answer en is the {organ} visible?"
        if organ in facts.present and facts.present[organ][0] <= place <= facts.present[organ][1]:
            found[question] = "yes"
        elif any(first <= place <= last for first, last in facts.absent.get(organ, ())):
            found[question] = "no"
    return found


def split_of(patient: str, place: int) -> str | None:
    """Train, validation, test, or None for a slice in a gap."""
    if patient in TEST:
        return "test"
    phase = place % PERIOD - GAP
    if 0 <= phase < BLOCK:
        return "validation"
    return None if -GAP <= phase < BLOCK + GAP else "train"


def main() -> int:
    """Run the command line."""
    options = arguments("Build CT slices with questions on the part of the body.", "ct_levels")
    rows: dict[str, list[Question]] = {"train": [], "validation": [], "test": []}
    pictures = {}
    for patient, volume in sorted(read_volumes(options.packages).items()):
        for place in range(len(volume.voxels)):
            split, found = split_of(patient, place), answers(patient, place)
            if split is None or not found:
                continue
            for number, look in enumerate(looks(patient, place, split)):
                name = f"{patient}_{place:03d}_{number}"
                pictures[name] = render(volume, place, look)
                rows[split] += [
                    Question(name, prefix, suffix, "part" if prefix == PART else "organ", {"patient": patient})
                    for prefix, suffix in found.items()
                ]
    write(options.out, rows, pictures)
    print("licences: TotalSegmentator Apache-2.0, pyradiomics BSD-3-Clause")
    return 0


if __name__ == "__main__":
    sys.exit(main())
