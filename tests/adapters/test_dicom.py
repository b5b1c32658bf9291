"""DICOM: grey values to pictures, odd files, series, tables, and that nothing of the patient is written."""

from __future__ import annotations

import io
import json
import os
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import radiology_fixtures as made
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_voi, apply_windowing
from pydicom.sequence import Sequence
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit
from radiology_fixtures import dicom, read

from pgtune.data_adapters.radiology.dicom import DicomAdapter
from pgtune.data_adapters.radiology.dicom_headers import Header, header_of
from pgtune.data_adapters.radiology.dicom_pixels import DicomPicture
from pgtune.data_adapters.radiology.dicom_windows import PRESETS, check_window
from pgtune.errors import AdapterError, DataError
from pgtune.example import Skip
from pgtune.images import open_image

RAMP = np.arange(-128, 128, dtype=np.int16).reshape(16, 16)


def shown(path: Path, **arguments: Any) -> Any:
    """The decoded picture as an array."""
    return np.asarray(DicomPicture(str(path), **arguments)())


def shipped(name: str) -> Path:
    """A test file that comes with pydicom itself."""
    path = get_testdata_file(name, download=False)
    assert isinstance(path, str), name
    return Path(path)


def bars() -> Any:
    """A red, a green and a blue bar."""
    values = np.zeros((32, 48, 3), np.uint8)
    for bar, colour in enumerate(((200, 30, 30), (30, 200, 30), (30, 30, 200))):
        values[:, 16 * bar : 16 * bar + 16] = colour
    return values


def compressed(path: Path, syntax: str, kind: str, said: str, **how: Any) -> None:
    """The bars as one compressed frame, and the header saying ``said`` about its colours."""
    content = io.BytesIO()
    Image.fromarray(bars()).save(content, kind, **how)
    data = dicom(path, bars(), PhotometricInterpretation=said)
    stream = content.getvalue()
    if stream[2:4] == b"\xff\xe0":  # JPEG without the marker JFIF, as scanners write it
        stream = stream[:2] + stream[4 + int.from_bytes(stream[4:6], "big") :]
    data.file_meta.TransferSyntaxUID = syntax
    data.PixelData = encapsulate([stream])
    data["PixelData"].VR = "OB"
    data.save_as(path)


