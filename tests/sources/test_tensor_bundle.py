"""TensorFlow's checkpoint format: real checkpoints, ones from an independent writer, and damaged ones."""

from __future__ import annotations

import shutil
import struct
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bertlab.sources.sorted_table import mask, read_table
from bertlab.sources.tensor_bundle import TensorBundle
from bertlab.sources.tensor_slices import Extent, slice_key
from bertlab.sources.wire_format import read_message, read_varint
from tests.google_bert import all_values, shapes
from tests.sources import bundle_writer as writer

HERE = Path(__file__).parent
REAL = HERE / "google_tiny"
PARTS = HERE / "google_tiny_parts"
PREFIX = "bert_model.ckpt"
patient = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture
def real(tmp_path: Path) -> Path:
    """The prefix of a copy that a test may damage."""
    return shutil.copytree(REAL, tmp_path / "model") / PREFIX


def read_all(prefix: Path) -> dict[str, np.ndarray]:
    bundle = TensorBundle(prefix)
    return {name: np.array(bundle.read(name)) for name in bundle.names}


@pytest.mark.parametrize("folder", [REAL, PARTS], ids=["one file", "sharded, in parts"])
def test_what_tensorflow_wrote_is_read_to_the_bit(folder: Path):
    bundle = TensorBundle(folder / PREFIX)
    expected = all_values()
    assert set(bundle.names) == {*expected, "global_step"}
    assert bundle.names == sorted(bundle.names)
    for name, value in expected.items():
        assert bundle.shape(name) == value.shape
        np.testing.assert_array_equal(bundle.read(name), value, strict=True)
    assert bundle.read("global_step") == 0
    assert bundle.read("global_step").dtype == np.int64


def test_the_second_checkpoint_is_sharded_and_partitioned():
    assert len(list(PARTS.glob("*.data-*-of-00003"))) == 3
    keys = read_table(PARTS / f"{PREFIX}.index")
    assert slice_key("bert/embeddings/word_embeddings", (Extent(11, 10), Extent(0, 8))) in keys


def test_tensors_stay_in_the_file():
    value = TensorBundle(REAL / PREFIX).read("bert/pooler/dense/kernel")
    assert not value.flags.writeable
    assert not value.flags.owndata


values = hnp.arrays(
    st.sampled_from([np.float32, np.float64, np.int64, np.int32, np.int8, np.bool_]),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
)
names = st.text(st.characters(min_codepoint=1, max_codepoint=0x2FFF), min_size=1, max_size=12)


@patient
@given(
    tensors=st.dictionaries(names, values, max_size=14),
    shards=st.integers(1, 3),
    big=st.booleans(),
    entries_a_block=st.integers(1, 6),
    restart_interval=st.integers(1, 17),
)
def test_any_checkpoint_of_an_independent_writer(tensors, shards, big, entries_a_block, restart_interval):
    with tempfile.TemporaryDirectory() as folder:
        prefix = Path(folder) / "m"
        how = {"entries_a_block": entries_a_block, "restart_interval": restart_interval}
        writer.bundle(prefix, tensors, shards, big, **how)
        found = read_all(prefix)
    assert set(found) == set(tensors)
    for name, value in tensors.items():
        np.testing.assert_array_equal(found[name], value, strict=True)


@patient
@given(
    place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), which=st.sampled_from(["index", "data"])
)
def test_a_flipped_bit_is_found_or_changes_nothing(place: float, bit: int, which: str):
    with tempfile.TemporaryDirectory() as folder:
        prefix = shutil.copytree(REAL, Path(folder) / "m") / PREFIX
        path = next(prefix.parent.glob(f"*.{which}*"))
        content = bytearray(path.read_bytes())
        content[int(place * len(content))] ^= 1 << bit
        path.write_bytes(content)
        found, refusal = None, str(path)
        try:
            found = read_all(prefix)
        except ValueError as error:
            refusal = str(error)
    assert str(path) in refusal
    if found is None:
        return
    expected = all_values() | {"global_step": np.int64(0)}
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_cut_off_index(real: Path, share: float):
    path = Path(f"{real}.index")
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(
        ValueError, match=r"bert_model.ckpt.index: not the index of a TensorFlow checkpoint, or"
    ):
        TensorBundle(real)


