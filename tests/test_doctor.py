"""`pgtune doctor` and the self-tests it runs, each on both generations."""

from __future__ import annotations

import json

import pytest

from pgtune import forward, selftests
from pgtune.doctor import doctor
from pgtune.selftests import GENERATIONS, SELF_TESTS


@pytest.mark.parametrize("test", SELF_TESTS, ids=lambda test: test.__name__)
def test_self_test(bench, test):
    assert test(bench), "a self-test says what it measured"


def test_doctor_reports_versions_devices_and_all_self_tests():
    report = doctor()
    assert report["versions"]["transformers"].startswith("5.")
    assert report["devices"][0]["name"] == "cpu"
    assert len(report["self_tests"]) == len(SELF_TESTS) * len(GENERATIONS)
    assert [test["name"] for test in report["self_tests"] if not test["passed"]] == []
    json.dumps(report, allow_nan=False)


def test_doctor_says_which_test_failed(monkeypatch):
    def leaking(valid, suffix):
        return (valid[:, None, :] & valid[:, :, None])[:, None]

    monkeypatch.setattr(forward, "prefix_lm_mask", leaking)
    monkeypatch.setattr("pgtune.doctor.SELF_TESTS", (selftests.no_suffix_token_is_seen_early,))
    for test in doctor()["self_tests"]:
        assert not test["passed"]
        assert "suffix logits moved by" in test["detail"]
