"""Whether a server answers: health.py URL [PART]. PART names the part of Airflow to check."""

import json
import sys
import urllib.request

opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
with opener.open(sys.argv[1], timeout=5) as answer:
    body = answer.read()
if len(sys.argv) > 2 and json.loads(body)[sys.argv[2]]["status"] != "healthy":
    sys.exit(f"{sys.argv[2]} is not healthy")
