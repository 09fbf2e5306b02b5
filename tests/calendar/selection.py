"""Which tests look at days most: those of a quick run."""

from __future__ import annotations

# One that has moved is an error of pytest, at once.
QUICK = (
    "tests/test_durations.py",
    "tests/storage/test_cleanup.py",
    "tests/admin/spend/test_daily_activity.py",
    "tests/admin/spend/test_global_spend.py",
    "tests/admin/models/test_metrics.py",
    "tests/admin/spend/test_logs.py",
    "tests/admin/spend/test_tags.py",
    "tests/security/test_credentials.py",
    "tests/auth/test_principal.py",
    "tests/control_plane/test_spend.py::test_spend_by_day_model_and_key",
    "tests/control_plane/test_keys.py",
    "tests/control_plane/test_activity.py",
    "tests/control_plane/test_formatting.py",
    "tests/control_plane/test_odd_answers.py::test_nonsense_of_one_worker_leaves_the_overview",
    "tests/control_plane/test_session.py",
    "tests/control_plane/test_workers.py::test_a_tile_has_live_figures",
    "tests/control_plane/test_workers.py::test_degraded_workers_say_why",
    "tests/models/test_budget_period.py",
    "tests/models/test_retention.py",
    "tests/spend/test_budget.py",
    "tests/spend/test_periodic_report.py",
    "tests/spend/test_totals.py",
    "tests/spend/test_windows.py",
)