def test_a_wrong_magic_number(real: Path):
    Path(f"{real}.index").write_bytes(
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n" * 3
    )
    with pytest.raises(ValueError, match="do not end in the magic number 0xdb4775248b80fb57"):
        TensorBundle(real)


def test_a_cut_off_data_file(real: Path):
    path = Path(f"{real}.data-00000-of-00001")
    path.write_bytes(path.read_bytes()[:-100])
    bundle = TensorBundle(real)
    bundle.read("bert/embeddings/LayerNorm/beta")
    with pytest.raises(
        ValueError, match=r"data-00000-of-00001: the tensor 'global_step': the file is cut off: it"
    ):
        bundle.read("global_step")
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="cut off: it has 0 bytes"):
        TensorBundle(real).read("global_step")


def test_a_missing_data_file(tmp_path: Path):
    prefix = shutil.copytree(PARTS, tmp_path / "m") / PREFIX
    Path(f"{prefix}.data-00001-of-00003").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"data-00001-of-00003: this data file is missing.*numbers 0 to 2"
    ):
        read_all(prefix)


def test_a_missing_index(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"m.index: there is no such file"):
        TensorBundle(tmp_path / "m")


def test_an_unknown_name():
    with pytest.raises(KeyError):
        TensorBundle(REAL / PREFIX).read("bert/embeddings/none")


def test_a_newer_checkpoint_is_refused(tmp_path: Path):
    writer.bundle(tmp_path / "m", {"a": np.zeros(2, np.float32)}, needs=2)
    with pytest.raises(
        ValueError, match=r"m.index: the checkpoint needs a reader of version 2, this one has 1"
    ):
        TensorBundle(tmp_path / "m")


def test_compressed_blocks_are_refused(tmp_path: Path):
    writer.bundle(tmp_path / "m", {"a": np.zeros(2, np.float32)}, compression=1)
    with pytest.raises(ValueError, match=r"m.index: its blocks are compressed \(Snappy\)"):
        TensorBundle(tmp_path / "m")


def write_entries(prefix: Path, entries: dict[bytes, bytes], data: bytes = b"") -> None:
    Path(f"{prefix}.index").write_bytes(writer.table({b"": writer.number(1, 1)} | entries))
    Path(f"{prefix}.data-00000-of-00001").write_bytes(data)


