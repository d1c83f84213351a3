"""The GPP decoder, against strings of our own encoder and the examples of its specification."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.sources.gpp import GppString, OptOut, decode_gpp
from streams.sources.tcf import SignalError
from tests.unit.tc_strings import base64url, core, fibonacci, gpp, number

TC = core(purposes=[1, 3], vendors=[5])
YES, NO, NOT = OptOut.OPTED_OUT, OptOut.NOT_OPTED_OUT, OptOut.NOT_APPLICABLE


def national(sale: int, sharing: int, targeted: int, version: int = 1) -> str:
    bits = number(version, 6) + number(1, 2) * 6 + "".join(number(value, 2) for value in (sale, sharing, targeted))
    return base64url(bits + "00" * 16)


def test_examples_of_the_specification() -> None:
    one = decode_gpp("DBABMA~CPXxRfAPXxRfAAfKABENB-CgAAAAAAAAAAYgAAAAAAAA")
    assert one.sections == (2,)
    assert one.tcf is not None
    assert (one.tcf.cmp, list(one.tcf.purposes)) == (31, [])
    both = decode_gpp("DBACNYA~CPXxRfAPXxRfAAfKABENB-CgAAAAAAAAAAYgAAAAAAAA~1YNN")
    assert (both.sections, both.opt_outs) == ((2, 6), {"sale": NO})


def test_sections_of_the_united_states() -> None:
    assert decode_gpp(gpp({7: national(1, 2, 0)})).opt_outs == {"sale": YES, "sharing": NO, "targeted_advertising": NOT}
    california = base64url(number(1, 6) + "010101" + number(2, 2) + number(1, 2) + "00" * 15)
    assert decode_gpp(gpp({8: california})).opt_outs == {"sale": NO, "sharing": YES}
    for section in (9, 10, 12):
        state = base64url(number(1, 6) + "010101" + number(1, 2) + number(2, 2) + "00" * 12)
        assert decode_gpp(gpp({section: state})).opt_outs == {"sale": YES, "targeted_advertising": NO}
    utah = base64url(number(1, 6) + "01010101" + number(2, 2) + number(1, 2) + "00" * 12)
    assert decode_gpp(gpp({11: utah})).opt_outs == {"sale": NO, "targeted_advertising": YES}


def test_the_opt_out_counts_where_sections_differ() -> None:
    found = decode_gpp(gpp({6: "1YYN", 7: national(2, 0, 2)}))
    assert found.opt_outs == {"sale": YES, "sharing": NOT, "targeted_advertising": NO}


def test_global_privacy_control_opts_out_of_all() -> None:
    assert set(decode_gpp(gpp({7: national(2, 2, 0) + "." + base64url("011")})).opt_outs.values()) == {YES}
    assert decode_gpp(gpp({7: national(2, 2, 0) + "." + base64url("010")})).opt_outs["sale"] is NO


def test_a_range_of_sections() -> None:
    header = base64url(number(3, 6) + number(1, 6) + number(1, 12) + "1" + fibonacci(14) + fibonacci(2))
    assert decode_gpp(f"{header}~A~B~C").sections == (14, 15, 16)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "ends before"),
        (TC, "no GPP string"),
        ("DCABMA~" + TC, "of a version of GPP"),
        ("DBABMA", "as many sections"),
        (gpp({2: TC}) + "~1YNN", "as many sections"),
        (gpp({2: TC[:30]}), "cut off"),
        (gpp({6: "2YNN"}), "US Privacy"),
        (gpp({7: national(3, 0, 0)}), "neither given nor refused"),
        (gpp({7: national(1, 0, 0, version=9)}), "US section of a version"),
        (
            base64url(number(3, 6) + number(1, 6) + number(1, 12) + "1" + fibonacci(1) + fibonacci(10**6)),
            "more sections",
        ),
    ],
)
def test_bad_strings_say_what_is_wrong(text: str, reason: str) -> None:
    with pytest.raises(SignalError, match=reason):
        decode_gpp(text)


_LETTERS = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~", max_size=200)


@given(st.one_of(st.text(max_size=60), _LETTERS, _LETTERS.map(lambda text: "DBA" + text)))
def test_nothing_else_is_ever_raised(text: str) -> None:
    try:
        found: GppString | str = decode_gpp(text)
    except SignalError as error:
        found = str(error)
    assert isinstance(found, GppString) or 0 < len(found) < 80
