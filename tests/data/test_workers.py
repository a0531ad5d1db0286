import pytest

from convit.data.corrupt import TooManyCorruptError
from convit.data.sampling import plain_worker_errors

_WRAPPED = (
    "Caught {kind} in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
    '  File "x.py", line 1, in f\n{kind}: x: broken; mend it\n'
)


@pytest.mark.parametrize("kind", [ValueError, FileNotFoundError, ConnectionError, TooManyCorruptError])
def test_a_worker_s_error_gets_its_own_words_back(kind: type[Exception]) -> None:
    with pytest.raises(kind, match=r"^x: broken; mend it$") as told, plain_worker_errors():
        raise kind(_WRAPPED.format(kind=kind.__name__))
    assert "Original Traceback" in str(told.value.__cause__)


def test_other_errors_stay_as_they_are() -> None:
    error = ValueError("Caught nothing\nbut two lines: here")
    with pytest.raises(ValueError, match="Caught nothing") as told, plain_worker_errors():
        raise error
    assert told.value is error
