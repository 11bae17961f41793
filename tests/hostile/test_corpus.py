"""Nothing is run, lost or silent, nothing crashes, hangs or fills the memory.

One child for the cases of a module: `harness` says how they are told apart.
"""

import pytest

from tests.hostile.harness import collections, failures

COLLECTIONS = collections()
READERS = [
    (module, reader)
    for module, found in COLLECTIONS.items()
    for reader in found.readers
]


def test_there_are_enough_cases_of_every_reader():
    cases = [case for found in COLLECTIONS.values() for case in found.cases]
    assert len(cases) >= 250
    assert len({(case.reader, case.name) for case in cases}) == len(cases)
    for module, found in COLLECTIONS.items():
        assert {case.reader for case in found.cases} == set(found.readers), module


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("module", "reader"), READERS, ids=lambda name: name)
def test_hostile_input_is_refused(module, reader):
    wrong = failures(module)[reader]
    assert not wrong, "\n" + "\n".join(wrong)
