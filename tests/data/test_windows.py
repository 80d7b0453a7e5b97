"""Windows of long sentences: every word is answered for once, in order, within the room."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from bertlab.data.windows import windows_of


@settings(max_examples=300, deadline=None)
@given(
    pieces=st.lists(st.integers(1, 9), min_size=1, max_size=40),
    room=st.integers(9, 20),
    context=st.integers(0, 4),
)
def test_every_word_once(pieces: list[int], room: int, context: int) -> None:
    found = windows_of(np.array(pieces), room, context)
    assert [word for window in found for word in range(window.start, window.stop)] == list(range(len(pieces)))
    for number, window in enumerate(found):
        assert window.left <= window.start < window.stop <= window.right
        assert sum(pieces[window.left : window.right]) <= room
        assert sum(pieces[window.left : window.start]) <= context
        assert sum(pieces[window.stop : window.right]) <= context or window.stop == window.start + 1
        assert window.left == 0 or number > 0
    if sum(pieces) <= room:
        assert len(found) == 1


def test_context_is_as_much_as_fits() -> None:
    first, middle, last = windows_of(np.ones(20, dtype=np.int64), room=10, context=2)
    assert first == (0, 0, 8, 10)
    assert middle == (6, 8, 14, 16)
    assert last == (12, 14, 20, 20)
    wide = np.array([1, 1, 8, 1])
    assert windows_of(wide, room=8, context=2)[2] == (2, 2, 3, 3), "a wide word needs the room of the context"
