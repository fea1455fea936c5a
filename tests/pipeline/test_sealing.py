"""Secrets at rest: opened for their owner by a key that is in the settings, and by nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.sealing import Sealed, Sealer, SealError, new_key

OLD, NEW = new_key("old"), new_key("new")


@given(st.binary(max_size=200), st.text(max_size=40))
def test_what_is_sealed_is_opened_for_its_owner_alone(plain: bytes, owner: str) -> None:
    sealer = Sealer(OLD)
    sealed = sealer.seal(plain, owner)
    assert sealer.open(sealed, owner) == plain
    assert len(plain) < 8 or plain not in sealed.data
    with pytest.raises(SealError):
        sealer.open(sealed, owner + "x")


@given(st.integers(0, 59), st.integers(1, 255))
def test_what_was_touched_does_not_open(place: int, change: int) -> None:
    sealed = Sealer(OLD).seal(b"s" * 32, "owner")
    data = bytearray(sealed.data)
    data[place] ^= change
    with pytest.raises(SealError):
        Sealer(OLD).open(Sealed(sealed.key_id, bytes(data)), "owner")


def test_the_first_key_seals_and_all_open() -> None:
    before = Sealer(OLD).seal(b"x", "o")
    both = Sealer(f"{NEW}, {OLD}")
    assert both.key_id == "new"
    assert both.seal(b"x", "o").key_id == "new"
    assert both.open(before, "o") == b"x"
    with pytest.raises(SealError, match="old"):
        Sealer(NEW).open(before, "o")
    with pytest.raises(SealError):
        Sealer(new_key("old")).open(before, "o")


def test_two_sealings_of_the_same_differ() -> None:
    assert Sealer(OLD).seal(b"x", "o") != Sealer(OLD).seal(b"x", "o")


def test_without_a_key_nothing_is_sealed() -> None:
    assert Sealer("").key_id is None
    with pytest.raises(SealError):
        Sealer("").seal(b"x", "o")


@pytest.mark.parametrize("setting", ["x", "k1:", "k1:AAAA", "k1:%%", ":" + "A" * 44, "k 1:" + NEW[4:], NEW + ",short"])
def test_a_malformed_setting_is_refused_and_not_quoted(setting: str) -> None:
    with pytest.raises(ValueError, match="sealing key") as refused:
        Sealer(setting)
    assert NEW[4:] not in str(refused.value)
