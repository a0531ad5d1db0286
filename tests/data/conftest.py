import pytest
from torch.utils.data import _utils


@pytest.fixture(autouse=True, scope="session")
def _quick_farewell() -> None:
    """PyTorch waits so many seconds for each worker of a loader that failed, and then ends it."""
    _utils.MP_STATUS_CHECK_INTERVAL = 0.2