class TestWrongHeaders:
    """What the header says is wrong, and the data leave no doubt about it."""

    @pytest.mark.parametrize("said", ["RGB", "YBR_FULL_422"])
    def test_jpeg_with_subsampled_colours_is_ycbcr(self, tmp_path: Path, said: str) -> None:
        compressed(tmp_path / "a.dcm", JPEGBaseline8Bit, "JPEG", said, quality=95, subsampling=1)
        np.testing.assert_allclose(shown(tmp_path / "a.dcm")[8, 8::16], bars()[8, 8::16], atol=4)

    @pytest.mark.parametrize("said", ["RGB", "YBR_RCT", "YBR_FULL", "YBR_FULL_422"])
    def test_jpeg_2000_that_undoes_its_transform_is_rgb(self, tmp_path: Path, said: str) -> None:
        how = {"mct": 1, "irreversible": False, "no_jp2": True}
        compressed(tmp_path / "a.dcm", JPEG2000Lossless, "JPEG2000", said, **how)
        np.testing.assert_array_equal(shown(tmp_path / "a.dcm"), bars())

    def test_jpeg_2000_without_a_transform_is_what_the_header_says(self, tmp_path: Path) -> None:
        how = {"mct": 0, "irreversible": False, "no_jp2": True}
        compressed(tmp_path / "a.dcm", JPEG2000Lossless, "JPEG2000", "YBR_FULL", **how)
        wanted = np.asarray(Image.frombytes("YCbCr", (48, 32), bars().tobytes()).convert("RGB"))
        np.testing.assert_allclose(shown(tmp_path / "a.dcm"), wanted, atol=2)

    @pytest.mark.parametrize("kind", ["<u2", "<i2"])
    def test_values_in_the_high_bits(self, tmp_path: Path, kind: str) -> None:
        values = (np.arange(256).reshape(16, 16) * 16 - (2048 if kind == "<i2" else 0)).astype(kind)
        tags = {"BitsStored": 12, "WindowCenter": 2048 + int(values[0, 0]), "WindowWidth": 4096}
        dicom(tmp_path / "low.dcm", values, **tags, HighBit=11)
        dicom(tmp_path / "high.dcm", values << 4, **tags, HighBit=15)
        dicom(tmp_path / "wrong.dcm", values | 1, **tags, HighBit=15)
        wanted = shown(tmp_path / "low.dcm")
        assert wanted.min() == 0
        assert wanted.max() == 254
        np.testing.assert_array_equal(shown(tmp_path / "high.dcm"), wanted)
        np.testing.assert_allclose(shown(tmp_path / "wrong.dcm"), wanted, atol=1)

    def test_palette_of_8_bit_colours_that_says_16(self, tmp_path: Path) -> None:
        values = np.arange(256, dtype=np.uint8).reshape(16, 16)
        tags: dict[str, Any] = {}
        for colour in ("Red", "Green", "Blue"):
            tags[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
            tags[f"{colour}PaletteColorLookupTableData"] = np.arange(256, dtype="<u2").tobytes()
        dicom(tmp_path / "a.dcm", values, PhotometricInterpretation="PALETTE COLOR", **tags)
        np.testing.assert_array_equal(shown(tmp_path / "a.dcm")[..., 1], values)

    @pytest.mark.parametrize("rescale", [{}, {"RescaleSlope": 1, "RescaleIntercept": -1024}])
    def test_voi_lut_that_begins_below_0_and_says_so_unsigned(self, tmp_path: Path, rescale: dict[str, int]) -> None:
        values = np.arange(-500, 524, 4, dtype=np.int16).reshape(16, 16)
        table = Dataset()
        table.add_new("LUTDescriptor", "US", [1024, 2**16 - 500, 10])
        table.add_new("LUTData", "OW", np.arange(1024, dtype="<u2").tobytes())
        stored = (values + 1024).astype(np.uint16) if rescale else values
        dicom(tmp_path / "a.dcm", stored, VOILUTSequence=Sequence([table]), **rescale)
        np.testing.assert_allclose(shown(tmp_path / "a.dcm"), (values + 500) / 1023 * 255, atol=0.5)

    def test_voi_lut_of_single_bytes(self, tmp_path: Path) -> None:
        table = Dataset()
        table.add_new("LUTDescriptor", "SS", [255, -128, 8])
        table.add_new("LUTData", "OW", np.arange(256, dtype=np.uint8).tobytes())  # 255, and one to make it even
        dicom(tmp_path / "a.dcm", RAMP, VOILUTSequence=Sequence([table]))
        np.testing.assert_array_equal(shown(tmp_path / "a.dcm").ravel(), np.minimum(np.arange(256), 254))

    def test_window_narrower_than_1(self, tmp_path: Path) -> None:
        dicom(tmp_path / "a.dcm", RAMP, RescaleSlope=1 / 256, RescaleIntercept=0, WindowCenter=0, WindowWidth=0.5)
        wanted = np.clip(RAMP / 128 + 0.5, 0, 1) * 255
        np.testing.assert_allclose(shown(tmp_path / "a.dcm"), wanted, atol=0.5)


class TestGrey:
    @pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
    @pytest.mark.parametrize(
        ("centre", "width"), [(40.0, 100.0), (-600.0, 1500.0), (127.5, 2.0), (0.0, 1.0), (30.5, 33.25)]
    )
    def test_windows_as_pydicom_has_them(self, tmp_path: Path, function: str, centre: float, width: float) -> None:
        """PS3.3 C.11.2.1.2 twice: pydicom's own code, on the values that its own Modality LUT gives."""
        values = np.random.default_rng(0).integers(0, 256, (32, 32)).astype(np.uint8)
        data = dicom(
            tmp_path / "a.dcm", values, WindowCenter=centre, WindowWidth=width, VOILUTFunction=function, Modality="OT"
        )
        wanted = apply_windowing(values, data)  # 0 to 255, as BitsStored is 8
        np.testing.assert_allclose(shown(tmp_path / "a.dcm"), wanted, atol=0.5)

    def test_rescaled_first(self, tmp_path: Path) -> None:
        dicom(tmp_path / "a.dcm", RAMP, RescaleSlope=2, RescaleIntercept=-10, WindowCenter=0, WindowWidth=201)
        wanted = np.clip((RAMP * 2 - 10 + 0.5) / 200 + 0.5, 0, 1) * 255
        np.testing.assert_allclose(shown(tmp_path / "a.dcm"), wanted, atol=0.5)

    def test_monochrome1_is_inverted(self, tmp_path: Path) -> None:
        tags = {"WindowCenter": 0, "WindowWidth": 100}
        dicom(tmp_path / "a.dcm", RAMP, **tags)
        dicom(tmp_path / "b.dcm", RAMP, PhotometricInterpretation="MONOCHROME1", PresentationLUTShape="INVERSE", **tags)
        np.testing.assert_allclose(shown(tmp_path / "b.dcm"), 255.0 - shown(tmp_path / "a.dcm"), atol=1)

    def test_presets_and_own_windows(self, tmp_path: Path) -> None:
        values = (np.arange(256, dtype=np.int16) * 8).reshape(16, 16)
        dicom(tmp_path / "a.dcm", values, RescaleSlope=1, RescaleIntercept=-1024, WindowCenter=0, WindowWidth=10)
        for name, (centre, width) in PRESETS.items():
            wanted = np.clip((values - 1024 - centre + 0.5) / (width - 1) + 0.5, 0, 1) * 255
            np.testing.assert_allclose(shown(tmp_path / "a.dcm", window=name), wanted, atol=0.5)
            np.testing.assert_array_equal(
                shown(tmp_path / "a.dcm", window=name), shown(tmp_path / "a.dcm", window=(centre, width))
            )

    def test_presets_are_for_hounsfield_units(self, tmp_path: Path) -> None:
        dicom(tmp_path / "cr.dcm", RAMP, Modality="CR", RescaleSlope=1, RescaleIntercept=0)
        dicom(tmp_path / "raw.dcm", RAMP)
        with pytest.raises(DataError, match=r"cr\.dcm: window = 'lung' is in Hounsfield units, its modality is not CT"):
            shown(tmp_path / "cr.dcm", window="lung")
        with pytest.raises(DataError, match="it has no RescaleIntercept"):
            shown(tmp_path / "raw.dcm", window="lung")

    def test_auto_without_a_window(self, tmp_path: Path) -> None:
        dicom(tmp_path / "ct.dcm", RAMP, RescaleSlope=1, RescaleIntercept=0)
        np.testing.assert_array_equal(shown(tmp_path / "ct.dcm"), shown(tmp_path / "ct.dcm", window="soft_tissue"))
        eight = np.arange(256, dtype=np.uint8).reshape(16, 16) // 2
        dicom(tmp_path / "eight.dcm", eight, Modality="US")
        np.testing.assert_array_equal(shown(tmp_path / "eight.dcm"), eight)
        dicom(tmp_path / "same.dcm", eight, Modality="US", RescaleSlope=1, RescaleIntercept=0)
        np.testing.assert_array_equal(shown(tmp_path / "same.dcm"), eight)
        twelve = RAMP.astype(np.uint16) % 256 * 16
        twelve[0, 0] = 60000  # one bright pixel does not darken the rest
        dicom(tmp_path / "mr.dcm", twelve, Modality="MR")
        assert shown(tmp_path / "mr.dcm").mean() > 100
        assert shown(tmp_path / "mr.dcm", window="minmax").mean() < 20

    def test_a_window_of_width_0_is_none(self, tmp_path: Path) -> None:
        dicom(tmp_path / "a.dcm", RAMP, RescaleSlope=1, RescaleIntercept=0, WindowCenter=0, WindowWidth=0)
        np.testing.assert_array_equal(shown(tmp_path / "a.dcm"), shown(tmp_path / "a.dcm", window="soft_tissue"))
        with pytest.raises(DataError, match="no VOI LUT and no window of a width above 0"):
            shown(tmp_path / "a.dcm", window="file")

    def test_several_windows(self, tmp_path: Path) -> None:
        dicom(
            tmp_path / "a.dcm", RAMP, WindowCenter=[0, 50], WindowWidth=[100, 20],
            WindowCenterWidthExplanation=["BRAIN", "BONE"],
        )  # fmt: skip
        first, second = (shown(tmp_path / "a.dcm", window=pair) for pair in ((0.0, 100.0), (50.0, 20.0)))
        for name in ("auto", "file", "file:1", "file:brain"):
            np.testing.assert_array_equal(shown(tmp_path / "a.dcm", window=name), first)
        for name in ("file:2", "file:BONE"):
            np.testing.assert_array_equal(shown(tmp_path / "a.dcm", window=name), second)
        with pytest.raises(DataError, match="window = 'file:3': the file has 2"):
            shown(tmp_path / "a.dcm", window="file:3")
        with pytest.raises(DataError, match="none of the file's 2 is explained so"):
            shown(tmp_path / "a.dcm", window="file:LUNG")

    def test_voi_lut_goes_before_a_window(self, tmp_path: Path) -> None:
        item = Dataset()
        item.LUTDescriptor = [256, 0, 8]
        item["LUTDescriptor"].VR = "US"
        item.LUTData = [255 - value // 2 for value in range(256)]
        item["LUTData"].VR = "US"
        values = np.arange(256, dtype=np.uint8).reshape(16, 16)
        data = dicom(
            tmp_path / "a.dcm", values, VOILUTSequence=Sequence([item]), WindowCenter=3, WindowWidth=2, Modality="OT"
        )
        np.testing.assert_array_equal(shown(tmp_path / "a.dcm"), apply_voi(values, data))

    def test_modality_lut(self, tmp_path: Path) -> None:
        item = Dataset()
        item.LUTDescriptor = [128, 0, 16]
        item["LUTDescriptor"].VR = "US"
        item.LUTData = [300 * value for value in range(128)]
        item["LUTData"].VR = "US"
        item.ModalityLUTType = "US"
        values = np.arange(256, dtype=np.uint8).reshape(16, 16)
        dicom(tmp_path / "a.dcm", values, ModalityLUTSequence=Sequence([item]), Modality="OT")
        wanted = np.clip(values, 0, 127) / 127 * 255  # what is above the table is its last entry
        np.testing.assert_allclose(shown(tmp_path / "a.dcm", window="minmax"), wanted, atol=0.51)

    def test_padding_is_black_and_not_counted(self, tmp_path: Path) -> None:
        values = np.full((10, 10), 1000, np.int16) + np.arange(100, dtype=np.int16).reshape(10, 10)
        values[:3] = -2000
        for photometric in ("MONOCHROME1", "MONOCHROME2"):
            dicom(
                tmp_path / "a.dcm",
                values,
                Modality="MR",
                PixelPaddingValue=-2000,
                PhotometricInterpretation=photometric,
            )
            picture = shown(tmp_path / "a.dcm", window="minmax")
            assert (picture[:3] == 0).all()
            assert (picture[3:].min(), picture[3:].max()) == (0, 255)
        unsigned = values.astype(np.uint16)  # -2000 is 63536 then
        dicom(tmp_path / "b.dcm", unsigned, Modality="MR", PixelPaddingValue=63536)
        np.testing.assert_array_equal(shown(tmp_path / "b.dcm", window="minmax"), picture)
        dicom(tmp_path / "c.dcm", np.full((4, 4), -2000, np.int16), PixelPaddingValue=-2000)
        assert not shown(tmp_path / "c.dcm").any()

    def test_bits_above_the_stored_ones_are_not_the_pixels(self, tmp_path: Path) -> None:
        values = (np.arange(256, dtype=np.uint16) * 16).reshape(16, 16)
        dicom(tmp_path / "a.dcm", values, BitsStored=12, HighBit=11, Modality="MR")
        dicom(tmp_path / "b.dcm", values | 0x8000, BitsStored=12, HighBit=11, Modality="MR")
        np.testing.assert_array_equal(shown(tmp_path / "b.dcm"), shown(tmp_path / "a.dcm"))
        signed = (RAMP.astype(np.uint16) & 0x0FFF).view(np.int16)  # 12 bits with a sign that is not extended
        tags = {"WindowCenter": 0, "WindowWidth": 256}
        dicom(tmp_path / "d.dcm", signed, BitsStored=12, HighBit=11, **tags)
        dicom(tmp_path / "e.dcm", RAMP, **tags)
        np.testing.assert_array_equal(shown(tmp_path / "d.dcm"), shown(tmp_path / "e.dcm"))

    def test_one_value_everywhere(self, tmp_path: Path) -> None:
        for modality in ("CT", "MR"):
            dicom(tmp_path / "a.dcm", np.full((4, 4), 7, np.int16), Modality=modality)
            assert np.unique(shown(tmp_path / "a.dcm")).size == 1

    def test_pixels_that_are_not_square(self, tmp_path: Path) -> None:
        dicom(tmp_path / "a.dcm", np.zeros((10, 20), np.int16), PixelSpacing=[2, 1])
        assert DicomPicture(str(tmp_path / "a.dcm"))().size == (20, 20)
        assert DicomPicture(str(tmp_path / "a.dcm"), square_pixels=False)().size == (20, 10)
        dicom(tmp_path / "b.dcm", np.zeros((10, 20), np.int16), PixelAspectRatio=[1, 2])
        assert DicomPicture(str(tmp_path / "b.dcm"))().size == (40, 10)

    @pytest.mark.parametrize(
        ("window", "message"),
        [
            ("lungs", "did you mean 'lung'"),
            ([40], "two numbers"),
            ([40, 0.5], "the width must be 1 or more"),
            ([40, float("nan")], "two numbers"),
            ("file:", "expected auto"),
            (None, "two numbers"),
        ],
    )
    def test_windows_that_are_none(self, window: object, message: str) -> None:
        with pytest.raises(AdapterError, match=message):
            check_window(window)


class TestFiles:
    """Files of pydicom's own tests, as far as they come with the package."""

    @pytest.mark.parametrize(
        ("one", "other", "close"),
        [
            ("MR_small.dcm", "MR_small_RLE.dcm", 0),
            ("MR_small.dcm", "MR_small_bigendian.dcm", 0),
            ("MR_small.dcm", "MR_small_implicit.dcm", 0),
            ("MR_small.dcm", "MR_small_jp2klossless.dcm", 0),
            ("MR_small.dcm", "MR_small_jpeg_ls_lossless.dcm", 0),
            ("MR_small.dcm", "MR_small_padded.dcm", 0),
            ("SC_rgb_rle.dcm", "SC_rgb_jpeg_gdcm.dcm", 0),
            ("SC_rgb_rle.dcm", "SC_rgb_rle_16bit.dcm", 0),
            ("SC_rgb_rle.dcm", "SC_rgb_rle_32bit.dcm", 0),
            ("SC_rgb_rle.dcm", "SC_ybr_full_422_uncompressed.dcm", 2),
            ("SC_rgb_rle.dcm", "SC_rgb_dcmtk_+eb+cr.dcm", 3),
            ("SC_rgb_rle.dcm", "SC_rgb_dcmtk_+eb+cy+np.dcm", 3),
            ("SC_rgb_rle.dcm", "SC_rgb_dcmtk_+eb+cy+s4.dcm", 3),
            ("SC_rgb_rle.dcm", "SC_rgb_gdcm_KY.dcm", 3),
            ("SC_rgb_small_odd.dcm", "SC_rgb_small_odd_big_endian.dcm", 0),
        ],
    )
    def test_the_same_picture_in_two_encodings(self, one: str, other: str, close: int) -> None:
        first, second = (shown(shipped(name)).astype(int) for name in (one, other))
        assert first.shape == second.shape
        assert np.abs(first - second).mean() <= close

    def test_colours(self) -> None:
        stripes = shown(shipped("SC_rgb_rle.dcm"))[5::10, 50]
        assert [tuple(int(value) for value in stripe) for stripe in stripes[:7:2]] == [
            (255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 0, 0),
        ]  # fmt: skip

    def test_a_palette(self) -> None:
        picture = shown(shipped("examples_palette.dcm"))
        assert picture.shape == (350, 800, 3)
        assert picture.max() > 200
        assert (picture.max(axis=2) != picture.min(axis=2)).any()  # the blue bar on top

    def test_a_palette_of_a_big_endian_file(self, tmp_path: Path) -> None:
        values = np.arange(256, dtype=np.uint8).reshape(16, 16)
        table = np.arange(256, dtype=np.uint16)[::-1] * 257
        data = dicom(tmp_path / "a.dcm", values, PhotometricInterpretation="PALETTE COLOR", Modality="US")
        for colour in ("Red", "Green", "Blue"):
            data[f"{colour}PaletteColorLookupTableDescriptor"] = _element(colour, "Descriptor", "US", [256, 0, 16])
            data[f"{colour}PaletteColorLookupTableData"] = _element(colour, "Data", "OW", table.tobytes())
        data.save_as(tmp_path / "a.dcm", enforce_file_format=True)
        wanted = np.repeat((255 - values)[..., None], 3, axis=2)
        np.testing.assert_array_equal(shown(tmp_path / "a.dcm"), wanted)
        for colour in ("Red", "Green", "Blue"):
            data[f"{colour}PaletteColorLookupTableData"].value = table.byteswap().tobytes()
        data.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.2"
        data.save_as(tmp_path / "b.dcm", implicit_vr=False, little_endian=False, enforce_file_format=True)
        np.testing.assert_array_equal(shown(tmp_path / "b.dcm"), wanted)

    def test_one_frame_of_many(self) -> None:
        path = shipped("examples_ybr_color.dcm")
        header = header_of(path.parent, path.name)
        assert isinstance(header, Header)
        assert header.frames == 30
        assert not np.array_equal(shown(path, frame=0), shown(path, frame=15))
        with pytest.raises(DataError, match="no frame 30, it has 30"):
            shown(path, frame=30)

    def test_jpeg_of_12_bits(self) -> None:
        picture = shown(shipped("JPGExtended.dcm"), window="minmax")
        assert picture.shape == (1024, 256)
        assert (picture.min(), picture.max()) == (0, 255)

    def test_deflated(self) -> None:
        assert shown(shipped("image_dfl.dcm")).shape == (512, 512)

    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            ("reportsi.dcm", "SR: not a picture"),
            ("rtplan.dcm", "RTPLAN: not a picture"),
            ("rtstruct.dcm", "RTSTRUCT: not a picture"),
            ("waveform_ecg.dcm", "ECG: not a picture"),
            ("liver_1frame.dcm", "SEG: a mask, not a picture"),
            ("rtdose.dcm", "RTDOSE: a dose, not a picture"),
        ],
    )
    def test_files_without_a_picture(self, name: str, reason: str) -> None:
        path = shipped(name)
        assert header_of(path.parent, path.name) == Skip(reason)

    def test_damaged_files(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"MR_truncated\.dcm: its pixels cannot be decoded .*8130 vs 8192 bytes"):
            shown(shipped("MR_truncated.dcm"), name="MR_truncated.dcm")
        whole = shipped("CT_small.dcm").read_bytes()
        for place, size in enumerate((0, 100, 140, 400, 3000, len(whole) // 2)):
            path = tmp_path / f"{place}.dcm"
            path.write_bytes(whole[:size])
            with pytest.raises(DataError, match=rf"{place}\.dcm: "):
                shown(path)
            header = header_of(tmp_path, path.name)
            assert isinstance(header, Header if size == len(whole) // 2 else DataError), (size, header)
        (tmp_path / "x.dcm").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(300))
        assert "is not a DICOM file" in str(header_of(tmp_path, "x.dcm"))
        (tmp_path / "README").write_text("hello " * 100)
        assert header_of(tmp_path, "README") == Skip("not a DICOM file")
        assert isinstance(header_of(tmp_path, "none.dcm"), DataError)

    def test_without_a_preamble(self, tmp_path: Path) -> None:
        data = dicom(tmp_path / "a.dcm", RAMP, WindowCenter=0, WindowWidth=100)
        for implicit, name in ((True, "i.dcm"), (False, "e.dcm")):
            plain = Dataset({tag: element for tag, element in data.items() if tag.group != 2})
            plain.save_as(tmp_path / name, implicit_vr=implicit, little_endian=True)
            np.testing.assert_array_equal(shown(tmp_path / name), shown(tmp_path / "a.dcm"))

    def test_too_large(self, tmp_path: Path) -> None:
        dicom(tmp_path / "a.dcm", RAMP, Rows=20000, Columns=20000)
        with pytest.raises(DataError, match="20000 x 20000 is 400,000,000 pixels"):
            shown(tmp_path / "a.dcm")

    def test_an_encoding_without_decoder(self, tmp_path: Path) -> None:
        data = dicom(tmp_path / "a.dcm", RAMP)
        data.PixelData = encapsulate([bytes(10)])
        data.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.102"
        data.save_as(tmp_path / "a.dcm", enforce_file_format=True)
        with pytest.raises(DataError, match=r"is encoded as MPEG-4 .* which is not read"):
            shown(tmp_path / "a.dcm")

    def test_no_warning_quotes_the_header(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dicom(tmp_path / "a.dcm", RAMP, StudyInstanceUID="planted uid", PatientBirthDate="planted date")
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            assert isinstance(header_of(tmp_path, "a.dcm"), Header)
            shown(tmp_path / "a.dcm")
        assert capfd.readouterr() == ("", "")

    def test_a_picture_can_be_handed_to_another_process(self, tmp_path: Path) -> None:
        dicom(tmp_path / "a.dcm", RAMP)
        picture = DicomPicture(str(tmp_path / "a.dcm"), window=(0.0, 100.0))
        assert pickle.loads(pickle.dumps(picture)) == picture
        assert open_image(picture).mode == "RGB"
        assert str(tmp_path) not in repr(picture)


def _element(colour: str, what: str, vr: str, value: Any) -> Any:
    from pydicom.datadict import tag_for_keyword
    from pydicom.dataelem import DataElement

    tag = tag_for_keyword(f"{colour}PaletteColorLookupTable{what}")
    assert tag is not None
    return DataElement(tag, vr, value)


class TestSeries:
    def _series(self, folder: Path, places: list[float], **tags: Any) -> None:
        for number, place in enumerate(places):
            own = {"ImagePositionPatient": [0, 0, place], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0], **tags}
            # The brightness tells the slice.
            values = np.full((4, 4), int(place), np.uint8)
            dicom(folder / f"{number}.dcm", values, SeriesInstanceUID="1.2.3", Modality="US", **own)

    def _order(self, folder: Path, **arguments: Any) -> list[int]:
        if not (folder / "labels.csv").exists():
            made.write_csv(folder / "labels.csv", ["series", "answer"], [["1.2.3", "x"]])
        examples, _ = read(DicomAdapter(prefix="p", **arguments), folder, None)
        return [int(np.asarray(open_image(image))[0, 0, 0]) for example in examples for image in example.images]

    def test_order_and_choice(self, tmp_path: Path) -> None:
        self._series(tmp_path, [30, 10, 50, 20, 40])
        assert self._order(tmp_path) == [10, 20, 30, 40, 50]
        assert self._order(tmp_path, slices="middle") == [30]
        assert self._order(tmp_path, slices=1) == [30]
        assert self._order(tmp_path, slices=2) == [10, 50]
        assert self._order(tmp_path, slices=3) == [10, 30, 50]
        assert self._order(tmp_path, slices=9) == [10, 20, 30, 40, 50]
        assert self._order(tmp_path, every_nth=2) == [10, 30, 50]
        assert self._order(tmp_path, every_nth=2, slices=2) == [10, 50]

    def test_by_instance_number_and_by_name(self, tmp_path: Path) -> None:
        for number, place in enumerate((30, 10, 20)):
            self._series(tmp_path / f"{number}", [place], ImagePositionPatient=None, InstanceNumber=place)
        assert self._order(tmp_path) == [10, 20, 30]
        self._series(tmp_path / "1", [10], ImagePositionPatient=None)
        assert self._order(tmp_path) == [30, 10, 20]

    def test_a_localizer_among_them(self, tmp_path: Path) -> None:
        self._series(tmp_path / "a", [10, 20])
        self._series(tmp_path / "b", [5], ImageOrientationPatient=[0, 1, 0, 0, 0, 1], ImageType=["O", "P", "LOCALIZER"])
        assert self._order(tmp_path) == [10, 20]
        _, left_out = read(DicomAdapter(prefix="p"), tmp_path, None)
        assert left_out == [("labels.csv, line 2", "a localizer among other pictures")]
        made.write_csv(tmp_path / "labels.csv", ["path", "answer"], [["b/0.dcm", "x"]])  # asked for by itself
        assert self._order(tmp_path) == [5]

    def test_planes_that_are_not_parallel(self, tmp_path: Path) -> None:
        self._series(tmp_path / "a", [10, 20], InstanceNumber=2)
        self._series(tmp_path / "b", [5], ImageOrientationPatient=[0, 1, 0, 0, 0, 1], InstanceNumber=1)
        assert self._order(tmp_path) == [5, 10, 20]

    def test_together(self, tmp_path: Path) -> None:
        self._series(tmp_path, [30, 10, 20])
        made.write_csv(tmp_path / "labels.csv", ["series", "answer"], [["1.2.3", "x"]])
        examples, _ = read(DicomAdapter(prefix="p", slices=2, together=True), tmp_path, None)
        assert [len(e.images) for e in examples] == [2]

    def test_frames(self, tmp_path: Path) -> None:
        frames = np.stack([np.full((4, 4), value, np.uint8) for value in (10, 20, 30, 40)])
        dicom(tmp_path / "a.dcm", frames, SeriesInstanceUID="1.2.3", Modality="US")
        assert self._order(tmp_path) == [30]
        assert self._order(tmp_path, frame="first") == [10]
        assert self._order(tmp_path, frame="all") == [10, 20, 30, 40]
        assert self._order(tmp_path, frame="all", slices=2) == [10, 40]
        assert self._order(tmp_path, frame=1) == [20]
        _, left_out = read(DicomAdapter(prefix="p", frame=4), tmp_path, None)
        assert left_out == [("labels.csv, line 2", "!frame = 4: there are 4, counted from 0")]

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"frame": "midle"}, "did you mean 'middle'"),
            ({"frame": -1}, "a whole number from 0"),
            ({"slices": 0}, "a whole number from 1"),
            ({"every_nth": True}, "a whole number from 1"),
            ({"together": True}, "say how many by slices"),
            ({"level": "series"}, "no effect without key"),
            ({"level": "serie", "key": "x"}, "did you mean 'series'"),
            ({"burned_in": "drop"}, "expected keep or skip"),
            ({"metadata": "age"}, "must be a list of columns"),
            ({"suffix": "{"}, "columns in braces"),
            ({"suffix": None}, "must be a text"),
            ({"window": "bonee"}, "did you mean 'bone'"),
        ],
    )
    def test_arguments(self, arguments: dict[str, Any], message: str) -> None:
        with pytest.raises(AdapterError, match=message):
            DicomAdapter(**arguments)


