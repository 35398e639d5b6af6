"""Segments of an archive in an S3-compatible object store: ``s3://BUCKET/PREFIX``. Needs the extra ``[aws]``.

Region, credentials and endpoint are those of the AWS SDK (``AWS_ENDPOINT_URL_S3`` for another vendor's store). An object is
put on the condition that none is there under its name.
"""

from __future__ import annotations

import re
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from safeai_git.core.display import safe_text
from safeai_git.core.errors import StorageError, WrongUse
from safeai_git.governor.archive import MOST_COMPRESSED

SCHEME = "s3://"
_ADDRESS = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/([!-~]{0,512}))?")
_MOST_NAMES = 1_000_000


class S3:
    """A prefix in a bucket, as a `safeai_git.governor.archive.Place`.

    Args:
        address: ``s3://BUCKET/PREFIX``.

    Raises:
        WrongUse: The address is none, or the SDK has no region or credentials.
    """

    def __init__(self, address: str) -> None:
        found = _ADDRESS.fullmatch(address)
        if found is None:
            raise WrongUse(
                f"not an address in an object store: {safe_text(address)[:120]}", hint="s3://BUCKET/PREFIX"
            )
        self._bucket = found[1]
        self._prefix = (found[2] or "").strip("/")
        self._prefix += "/" if self._prefix else ""
        config = Config(
            connect_timeout=10,
            read_timeout=60,
            retries={"total_max_attempts": 4, "mode": "standard"},
            # Other vendors' stores do not all know the SDK's own checksums; what was put is read back anyway.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        try:
            self._client: Any = boto3.client("s3", config=config)
        except (BotoCoreError, ValueError) as error:
            raise WrongUse(f"the object store cannot be used: {safe_text(str(error))}") from None

    def names(self) -> list[str]:
        """As `Place`."""
        names: list[str] = []
        more: dict[str, str] = {}
        while True:
            answer = self._ask(
                self._client.list_objects_v2, Bucket=self._bucket, Prefix=self._prefix, Delimiter="/", **more
            )
            names += [str(one["Key"]).removeprefix(self._prefix) for one in answer.get("Contents", ())]
            token = answer.get("NextContinuationToken")
            if not answer.get("IsTruncated") or not token:
                return names
            if len(names) > _MOST_NAMES or more.get("ContinuationToken") == token:
                raise StorageError("the object store's list does not end")
            more = {"ContinuationToken": token}

    def get(self, name: str) -> bytes:
        """As `Place`."""
        answer = self._ask(self._client.get_object, Bucket=self._bucket, Key=self._prefix + name)
        try:
            data: bytes = answer["Body"].read(MOST_COMPRESSED + 1)
        except (BotoCoreError, OSError) as error:
            raise StorageError(f"{name} cannot be read: {safe_text(str(error))}") from None
        if len(data) > MOST_COMPRESSED:
            raise StorageError(f"{name} is larger than any segment")
        return data

    def put(self, name: str, data: bytes) -> None:
        """As `Place`."""
        try:
            self._client.put_object(Bucket=self._bucket, Key=self._prefix + name, Body=data, IfNoneMatch="*")
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") in ("PreconditionFailed", "412"):
                if self.get(name) != data:
                    raise StorageError(f"{name} is there already, with another content") from None
                return
            raise _failed(error) from None
        except BotoCoreError as error:
            raise _failed(error) from None

    @staticmethod
    def _ask(call: Any, **arguments: str) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = call(**arguments)
        except (BotoCoreError, ClientError) as error:
            raise _failed(error) from None
        return answer


def _failed(error: Exception) -> StorageError:
    return StorageError(
        f"the object store refused, or did not answer: {safe_text(str(error))[:300]}",
        hint="it needs s3:ListBucket, s3:GetObject and s3:PutObject there; see AWS_DEFAULT_REGION and AWS_ENDPOINT_URL_S3",
    )
