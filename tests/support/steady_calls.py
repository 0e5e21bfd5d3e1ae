"""Calls one after another until its standard input ends; then it prints, as JSON, what came back:
``{"statuses": {STATUS: HOW MANY}, "last": BODY OF THE LAST THAT WAS NOT 200}``.

Run in the network namespace of a gateway: ``python steady_calls.py PATH TOKEN BODY``.
"""

import http.client
import json
import select
import sys
from collections import Counter


def main(path: str, token: str, body: str) -> None:
    statuses: Counter[int] = Counter()
    failed = ""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    while not select.select([sys.stdin], [], [], 0.02)[0]:
        connection = http.client.HTTPConnection("127.0.0.1", 8080, timeout=60)
        try:
            connection.request("POST", path, body, headers)
            response = connection.getresponse()
            content = response.read()
            statuses[response.status] += 1
            if response.status != 200:
                failed = content.decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            statuses[0] += 1
            failed = repr(error)
        finally:
            connection.close()
    print(json.dumps({"statuses": statuses, "last": failed}))


if __name__ == "__main__":
    main(*sys.argv[1:])
