"""What is read of bodies that plain players do not send."""

import time

import pytest

from recsvc.api.body import read_items, refuse_repeats
from recsvc.api.problems import ProblemError
from recsvc.api.reports import read_report

REPEATED = b'{"track": 3, "time": 0.5, "a/b~c": 1, "a/b~c": 2}'


def test_a_name_that_is_there_twice_is_named_where_it_is() -> None:
    (item,) = read_items(b"[%b]" % REPEATED)
    with pytest.raises(ProblemError) as raised:
        refuse_repeats(REPEATED)
    for problem in (item, raised.value):
        assert problem.fault.status == 422
        assert problem.fault.detail == "a/b~c: it is there twice"
        assert [fault.pointer for fault in problem.fault.errors] == ["/a~1b~0c"]  # RFC 6901


def test_one_of_thousands_of_names_is_found_without_comparing_each_with_each() -> None:
    names = [b'"%x": 0' % name for name in (*range(26_000), 25_999)]
    body = b'{"track": 3, "time": 0.5, %b}' % b", ".join(names)
    started = time.process_time()
    with pytest.raises(ProblemError, match="658f"):
        read_report(1, body, "", None)
    assert time.process_time() - started < 2  # a hundredth of it; each with each took eight


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "utf-8-sig"])
def test_another_encoding_is_no_json(encoding: str) -> None:
    body = '[{"user": 1, "track": 3, "time": 0.5}]'.encode(encoding)
    with pytest.raises(ProblemError) as raised:
        read_items(body)
    assert raised.value.fault.status == 400
