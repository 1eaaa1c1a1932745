// An app that signs people in with the npm package `oauth4webapi`; the person's part is the story's.
//
// node oauth4webapi.mjs FOLDER_OF_NODE_MODULES
import { answer, load } from './lines.mjs'

const oauth = await load(process.argv[2], 'oauth4webapi')
const plainHttp = { [oauth.allowInsecureRequests]: true }
let server, client, authentication, redirectUri, begun, tokens, subject

const read = async (response, process) => {
  const answer = await process(response)
  // What TLS would have proven.
  if (answer.id_token) await oauth.validateApplicationLevelSignature(server, response, plainHttp)
  const claims = oauth.getValidatedIdTokenClaims(answer) ?? null
  tokens = { ...tokens, ...answer }
  subject = claims?.sub ?? subject
  return { ...answer, claims }
}

await answer({
  discover: async (question) => {
    redirectUri = question.redirect_uri
    const issuer = new URL(question.issuer)
    server = await oauth.processDiscoveryResponse(issuer, await oauth.discoveryRequest(issuer, plainHttp))
    client = { client_id: question.client_id, id_token_signed_response_alg: question.id_token_alg }
    authentication = question.secret ? oauth.ClientSecretBasic(question.secret) : oauth.None()
  },
  begin: async ({ scope, parameters }) => {
    const [state, nonce] = [oauth.generateRandomState(), oauth.generateRandomNonce()]
    begun = { verifier: oauth.generateRandomCodeVerifier(), state, nonce }
    const url = new URL(server.authorization_endpoint)
    const query = {
      client_id: client.client_id,
      redirect_uri: redirectUri,
      response_type: 'code',
      scope,
      code_challenge: await oauth.calculatePKCECodeChallenge(begun.verifier),
      code_challenge_method: 'S256',
      state,
      nonce,
      ...parameters,
    }
    url.search = new URLSearchParams(query)
    return url.href
  },
  finish: async ({ url }) => {
    const callback = oauth.validateAuthResponse(server, client, new URL(url), begun.state)
    const request = [server, client, authentication, callback, redirectUri, begun.verifier, plainHttp]
    const response = await oauth.authorizationCodeGrantRequest(...request)
    const expected = { expectedNonce: begun.nonce, requireIdToken: true }
    return read(response, (response) => oauth.processAuthorizationCodeResponse(server, client, response, expected))
  },
  userinfo: async () => {
    const response = await oauth.userInfoRequest(server, client, tokens.access_token, plainHttp)
    return oauth.processUserInfoResponse(server, client, subject, response)
  },
  refresh: async ({ scope }) => {
    const options = { ...plainHttp, additionalParameters: scope ? { scope } : {} }
    const response = await oauth.refreshTokenGrantRequest(server, client, authentication, tokens.refresh_token, options)
    return read(response, (response) => oauth.processRefreshTokenResponse(server, client, response))
  },
  introspect: async () => {
    const response = await oauth.introspectionRequest(server, client, authentication, tokens.access_token, plainHttp)
    return oauth.processIntrospectionResponse(server, client, response)
  },
  revoke: async () => {
    const response = await oauth.revocationRequest(server, client, authentication, tokens.refresh_token, plainHttp)
    return oauth.processRevocationResponse(response)
  },
  logout: ({ uri, state }) => {
    const url = new URL(server.end_session_endpoint)
    url.search = new URLSearchParams({ post_logout_redirect_uri: uri, id_token_hint: tokens.id_token, state })
    return url.href
  },
})
