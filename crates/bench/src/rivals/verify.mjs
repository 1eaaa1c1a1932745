// Verifies one token over and over with a library of npm: `node verify.mjs LIBRARY`. The first line on standard input
// is JSON: token, jwk, issuer, audience, alg, node_modules. Each further line is a number of verifications; the answer
// is the processor time they took, in seconds.
import { createPublicKey } from "node:crypto";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const next = async () => (await lines.next()).value;
const { token, jwk, issuer, audience, alg, node_modules } = JSON.parse(await next());
const require = createRequire(`${node_modules}/x.js`);
const pem = createPublicKey({ key: jwk, format: "jwk" }).export({ type: "spki", format: "pem" });

const libraries = {
  jose: async () => {
    const jose = await import(pathToFileURL(require.resolve("jose")));
    const key = await jose.importJWK(jwk, alg);
    return () => jose.jwtVerify(token, key, { issuer, audience, algorithms: [alg], typ: "at+jwt" });
  },
  "fast-jwt": async () => {
    const { createVerifier } = require("fast-jwt");
    const verify = createVerifier({ key: pem, algorithms: [alg], allowedIss: issuer, allowedAud: audience, cache: false });
    return () => verify(token);
  },
};

const verify = await libraries[process.argv[2]]();
console.log("ready");
for (let line = await next(); line !== undefined; line = await next()) {
  const start = process.cpuUsage();
  for (let left = Number(line); left > 0; left--) {
    const claims = await verify();
    if (!claims) throw new Error("no claims");
  }
  const used = process.cpuUsage(start);
  console.log((used.user + used.system) / 1e6);
}