@pytest.mark.parametrize(
    ("dtype", "shape", "size", "message"),
    [
        (7, 2, 8, "'a': it holds strings, bertlab reads numbers only"),
        (21, 2, 8, "'a': it holds TensorFlow's type 21"),
        (1, 3, 8, r"'a': damaged: 8 bytes for the shape \(3,\) of float32"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, dtype: int, shape: int, size: int, message: str):
    value = np.zeros(shape, np.float32)
    write_entries(tmp_path / "m", {b"a": writer.entry(value, 0, 0, bytes(size), dtype)}, bytes(size))
    with pytest.raises(ValueError, match=message):
        TensorBundle(tmp_path / "m").read("a")


def test_an_entry_that_cannot_be(tmp_path: Path):
    write_entries(tmp_path / "m", {b"a": writer.entry(np.zeros(1, np.float32), 3, 0, bytes(4))})
    with pytest.raises(ValueError, match=r"m.index: the entry 'a': it cannot be .*shard=3"):
        TensorBundle(tmp_path / "m")
    write_entries(tmp_path / "m", {b"a": b"\x0a"})
    with pytest.raises(ValueError, match=r"m.index: the entry 'a': no whole number at byte 1 of 1"):
        TensorBundle(tmp_path / "m")


def test_a_table_that_is_no_checkpoint(tmp_path: Path):
    Path(tmp_path / "m.index").write_bytes(writer.table({b"a": b"b"}))
    with pytest.raises(ValueError, match=r"m.index: a table without the header of a checkpoint"):
        TensorBundle(tmp_path / "m")


def test_keys_out_of_order(tmp_path: Path):
    path = tmp_path / "m.index"
    content = writer.block([(b"b", b""), (b"a", b"")], 1)
    ending = b"\0" + struct.pack("<I", writer.masked(content + b"\0"))
    index = writer.block([(b"b", writer.varint(0) + writer.varint(len(content)))], 1)
    start = len(content) + 5
    end = index + b"\0" + struct.pack("<I", writer.masked(index + b"\0"))
    handles = b"\0\0" + writer.varint(start) + writer.varint(len(index))
    path.write_bytes(content + ending + end + handles.ljust(40, b"\0") + struct.pack("<Q", writer.MAGIC))
    with pytest.raises(ValueError, match=r"m.index: damaged: the key b'a' stands after b'b'"):
        read_table(path)


def test_bfloat16_and_half(tmp_path: Path):
    wide = np.array([1.0, -2.5, 3.140625], np.float32)
    upper = (wide.view(np.uint32) >> 16).astype(np.uint16)
    half = wide.astype(np.float16)
    data = upper.tobytes() + half.tobytes()
    write_entries(
        tmp_path / "m",
        {
            b"b": writer.entry(upper, 0, 0, upper.tobytes(), 14),
            b"h": writer.entry(half, 0, 6, half.tobytes(), 19),
        },
        data,
    )
    bundle = TensorBundle(tmp_path / "m")
    np.testing.assert_array_equal(bundle.read("b"), wide, strict=True)
    np.testing.assert_array_equal(bundle.read("h"), half, strict=True)


def test_parts_that_leave_a_hole(tmp_path: Path):
    part = np.ones((2, 3), np.float32)
    extents = (Extent(1, 2), Extent(0, -1))
    listed = writer.nested(1, writer.number(1, 1) + writer.number(2, 2)) + writer.nested(1, b"")
    whole = writer.entry(np.zeros((4, 3), np.float32), 0, 0, b"") + writer.nested(7, listed)
    entries = {b"a": whole, slice_key("a", extents): writer.entry(part, 0, 0, part.tobytes())}
    write_entries(tmp_path / "m", entries, part.tobytes())
    with pytest.raises(ValueError, match="'a': its parts leave 6 of 12 values out"):
        TensorBundle(tmp_path / "m").read("a")
    del entries[slice_key("a", extents)]
    write_entries(tmp_path / "m", entries, part.tobytes())
    with pytest.raises(ValueError, match=r"'a': the part .* is missing from"):
        TensorBundle(tmp_path / "m").read("a")


@pytest.mark.parametrize(
    ("value", "code"),
    [
        # By hand from TensorFlow's ordered_code.cc: 7·n - 1 bits in n bytes, the leading ones count the bytes.
        (0, "80"), (1, "81"), (63, "bf"), (64, "c040"), (-1, "7f"), (-64, "40"), (-65, "3fbf"), (8191, "dfff"),
        (8192, "e02000"), (30522, "e0773a"),
    ],
)  # fmt: skip
def test_signed_numbers_of_slice_keys(value: int, code: str):
    key = slice_key("w", (Extent(value, 0),))
    assert key == b"\0w\0\x01\x01\x01" + bytes.fromhex(code) + b"\x80"


@patient
@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=2, max_size=8))
def test_slice_keys_sort_as_numbers_do(numbers: list[int]):
    keys = {n: slice_key("w", (Extent(n, 0),)) for n in numbers}
    assert sorted(keys, key=keys.__getitem__) == sorted(keys)


def test_checksums():
    # RFC 3720, B.4: 32 bytes of zeros, of ones, and 0 to 31.
    for data, expected in (
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
    ):
        assert writer.crc32c(data) == expected
        assert writer.masked(data) == mask(expected)


@patient
@given(st.integers(0, 2**64 - 1), st.binary(max_size=3))
def test_varints(value: int, more: bytes):
    code = writer.varint(value)
    assert read_varint(code + more, 0) == (value, len(code))
    with pytest.raises(ValueError, match="no whole number"):
        read_varint(code[:-1], 0)


@patient
@given(st.binary(max_size=40))
def test_any_bytes_are_a_message_or_refused(data: bytes):
    try:
        fields = read_message(data)
    except ValueError:
        return
    assert all(values for values in fields.values())


def test_the_fixture_is_a_whole_bert():
    assert len(shapes()) == 5 + 2 * 16 + 2 + 4 + 1 + 2