class TestTable:
    def test_by_path(self, tmp_path: Path) -> None:
        for name in ("a/1.dcm", "a/2.dcm", "b/3", "b/1.2.3.4"):
            dicom(tmp_path / name, RAMP)
        rows = [
            ["a/1.dcm", "q1", "one"], ["2", "q2", "two"], ["b\\3", "q3", "three"], ["a", "both?", "yes"],
            ["a/1.dcm", "again?", "yes"], ["none.dcm", "q", "x"], ["../x.dcm", "q", "x"],
            ["", "q", "x"], ["3", "q", " "],
        ]  # fmt: skip
        made.write_csv(tmp_path / "labels.csv", ["file", "question", "answer"], rows)
        examples, left_out = read(DicomAdapter(), tmp_path, None)
        assert [(e.prefix, e.suffix) for e in examples] == [
            ("answer en q1", "one"), ("answer en q2", "two"), ("answer en q3", "three"), ("answer en both?", "yes"),
            ("answer en both?", "yes"), ("answer en again?", "yes"),
        ]  # fmt: skip
        assert left_out == [
            ("labels.csv, line 7", "no file belongs to this row"),
            ("labels.csv, line 8", "!names a file outside of the source's folder"),
            ("labels.csv, line 9", "no file belongs to this row"),
            ("labels.csv, line 10", "the column 'answer' is empty"),
            ("file 3", "no row of the table is about this file"),
        ]

    @pytest.mark.parametrize("column", ["SOPInstanceUID", "StudyInstanceUID", "accession_number", "PatientID", "nr"])
    def test_by_what_is_in_the_header(self, tmp_path: Path, column: str) -> None:
        data = dicom(tmp_path / "x/1.dcm", RAMP)
        dicom(tmp_path / "x/2.dcm", None, Modality="SR")
        value = {"SOPInstanceUID": data.SOPInstanceUID, "StudyInstanceUID": data.StudyInstanceUID,
                 "accession_number": data.AccessionNumber}.get(column, data.PatientID)  # fmt: skip
        made.write_csv(tmp_path / "labels.csv", [column, "report"], [[value, "Clear."], ["other", "x"]])
        own = {"key": "nr", "level": "patient"} if column == "nr" else {}
        examples, left_out = read(DicomAdapter(prefix="describe en", suffix="{report}", **own), tmp_path, None)
        assert [(e.prefix, e.suffix) for e in examples] == [("describe en", "Clear.")]
        assert examples[0].groups == {
            "patient": data.PatientID, "study": data.StudyInstanceUID, "series": data.SeriesInstanceUID
        }  # fmt: skip
        assert left_out == [
            ("labels.csv, line 3", "no file belongs to this row"), ("file 2", "SR: not a picture"),
        ]  # fmt: skip

    def test_splits(self, tmp_path: Path) -> None:
        for number in range(4):
            dicom(tmp_path / f"{number}.dcm", RAMP)
        rows = [[number, "q", "a", ("train", "val", "test", "train")[number]] for number in range(4)]
        header = ["file", "question", "answer", "fold"]
        made.write_csv(tmp_path / "labels.csv", header, rows)
        adapter = DicomAdapter(split_column="fold")
        assert adapter.splits(tmp_path) == ["train", "validation", "test"]
        assert [len(read(adapter, tmp_path, split)[0]) for split in ("train", "validation", "test", None)] == [
            2,
            1,
            1,
            4,
        ]
        assert not read(adapter, tmp_path, "train")[1]  # the files of the other splits are not called left over
        with pytest.raises(DataError, match="no split 'tests'; did you mean 'test'"):
            list(adapter.rows(tmp_path, "tests"))
        with pytest.raises(DataError, match=r"says nothing about splits.*data\.split_by: patient"):
            list(DicomAdapter().rows(tmp_path, "train"))
        (tmp_path / "labels.csv").unlink()
        made.write_csv(tmp_path / "train.csv", header, rows[:3])
        made.write_csv(tmp_path / "test.csv", header, rows[3:])
        assert DicomAdapter().splits(tmp_path) == ["train", "test"]
        assert [len(read(DicomAdapter(), tmp_path, split)[0]) for split in ("train", "test")] == [3, 1]

    def test_other_columns(self, tmp_path: Path) -> None:
        dicom(tmp_path / "1.dcm", RAMP, PatientID=None)
        dicom(tmp_path / "2.dcm", RAMP, BurnedInAnnotation="YES")
        header = ["file", "question", "answer", "kind", "sex", "subject"]
        made.write_csv(tmp_path / "labels.csv", header, [[n, "q", "a", "open", "f", "S1"] for n in (1, 2)])
        adapter = DicomAdapter(part="kind", question_type="kind", metadata=["sex"], patient="subject", burned_in="skip")
        examples, left_out = read(adapter, tmp_path, None)
        assert [(e.part, e.question_type, e.metadata, e.groups["patient"]) for e in examples] == [
            ("open", "open", {"sex": "f"}, "S1")
        ]
        assert left_out == [("labels.csv, line 3", "words are burnt into the picture")]

    @pytest.mark.parametrize(
        ("header", "arguments", "message"),
        [
            (["file", "question", "anwser"], {}, "no column 'answer'; did you mean 'anwser'"),
            (["x", "question", "answer"], {}, "no column of x, question, answer names files; give key"),
            (["x", "question", "answer"], {"key": "x"}, "key = 'x': it is not told what it holds"),
            (["x", "question", "answer"], {"key": "y"}, "no column 'y'"),
            (["file", "file", "question", "answer"], {}, "the column 'file' is there twice"),
        ],
    )
    def test_wrong_tables(self, tmp_path: Path, header: list[str], arguments: dict[str, Any], message: str) -> None:
        dicom(tmp_path / "1.dcm", RAMP)
        made.write_csv(tmp_path / "labels.csv", header, [["1.dcm"] * len(header)])
        with pytest.raises(DataError, match=message):
            list(DicomAdapter(**arguments).rows(tmp_path, None))

    def test_no_table(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"expected one CSV file .* it has none"):
            DicomAdapter().splits(tmp_path)
        for name in ("a.csv", "b.csv"):
            made.write_csv(tmp_path / name, ["file"], [])
        with pytest.raises(DataError, match=r"it has a\.csv, b\.csv; labels names the one"):
            DicomAdapter().splits(tmp_path)
        assert DicomAdapter(labels="a.csv").splits(tmp_path) == ["all"]
        with pytest.raises(DataError, match=r"labels = 'c\.csv': there is no such file"):
            DicomAdapter(labels="c.csv").splits(tmp_path)

    def test_damaged_files_are_named(self, tmp_path: Path) -> None:
        dicom(tmp_path / "1.dcm", RAMP)
        (tmp_path / "2.dcm").write_bytes((tmp_path / "1.dcm").read_bytes()[:300])
        (tmp_path / "DICOMDIR").write_bytes(b"x")
        made.write_csv(tmp_path / "labels.csv", ["file", "question", "answer"], [[n, "q", "a"] for n in (1, 2)])
        examples, left_out = read(DicomAdapter(), tmp_path, None)
        assert len(examples) == 1
        assert left_out[0][0] == "labels.csv, line 3"
        assert left_out[0][1].startswith("!file 2: ")
        assert left_out[1] == ("file 3", "no row of the table is about this file")
        left_out = read(DicomAdapter(file_names=True), tmp_path, None)[1]
        assert left_out[0][1].startswith("!2.dcm: ")
        assert left_out[1][0] == "DICOMDIR"


