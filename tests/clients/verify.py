"""Verifies tokens with the PyPI package `pyjwt`, as a service in Python would.

python verify.py MAX_AGE_SECONDS LEEWAY_SECONDS
Reads lines of JSON {token, issuer, audience, jwks_uri}, answers each with a line of JSON {ok, error}.
"""

import json
import sys

import jwt

max_age, leeway = map(float, sys.argv[1:])
clients = {}

for line in sys.stdin:
    request = json.loads(line)
    uri = request["jwks_uri"]
    if uri not in clients:
        # A cooldown as long as a story: an unknown `kid` never makes it fetch before its cache ends.
        clients[uri] = jwt.PyJWKClient(uri, lifespan=max_age, cooldown_duration=3600)
    try:
        key = clients[uri].get_signing_key_from_jwt(request["token"])
        jwt.decode(
            request["token"],
            key,
            algorithms=["ES256", "RS256", "PS256", "EdDSA"],
            issuer=request["issuer"],
            audience=request["audience"],
            leeway=leeway,
            options={"require": ["exp", "iat", "iss", "aud", "sub"]},
        )
        answer = {"ok": True, "error": None}
    except jwt.PyJWTError as error:
        answer = {"ok": False, "error": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer), flush=True)
