"""Creates the object store's buckets and users; each user can access only its own buckets."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

from minio import Minio, MinioAdmin
from minio.credentials import StaticProvider
from minio.error import MinioAdminException

SECRETS = Path("/run/secrets/buckets")
GRANTS = {"mlflow": ("mlflow",), "tasks": ("data", "captures"), "serving": ("captures",)}
"""User -> the buckets that it can access."""
READ = ("s3:GetObject",)
WRITE = ("s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts")
LIST = ("s3:ListBucket", "s3:GetBucketLocation", "s3:ListBucketMultipartUploads")
DELETE = ("s3:DeleteObject",)
ACTIONS = {
    "mlflow": (LIST, READ + WRITE + DELETE),
    "tasks": (LIST, READ + WRITE + DELETE),
    # A model's server adds captures, but neither reads nor deletes them.
    "serving": (("s3:GetBucketLocation",), WRITE),
}
"""User -> the allowed actions on its buckets, and on the objects in them."""


def main() -> None:
    """Create what is missing; can be repeated."""
    credentials = StaticProvider(secret("root_user"), secret("root_password"))
    endpoint = os.environ["STORE_ADDRESS"]
    client = Minio(endpoint=endpoint, credentials=credentials, secure=False)
    admin = MinioAdmin(endpoint=endpoint, credentials=credentials, secure=False)
    for bucket in sorted({bucket for buckets in GRANTS.values() for bucket in buckets}):
        if not client.bucket_exists(bucket_name=bucket):
            client.make_bucket(bucket_name=bucket)
            print(f"created bucket {bucket}")
    for user in GRANTS:
        grant(admin, user)


def grant(admin: MinioAdmin, user: str) -> None:
    """Create a user with its policy."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(policy(user), file)
        file.flush()
        admin.policy_add(user, policy_file=file.name)
    admin.user_add(user, secret(user))
    try:
        admin.policy_set(user, user=user)
    except MinioAdminException as error:
        if "already in effect" not in str(error):
            raise
    print(f"user {user} can access {', '.join(GRANTS[user])}")


def policy(user: str) -> dict[str, object]:
    """A user's policy in the store's syntax."""
    on_bucket, on_objects = ACTIONS[user]
    names = [f"arn:aws:s3:::{bucket}" for bucket in GRANTS[user]]
    return {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": list(on_bucket), "Resource": names},
            {
                "Effect": "Allow",
                "Action": list(on_objects),
                "Resource": [f"{name}/*" for name in names],
            },
        ],
    }


def secret(name: str) -> str:
    """A secret from the volume of this job."""
    return (SECRETS / name).read_text()


if __name__ == "__main__":
    sys.exit(main())
