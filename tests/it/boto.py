"""An independent client for the tests: evaluates one expression a line, with `s3` (boto3), and answers in JSON."""
import json
import os
import sys

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

s3 = boto3.client(
    "s3",
    endpoint_url=os.environ["S3_ENDPOINT"],
    region_name=os.environ["S3_REGION"],
    config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 2}),
)
for line in sys.stdin:
    try:
        answer = {"ok": eval(line, {"s3": s3, "json": json})}
    except ClientError as error:
        answer = {"error": error.response["Error"]["Code"]}
    except Exception as error:  # told to the test, which fails
        answer = {"error": repr(error)}
    print(json.dumps(answer, default=str), flush=True)
