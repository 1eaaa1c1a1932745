// An app that signs people in with the npm package `openid-client`; the person's part is the story's.
//
// node openid_client.mjs FOLDER_OF_NODE_MODULES
import { answer, load } from './lines.mjs'

const client = await load(process.argv[2], 'openid-client')
let config, redirectUri, begun, tokens, subject

const authentication = async ({ secret, method, key }) => {
  if (method === 'private_key_jwt') {
    const algorithm = { name: 'ECDSA', namedCurve: 'P-256' }
    const imported = await crypto.subtle.importKey('jwk', key, algorithm, false, ['sign'])
    return client.PrivateKeyJwt({ key: imported, kid: key.kid })
  }
  if (method === 'client_secret_post') return client.ClientSecretPost(secret)
  return secret ? client.ClientSecretBasic(secret) : client.None()
}

const told = (answer) => {
  const claims = answer.id_token ? answer.claims() : null
  tokens = { ...tokens, ...answer }
  subject = claims?.sub ?? subject
  return { ...answer, claims }
}

await answer({
  discover: async (question) => {
    redirectUri = question.redirect_uri
    const metadata = { id_token_signed_response_alg: question.id_token_alg }
    // Signatures are checked even where TLS would do.
    const execute = [client.allowInsecureRequests, client.enableNonRepudiationChecks]
    const issuer = new URL(question.issuer)
    config = await client.discovery(issuer, question.client_id, metadata, await authentication(question), { execute })
  },
  begin: async ({ scope, parameters }) => {
    const verifier = client.randomPKCECodeVerifier()
    begun = { pkceCodeVerifier: verifier, expectedState: client.randomState(), expectedNonce: client.randomNonce() }
    return client.buildAuthorizationUrl(config, {
      redirect_uri: redirectUri,
      scope,
      code_challenge: await client.calculatePKCECodeChallenge(verifier),
      code_challenge_method: 'S256',
      state: begun.expectedState,
      nonce: begun.expectedNonce,
      ...parameters,
    }).href
  },
  finish: async ({ url, form }) => {
    const request = form && new Request(url, { method: 'POST', body: new URLSearchParams(form) })
    const checks = { ...begun, idTokenExpected: true }
    return told(await client.authorizationCodeGrant(config, request ?? new URL(url), checks))
  },
  userinfo: () => client.fetchUserInfo(config, tokens.access_token, subject),
  refresh: async ({ scope }) => {
    return told(await client.refreshTokenGrant(config, tokens.refresh_token, scope ? { scope } : {}))
  },
  introspect: () => client.tokenIntrospection(config, tokens.access_token),
  revoke: () => client.tokenRevocation(config, tokens.refresh_token),
  logout: ({ uri, state }) => {
    const parameters = { post_logout_redirect_uri: uri, id_token_hint: tokens.id_token, state }
    return client.buildEndSessionUrl(config, parameters).href
  },
})
