"""An app that signs people in with the PyPI package `authlib`; the person's part is the story's.

python authlib_client.py
Reads lines of JSON {do, …}, answers each with a line of JSON {value} or {error}.
"""

import json
import os
import sys
import urllib.parse

# The story's issuer is on loopback.
os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"

from authlib.common.security import generate_token
from authlib.integrations.requests_client import OAuth2Session
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.jwk import KeySet


class App:
    def discover(self, issuer, client_id, redirect_uri, secret=None, id_token_alg="RS256", **_):
        method = "client_secret_basic" if secret else "none"
        self.session = OAuth2Session(
            client_id,
            secret,
            redirect_uri=redirect_uri,
            token_endpoint_auth_method=method,
            revocation_endpoint_auth_method=method,
            code_challenge_method="S256",
        )
        # The story's servers are on this machine.
        self.session.trust_env = False
        self.alg = id_token_alg
        self.server = self.get(issuer + "/.well-known/openid-configuration")

    def begin(self, scope, parameters=None):
        self.verifier = generate_token(48)
        self.nonce = generate_token(20)
        endpoint = self.server["authorization_endpoint"]
        url, self.state = self.session.create_authorization_url(
            endpoint, scope=scope, nonce=self.nonce, code_verifier=self.verifier, **(parameters or {})
        )
        return url

    def finish(self, url):
        answered = urllib.parse.parse_qs(urllib.parse.urlsplit(url).query)
        assert answered["iss"] == [self.server["issuer"]], "RFC 9207"
        tokens = self.session.fetch_token(
            self.server["token_endpoint"], authorization_response=url, code_verifier=self.verifier, state=self.state
        )
        self.id_token = tokens["id_token"]
        return {**tokens, "claims": self.check(tokens, nonce=self.nonce)}

    def check(self, tokens, nonce=None):
        keys = KeySet.import_key_set(self.get(self.server["jwks_uri"]))
        token = jwt.decode(tokens["id_token"], keys, algorithms=[self.alg])
        options = {
            "iss": {"essential": True, "value": self.server["issuer"]},
            "aud": {"essential": True, "value": self.session.client_id},
        }
        parameters = {"client_id": self.session.client_id, "access_token": tokens["access_token"]}
        if nonce:
            parameters["nonce"] = nonce
        claims = CodeIDToken(token.claims, token.header, options, parameters)
        claims.validate()
        return dict(claims)

    def userinfo(self):
        return self.session.get(self.server["userinfo_endpoint"]).json()

    def refresh(self, scope=None):
        more = {"scope": scope} if scope else {}
        tokens = self.session.refresh_token(self.server["token_endpoint"], **more)
        return {**tokens, "claims": self.check(tokens) if "id_token" in tokens else None}

    def introspect(self):
        endpoint = self.server["introspection_endpoint"]
        response = self.session.introspect_token(endpoint, token=self.session.token["access_token"])
        return response.json()

    def revoke(self):
        response = self.session.revoke_token(
            self.server["revocation_endpoint"], token=self.session.token["refresh_token"]
        )
        response.raise_for_status()

    def logout(self, uri, state):
        query = {"post_logout_redirect_uri": uri, "id_token_hint": self.id_token, "state": state}
        return self.server["end_session_endpoint"] + "?" + urllib.parse.urlencode(query)

    def get(self, url):
        response = self.session.request("GET", url, withhold_token=True)
        response.raise_for_status()
        return response.json()


app = App()
for line in sys.stdin:
    question = json.loads(line)
    command = getattr(app, question.pop("do"))
    try:
        reply = {"value": command(**question)}
    except Exception as error:
        reply = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(reply), flush=True)
