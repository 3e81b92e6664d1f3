from dataclasses import replace

import numpy as np
import pytest

from recsvc import gates
from recsvc.gates import Limits, check, churn
from recsvc.table import Table, Text, empty


def make(n: int = 100, width: int = 30, shift: int = 1, first_id: int = 0) -> Table:
    """A table in which track i's neighbours are the `width` tracks from i + shift on."""
    width = min(width, n - 1)
    rows = (np.arange(n)[:, None] + shift + np.arange(width)) % n
    titles, artist = Text.of(["t"] * n), Text.of(["a"])
    return replace(
        empty(),
        tracks=np.arange(first_id, first_id + n, dtype=np.int64),
        artist=np.zeros(n, np.int32),
        artist_name_offsets=artist.offsets,
        artist_names=artist.block,
        title_offsets=titles.offsets,
        titles=titles.block,
        neighbour_offsets=np.arange(n + 1, dtype=np.int64) * width,
        neighbours=rows.ravel().astype(np.int32),
        neighbour_weights=np.ones(n * width, np.float32),
        plays=np.ones(n, np.int32),
        mean_time=np.full(n, 0.5, np.float32),
    )


def test_a_good_table_passes_alone_and_against_itself() -> None:
    assert check(make()) == []
    assert check(make(), make()) == []
    assert check(make(width=70)) == []
    assert check(make(), empty()) == []


@pytest.mark.parametrize("n", [1, 2, 5, 30, 31])
def test_a_small_catalogue_passes_with_all_the_neighbours_there_are(n: int) -> None:
    assert check(make(n)) == []


def test_an_empty_or_too_small_table_is_refused() -> None:
    assert check(empty()) == ["it has 0 tracks; 1 are needed"]
    assert check(make(10), limits=Limits(least_tracks=11)) == ["it has 10 tracks; 11 are needed"]


def test_rows_without_neighbours_are_refused() -> None:
    table = make()
    cut = np.concatenate([np.zeros(50, np.int64), table.neighbour_offsets[:51]])
    half = replace(table, neighbour_offsets=cut)
    coverage, counts = check(half)
    assert coverage.startswith("only 50.0% of the tracks have neighbours")
    assert counts.startswith("50.0% of the tracks have fewer than 30")


@pytest.mark.parametrize("width", [29, 71])
def test_rows_too_short_or_too_long_are_refused(width: int) -> None:
    [reason] = check(make(width=width))
    assert reason.startswith("100.0% of the tracks have fewer than 30 or more than 70")
    assert check(make(width=width), limits=Limits(short_rows=1.0)) == []


def test_weights_that_are_all_on_one_neighbour_are_refused() -> None:
    table = make()
    weights = table.neighbour_weights.copy()
    weights[::30] = 1000.0
    [reason] = check(replace(table, neighbour_weights=weights))
    assert reason.startswith("in 100.0% of the rows one neighbour holds over 90%")
    weights[: 30 * 50] = 1.0  # half of the rows may be so
    assert check(replace(table, neighbour_weights=weights)) == []


@pytest.mark.parametrize("weight", [0.0, -1.0, np.nan, np.inf])
def test_a_weight_that_is_not_positive_is_refused(weight: float) -> None:
    weights = make().neighbour_weights.copy()
    weights[7] = weight
    found = check(replace(make(), neighbour_weights=weights))
    assert found == ["a neighbour weight is not positive"]


def test_a_catalogue_that_lost_many_tracks_is_refused() -> None:
    assert check(make(80), make(100)) == []
    [reason] = check(make(79), make(100))
    assert reason.startswith("only 79.0% of the 100 live tracks are in it")


def test_a_catalogue_of_other_ids_is_refused_without_an_overlap() -> None:
    assert churn(make(), make(first_id=1000)) is None
    [reason] = check(make(), make(first_id=1000))
    assert reason.startswith("only 0.0% of the 100 live tracks")


def test_neighbours_that_have_nothing_in_common_are_refused() -> None:
    [reason] = check(make(shift=40), make())
    assert reason == "its neighbours overlap with the live ones by 0.0%; 5.0% are needed"


def test_churn_is_the_mean_jaccard_overlap_by_hand() -> None:
    # i+1..i+30 against i+11..i+40 share 20 of 40.
    assert churn(make(shift=11), make()) == pytest.approx(0.5)
    assert churn(make(), make(), sample=7) == 1.0


def test_churn_compares_ids_and_not_indices() -> None:
    # Ids 10..109 against 0..99: track 50's neighbours are 51..80 in both.
    overlap = churn(make(first_id=10), make())
    assert overlap is not None
    assert overlap > 0.6


@pytest.mark.parametrize("model", ["contextual", "personal", "session"])
def test_a_model_worse_than_the_constant_is_refused(model: str) -> None:
    good = {"contextual_mse": 0.1, "contextual_mse_constant": 0.1, "personal_mse": 9.0}
    assert check(make(), metrics=good) == []
    bad = {f"{model}_mse": 0.3, f"{model}_mse_constant": 0.2}
    [reason] = check(make(), metrics=bad)
    assert reason == (
        f"the {model} model's error of 0.3000 is more than 1 times the constant predictor's 0.2000"
    )
    assert check(make(), limits=gates.Limits(error_ratio=2), metrics=bad) == []


def test_an_error_that_differs_by_rounding_is_not_refused() -> None:
    metrics = {"personal_mse": 0.08 * (1 + 1e-7), "personal_mse_constant": 0.08}
    assert check(make(), metrics=metrics) == []


def test_two_errors_that_look_alike_get_more_digits() -> None:
    [reason] = check(make(), metrics={"personal_mse": 0.08002, "personal_mse_constant": 0.08001})
    assert "error of 0.0800200 is more" in reason
    assert reason.endswith("constant predictor's 0.0800100")
