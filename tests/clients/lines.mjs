// Answers a story's questions, a line of JSON for a line of JSON: {do: COMMAND, …} with {value} or {error}.
import { webcrypto } from 'node:crypto'
import { createRequire } from 'node:module'
import { createInterface } from 'node:readline'
import { pathToFileURL } from 'node:url'

// Node 18 has it, but not under this name.
globalThis.crypto ??= webcrypto

// Where a package is in the folder that the test command installed it into.
export const locate = (folder, name) => createRequire(pathToFileURL(folder + '/')).resolve(name)

// What such a package exports, of whichever kind of module it is.
export const load = async (folder, name) => {
  const module = await import(pathToFileURL(locate(folder, name)))
  return { ...module.default, ...module }
}

export const answer = async (commands) => {
  for await (const line of createInterface({ input: process.stdin })) {
    const question = JSON.parse(line)
    let reply
    try {
      reply = { value: (await commands[question.do](question)) ?? null }
    } catch (error) {
      const why = [error.code, error.error, error.error_description, error.cause?.message].filter(Boolean)
      reply = { error: [`${error.name}: ${error.message}`, ...why].join('; ') }
    }
    process.stdout.write(JSON.stringify(reply) + '\n')
  }
}