class TestPredicting:
    def test_files_without_a_table(self, tmp_path: Path) -> None:
        for name in ("a/1.dcm", "b.dcm"):
            dicom(tmp_path / name, RAMP)
        dicom(tmp_path / "sr.dcm", None, Modality="SR")
        found = list(DicomAdapter().inputs(tmp_path, "answer en mass?"))
        assert [(e.prefix, e.suffix, e.metadata) for e in found] == [
            ("answer en mass?", "", {"file": 1}), ("answer en mass?", "", {"file": 2}),
        ]  # fmt: skip
        assert isinstance(open_image(found[0].images[0]), Image.Image)
        named = list(DicomAdapter(file_names=True).inputs(tmp_path / "b.dcm", "p"))
        assert [e.metadata for e in named] == [{"file": "b.dcm"}]
        with pytest.raises(DataError, match="give --prefix"):
            list(DicomAdapter().inputs(tmp_path, None))
        assert next(iter(DicomAdapter(prefix="describe en").inputs(tmp_path, None))).prefix == "describe en"

    def test_slices_of_series(self, tmp_path: Path) -> None:
        made.own_dicom(tmp_path, patients=2)
        assert len(list(DicomAdapter(slices="middle").inputs(tmp_path, "p"))) == 2
        assert [len(e.images) for e in DicomAdapter(slices=2, together=True).inputs(tmp_path, "p")] == [2, 2]

    def test_a_damaged_file_does_not_stop_the_others(self, tmp_path: Path) -> None:
        made.own_dicom(tmp_path, patients=2, slices=1)
        path = tmp_path / "scan0/0.dcm"
        path.write_bytes(path.read_bytes()[:300])
        found = list(DicomAdapter().inputs(tmp_path, "p"))
        assert [e.metadata for e in found] == [{"file": 2}, {"file": 1}]
        with pytest.raises(DataError, match="file 1: "):
            open_image(found[1].images[0])


