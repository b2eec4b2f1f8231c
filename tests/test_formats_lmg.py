# SPDX-License-Identifier: Apache-2.0
"""What an LMG says, whole, cut and spoilt."""

import math
import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from powersample.formats.lmg import (
    BLOCK_LIMIT,
    LINE_LIMIT,
    Identity,
    LineReader,
    Verdict,
    count_type,
    error_in,
    identity_in,
    is_infinite,
    is_no_number,
    line_bytes,
    pack,
    take_line,
)

CUTS = 100_000


def floats(*values):
    return struct.pack(f"<{len(values)}f", *values)


def lines_of(stream, cuts=(), *, packed=False):
    """Return (lines, garbage) of a stream that is fed in pieces; stamps are the pieces' ends."""
    reader, lines, last = LineReader(packed=packed), [], 0
    for cut in [*cuts, len(stream)]:
        lines += list(reader.feed(stream[last:cut], cut))
        last = cut
    return [(line.text, line.payload) for line in lines], reader.garbage_bytes, [line.arrival_ns for line in lines]


def test_ascii_lines_of_both_line_ends_become_items():
    lines, garbage, _ = lines_of(b'2.30E+02;3.41E+00;7.83E+02\r\n1\n\n0,"No error"\n')
    assert [text for text, _ in lines] == ["2.30E+02;3.41E+00;7.83E+02", "1", '0,"No error"']
    assert garbage == 0


def test_quoted_strings_keep_separators_and_line_ends():
    reader = LineReader()
    (line,) = reader.feed(b'1;"a;b\nc";2\n')
    assert line.items == ("1", '"a;b\nc"', "2")
    assert [one.items for one in LineReader().feed(b"1;;3\n")] == [("1", "", "3")]


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("between", [b"", b";"])
def test_packed_lines_of_one_or_several_blocks_are_the_same_values(end, between):
    one = b"#500012" + floats(1, 0.05, 783.5) + end
    many = between.join(b"#500004" + floats(value) for value in (1, 0.05, 783.5)) + end
    for stream in (one, many):
        (line,) = LineReader(packed=True).feed(stream)
        assert line.values("fff") == pytest.approx((1, 0.05, 783.5))


def test_packed_values_may_hold_every_byte_a_line_is_made_of():
    """Line ends, separators and # inside a value are values."""
    payload = b'\n\r#;"#50000'
    (line,) = LineReader(packed=True).feed(b"#500011" + payload + b"\n")
    assert line.payload == payload


def test_packed_reply_to_opc_is_a_block():
    (line,) = LineReader(packed=True).feed(b"#5000011\n")
    assert line.word == "1"


def test_other_digit_counts_are_read():
    (line,) = LineReader(packed=True).feed(b"#18" + floats(1, 2) + b"\n")
    assert line.values("ff") == (1, 2)


def test_integer_items_are_read_by_their_type():
    (line,) = LineReader(packed=True).feed(pack([struct.pack("<i", 70000), floats(1.5)]))
    assert line.values("if") == (70000, 1.5)
    assert count_type(struct.pack("<i", 1002) + floats(1)) == "i"
    assert count_type(floats(1002, 1)) == "f"
    assert count_type(struct.pack("<i", 10**9)) == "i"
    assert [count_type(floats(one)) for one in (0.0, 2.5, -3.0, 9.91e37)] == [""] * 4


def test_lines_of_another_shape_have_no_values():
    (line,) = LineReader().feed(b"1;2\n")
    assert line.values("fff") is None
    (line,) = LineReader().feed(b"1;two\n")
    assert line.values("ff") is None
    (line,) = LineReader(packed=True).feed(pack([floats(1)]))
    assert line.values("ff") is None


@pytest.mark.parametrize("value", [9.91e37, -0.0 + 9.91e37, math.nan])
def test_sentinels_for_no_number(value):
    for one in (value, struct.unpack("<f", struct.pack("<f", value))[0]):
        assert is_no_number(one)
        assert not is_infinite(one)


@pytest.mark.parametrize("value", [9.9e37, -9.9e37, math.inf, -math.inf])
def test_sentinels_for_out_of_range(value):
    for one in (value, struct.unpack("<f", struct.pack("<f", value))[0]):
        assert is_infinite(one)
        assert not is_no_number(one)


@given(st.floats(-1e6, 1e6))
def test_readings_are_no_sentinels(value):
    assert not is_infinite(value)
    assert not is_no_number(value)


