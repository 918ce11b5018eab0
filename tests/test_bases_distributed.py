"""Several bases in several processes: the same updates as in one."""

import pytest
from launches import gap, texts, trained
from two_bases import wide_folder

pytestmark = pytest.mark.distributed


def test_two_processes_end_with_the_adapters_of_one_on_each_base(tmp_path):
    """Sums come in another order; the bound is that of the tests on one base."""
    wide = (f"models.wide={{name: '{wide_folder()}', device: cpu}}", "agents.bob.model=wide")
    one, two = (trained(tmp_path, name, count, *wide) for name, count in (("one", None), ("two", 2)))
    assert gap(one, two) < 1e-5
    assert texts(one) == texts(two)