class TestPrivacy:
    def test_nothing_of_the_patient_is_written(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A whole run on files whose headers, folders and names hold planted names, one of them damaged."""
        from pgtune.cli import main

        folder = tmp_path / "data/own_dicom"
        made.own_dicom(folder)
        for scan in sorted(folder.glob("scan*")):
            scan.rename(folder / f"{made.NAMES[0]}-{scan.name}")
        damaged = folder / f"{made.NAMES[0]}-scan0/1.dcm"
        damaged.write_bytes(damaged.read_bytes()[:-100])
        dicom(folder / f"{made.NAMES[0]}-sr.dcm", None, Modality="SR")
        monkeypatch.chdir(tmp_path)
        short = ["train.max_steps=1", "train.batch_size=2", "train.gradient_accumulation_steps=1"]
        short += ["eval.limit=4", "eval.max_new_tokens=2", "data.max_bad_share=0.2"]
        assert main(["train", "radiology/own_dicom_448_lora", "model.base=tiny", *short]) == 0
        options = ["--arg", "slices=middle", "--max-bad-share", "0.2", "--out", "out/rows.jsonl"]
        assert main(["adapt", "dicom", str(folder), *options]) == 0
        for ending in ("jsonl", "csv"):
            command = ["predict", "runs/own_dicom_448_lora", "--input", str(folder), "--prefix", "answer en mass?"]
            assert main([*command, "--out", f"out/answers.{ending}", "--max-new-tokens", "2"]) == 0
        searched = 0
        for root in ("runs", "out"):
            for path in (tmp_path / root).rglob("*"):
                assert not any(name in path.name for name in made.NAMES), path
                if path.is_file():
                    searched += 1
                    content = path.read_bytes()
                    assert not [name for name in made.NAMES if name.encode() in content], path
        assert searched > 5
        rows = [json.loads(line) for line in (tmp_path / "out/rows.jsonl").read_text().splitlines()]
        assert all(not os.path.isabs(row["image"]) for row in rows)
