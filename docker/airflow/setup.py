"""Creates Airflow's tables, its user `admin`, and the pool of search slots.

Existing ones stay, but a changed password is set again. One process does it all, because importing
Airflow takes seconds, and because a password on the command line would show in the process list.
"""

from __future__ import annotations

import os
from pathlib import Path

from airflow.models.pool import Pool
from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder
from airflow.utils import db
from werkzeug.security import check_password_hash

from tasks.clients.orchestrator import POOL

ADMIN = "admin"


def main() -> None:
    """Migrate the database, then create the user and the pool."""
    db.upgradedb()
    make_admin((Path("/run/secrets/cli") / "mlops_airflow_password").read_text())
    if Pool.get_pool(POOL) is None:
        slots = len(os.sched_getaffinity(0))
        Pool.create_or_update_pool(POOL, slots, "Search slots", include_deferred=False)
        print(f"created pool {POOL} with {slots} slots")


def make_admin(password: str) -> None:
    """Create the user, or set its current password."""
    with get_application_builder() as builder:
        manager = builder.sm
        user = manager.find_user(ADMIN)
        if user is None:
            role = manager.find_role("Admin")
            if not manager.add_user(ADMIN, "Admin", "", "admin@localhost", role, password):
                raise RuntimeError("Airflow's user could not be created; see the log above.")
            print(f"created user {ADMIN}")
        elif not check_password_hash(user.password, password):
            manager.reset_password(user.id, password)
            print(f"set the new password of user {ADMIN}")


if __name__ == "__main__":
    main()
