import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Tests run side by side: threads that wait for each other would only slow them down."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
