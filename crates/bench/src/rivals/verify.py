"""Verifies one token over and over with PyJWT. The first line on standard input is JSON: token, jwk, issuer, audience,
alg. Each further line is a number of verifications; the answer is the processor time they took, in seconds."""

import json
import sys
import time

import jwt

case = json.loads(sys.stdin.readline())
key = jwt.PyJWK(case["jwk"], algorithm=case["alg"]).key
print("ready", flush=True)
for line in sys.stdin:
    start = time.process_time()
    for _ in range(int(line)):
        jwt.decode(case["token"], key, algorithms=[case["alg"]], audience=case["audience"], issuer=case["issuer"])
    print(time.process_time() - start, flush=True)
