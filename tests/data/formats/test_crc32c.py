"""CRC-32C in numpy against its definition."""

from __future__ import annotations

import numpy as np
import pytest

from maskrcnn.data.formats.crc32c import crc32c, masked_crc


def by_bits(data: bytes) -> int:
    register = 0xFFFFFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0x82F63B78 if register & 1 else 0)
    return register ^ 0xFFFFFFFF


@pytest.mark.parametrize("length", [0, 1, 9, 4095, 4096, 4097, 10_001, 65_536])
def test_is_the_polynomial_division(length):
    data = np.random.default_rng(length).bytes(length)
    assert crc32c(data) == by_bits(data)


def test_long_data_goes_on_where_short_data_ends():
    data = np.random.default_rng(0).bytes((2 << 20) + 4321)
    whole = crc32c(data)
    for cut in (1, 5000, 1 << 20, (1 << 20) + 1):
        assert crc32c(data[cut:], crc32c(data[:cut])) == whole
    # The last piece is shorter than what numpy is used for, the one before it longer.
    assert crc32c(memoryview(data)) == whole
    google = pytest.importorskip("google_crc32c")
    assert google.value(data) == whole


def test_of_the_standard():
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720, B.4
    assert masked_crc(0) == 0xA282EAD8
