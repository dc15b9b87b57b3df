"""What is kept: snapshots, trials, registry, champion moves, ledger, reports."""