@pytest.mark.parametrize(
    ("data", "packed", "expected"),
    [
        (b"", False, (Verdict.MORE, 0)),
        (b"1;2", False, (Verdict.MORE, 0)),
        (b"#500008" + floats(1), True, (Verdict.MORE, 0)),
        (b"#500004" + floats(1), True, (Verdict.MORE, 0)),  # its line end is still to come
        (b"#500004" + floats(1) + b"\r", True, (Verdict.MORE, 0)),
        (b"#500004" + floats(1) + b"x", True, (Verdict.INVALID, 1)),
        (b"#x", True, (Verdict.INVALID, 1)),
        (b"#0", True, (Verdict.INVALID, 1)),
        (b"#5x", True, (Verdict.INVALID, 1)),
        (b"#9999999999", True, (Verdict.INVALID, 1)),  # nobody waits for a gigabyte
        (b"garbage", True, (Verdict.INVALID, 7)),
        (b"gar#", True, (Verdict.INVALID, 3)),
        (b"#x\n", False, (Verdict.VALID, 3)),  # text may begin so
        (b"x" * LINE_LIMIT, False, (Verdict.INVALID, LINE_LIMIT)),
        (b'a"' + b"x" * 600, False, (Verdict.INVALID, 2)),  # a stray quote
    ],
)
def test_take_line_says_what_the_beginning_is(data, packed, expected):
    assert take_line(data, packed=packed)[:2] == expected


def test_garbage_before_and_between_packed_lines_costs_itself_only():
    good = [pack([floats(i, 2 * i)]) for i in range(5)]
    stream = b"\x00\xff\x13" + good[0] + b"noise" + good[1] + good[2][:9] + good[3] + b"#5#" + good[4]
    lines, garbage, _ = lines_of(stream, packed=True)
    assert [payload for _, payload in lines] == [floats(i, 2 * i) for i in (0, 1, 3, 4)]
    assert garbage == 3 + 5 + 9 + 3


def test_a_line_is_stamped_by_the_piece_that_brought_its_end():
    """Also when garbage before it made the reader wait for more."""
    reader = LineReader(packed=True)
    assert list(reader.feed(b"#500006ab", 1)) == []  # the rest is lost: the line after it is held for a while
    assert list(reader.feed(b"\n" + pack([floats(1)])[:3], 2)) == []
    lines = list(reader.feed(pack([floats(1)])[3:], 3)) + list(reader.feed(pack([floats(2)]), 4))
    assert [line.arrival_ns for line in lines] == [3, 4]


def random_stream(rng, *, packed):
    pieces = []
    for i in range(40):
        values = (i, 0.05, 783 + rng.random())
        if rng.random() < 0.15:
            pieces.append(bytes(rng.randrange(256) for _ in range(rng.randrange(40))))
        if not packed:
            line = ";".join(f"{value:.5E}" for value in values).encode() + rng.choice([b"\n", b"\r\n"])
            pieces.append(rng.choice([line, b'0,"No; error"\n']) if rng.random() < 0.1 else line)
            continue
        blocks = [floats(*values)] if rng.random() < 0.5 else [floats(value) for value in values]
        line = pack(blocks)
        pieces.append(line[: rng.randrange(len(line))] if rng.random() < 0.1 else line)
    return b"".join(pieces)


@pytest.mark.parametrize("packed", [False, True])
def test_any_cuts_of_a_stream_give_the_same_lines(packed):
    """A hundred thousand cuts in all. Two stray quotes in the garbage make one text of what lies between them."""
    rng, made, found, sent = random.Random(20), 0, 0, 0
    while made < CUTS // 2:
        stream = random_stream(rng, packed=packed)
        whole, garbage, _ = lines_of(stream, packed=packed)
        found, sent = found + len(whole), sent + 40
        for _ in range(20):
            cuts = sorted(rng.randrange(len(stream)) for _ in range(rng.randrange(1, 100)))
            made += len(cuts)
            lines, left_out, stamps = lines_of(stream, cuts, packed=packed)
            assert (lines, left_out) == (whole, garbage)
            assert stamps == sorted(stamps)
    assert found > 0.8 * sent


@given(st.binary(max_size=200), st.booleans())
def test_no_bytes_whatever_stop_the_reader_for_good(junk, packed):
    """After any junk and enough more lines, lines come again."""
    reader = LineReader(packed=packed)
    good = pack([floats(1.0)]) if packed else b"1.0\n"
    found = list(reader.feed(junk + good * (BLOCK_LIMIT // len(good) + 200)))
    assert found[-1].values("f") == (1.0,)


def test_words_of_replies():
    maker = "ZES ZIMMER Electronic Systems GmbH"
    assert identity_in(f"{maker},LMG450,1234,2.10") == Identity(maker, "LMG450", "1234", "2.10")
    for other in ("", "1", "a,b,c", "a,,c,d", "a,\x00b,c,d"):
        assert identity_in(other) is None
    assert error_in('0,"No error"') is None
    assert error_in('-113,"Undefined header"') == "-113, Undefined header"
    assert error_in("what") is not None


def test_line_lengths_for_the_pipe():
    assert line_bytes(4, packed=False) == 48
    assert line_bytes(4, packed=True) == len(pack([floats(1, 2, 3, 4)]))
