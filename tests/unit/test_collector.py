import gc

from recsvc.collector import rarely_collecting


def test_everything_is_as_before_afterwards() -> None:
    before = gc.get_threshold()
    with rarely_collecting():
        assert gc.get_freeze_count() > 0
        assert gc.get_threshold()[0] > before[0]
        assert gc.isenabled()
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == 0
