// Verifies tokens with the npm package `jose`, as a service in JavaScript would.
//
// node verify.mjs FOLDER_OF_NODE_MODULES MAX_AGE_SECONDS LEEWAY_SECONDS
// Reads lines of JSON {token, issuer, audience, jwks_uri}, answers each with a line of JSON {ok, error}.
import { webcrypto } from 'node:crypto'
import { createRequire } from 'node:module'
import { createInterface } from 'node:readline'
import { pathToFileURL } from 'node:url'

// Node 18 has it, but not under this name.
globalThis.crypto ??= webcrypto

const [folder, maxAge, leeway] = process.argv.slice(2)
const entry = createRequire(pathToFileURL(folder + '/')).resolve('jose')
const { createRemoteJWKSet, jwtVerify } = await import(pathToFileURL(entry))

const sets = new Map()
const keysOf = (uri) => {
  // A cooldown as long as a story: an unknown `kid` never makes it fetch before its cache ends.
  const options = { cacheMaxAge: Number(maxAge) * 1000, cooldownDuration: 3_600_000 }
  if (!sets.has(uri)) sets.set(uri, createRemoteJWKSet(new URL(uri), options))
  return sets.get(uri)
}

for await (const line of createInterface({ input: process.stdin })) {
  const { token, issuer, audience, jwks_uri } = JSON.parse(line)
  let answer
  try {
    await jwtVerify(token, keysOf(jwks_uri), { issuer, audience, typ: 'at+jwt', clockTolerance: Number(leeway) })
    answer = { ok: true, error: null }
  } catch (error) {
    answer = { ok: false, error: `${error.code ?? error.name}: ${error.message}` }
  }
  process.stdout.write(JSON.stringify(answer) + '\n')
}
