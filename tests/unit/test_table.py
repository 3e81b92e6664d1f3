"""Looking things up in a table."""

import pytest

from recsvc.table import Text, empty
from tests.support import small_table


def test_rows_by_index_and_by_listener() -> None:
    table = small_table(6, first=100, users=(1, 40))
    assert table.index(103) == 3
    assert table.index(99) is None
    assert table.index(106) is None
    assert table.neighbour_row(4).indices.tolist() == [5, 0, 1, 2, 3]
    assert table.neighbour_row(4).weights.tolist() == [5, 4, 3, 2, 1]
    personal = table.personal_row(40)
    assert personal is not None
    assert personal.indices.tolist() == [4, 5, 0, 1]
    assert table.personal_row(2) is None
    assert (table.title(3), table.artist_name(4)) == ("Song 3", "Bo")


def test_neighbours_stand_in_for_the_top_where_there_is_none() -> None:
    table = empty()
    assert table.counts() == {
        "tracks": 0,
        "artists": 0,
        "neighbours": 0,
        "popular": 0,
        "listeners": 0,
        "session_dimensions": 0,
    }
    assert table.index(0) is None
    assert len(table.popular_row().indices) == 0


@pytest.mark.parametrize("strings", [[], [""], ["a", "", "żółw", "日本"]])
def test_text_round_trip(strings: list[str]) -> None:
    text = Text.of(strings)
    assert [text[i] for i in range(len(text))] == strings


def test_lone_surrogates_become_question_marks() -> None:
    assert Text.of(["a\ud800b"])[0] == "a?b"
