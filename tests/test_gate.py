import json

import pytest

from kspecsr.measures.gate import Gate, Limit, shipped_gate


def gate(**evaluation):
    return Gate.from_json(json.dumps({"evaluation": evaluation}))


def test_a_value_inside_passes_and_one_outside_is_listed_with_value_and_reason():
    limits = gate(**{"sr2/recovery": {"low": 0.9, "high": 1.1, "why": "fluxes shrunk"}})
    assert limits.failures({"sr2/recovery": 1.0}) == []
    assert limits.failures({"sr2/recovery": 0.7}) == [
        "sr2/recovery: 0.7, expected 0.9 to 1.1 (fluxes shrunk)"
    ]


@pytest.mark.parametrize("value", [None, float("nan")])
def test_what_was_not_measured_fails(value):
    assert "nothing was measured" in gate(**{"a/b": {"high": 1}}).failures({"a/b": value})[0]


def test_a_metric_that_is_not_there_fails():
    assert "not among the metrics" in gate(**{"a/b": {"low": 1}}).failures({})[0]


def test_excess_is_zero_inside_and_the_distance_outside():
    limit = Limit(low=1.0, high=2.0)
    assert [limit.excess(v) for v in (0.5, 1.0, 1.5, 2.0, 2.25)] == [0.5, 0.0, 0.0, 0.0, 0.25]
    assert limit.excess(float("nan")) == float("inf")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "expected JSON"),
        ('{"limits": {}}', "unknown key limits"),
        ('{"evaluation": {"a/b": {}}}', "expected low, high or both"),
        ('{"evaluation": {"a/b": {"max": 1}}}', "unknown key max"),
        ('{"evaluation": {"a/b": {"low": "1"}}}', "expected float, got '1'"),
        ('{"evaluation": {"a/b": {"low": 2, "high": 1}}}', "expected low <= high"),
        ('{"training": []}', "training: expected an object, got []"),
    ],
)
def test_what_is_no_gate_is_refused_with_its_place(tmp_path, text, words):
    path = tmp_path / "gate.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"gate\.json") as error:
        Gate.find(path)
    assert words in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere\.json: cannot be read"):
        Gate.find(tmp_path / "nowhere.json")


def test_a_limit_that_depends_on_an_oracle_moves_with_it():
    limits = gate(
        **{
            "sr2/width": {"low": 0.9, "high": 1.1, "times": "truth/width"},
            "sr2/lost": {"high": 0.15, "beside": "oracle/lost", "by": 0.05},
        }
    )
    kept = {"sr2/width": 0.5, "truth/width": 0.5, "sr2/lost": 0.34, "oracle/lost": 0.3}
    assert limits.failures(kept) == []
    assert limits.failures(kept | {"truth/width": 1.0}) == ["sr2/width: 0.5, expected 0.9 to 1.1"]
    assert limits.failures(kept | {"oracle/lost": 0.05}) == ["sr2/lost: 0.34, expected at most 0.15"]
    assert limits.failures(kept | {"sr2/lost": 0.1, "oracle/lost": 0.0}) == []  # it only ever widens
    for absent in ({}, {"truth/width": float("nan")}):
        found = limits.failures({"sr2/width": 0.5, "sr2/lost": 0.1} | absent)
        assert found == ["sr2/width: truth/width, the oracle of its limit, was not measured"]
    assert limits.metrics == {"width", "lost"}


def test_a_gate_knows_the_population_that_it_is_for():
    release = shipped_gate("release")
    assert release.limits("sky") == release.limits() == release.evaluation
    assert set(release.limits("open-sky")) == {"sr2/sure_wrong", "sr2/false_confidence"}
    assert release.failures({"sr2/sure_wrong": 0.1, "sr2/false_confidence": 0.0}, "open-sky") == [
        "sr2/sure_wrong: 0.1, expected at most 0.005 (sure of wrong redshifts)"
    ]
    with pytest.raises(ValueError, match="none for 'survey': --population sky"):
        release.limits("survey")
    assert shipped_gate("default").limits("anything") == shipped_gate("default").evaluation


def test_the_shipped_gate_limits_every_stage_and_the_evaluation():
    shipped = shipped_gate("default")
    assert set(shipped.training) == {"sr1", "zhead", "sr2"}
    assert shipped.evaluation
